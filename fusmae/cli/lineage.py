"""Commands that say what made a model, and make it again."""

from typing import Annotated

import typer

from fusmae.cli.call import run_command

app = typer.Typer()

Reference = Annotated[str, typer.Argument(help="A registered version: NAME@ALIAS or NAME/VERSION.")]


@app.command()
def lineage(
    reference: Reference,
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Say what made a version: commit, parameters, hashes back to the raw archives, runs, libraries.

    Example: fusmae lineage fusmae@champion
    """
    typer.echo(run_command("lineage", reference=reference, as_json=json))
