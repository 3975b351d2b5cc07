"""Commands that show what there is, and bring it up to date."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import load_params, run_command

app = typer.Typer()


@app.command()
def summary(
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
) -> None:
    """Show what the last run made and where to look at it."""
    typer.echo(run_command("summary", reports=reports))


@app.command()
def update(
    check: Annotated[bool, typer.Option("--check", help="Only look: exit code 3 where files have changed.")] = False,
    raw: Annotated[Path, typer.Option(help="Folder of unpacked raw data, a folder a source.")] = Path("data/raw"),
    receipt: Annotated[Path, typer.Option(help="JSON that says what the raw data are.")] = Path("data/raw.json"),
) -> None:
    """Look at raw files that you added, removed or changed, then run `dvc repro` on all that it concerns.

    Names, sizes and times are looked at; only files where these are others are read.

    Example: fusmae update
    """
    raise typer.Exit(run_command("update", config=load_params(), raw=raw, receipt=receipt, check=check))
