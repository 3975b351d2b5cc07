"""The ledger of a registered model, checked against what the registry has."""

from collections.abc import Sequence

from fusmae.errors import LedgerError
from fusmae.release.promotion.ledger import Entry, Ledger, champions, sentence
from fusmae.release.registry.versions import champion_number, in_use, numbers


def checked_ledger(name: str) -> str:
    """Every change of champion, oldest first; fails where ledger and registry disagree.

    Args:
        name: registered model.

    Returns:
        One line per entry, and the number of the champion.

    Raises:
        LedgerError: an entry was changed or removed, the alias was moved past it, or a champion was deleted.
        RegistryError: MLflow does not answer.
    """
    found = Ledger(name)
    entries, current = found.entries(), champion_number(name)
    hashes = {entry.sha256 for entry in entries}
    for number, entry_hash in in_use(name):
        if entry_hash not in hashes:
            raise LedgerError(
                f"{name}/{number} was put to use by an entry that the ledger does not have.",
                got=f"entry {entry_hash[:12]} on the version",
                expected="every such entry in the ledger",
                hint="the ledger's end was removed: restore the registry's database from a backup",
            )
    gone = [number for number in champions(entries) if number not in numbers(name)]
    if gone:
        raise LedgerError(
            f"A version of {name} that was champion was deleted.",
            got=f"no {', '.join(f'{name}/{number}' for number in gone)}",
            expected="versions in use kept: they carry the tag fusmae.in_use",
            hint="restore the registry's database from a backup; until then nothing can be rolled back to it",
        )
    expected = champions(entries)[-1:] or [""]
    last = entries[-1] if entries else None
    if current not in {expected[0], last.after if last and last.phase == "begun" else expected[0]}:
        raise LedgerError(
            f"The alias champion of {name} was moved past the ledger.",
            got=f"champion {current or 'none'}",
            expected=f"champion {expected[0] or 'none'}",
            hint=f"fusmae rollback {name} --to {expected[0] or 'N'}, or promote {current or 'none'} with evidence",
        )
    lines = _lines(entries) or ["no champion so far"]
    if last and last.phase == "begun":
        lines.append("the last change is under way" if last.is_open else "the last change was cut off: do it again")
    if entries:
        # A copy of it noted elsewhere shows whether the whole ledger was written anew.
        lines.append(f"last entry: {entries[-1].sha256}")
    return "\n".join([*lines, f"champion: {f'{name}/{current}' if current else 'none'}"])


def _lines(entries: Sequence[Entry]) -> list[str]:
    """One line per entry; before one that found another champion than the ledger had made, a line that says so."""
    lines = []
    for number, entry in enumerate(entries):
        recorded = "".join(champions(entries[:number])[-1:])
        if entry.phase == "begun" and entry.before != recorded:
            lines.append(f"(by then the alias was moved from {recorded or 'none'} to {entry.before or 'none'} by hand)")
        lines.append(sentence(entry))
    return lines
