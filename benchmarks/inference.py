"""Speed and memory of inference: whole scenes against the bare session, onnxruntime against torch.

`scene_fraction`: tiles per second of a whole `predict_map` (checks, reading, resampling, blending, GeoTIFFs, picture)
divided by those of onnxruntime's own session with default options, on arrays that were cut from the same scene before;
both run in turns. `scene_fraction_of_parts` is divided by those of this project's `Session`, which runs parts of a
batch in parallel and is faster: it shows the cost of reading, blending and writing. That is a larger share for a small
model: the quick start's tiny model is the worst case; `small`, an untrained ViT-S, is measured too.
`scene_peak_rss_mb`: peak memory of `fusmae predict`, in its own process, on 20,000 x 20,000 px, most of them nodata;
strips are as wide, and memory as large, as with a full scene.
`ort_to_torch_*`: tiles per second of the exported graph in onnxruntime divided by those of the same model in torch
(eager, float32, with as many threads); single runs take turns, and a round's ratio is that of its median times.
Every ratio is the median over rounds, whose values are under `by_round`: their range shows how reliable it is.
"""

import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks import command_line as cli
from benchmarks.rounds import medians, with_range
from benchmarks.scene_data import make_scene
from fusmae.config.params import load_config
from fusmae.config.task import Task
from fusmae.files import file_sha256, write_json
from fusmae.inference.map.predict import Model, predict_map
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import open_scenes
from fusmae.inference.scene.tiles import TileBatch, cut_batches, read_strips
from fusmae.inference.session import PRESENCE, Session
from fusmae.modalities import map_side_px
from fusmae.runs.environment import keep_freed_memory

SCENES_M = {"large": (200_000, 200_000), "dense": (60_000, 60_000), "dense_small": (9_600, 9_600)}
BATCHES = (1, 16)
_TIMED_S = 6.0
_NUM_STRIPS = 3
# The peak of this process alone, which has no children: getrusage would include the parent's memory at the fork.
_MEASURED = """
import sys
from pathlib import Path
from fusmae.cli import main
try:
    main(sys.argv[1:])
except SystemExit as done:
    assert not done.code
status = Path("/proc/self/status").read_text()
print(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
"""


def main(
    model: cli.Graph = cli.GRAPH,
    weights: cli.Weights = cli.WEIGHTS,
    rounds: cli.Rounds = 3,
    folder: cli.Folder = cli.MADE / "inference",
    out: cli.Out = cli.RESULTS / "inference.json",
) -> None:
    """Measure scenes and onnxruntime.

    Example: python -m benchmarks.inference --rounds 3
    """
    keep_freed_memory()
    threads = os.cpu_count() or 1
    session = Session(model, threads)
    for name, side_m in SCENES_M.items():
        if not (folder / name).exists():
            make_scene(folder / name, session.inputs, side_m, is_sparse=name == "large")
    result = measure(model, trained(weights), folder, "dense", rounds)
    result |= measure_memory(model, folder)
    eager, path = untrained("small", session), folder / "small.onnx"
    save_graph(eager, session, path, load_config(Path("params.yaml")).export.opset)
    result["small"] = measure(path, eager, folder, "dense_small", rounds)
    result |= {
        "rounds": rounds,
        "threads": threads,
        "synthetic": True,
        **cli.measured_on(),
    }
    write_json(out, result)
    for title, row in ((model.name, result), ("small", result["small"])):
        typer.echo(f"{title}: " + ", ".join(f"{name} {with_range(row, name)}" for name in row["by_round"]))


def measure(model: Path, eager: Any, folder: Path, scene: str, rounds: int) -> dict[str, Any]:
    """Both comparisons of one model."""
    threads = os.cpu_count() or 1
    session = Session(model, threads)
    torch_ratios, torch_rates = compare_with_torch(session, eager, rounds, threads)
    scene_ratios, scene_rates = measure_scene(session, model, folder, scene, rounds)
    return {
        **medians(torch_ratios | scene_ratios, 3),
        **torch_rates,
        **scene_rates,
        "model": {
            "sha256": file_sha256(model),
            "file_mb": round(model.stat().st_size / 2**20, 1),
            "parameters": sum(parameter.numel() for parameter in eager.parameters()),
        },
    }


Ratios = dict[str, list[float]]
"""Ratios, one per round, by name."""


def compare_with_torch(session: Session, eager: Any, rounds: int, threads: int) -> tuple[Ratios, dict[str, float]]:
    """Ratios by round at each batch size, and the median rates of both in tiles per second."""
    import torch

    torch.set_num_threads(threads)
    ratios: Ratios = {}
    rates: dict[str, list[float]] = {}
    for size in BATCHES:
        pixels = noise(session, size)
        tensors = [torch.from_numpy(array) for array in pixels.values()]
        tensors.append(torch.ones(size, len(session.metadata["modalities"])))

        def run_torch(tensors: list[Any] = tensors) -> None:
            with torch.inference_mode():
                eager(*tensors)

        def run_session(pixels: dict[str, Any] = pixels) -> None:
            session.run(pixels)

        for _ in range(rounds):
            seconds = _by_turns({"torch": run_torch, "ort": run_session}, _TIMED_S)
            ratios.setdefault(f"ort_to_torch_batch{size}", []).append(seconds["torch"] / seconds["ort"])
            for name, taken in seconds.items():
                rates.setdefault(f"{name}_tiles_per_s_batch{size}", []).append(size / taken)
    return ratios, {name: round(statistics.median(found), 1) for name, found in rates.items()}


def measure_scene(
    session: Session, model: Path, folder: Path, scene: str, rounds: int
) -> tuple[Ratios, dict[str, float]]:
    """Ratios by round of whole maps to the bare session and to this project's, in turns, and the median rates."""
    import onnxruntime

    paths = {modality: [folder / scene / modality] for modality in session.metadata["modalities"]}
    batches, num_tiles = _batches(session, paths)
    bare = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    feeds = [_feeds(batch) for batch in batches]

    def run_bare(arrays: dict[str, Any]) -> None:
        bare.run([session.output], arrays)

    def run_parts(arrays: dict[str, Any]) -> None:
        pixels = {name: array for name, array in arrays.items() if name != PRESENCE}
        session.run(pixels, outputs=[session.output])

    rates: dict[str, list[float]] = {"scene": [], "bare": [], "parts": []}
    sha256 = file_sha256(model)
    for _ in range(rounds):
        start = time.perf_counter()
        made = predict_map(Model(session, model.name, sha256), paths, folder / "map" / f"{scene}.tif")
        rates["scene"].append(made.num_tiles / (time.perf_counter() - start))
        rates["bare"].append(_rate(run_bare, feeds, num_tiles))
        rates["parts"].append(_rate(run_parts, feeds, num_tiles))
    ratios = {
        key: [scene / other for scene, other in zip(rates["scene"], rates[name], strict=True)]
        for key, name in (("scene_fraction", "bare"), ("scene_fraction_of_parts", "parts"))
    }
    return ratios, {
        "scene_tiles": num_tiles,
        **{f"{name}_tiles_per_s": round(statistics.median(found), 1) for name, found in rates.items()},
    }


def _rate(run: Callable[[dict[str, Any]], None], feeds: list[dict[str, Any]], num_tiles: int) -> float:
    """Tiles per second, over at least as many tiles as the scene has."""
    start, done = time.perf_counter(), 0
    for arrays in itertools.cycle(feeds):
        run(arrays)
        done += len(arrays[PRESENCE])
        if done >= num_tiles:
            break
    return done / (time.perf_counter() - start)


def measure_memory(model: Path, folder: Path, *options: str) -> dict[str, Any]:
    """Peak memory of the command on the large scene."""
    command = ["predict", "--model", str(model), "--out", str(folder / "map/large.tif"), *options]
    for modality in ("s1", "s2"):
        command += [f"--{modality}", str(folder / "large" / modality)]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.splitlines()
    return {
        "scene_peak_rss_mb": round(int(done[-1]) / 1024),
        "scene_peak_px": [side // 10 for side in SCENES_M["large"]],
        "scene_peak_seconds": round(time.perf_counter() - start),
        "scene_peak_printed": done[0],
    }


def _batches(session: Session, paths: dict[str, list[Path]]) -> tuple[list[TileBatch], int]:
    """The batches of some strips, and the number of tiles of the whole scene."""
    scenes = open_scenes(session.inputs, paths, {})
    grid = lay_grid(scenes, session.inputs, None)
    with SceneReader(scenes, session.inputs, grid) as reader:
        cut = cut_batches(read_strips(reader, grid.units()[:_NUM_STRIPS]), reader.inputs, grid.cell_m)
        batches = [item for item in cut if isinstance(item, TileBatch)]
    return batches, len(grid.tile_tops_m) * len(grid.tile_lefts_m)


def _feeds(batch: TileBatch) -> dict[str, Any]:
    """A batch of tiles with every modality, as input arrays of onnxruntime by name."""
    return {**batch.pixels, PRESENCE: np.ones((len(batch.columns), len(batch.modalities)), np.float32)}


def _by_turns(runs: dict[str, Callable[[], None]], seconds: float) -> dict[str, float]:
    """Median seconds per run by name; runs take turns, so that other load on the machine slows all of them alike.

    The first run of a turn isn't timed: threads of the previous candidate still spin for a while and occupy cores.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, run in runs.items():
            run()
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in taken.items()}


def noise(session: Session, size: int) -> dict[str, Any]:
    """A batch of normally distributed pixels, by the names of the session's inputs."""
    random = np.random.default_rng(size)
    return {
        item.name: random.normal(
            -14 if item.units == "dB" else 1000, 4, (size, len(item.bands), item.side_px, item.side_px)
        ).astype(np.float32)
        for item in session.inputs
    }


def trained(weights: Path) -> Any:
    """The model of a checkpoint of stage finetune."""
    from fusmae.models.preprocess import Preprocess
    from fusmae.release.export.graph import DeployablePredictor
    from fusmae.training.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(weights)
    return DeployablePredictor(Preprocess(checkpoint.preprocessing), checkpoint.predictor()).eval()


def untrained(size: str, session: Session, task: Task | None = None) -> Any:
    """An untrained preset of `conf/model` with the session's arrays; it is as fast as a trained one.

    `task` is what it predicts; None for the session's task.
    """
    import torch
    import yaml

    from fusmae.config.training import ModelConfig
    from fusmae.models.architecture import Architecture
    from fusmae.models.encoder import Encoder
    from fusmae.models.predictors import build_predictor
    from fusmae.models.preprocess import Preprocess, Preprocessing
    from fusmae.release.export.graph import DeployablePredictor

    torch.manual_seed(0)
    section = ModelConfig(**yaml.safe_load(Path(f"conf/model/{size}.yaml").read_text(encoding="utf-8")))
    preprocessing = Preprocessing(inputs=session.inputs, statistics=session.metadata["statistics"])
    architecture = Architecture.of(section, preprocessing)
    task = task or session.require_task(session.path.name)
    map_px = map_side_px(session.inputs) if task.is_dense else None
    predictor = build_predictor(architecture, task, "mean", map_px, Encoder(architecture))
    return DeployablePredictor(Preprocess(preprocessing), predictor).eval()


def save_graph(eager: Any, session: Session, path: Path, opset: int) -> None:
    """Export a model that has the same inputs as the session."""
    from fusmae.release.export.graph import export_onnx
    from fusmae.release.export.onnx_file import save_onnx

    graph = export_onnx(eager, opset=opset)
    save_onnx(graph, session.metadata | {"task": eager.classifier.task.model_dump(mode="json")}, path)


if __name__ == "__main__":
    cli.run_main(main)
