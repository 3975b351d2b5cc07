"""Flow drift: compare new scenes with the champion's training data."""

import sys
from collections.abc import Mapping
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.events import emit_drift
from flows.notify import tell
from fusmae.config.params import load_config
from fusmae.runs.process_group import run_in_group

_DRIFTED = 3


@flow(on_failure=[tell], on_crashed=[tell])
def drift(model: str = "fusmae@champion", scenes: str = "scenes", out: str = "reports/drift") -> None:
    """Compare every scene of a folder with the training data; each scene that has drifted sends an event.

    Args:
        model: registered model with alias or version.
        scenes: folder with one folder per scene, which contains a file or folder per modality, such as s1 and s2;
            relative to the worker's checkout, whose params.yaml names the modalities.
        out: folder for the reports, with one folder per scene.
    """
    modalities = list(load_config(Path("params.yaml")).data.modalities)
    found = {
        folder: files
        for folder in sorted(Path(scenes).glob("*"))
        if (files := {name: folder / name for name in modalities if (folder / name).exists()})
    }
    if not found:
        missing = "there is no scene in %s: a scene is a folder with one or more of %s"
        get_run_logger().warning(missing, Path(scenes).absolute(), ", ".join(modalities))
    drifted = [scene.name for scene, files in found.items() if compare(scene, files, model, Path(out) / scene.name)]
    for name in drifted:
        emit_drift(name, model)
    get_run_logger().info("%d of %d scenes drifted: %s", len(drifted), len(found), ", ".join(drifted) or "none")


@task(task_run_name="{scene}", cache_policy=NO_CACHE, persist_result=False)
def compare(scene: Path, files: Mapping[str, Path], model: str, out: Path) -> bool:
    """Whether a scene, with a file or folder per modality, has drifted from the training data.

    Raises:
        RuntimeError: the scene can't be compared.
    """
    given = [f"--scene={modality}={path}" for modality, path in files.items()]
    code = run_in_group([sys.executable, "-m", "fusmae", "drift", f"--model={model}", *given, f"--out={out}"])
    if code not in (0, _DRIFTED):
        raise RuntimeError(f"{scene} could not be compared: see the output above")
    return code == _DRIFTED


if __name__ == "__main__":
    drift()
