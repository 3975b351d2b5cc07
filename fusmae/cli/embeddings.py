"""Commands about a model's embedding space."""

import typer

app = typer.Typer()
