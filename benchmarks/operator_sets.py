"""The cost of an older ONNX operator set: the same model exported for several sets, in onnxruntime.

The three sets stand for all: 17 to 19 have neither attention nor GELU as an operator, 20 to 22 have GELU, 23 and later
have both. Graphs run in turns, each on one thread whose CPU time is measured, so that other load on the machine matters
little. `ratio` is a graph's time for a batch divided by that of operator set 23 in the same round: the median over
rounds, with the smallest and the largest. `tiny` and `small` (ViT-S) are untrained presets of `conf/model`.
"""

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer

from benchmarks import command_line as cli
from benchmarks.inference import noise, save_graph, untrained
from fusmae.files import write_json
from fusmae.inference.session import PRESENCE, Session

SIZES, BATCHES, OPSETS = ("tiny", "small"), (1, 16), (17, 21, 23)
# Minimum CPU seconds of a graph in a round.
_ROUND_S = 0.1


def main(
    model: cli.Graph = cli.GRAPH,
    rounds: cli.Rounds = 9,
    folder: cli.Folder = cli.MADE / "operator_sets",
    out: cli.Out = cli.RESULTS / "operator_sets.json",
) -> None:
    """Compare operator sets.

    Example: python -m benchmarks.operator_sets --rounds 9
    """
    session = Session(model, 1)
    folder.mkdir(parents=True, exist_ok=True)
    for size in SIZES:
        eager = untrained(size, session)
        for opset in OPSETS:
            save_graph(eager, session, folder / f"{size}-{opset}.onnx", opset)
    measure(session, folder, rounds, out)


def measure(session: Session, folder: Path, rounds: int, out: Path) -> None:
    """Compare the graphs in a folder and write the results.

    Args:
        session: session whose input arrays the graphs have too.
        folder: folder of the graphs, with file names as `main` gives them.
        rounds: number of rounds of each comparison.
        out: path of the JSON file to write.
    """
    import onnxruntime

    result = {
        f"{size}_batch{batch_size}": compare(
            {opset: folder / f"{size}-{opset}.onnx" for opset in OPSETS},
            feeds_of(session, batch_size),
            rounds,
            max(OPSETS),
        )
        for size in SIZES
        for batch_size in BATCHES
    }
    report = {
        "by_model_and_batch": result,
        "rounds": rounds,
        "threads": 1,
        "onnxruntime": onnxruntime.__version__,
        **cli.measured_on(),
    }
    write_json(out, report)
    for name, rows in result.items():
        for opset, row in rows.items():
            typer.echo(f"{name} {opset}: {row}")


def compare(
    graphs: Mapping[Any, Path], feeds: dict[str, Any], rounds: int, baseline: Any
) -> dict[str, dict[str, float]]:
    """CPU milliseconds per batch, and their ratio to those of the baseline, by the graphs' names."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for name, path in graphs.items()
    }
    taken: dict[Any, list[float]] = {name: [] for name in sessions}
    for turn in range(rounds):
        # The order rotates, so that no graph always profits from what the one before left in the caches.
        for name in np.roll(list(sessions), turn).tolist():
            taken[name].append(_mean_s(sessions[name], feeds))
    rows = {}
    for name, seconds in taken.items():
        ratios = [one / other for one, other in zip(seconds, taken[baseline], strict=True)]
        rows[str(name)] = {
            "ms": round(1000 * statistics.median(seconds), 2),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_low": round(min(ratios), 3),
            "ratio_high": round(max(ratios), 3),
        }
    return rows


def feeds_of(session: Session, batch_size: int) -> dict[str, Any]:
    """A batch with every modality, as input arrays of onnxruntime by name."""
    presence = np.ones((batch_size, len(session.metadata["modalities"])), np.float32)
    return noise(session, batch_size) | {PRESENCE: presence}


def _mean_s(session: Any, feeds: dict[str, Any]) -> float:
    """Mean CPU seconds per batch; the first run isn't timed."""
    session.run(["probabilities"], feeds)
    start, runs = time.thread_time(), 0
    while not runs or time.thread_time() < start + _ROUND_S:
        session.run(["probabilities"], feeds)
        runs += 1
    return (time.thread_time() - start) / runs


if __name__ == "__main__":
    cli.run_main(main)
