"""What a command does before its work: parameters read, the process made ready, packages and the registry named."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fusmae.errors import ConfigError
from fusmae.runs.environment import exclude_this_machine, keep_freed_memory

if TYPE_CHECKING:
    from fusmae.config.params import Config


@dataclass
class GlobalOptions:
    """What stands before the command: `fusmae --params … --debug <command>`."""

    params: Path = Path("params.yaml")
    debug: bool = False


global_options = GlobalOptions()
"""Those of this process, set when the command line is read."""

# With MLflow's own values a command takes four minutes to report a registry that is down. Stages keep those values: a
# training run should wait.
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
        # Importing MLflow takes seconds.
        typer.echo(f"looking up {looks_up} in the registry", err=True)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)


def _make_ready() -> None:
    keep_freed_memory()
    exclude_this_machine()


_NEEDED = {
    "predict": ("onnxruntime", "rasterio", "pystac", "pystac_client", "requests", "shapely", "matplotlib"),
    "embed": ("onnxruntime", "rasterio", "pystac", "pystac_client", "requests", "shapely", "pyarrow"),
    "drift": ("onnxruntime", "rasterio", "pystac", "pystac_client", "requests", "shapely"),
    "tile": ("rasterio", "shapely", "pyogrio", "pystac", "pystac_client", "requests", "matplotlib", "rich"),
    "serve": ("onnxruntime", "rasterio", "fastapi", "uvicorn", "multipart", "prometheus_client"),
}


def require_packages(command: str) -> None:
    """Refuse a command whose packages are not all installed; only commands on scenes and models in use need some.

    Raises:
        ConfigError: names what is missing.
    """
    missing = [name for name in _NEEDED.get(command, ()) if find_spec(name) is None]
    if missing and command == "tile":
        raise ConfigError(
            f"`fusmae {command}` needs packages that are not installed.",
            got=f"no {', '.join(missing)}",
            expected="the packages of the extra `train`: it makes data to train on",
            hint="make check",
        )
    if missing:
        raise ConfigError(
            f"`fusmae {command}` needs packages that are not installed.",
            got=f"no {', '.join(missing)}",
            expected="the packages of the extra `serve`",
            hint="pip install --require-hashes -r requirements-serve.lock",
        )
