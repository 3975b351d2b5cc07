"""The command that starts the service."""

import typer

app = typer.Typer()
