"""Flow drift: compare new scenes with the champion's training data."""

import sys
from pathlib import Path

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE

from flows.events import emit_drift
from flows.notify import tell
from fusmae.runs.process_group import run_in_group

_SENSORS = ("s1", "s2")
_DRIFTED = 3


class DriftFailedError(RuntimeError):
    """`fusmae drift` could not compare a scene."""


@flow(on_failure=[tell], on_crashed=[tell])
def drift(model: str = "fusmae@champion", scenes: str = "scenes", out: str = "reports/drift") -> None:
    """Compare every scene of a folder with the training data; each scene that has drifted sends an event.

    Args:
        model: registered model with alias or version.
        scenes: folder with one folder per scene, which contains s1, s2 or both; relative to the worker's checkout.
        out: folder for the reports, with one folder per scene.
    """
    found = sorted(path for path in Path(scenes).glob("*") if any((path / sensor).exists() for sensor in _SENSORS))
    if not found:
        get_run_logger().warning(
            "there is no scene in %s: a scene is a folder with s1, s2 or both", Path(scenes).absolute()
        )
    drifted = [scene.name for scene in found if compare(scene, model, Path(out) / scene.name)]
    for name in drifted:
        emit_drift(name, model)
    get_run_logger().info("%d of %d scenes drifted: %s", len(drifted), len(found), ", ".join(drifted) or "none")


@task(task_run_name="{scene}", cache_policy=NO_CACHE, persist_result=False)
def compare(scene: Path, model: str, out: Path) -> bool:
    """Whether a scene has drifted from the training data.

    Raises:
        DriftFailedError: the scene can't be compared.
    """
    given = [f"--{sensor}={scene / sensor}" for sensor in _SENSORS if (scene / sensor).exists()]
    code = run_in_group([sys.executable, "-m", "fusmae", "drift", f"--model={model}", *given, f"--out={out}"])
    if code not in (0, _DRIFTED):
        raise DriftFailedError(f"{scene} could not be compared: see the output above")
    return code == _DRIFTED


if __name__ == "__main__":
    drift()
