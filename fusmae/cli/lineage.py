"""Commands that say what made a model, and make it again."""

import typer

app = typer.Typer()
