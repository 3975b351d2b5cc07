"""The ledger of a registered model: who made which version champion, when and why; append-only, hash-chained.

The ledger is stored in the registry, as the versions of a separate registered model, `<name>-ledger`. The server
numbers them one after the other, so that of two writers that saw the same last entry exactly one comes first. Every
entry contains the hash of the one before it. An entry that contains the hash of an older one came second and is
ignored. An entry with an unknown hash of an entry before, an entry whose content does not match its own hash, or a gap
in the numbers shows that the ledger was changed.

A change of champion is two entries: `begun` before the alias moves, `done` after it. While a change is begun, others
are refused; after `STALE_S` seconds it counts as interrupted.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fusmae.errors import LedgerError
from fusmae.release.registry.versions import LEDGER_TAGS, all_versions, champion_number, crown, refusals_named

STALE_S = 300.0
ENTRY_TAG, _HASH_TAG = "fusmae.entry", "fusmae.hash"
_CUT_OFF, _GENESIS = "(was cut off)", "0" * 64
Action = Literal["promote", "rollback"]


def now() -> str:
    """The time, UTC, as entries state it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Entry(BaseModel):
    """One entry of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action  # kind of change
    phase: Literal["begun", "done"]  # phase of the change
    who: str  # name of the person, with the flow run if one acted for the person
    when: str  # time of the entry, UTC, ISO 8601
    before: str  # number of the version that was champion before; "" for none
    after: str  # number of the version that is champion afterwards
    verdict: str  # SHA-256 of the gate's verdict; "" for a rollback
    forced: bool  # whether the version was promoted although the gate refused it
    reason: str  # reason that was given, as for a forced promotion; "" for none
    previous: str = _GENESIS  # hash of the entry before

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole entry, which includes the hash of the one before."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()

    @property
    def open_s(self) -> float:
        """Seconds for which the change may still be in progress, so that the alias may move; not positive if over."""
        age = datetime.now(UTC) - datetime.fromisoformat(self.when)
        return STALE_S - age.total_seconds() if self.phase == "begun" else 0.0

    def done(self, reason: str) -> "Entry":
        """The entry, not written yet, that completes the change which this one began."""
        return self.model_copy(update={"phase": "done", "when": now(), "reason": reason})

    def completes(self, begun: "Entry") -> bool:
        """Whether this entry completes exactly the change that `begun` began."""
        free = {"phase", "when", "reason", "previous"}
        is_same = self.model_dump(exclude=free) == begun.model_dump(exclude=free)
        reasons = (begun.reason, f"{begun.reason} {_CUT_OFF}".strip())
        return begun.phase == "begun" and is_same and self.reason in reasons


class Ledger:
    """The ledger of the registered model `name`."""

    def __init__(self, name: str) -> None:
        self.name, self.model = name, f"{name}-ledger"

    def entries(self) -> list[Entry]:
        """All valid entries, the oldest first.

        Raises:
            LedgerError: the ledger was changed; the error names the entry.
            RegistryError: MLflow does not answer.
        """
        contents = (
            (int(found.version), found.tags.get(ENTRY_TAG, ""), found.tags.get(_HASH_TAG, ""))
            for found in all_versions(self.model)
        )
        return _chained(self.model, sorted(contents))

    def append(self, entry: Entry, expected: Sequence[Entry]) -> Entry:
        """Write an entry behind those on which the decision is based, and return it with its `previous` filled in.

        Raises:
            LedgerError: another writer was first.
            RegistryError: MLflow refuses.
        """
        chained = entry.model_copy(update={"previous": expected[-1].sha256 if expected else _GENESIS})
        with refusals_named(f"an entry in {self.model}") as client:
            self._make(client)
            version = client.get_model_version(self.name, entry.after)
            source = str(version.source)
            # A server does not return a version's model_id, but MLflow requires it with such a source.
            in_source = source.removeprefix("models:/") if source.startswith("models:/m-") else None
            model_id = version.model_id or in_source
            tags = {ENTRY_TAG: chained.model_dump_json(), _HASH_TAG: chained.sha256}
            client.create_model_version(self.model, source, model_id=model_id, tags=tags, description=sentence(chained))
        entries = self.entries()
        if chained.sha256 not in {written.sha256 for written in entries}:
            raise LedgerError(
                f"Another command changed the champion of {self.name} at the same time.",
                got=sentence(entries[-1]),
                expected="one command at a time",
                hint="read it with `fusmae ledger`, then decide again",
            )
        return chained

    def settled(self) -> list[Entry]:
        """All valid entries while no change is in progress; one that was cut off after the alias moved is completed.

        Raises:
            LedgerError: a change is in progress, or the ledger was changed.
        """
        entries = self.entries()
        last = entries[-1] if entries else None
        if last is None or last.phase == "done":
            return entries
        if (open_s := last.open_s) > 0:
            raise LedgerError(
                f"A change of the champion of {self.name} is in progress.",
                got=sentence(last),
                expected="one at a time",
                hint=f"wait for it; if it was interrupted, it can be repeated {open_s:.0f} s from now",
            )
        if champion_number(self.name) != last.after:
            return entries
        done = self.append(last.done(f"{last.reason} {_CUT_OFF}".strip()), entries)
        crown(self.name, last.after, done.sha256, "")
        return [*entries, done]

    def _make(self, client: Any) -> None:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(self.model, description=f"Who made which version of {self.name} champion.")
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def champions(entries: Sequence[Entry]) -> list[str]:
    """Numbers of the champions as a stack: the last is champion, and a rollback returns to an earlier one."""
    stack: list[str] = []
    for entry in entries:
        if entry.phase == "done":
            if entry.action == "rollback" and entry.after in stack:
                del stack[len(stack) - stack[::-1].index(entry.after) :]
            else:
                stack.append(entry.after)
    return stack


def require_recorded(name: str, entries: Sequence[Entry], champion: str) -> None:
    """Refuse a champion that is not the one in the ledger; a rollback restores that one.

    Raises:
        LedgerError: the alias was moved without an entry in the ledger.
    """
    recorded = "".join(champions(entries)[-1:])
    is_cut_off = bool(entries) and entries[-1].phase == "begun" and entries[-1].after == champion
    if champion != recorded and not is_cut_off:
        raise LedgerError(
            f"The alias champion of {name} was moved without an entry in the ledger.",
            got=f"champion {champion or 'none'}",
            expected=f"champion {recorded or 'none'}",
            hint=f"fusmae rollback {name} --to {recorded or 'N'}, then promote again",
        )


def _chained(model: str, stored: Sequence[tuple[int, str, str]]) -> list[Entry]:
    entries: list[Entry] = []
    hashes = [_GENESIS]
    for place, (number, content, sha256) in enumerate(stored, start=1):
        if number != place:
            raise _changed(model, place, f"entry {number} where {place} belongs: one was deleted")
        try:
            entry = Entry.model_validate_json(content)
        except ValidationError as error:
            raise _changed(model, number, f"no entry: {error.errors()[0]['msg']}") from error
        if entry.sha256 != sha256:
            raise _changed(model, number, "its content does not match its hash")
        if entry.previous not in hashes:
            raise _changed(model, number, f"it follows {entry.previous[:12]}, which is not there")
        if entry.previous == hashes[-1]:
            if entry.phase == "done" and not (entries and entry.completes(entries[-1])):
                raise _changed(model, number, "`done`, but for another change than the one begun before it")
            entries.append(entry)
            hashes.append(sha256)
    return entries


def _changed(model: str, number: int, got: str) -> LedgerError:
    return LedgerError(
        f"The ledger {model} was changed at entry {number}.",
        got=got,
        expected="entries as they were written, each with the hash of the one before",
        hint="find out who has write access to the registry's database, and restore it from a backup",
    )


def sentence(entry: Entry) -> str:
    """One entry of the ledger as a line for people."""
    change = f"{entry.phase} {entry.action} {entry.before or 'none'} → {entry.after}"
    forced = ", against the gate" if entry.forced else ""
    return f"{entry.when} {entry.who} {change}{forced}{f': {entry.reason}' if entry.reason else ''}"


def checked_ledger(name: str) -> str:
    """Every change of champion, oldest first, one line per entry; fails where ledger and registry disagree.

    Raises:
        LedgerError: an entry was changed or removed, the alias was moved past it, or a champion was deleted.
        RegistryError: MLflow does not answer.
    """
    entries, current = Ledger(name).entries(), champion_number(name)
    hashes, versions = {entry.sha256 for entry in entries}, all_versions(name)
    stated = [(found.version, found.tags[tag]) for found in versions for tag in LEDGER_TAGS if tag in found.tags]
    for number, entry_hash in stated:
        if entry_hash not in hashes:
            raise LedgerError(
                f"{name}/{number} was made champion by an entry that is not in the ledger.",
                got=f"entry {entry_hash[:12]} on the version",
                expected="every such entry in the ledger",
                hint="the ledger's end was removed: restore the registry's database from a backup",
            )
    known = {str(found.version) for found in versions}
    if gone := [f"{name}/{number}" for number in champions(entries) if number not in known]:
        raise LedgerError(
            f"A version of {name} that was champion was deleted.",
            got=f"no {', '.join(gone)}",
            expected="versions in use kept: they carry the tag fusmae.in_use",
            hint="restore the registry's database from a backup; until then nothing can be rolled back to it",
        )
    require_recorded(name, entries, current)
    return "\n".join([*_lines(entries), f"champion: {f'{name}/{current}' if current else 'none'}"])


def _lines(entries: Sequence[Entry]) -> Iterator[str]:
    """One line per entry; before one that found another champion than the ledger had made, a line that says so."""
    if not entries:
        yield "no champion so far"
        return
    for number, entry in enumerate(entries):
        recorded = "".join(champions(entries[:number])[-1:])
        if entry.phase == "begun" and entry.before != recorded:
            yield f"(before this, the alias was moved from {recorded or 'none'} to {entry.before or 'none'} by hand)"
        yield sentence(entry)
    last = entries[-1]
    if last.phase == "begun":
        yield "the last change is in progress" if last.open_s > 0 else "the last change was interrupted: repeat it"
    # A copy of this hash elsewhere shows whether the whole ledger was replaced.
    yield f"last entry: {last.sha256}"
