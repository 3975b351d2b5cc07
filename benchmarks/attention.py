"""What the rewritten attention of exported graphs gains over torch's own export, in onnxruntime.

`fusmae.release.export` rewrites attention before it calls torch's exporter. Here the same models are exported with and
without it: the quick start's finetuned model and an untrained ViT-S, for operator set 17 (the default) and 21. There is
no comparison for operator set 23, because onnxruntime can't run torch's own export of it: the mask of its `Attention`
has one row for all queries. Graphs run in turns, each on one thread whose CPU time is measured. `ratio` is the time of
torch's own export for a batch divided by that of the rewritten graph in the same round: the median over rounds, with
the smallest and the largest. `max_abs_error` is the largest difference of a logit from torch, over every modality
setting.
"""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import typer

from benchmarks import command_line as cli
from benchmarks.inference import noise, save_graph, trained, untrained
from benchmarks.operator_sets import BATCHES, compare, feeds_of
from fusmae.files import write_json
from fusmae.inference.session import PRESENCE, Session

OPSETS = (17, 21)
_SETTINGS = np.array([[1, 1], [1, 0], [0, 1]], np.float32)


def main(
    model: cli.Graph = cli.GRAPH,
    weights: cli.Weights = cli.WEIGHTS,
    rounds: cli.Rounds = 9,
    folder: cli.Folder = cli.MADE / "attention",
    out: cli.Out = cli.RESULTS / "attention.json",
) -> None:
    """Compare attention.

    Example: python -m benchmarks.attention --rounds 9
    """
    import onnxruntime

    session = Session(model, 1)
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        f"{name}_opset{opset}": _compare(eager, session, folder / f"{name}-{opset}", opset, rounds)
        for name, eager in (("quick_start", trained(weights)), ("small", untrained("small", session)))
        for opset in OPSETS
    }
    report = {
        "by_model_and_opset": result,
        "rounds": rounds,
        "threads": 1,
        "onnxruntime": onnxruntime.__version__,
        **cli.measured_on(),
    }
    write_json(out, report)
    for name, row in result.items():
        typer.echo(f"{name}: {row}")


def _compare(eager: Any, session: Session, stem: Path, opset: int, rounds: int) -> dict[str, Any]:
    graphs = {name: stem.with_name(f"{stem.name}-{name}.onnx") for name in ("torch", "rewritten")}
    save_graph(eager, session, graphs["rewritten"], opset)
    with patch("fusmae.release.export.graph.with_onnx_attention", lambda model, _: model):
        save_graph(eager, session, graphs["torch"], opset)
    row: dict[str, Any] = {
        name: {"bytes": path.stat().st_size, "max_abs_error": _error(eager, session, path)}
        for name, path in graphs.items()
    }
    for size in BATCHES:
        row[f"batch{size}"] = compare(graphs, feeds_of(session, size), rounds, "rewritten")["torch"]
    return row


def _error(eager: Any, session: Session, path: Path) -> float:
    import torch

    feeds = {**noise(session, len(_SETTINGS)), PRESENCE: _SETTINGS}
    with torch.inference_mode():
        expected = eager(*map(torch.from_numpy, feeds.values()))[0].numpy()
    found = Session(path, 1)._session.run(["logits"], feeds)[0]
    return float(np.abs(found - expected).max())


if __name__ == "__main__":
    cli.run_main(main)
