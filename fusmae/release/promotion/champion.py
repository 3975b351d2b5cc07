"""Moves the alias `champion`: forward after the gate, back in one step; each move is recorded in the ledger first."""

import getpass
import os
import platform

from fusmae.errors import LedgerError, LineageError, PromotionError, RegistryError
from fusmae.inference.session import Session
from fusmae.release.lineage.trace import read_lineage
from fusmae.release.promotion.ledger import Action, Entry, Ledger, champions, now, require_recorded, sentence
from fusmae.release.registry.model_file import ModelFile, model_file
from fusmae.release.registry.versions import champion_number, crown, move_alias, protect
from fusmae.runs.provenance import flow_run, git_email


def move_champion(
    action: Action,
    target: ModelFile,
    seen: str,
    *,
    verdict: str = "",
    forced: bool = False,
    reason: str = "",
    commit: str = "",
) -> Entry:
    """Move the alias to a version, with an entry in the ledger before and after; returns the last one.

    The decision is based on the champion number `seen`; "" for none. `commit` has what made the version, as the gate
    found; "" if there is none. `Entry` describes the others.

    Raises:
        LedgerError: another change is in progress or came first, or the ledger was changed.
        PromotionError: the champion has changed since the decision.
        RegistryError: MLflow refuses; the alias is where it was, unless the last entry states otherwise.
    """
    name, number, ledger = target.name, target.version, Ledger(target.name)
    entries = ledger.settled()
    if (current := champion_number(name)) != seen:
        raise PromotionError(
            f"The champion of {name} has changed since the comparison.",
            got=current or "none",
            expected=seen or "none",
            hint=f"fusmae promote {name}",
        )
    if action == "promote":
        require_recorded(name, entries, seen)
    runs = _runs_behind(target)
    entry = Entry(
        action=action,
        phase="begun",
        who=_who(),
        when=now(),
        before=seen,
        after=number,
        verdict=verdict,
        forced=forced,
        reason=reason,
    )
    begun = ledger.append(entry, entries)
    protect(name, number, begun.sha256, runs)
    # A process that was delayed for long must not undo changes that others made meanwhile.
    last = ledger.entries()[-1]
    if last.sha256 != begun.sha256:
        raise LedgerError(f"Another command changed {name} meanwhile.", got=sentence(last), hint="fusmae ledger")
    move_alias(name, number)
    try:
        done = ledger.append(begun.done(begun.reason), [*entries, begun])
    except LedgerError:
        # Another change had been completed before the move: the champion is the one in the ledger.
        last = ledger.entries()[-1]
        if last.phase == "done" and champion_number(name) != last.after:
            move_alias(name, last.after)
        raise
    crown(name, number, done.sha256, commit)
    return done


def _runs_behind(model: ModelFile) -> list[str]:
    """Ids of the runs of a version's lineage; none if that can't be read, since a rollback must not depend on it."""
    try:
        lineage = read_lineage(model)
        return [run.run_id for run in lineage.runs] if lineage else []
    except (LineageError, RegistryError):
        return []


def _who() -> str:
    """The person's e-mail address from git, else account and machine; followed by the flow run, if there is one."""
    try:
        person = git_email() or f"{getpass.getuser()}@{platform.node()}"
    except (KeyError, OSError):  # in a container the user may have a number but no name
        person = f"user {os.getuid()}@{platform.node()}"
    return f"{person} by flow run {flow_run()}" if flow_run() else person


def roll_back(name: str, *, to: str, reason: str) -> str:
    """Move the alias back to an earlier champion, by its number, or "" for the one before; returns the ledger's line.

    The version was champion before, so no gate judges it; its file is checked and loaded.

    Raises:
        PromotionError: there is nothing to go back to.
        LedgerError: another process is changing the champion.
        RegistryError: the version is gone, its file is another, or MLflow refuses.
    """
    entries, current = Ledger(name).settled(), champion_number(name)
    earlier = [number for number in champions(entries) if number != current and to in ("", number)]
    if not earlier:
        raise _nothing_before(name, to, current, entries)
    target = model_file(f"{name}/{earlier[-1]}")
    Session(target.path)  # raises for a graph that can't be loaded
    return sentence(move_champion("rollback", target, current, reason=reason))


def _nothing_before(name: str, number: str, current: str, entries: list[Entry]) -> PromotionError:
    others = [entry.after for entry in entries if entry.phase == "done" and entry.after != current]
    label = f"{name}/{number or current}"
    if not current:
        problem = f"{name} has no champion: there is nothing to roll back."
    elif not number:
        problem = f"{label} was the first champion: there is no earlier one."
    elif number == current:
        problem = f"{label} is champion already."
    elif number in others:
        problem = f"{label} came after the present champion: a rollback returns to an earlier one."
    else:
        problem = f"{label} was never champion."
    last = number if number in others else others[-1] if others else "N"
    return PromotionError(
        problem,
        got=f"champion {current or 'none'}",
        expected=f"an earlier one, of these that were champion: {', '.join(dict.fromkeys(others)) or 'none'}",
        hint=f"fusmae ledger {name} shows who was champion when; fusmae promote {name} --version {last} judges again",
    )
