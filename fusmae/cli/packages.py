"""Which packages of an extra a command needs, asked before it starts: not after the last tile."""

from importlib.util import find_spec

from fusmae.errors import ConfigError

_NEEDED = {
    "predict": ("onnxruntime", "rasterio", "pystac", "matplotlib"),
    "embed": ("onnxruntime", "rasterio", "pyarrow", "shapely"),
    "drift": ("onnxruntime", "rasterio"),
    "serve": ("onnxruntime", "rasterio", "fastapi", "uvicorn", "multipart", "prometheus_client"),
}


def require_packages(command: str) -> None:
    """Refuse a command whose packages are not all installed.

    Args:
        command: its name; one that is no command on models in use needs none.

    Raises:
        ConfigError: names what is missing.
    """
    missing = [name for name in _NEEDED.get(command, ()) if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"`fusmae {command}` needs packages that are not installed.",
            got=f"no {', '.join(missing)}",
            expected="the packages of the extra `serve`",
            hint="pip install --require-hashes -r requirements-serve.lock",
        )
