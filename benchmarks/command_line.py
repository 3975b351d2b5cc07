"""What the benchmarks' command lines share: options, and the machine and commit that a result is from."""

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fusmae.runs.provenance import git_state

GRAPH, WEIGHTS = Path("models/export/model.onnx"), Path("models/finetune/pretrained")
MADE, RESULTS = Path(".fusmae/benchmarks"), Path("benchmarks/results")

Graph = Annotated[Path, typer.Option("--model", help="ONNX file that names the arrays.")]
Weights = Annotated[Path, typer.Option(help="The checkpoint that it was exported from.")]
Rounds = Annotated[int, typer.Option(help="Rounds of each comparison.")]
Folder = Annotated[Path, typer.Option(help="Where graphs, scenes, pairs or the world are made and kept.")]
Out = Annotated[Path, typer.Option(help="JSON to write.")]


def run_main(main: Callable[..., None]) -> None:
    """Run a benchmark with the options of the command line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()


def machine(device: str = "") -> str:
    """The machine in words, such as `x86_64, 2 cores, Python 3.11.7`.

    Args:
        device: name of the device that computed; "" for the processor's architecture.
    """
    return f"{device or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def measured_on() -> dict[str, Any]:
    """The machine, and the commit whose code was measured."""
    return {"machine": machine(), **git_state()}
