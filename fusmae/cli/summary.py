"""`fusmae summary`: what the last run made, and where to look at it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import begin
from fusmae.errors import FusmaeError


def summary(
    reports: Annotated[Path, typer.Option(help="Folder of reports.")] = Path("reports"),
) -> None:
    """Show what the last run made and where to look at it.

    Example: fusmae summary
    """
    begin("summary")
    table, version = reports / "evaluate" / "table.md", reports / "register" / "version.json"
    if not (table.exists() and version.exists()):
        raise FusmaeError(f"There are no finished reports in {reports}.", hint="make pipeline")
    facts = json.loads(version.read_text(encoding="utf-8"))
    pictures = sorted((reports / "reconstructions").glob("*.png"))
    lines = [
        table.read_text(encoding="utf-8"),
        f"metrics table   {table}",
        f"PR curves       {reports / 'evaluate' / 'pr.png'}   (or: dvc plots show)",
        f"reconstructions {reports / 'reconstructions'}/  ({len(pictures)} pictures)",
        f"model card      {reports / 'register' / 'card.md'}",
        f"registered      models:/{facts['name']}@{facts['alias']}, version {facts['version']}",
        "MLflow UI       make ui, then open http://127.0.0.1:5000",
    ]
    typer.echo("\n".join(lines))
