"""`fusmae reproduce`: a registered version is made again, and every hash and score compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import ModelVersion
from fusmae.errors import LineageError

if TYPE_CHECKING:
    from fusmae.release.lineage.compare import Answer, ModelComparison

_ANSWERS: dict["Answer", str] = {
    "same": "same",
    "within": "within tolerance",
    "other": "OTHER",
    "noted": "other, noted",
}
_WIDTH = 150


def reproduce(
    reference: ModelVersion,
    tolerance: Annotated[float, typer.Option(help="Largest difference of a score, absolute.", min=0)] = 1e-6,
    keep: Annotated[bool, typer.Option(help="Leave the checkout when all is done.")] = False,
    folder: Annotated[Path, typer.Option(help="Where checkouts go.")] = Path(".fusmae/reproduce"),
) -> None:
    """Make a version again from its commit, and compare it.

    Nothing comes from a cache; every hash and score is compared. Exit code 1 if it is not the same. Cut off, the same
    command goes on.

    Example: fusmae reproduce fusmae@champion --tolerance 1e-6
    """
    begin("reproduce", looks_up=reference)
    from fusmae.release.lineage.reproduce import RawData, make_again
    from fusmae.release.lineage.trace import trace

    traced = trace(reference)
    label = traced.model.label
    typer.echo(f"making {label} again from commit {traced.commit}", err=True)
    # As dvc.yaml has them: the checkout finds them at the same places.
    raw_data = RawData(Path("data/downloads"), Path("data/raw"), Path("data/raw.json"))
    comparison = make_again(traced, folder, raw_data, tolerance=tolerance, keep=keep)
    typer.echo(_text(label, comparison))
    if keep:
        typer.echo(f"kept: {folder / label.replace('/', '-')}")
    if not comparison.is_reproduced:
        raise LineageError(
            f"{label} is not reproduced: {len(comparison.other)} of {len(comparison.rows)} comparisons differ.",
            hint="`--keep` leaves the checkout to look into",
        )


def _text(label: str, comparison: "ModelComparison") -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table("compared", "registered", "made again", "answer")
    for row in comparison.rows:
        table.add_row(row.what, row.before, row.now, _ANSWERS[row.answer])
    asked = (
        "the same bits, for libraries, device and threads are the same"
        if comparison.expects_bits
        else "the scores only, for libraries, device or threads are others: see the first rows"
    )
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    verdict = "reproduced" if comparison.is_reproduced else "NOT reproduced"
    return f"{captured.get()}asked for: {asked}; scores within {comparison.tolerance:g}\n{label}: {verdict}"
