"""Commands that show what there is."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import run_command

app = typer.Typer()


@app.command()
def summary(
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
) -> None:
    """Show what the last run made and where to look at it."""
    typer.echo(run_command("summary", reports=reports))
