"""HTTP servers that run in threads of the tests' own process."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class QuietHandler(BaseHTTPRequestHandler):
    """Answers requests without a line on standard error for each."""

    def log_message(self, *_: object) -> None:
        pass


class WebServer(ThreadingHTTPServer):
    """A server on a free port, which prints nothing when a client closes its connection early."""

    daemon_threads = True

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients may cut a connection that they keep for later. The report of it would stand in whatever is printed by
        # the test that runs at that moment.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def web_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[WebServer]:
    """A server that answers by `handler`; it is closed at the end.

    Args:
        handler: class of the handlers, or a function that makes one.
    """
    with WebServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class FolderHandler(QuietHandler, SimpleHTTPRequestHandler):
    """Serves the files of a folder, and writes down what was asked for.

    Args:
        arguments: as `SimpleHTTPRequestHandler` takes them.
        asked: receives the path of each request.
        directory: the folder.
    """

    def __init__(self, *arguments: Any, asked: list[str], directory: Path) -> None:
        self.asked = asked
        super().__init__(*arguments, directory=directory)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()
