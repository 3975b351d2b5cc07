"""`fusmae serve`: the HTTP service."""

from typing import Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import Host


def serve(
    model: Annotated[str, typer.Option(help="NAME@ALIAS (watched), NAME/VERSION or an ONNX file.")] = "fusmae@champion",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")] = 8080,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Maximum number of tiles that run together, and of tiles per request.")
    ] = 32,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that a request waits for others.")] = 2.0,
    max_requests: Annotated[
        int, typer.Option(min=1, help="Maximum number of requests in progress; further ones get 503.")
    ] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body in MB; larger ones get 413.")] = 16.0,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the alias.")] = 30.0,
    stop_s: Annotated[int, typer.Option(min=0, help="Seconds to finish requests after a signal to stop.")] = 30,
) -> None:
    """Answer requests with tiles over HTTP.

    The service follows the alias when it moves, without dropping a request. See docs/serving.md.

    Example: fusmae serve --model fusmae@champion --port 8080
    """
    begin("serve")
    from fusmae.serving.app import serve as run_service
    from fusmae.serving.limits import Limits

    run_service(model, host, port, Limits(max_batch, max_wait_ms, max_requests, max_body_mb, poll_s, stop_s))
