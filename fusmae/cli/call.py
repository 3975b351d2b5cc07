"""What a command does before its work: parameters read, the process made ready, packages and the registry named."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fusmae.cli.packages import require_packages
from fusmae.runs.environment import exclude_this_machine
from fusmae.runs.memory import keep_freed_memory

if TYPE_CHECKING:
    from fusmae.config.params import Config


@dataclass
class GlobalOptions:
    """What stands before the command: `fusmae --params … --debug <command>`.

    Attributes:
        params: file of the parameters.
        debug: whether an error shows its traceback.
    """

    params: Path = Path("params.yaml")
    debug: bool = False


global_options = GlobalOptions()
"""Those of this process, set when the command line is read."""

# A person waits for the answer of a command, or a service looks again: with MLflow's own numbers a registry that is
# down takes four minutes to say so. Stages keep those: a training run had better wait.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}


def load_params() -> "Config":
    """params.yaml as it is named before the command."""
    from fusmae.config.params import load_config

    return load_config(global_options.params)


def stage_params() -> "Config":
    """params.yaml for a DVC stage, in a process that is made ready for its work."""
    _make_ready()
    return load_params()


def begin(command: str, *, looks_up: str = "") -> None:
    """Make the process ready for a command that is no stage.

    Args:
        command: name of the command.
        looks_up: model that the command asks the registry for first; a path of an ONNX file, or "", asks for none.

    Raises:
        ConfigError: a package that the command needs is not installed.
    """
    require_packages(command)
    _make_ready()
    if looks_up and not looks_up.endswith(".onnx"):
        # To import MLflow takes seconds, in which a person would wonder.
        typer.echo(f"looking up {looks_up} in the registry", err=True)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)


def _make_ready() -> None:
    keep_freed_memory()
    exclude_this_machine()
