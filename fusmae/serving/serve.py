"""Start the service for one model; SIGTERM or SIGINT ends it."""

import logging
import socket
from copy import deepcopy
from ipaddress import ip_address

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from fusmae.errors import FusmaeError
from fusmae.serving.app import make_app
from fusmae.serving.limits import Limits
from fusmae.serving.loaded import find_model

_log = logging.getLogger("fusmae.serving")


def serve(model: str, host: str, port: int, limits: Limits) -> None:
    """Load the model, then answer requests until SIGTERM or SIGINT; requests in progress are finished first.

    Args:
        model: an alias, a version or an ONNX file.
        host: address to listen on.
        port: 0 for any free one, which the log names.
        limits: how much the service takes on.

    Raises:
        RegistryError: there is no such model.
        ExportError: the file was not exported by this project.
        FusmaeError: the address can't be listened on.
    """
    first = find_model(model)
    logs = deepcopy(LOGGING_CONFIG)
    logs["loggers"]["fusmae.serving"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    config = uvicorn.Config(
        make_app(model, first, limits),
        log_config=logs,
        access_log=False,
        timeout_graceful_shutdown=limits.stop_s,
    )
    listening = _listen(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
    _log.info("%s answers on %s, sha256 %s", first.file.label, url, first.file.sha256)
    if not _is_loopback(host):
        _log.warning("%s is open to others, and the service asks for no password: put a proxy before it", host)
    uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise FusmaeError(
            f"{host}:{port} can't be listened on: {error}", hint="name another --port (0 takes any free one) or --host"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
