"""Commands that say what made a model, and make it again."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import run_command
from fusmae.errors import LineageError

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


@app.command()
def reproduce(
    reference: Reference,
    tolerance: Annotated[float, typer.Option(help="Largest difference of a score, absolute.", min=0)] = 1e-6,
    keep: Annotated[bool, typer.Option(help="Leave the checkout when all is done.")] = False,
    folder: Annotated[Path, typer.Option(help="Where checkouts go.")] = Path(".fusmae/reproduce"),
) -> None:
    """Make a version again from its commit, with nothing from a cache, and compare every hash and score.

    Exit code 1 if it is not the same. Cut off, the same command goes on.

    Example: fusmae reproduce fusmae@champion --tolerance 1e-6
    """
    text, problem = run_command(
        "reproduce",
        reference=reference,
        tolerance=tolerance,
        keep=keep,
        folder=folder,
        # As dvc.yaml has them: the checkout finds them at the same places.
        downloads=Path("data/downloads"),
        raw=Path("data/raw"),
        receipt=Path("data/raw.json"),
    )
    typer.echo(text)
    if problem:
        raise LineageError(problem, hint="`--keep` leaves the checkout to look into")
