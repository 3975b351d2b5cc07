"""Commands that decide which version is champion."""

import typer

app = typer.Typer()
