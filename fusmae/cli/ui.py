"""The command that opens MLflow."""

from typing import Annotated

import typer

from fusmae.cli.call import run_command

app = typer.Typer()


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Show runs and registered models in a browser: MLflow's web interface on this project's store.

    Example: fusmae ui
    """
    typer.echo(run_command("ui", host=host, port=port))
