"""Commands that turn scenes into maps."""

import typer

app = typer.Typer()
