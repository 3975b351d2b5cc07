"""Make a registered version again and say whether it is the same."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from fusmae.release.lineage.compare import Answer, Comparison
from fusmae.release.lineage.reproduce import RawData, make_again
from fusmae.release.lineage.trace import trace

_ANSWERS: dict[Answer, str] = {"same": "same", "within": "within tolerance", "other": "OTHER", "noted": "other, noted"}
_WIDTH = 150


def reproduce(
    *, reference: str, tolerance: float, keep: bool, folder: Path, downloads: Path, raw: Path, receipt: Path
) -> tuple[str, str]:
    """Check a version's commit out, run its stages there and compare.

    Args:
        reference: `fusmae@champion` or `fusmae/3`.
        tolerance: largest difference of a score, absolute.
        keep: leave the checkout.
        folder: where checkouts go.
        downloads: archives that need not be fetched again.
        raw: unpacked ones.
        receipt: what they are.

    Returns:
        The comparison as people read it, and what is wrong with it; "" where it is reproduced.

    Raises:
        RegistryError: no such version, or MLflow does not answer.
        LineageError: it can't be made again here.
    """
    traced = trace(reference)
    label, commit = traced.model.label, traced.commit
    Console(stderr=True, highlight=False).print(f"making {label} again from commit {commit}", soft_wrap=True)
    found = make_again(traced, folder, RawData(downloads, raw, receipt), tolerance=tolerance, keep=keep)
    problem = f"{label} is not reproduced: {len(found.other)} of {len(found.rows)} comparisons differ."
    kept = f"\nkept: {folder / label.replace('/', '-')}" if keep else ""
    return _text(label, found) + kept, "" if found.is_reproduced else problem


def _text(label: str, found: Comparison) -> str:
    table = Table("compared", "registered", "made again", "answer")
    for row in found.rows:
        table.add_row(row.what, row.before, row.now, _ANSWERS[row.answer])
    asked = (
        "the same bits, for libraries, device and threads are the same"
        if found.expects_bits
        else "the scores only, for libraries, device or threads are others: see the first rows"
    )
    console = Console(width=_WIDTH, highlight=False)
    with console.capture() as captured:
        console.print(table)
    verdict = "reproduced" if found.is_reproduced else "NOT reproduced"
    return f"{captured.get()}asked for: {asked}; scores within {found.tolerance:g}\n{label}: {verdict}"
