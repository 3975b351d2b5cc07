"""`fusmae ui`: MLflow's web interface."""

from typing import Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import Host


def ui(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 5000,
) -> None:
    """Show runs and registered models in a browser.

    It is MLflow's web interface on this project's store.

    Example: fusmae ui
    """
    begin("ui")
    from fusmae.runs.mlflow_ui import show_mlflow

    typer.echo(show_mlflow(host, port))
