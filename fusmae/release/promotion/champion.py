"""Moves the alias `champion`: forward after the gate, back in one step; each move is recorded in the ledger first."""

import getpass
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fusmae.errors import LedgerError, LineageError, PromotionError, RegistryError
from fusmae.inference.session import Session
from fusmae.release.lineage.record import LINEAGE
from fusmae.release.lineage.trace import read_lineage
from fusmae.release.promotion.experiments import is_of_a_run, shown, uncommitted
from fusmae.release.promotion.ledger import CUT_OFF, STALE_S, Entry, Ledger, champions, sentence
from fusmae.release.registry.artifacts import read_artifact
from fusmae.release.registry.model_file import ModelFile, model_file
from fusmae.release.registry.versions import CHAMPION, champion_number, crown, move_alias, protect
from fusmae.runs.provenance import flow_run, git_email, git_state, is_committed

_KEEP = "fusmae promote {} --experiment workspace, which commits params.yaml and dvc.lock and then judges"


@dataclass(frozen=True)
class Change:
    """A change of champion that is about to be made.

    Attributes:
        action: kind of change, `promote` or `rollback`.
        target: the version that becomes champion.
        verdict: SHA-256 of the gate's verdict; "" for a rollback.
        forced: whether the gate refused the version.
        reason: reason that was given, as for a forced promotion; "" for none.
        commit: commit that has what made the version, as the gate found; "" if there is none.
    """

    action: str
    target: ModelFile
    verdict: str = ""
    forced: bool = False
    reason: str = ""
    commit: str = ""


def require_clean_checkout(name: str) -> None:
    """Refuse to decide from a state that is not committed.

    Args:
        name: name of the registered model, for the advice.

    Raises:
        PromotionError: there is no git checkout, files are changed or new, or dvc.lock is not committed.
    """
    git = git_state()
    if git["commit"] is None:
        raise PromotionError(
            "A version is promoted from a git checkout, so that a commit identifies the thresholds.",
            got="no commit here",
            hint="run it in a clone of the project",
        )
    changed = uncommitted()
    if git["is_dirty"]:
        raise PromotionError(
            "The checkout has uncommitted changes.",
            got=shown(changed) or "a dirty tree",
            expected="every change committed",
            hint=_KEEP.format(name)
            if is_of_a_run(changed)
            else "`git diff HEAD` shows them; `git commit` or `git stash` them, then the same command again",
        )
    if not is_committed(Path("dvc.lock")):
        raise PromotionError(
            "dvc.lock is not committed: the data and models of this run could not be found again.",
            hint=_KEEP.format(name),
        )


def move_champion(name: str, change: Change, seen: str) -> Entry:
    """Move the alias, with an entry in the ledger before and after.

    Args:
        name: name of the registered model.
        change: the change to make.
        seen: number of the champion on which the decision is based; "" for none.

    Returns:
        The last entry.

    Raises:
        LedgerError: another change is in progress or came first, or the ledger was changed.
        PromotionError: the champion has changed since the decision.
        RegistryError: MLflow refuses; the alias is where it was, unless the last entry states otherwise.
    """
    ledger = Ledger(name)
    entries = settled(ledger)
    if champion_number(name) != seen:
        raise PromotionError(
            f"The champion of {name} has changed since the comparison.",
            got=champion_number(name) or "none",
            expected=seen or "none",
            hint=f"fusmae promote {name}",
        )
    if change.action == "promote":
        require_recorded(name, entries, seen)
    runs = _runs_behind(change.target)
    begun = ledger.append(_entry(change, "begun", seen), entries)
    protect(change.target.name, change.target.version, begun.sha256, runs)
    # A process that was delayed for long must not undo changes that others made meanwhile.
    last = ledger.entries()[-1]
    if last.sha256 != begun.sha256:
        raise LedgerError(f"Another command changed {name} meanwhile.", got=sentence(last), hint="fusmae ledger")
    move_alias(name, CHAMPION, change.target.version)
    try:
        done = ledger.append(begun.model_copy(update={"phase": "done", "when": _now()}), [*entries, begun])
    except LedgerError:
        _put_back(ledger)
        raise
    crown(name, change.target.version, done.sha256, change.commit)
    return done


def require_recorded(name: str, entries: Sequence[Entry], seen: str) -> None:
    """Refuse to replace a champion that is not in the ledger; a rollback restores the recorded one.

    Args:
        name: name of the registered model.
        entries: entries of its ledger.
        seen: number of the champion.

    Raises:
        LedgerError: the alias was moved without an entry in the ledger.
    """
    recorded = "".join(champions(entries)[-1:])
    is_cut_off = bool(entries) and entries[-1].phase == "begun" and entries[-1].after == seen
    if seen != recorded and not is_cut_off:
        raise LedgerError(
            f"The alias champion of {name} was moved without an entry in the ledger.",
            got=f"champion {seen or 'none'}",
            expected=f"champion {recorded or 'none'}",
            hint=f"fusmae rollback {name} --to {recorded or 'N'}, then promote again",
        )


def _put_back(ledger: Ledger) -> None:
    """Undo a move that came after another change had been completed: the champion is the one in the ledger."""
    entries = ledger.entries()
    if entries and entries[-1].phase == "done" and champion_number(ledger.name) != entries[-1].after:
        move_alias(ledger.name, CHAMPION, entries[-1].after)


def settled(ledger: Ledger) -> list[Entry]:
    """Entries of the ledger while no change is in progress.

    A change that was interrupted after the alias had moved is recorded as done.

    Raises:
        LedgerError: a change is in progress, or the ledger was changed.
    """
    entries = ledger.entries()
    if not entries or entries[-1].phase == "done":
        return entries
    last = entries[-1]
    if last.is_open:
        raise LedgerError(
            f"A change of the champion of {ledger.name} is in progress.",
            got=sentence(last),
            expected="one at a time",
            hint=f"wait for it; if it was interrupted, it can be repeated {STALE_S - last.age_s:.0f} s from now",
        )
    if champion_number(ledger.name) != last.after:
        return entries
    done = last.model_copy(update={"phase": "done", "when": _now(), "reason": f"{last.reason} {CUT_OFF}".strip()})
    written = ledger.append(done, entries)
    crown(ledger.name, last.after, written.sha256, "")
    return [*entries, written]


def version_before(name: str, number: str = "") -> ModelFile:
    """A version that was champion before the present one; its file is checked.

    Args:
        name: name of the registered model.
        number: number of the version; "" for the last champion before.

    Raises:
        PromotionError: there was no such champion.
        RegistryError: the version is gone, or its file is not the registered one.
    """
    entries, current = settled(Ledger(name)), champion_number(name)
    earlier = [found for found in champions(entries) if found != current and number in ("", found)]
    if not earlier:
        raise _nothing_before(name, number, current, entries)
    return model_file(f"{name}/{earlier[-1]}")


def _nothing_before(name: str, number: str, current: str, entries: Sequence[Entry]) -> PromotionError:
    others = [entry.after for entry in entries if entry.phase == "done" and entry.after != current]
    if not current:
        return PromotionError(f"{name} has no champion: there is nothing to roll back.", hint=f"fusmae promote {name}")
    if number and number not in others:
        return PromotionError(
            f"{name}/{number} {'is champion already' if number == current else 'was never champion'}.",
            expected=f"one of {', '.join(dict.fromkeys(others)) or 'none: there was no other champion'}",
            hint=f"fusmae ledger {name} shows who was champion when",
        )
    last = number or (others[-1] if others else "")
    return PromotionError(
        f"{name}/{number} came after the present champion: a rollback returns to an earlier one."
        if number
        else f"{name}/{current} was the first champion: there is no earlier one.",
        got=f"champion {current}",
        hint=f"fusmae promote {name} --version {last}, if {last} is to be champion again: the gate judges it again"
        if last
        else f"fusmae ledger {name} shows who was champion when",
    )


def _runs_behind(model: ModelFile) -> list[str]:
    """Ids of the runs of a version's lineage; none if that can't be read, since a rollback must not depend on it."""
    try:
        text = read_artifact(model, LINEAGE)
        return [run.run_id for run in read_lineage(text, model).runs] if text else []
    except (LineageError, RegistryError):
        return []


def _entry(change: Change, phase: str, before: str) -> Entry:
    return Entry.model_validate(
        {
            "action": change.action,
            "phase": phase,
            "who": _who(),
            "when": _now(),
            "before": before,
            "after": change.target.version,
            "verdict": change.verdict,
            "forced": change.forced,
            "reason": change.reason,
        }
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _who() -> str:
    """The person's e-mail address from git, else account and machine; followed by the flow run, if there is one."""
    person = git_email() or f"{_account()}@{platform.node()}"
    return f"{person} by flow run {flow_run()}" if flow_run() else person


def _account() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container the user may have a number but no name
        return f"user {os.getuid()}"


def roll_back(name: str, *, to: str, reason: str) -> str:
    """Move the alias back. The version was champion before, so no gate judges it; its file is checked and loaded.

    Args:
        name: registered model.
        to: number of an earlier champion; "" for the one before.
        reason: why, which the ledger records.

    Returns:
        The ledger's line.

    Raises:
        PromotionError: there is nothing to go back to.
        LedgerError: another process is changing the champion.
        RegistryError: the version is gone, its file is another, or MLflow refuses.
    """
    target = version_before(name, to)
    current = champion_number(name)
    if target.version == current:
        raise PromotionError(f"{target.label} is champion already.", hint=f"fusmae ledger {name}")
    Session(model_file(f"{name}/{target.version}").path)
    return sentence(move_champion(name, Change("rollback", target, reason=reason), current))
