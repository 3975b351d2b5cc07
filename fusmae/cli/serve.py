"""The command that starts the service."""

from typing import Annotated

import typer

from fusmae.cli.call import run_command

app = typer.Typer()


@app.command()
def serve(
    model: Annotated[str, typer.Option(help="NAME@ALIAS (watched), NAME/VERSION or an ONNX file.")] = "fusmae@champion",
    host: Annotated[str, typer.Option(help="Address to listen on; it asks for no password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any free one.")] = 8080,
    max_batch: Annotated[int, typer.Option(min=1, help="Tiles that run together, and most tiles a request.")] = 32,
    max_wait_ms: Annotated[float, typer.Option(min=0, help="How long a request waits for others.")] = 2.0,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests in the house; more get 503.")] = 64,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body in MB; larger ones get 413.")] = 16.0,
    poll_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the alias.")] = 30.0,
    stop_s: Annotated[int, typer.Option(min=0, help="Seconds to finish requests when told to stop.")] = 30,
) -> None:
    """Answer tiles over HTTP; follows the alias when it moves, without dropping a request. See docs/serving.md.

    Example: fusmae serve --model fusmae@champion --port 8080
    """
    from fusmae.serving.limits import Limits

    limits = Limits(max_batch, max_wait_ms, max_requests, max_body_mb, poll_s, stop_s)
    run_command("serve", model=model, host=host, port=port, limits=limits)
