"""Speed and memory of maps at 10 m, against the bare session, by an untrained segmentation with the data's classes.

`scene_fraction` and `scene_fraction_of_parts` are those of benchmarks/inference.py: tiles per second of a whole map,
divided by those of onnxruntime's own session, and by those of this project's; in turns, the median over rounds. `tiny`
is the model of the quick start's size, the worst case; `small` a ViT-S. `scene_peak_rss_mb` is the peak memory of
`fusmae predict --probabilities` with the tiny one on 20,000 x 20,000 px, most of them nodata.
"""

import os
import shutil
from pathlib import Path

import typer

from benchmarks import command_line as cli
from benchmarks.inference import SCENES_M, measure_memory, measure_scene, save_graph, untrained
from benchmarks.rounds import medians, with_range
from benchmarks.scene_data import make_scene
from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.files import write_json
from fusmae.inference.session import Session
from fusmae.runs.environment import keep_freed_memory

_SCENES_M = {"tiny": (30_000, 30_000), "small": (4_800, 4_800)}


def main(
    model: cli.Graph = cli.GRAPH,
    rounds: cli.Rounds = 3,
    folder: cli.Folder = cli.MADE / "inference",
    out: cli.Out = cli.RESULTS / "pixel_maps.json",
) -> None:
    """Measure maps at 10 m.

    Example: python -m benchmarks.pixel_maps --rounds 3
    """
    keep_freed_memory()
    threads = os.cpu_count() or 1
    arrays = Session(model, threads)
    task = Task(kind="segmentation", classes=arrays.classes)
    result = {"rounds": rounds, "threads": threads, "synthetic": True, **cli.measured_on()}
    for size, side_m in _SCENES_M.items():
        path, scene = folder / f"segmentation_{size}.onnx", f"pixels_{size}"
        if not (folder / scene).exists():
            make_scene(folder / scene, arrays.inputs, side_m, is_sparse=False)
        save_graph(untrained(size, arrays, task), arrays, path, load_config(Path("params.yaml")).export.opset)
        ratios, rates = measure_scene(Session(path, threads), path, folder, scene, rounds)
        result[size] = {**medians(ratios, 3), **rates}
        typer.echo(f"{size}: " + ", ".join(f"{name} {with_range(result[size], name)}" for name in ratios))
    if not (folder / "large").exists():
        make_scene(folder / "large", arrays.inputs, SCENES_M["large"], is_sparse=True)
    result |= measure_memory(folder / "segmentation_tiny.onnx", folder, "--probabilities")
    shutil.rmtree(folder / "map")
    write_json(out, result)


if __name__ == "__main__":
    cli.run_main(main)
