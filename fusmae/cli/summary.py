"""What the last run made and where to look at it; no DVC stage, for it makes nothing."""

import json
from pathlib import Path

from fusmae.errors import FusmaeError


def summary(reports: Path) -> str:
    """The metrics table, the pictures, the registered version and how to open the MLflow UI.

    Raises:
        FusmaeError: the pipeline has not run yet.
    """
    table, version = reports / "evaluate" / "table.md", reports / "register" / "version.json"
    if not (table.exists() and version.exists()):
        raise FusmaeError(f"There are no finished reports in {reports}.", hint="make pipeline")
    facts = json.loads(version.read_text(encoding="utf-8"))
    pictures = sorted((reports / "reconstructions").glob("*.png"))
    return "\n".join(
        [
            table.read_text(encoding="utf-8"),
            f"metrics table   {table}",
            f"PR curves       {reports / 'evaluate' / 'pr.png'}   (or: dvc plots show)",
            f"reconstructions {reports / 'reconstructions'}/  ({len(pictures)} pictures)",
            f"model card      {reports / 'register' / 'card.md'}",
            f"registered      models:/{facts['name']}@{facts['alias']}, version {facts['version']}",
            "MLflow UI       make ui, then open http://127.0.0.1:5000",
        ]
    )
