"""How a command of the command line reaches the code behind it."""

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from fusmae.cli.packages import require_packages
from fusmae.runs.environment import exclude_this_machine
from fusmae.runs.memory import keep_freed_memory

if TYPE_CHECKING:
    from fusmae.config.params import Config

options: dict[str, Any] = {"params": Path("params.yaml"), "debug": False}
"""What stands before the command: `fusmae --params … --debug <command>`."""

# A person waits for the answer of a command, or a service looks again: with MLflow's own numbers a registry that is
# down takes four minutes to say so. Stages keep those: a training run had better wait.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}

# The argument by which each command that asks the registry first names a model.
_LOOKED_UP = {"predict": "model", "embed": "model", "drift": "model", "lineage": "reference", "reproduce": "reference"}
_LOOKED_UP |= {"promote": "name", "rollback": "name", "ledger": "name"}


def load_params() -> "Config":
    """params.yaml as it is named before the command."""
    from fusmae.config.params import load_config

    return load_config(options["params"])


def stage_params() -> "Config":
    """params.yaml for a DVC stage, in a process that is made ready for its work."""
    keep_freed_memory()
    exclude_this_machine()
    return load_params()


def run_command(command: str, **arguments: Any) -> Any:
    """Run a command that is no stage: the function of that name in `fusmae/commands/`."""
    require_packages(command)
    keep_freed_memory()
    exclude_this_machine()
    model = str(arguments.get(_LOOKED_UP.get(command, ""), ""))
    if model and not model.endswith(".onnx"):
        # To import MLflow takes seconds, in which a person would wonder.
        typer.echo(f"looking up {model} in the registry", err=True)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    return getattr(import_module(f"fusmae.commands.{command}"), command)(**arguments)
