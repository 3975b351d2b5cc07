"""Promote a version: the gate, its report, the ledger, the alias."""

from datetime import UTC, datetime
from pathlib import Path

from fusmae.config import Config
from fusmae.data.shards import ShardReader
from fusmae.errors import PromotionError
from fusmae.files import file_sha256
from fusmae.provenance import content_sha256, git_state
from fusmae.release.artifacts import add_artifacts
from fusmae.release.gate import Verdict, judge, paired_difference
from fusmae.release.ledger import Entry, sentence
from fusmae.release.models import ModelFile, model_file
from fusmae.release.promotion import Change, move_champion, require_clean_checkout
from fusmae.release.registry import champion_number
from fusmae.release.trial import run_trials
from fusmae.release.verdict_report import as_text, write_verdict


def promote(
    config: Config, *, name: str, version: str, shards: Path, reports: Path, force: bool, reason: str, dry_run: bool
) -> str:
    """Let the gate judge a version, and make it champion if it passes.

    Args:
        config: with the thresholds, `gate`.
        name: registered model.
        version: alias or number of the challenger.
        shards: with the test split that both are judged on.
        reports: gets a folder with the verdict.
        force: go on where the gate says no.
        reason: why, by whom it is forced: recorded.
        dry_run: only judge.

    Returns:
        What happened, as people read it.

    Raises:
        PromotionError: the gate says no, the checkout is dirty, or force has no reason.
        LedgerError: somebody else is at it.
        RegistryError: MLflow refuses.
    """
    if force and not reason.strip():
        raise PromotionError(
            "To go on against the gate needs a reason with a name to it.",
            expected='--reason "agreed with A. Person: flood response needs it today"',
        )
    require_clean_checkout()
    separator = "/" if version.isdigit() else "@"
    challenger, seen = model_file(f"{name}{separator}{version}"), champion_number(name)
    if challenger.version == seen:
        raise PromotionError(f"{challenger.label} is champion already.", hint=f"fusmae ledger {name}")
    verdict, warning = _verdict(config, challenger, model_file(f"{name}/{seen}") if seen else None, shards)
    folder = reports / f"{name}-{challenger.version}"
    report = write_verdict(folder, verdict, warning)
    if not verdict.is_passed and not force:
        raise PromotionError(
            as_text(verdict),
            got=f"no; the champion stays {seen or 'none'}",
            hint=f'open {folder / "verdict.html"}; to go on all the same: --force --reason "…", which is recorded',
        )
    lines = [as_text(verdict), f"report: {folder / 'verdict.html'}"]
    if dry_run:
        return "\n".join([*lines, "nothing was changed (--dry-run)"])
    add_artifacts(challenger, folder, f"verdicts/{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    forced = force and not verdict.is_passed
    change = Change("promote", challenger, file_sha256(report), forced=forced, reason=reason)
    entry: Entry = move_champion(name, change, seen)
    return "\n".join([*lines, sentence(entry)])


def _verdict(config: Config, challenger: ModelFile, champion: ModelFile | None, shards: Path) -> tuple[Verdict, str]:
    gate, reader = config.gate, ShardReader(shards, "test")
    models = [challenger, champion] if champion else [challenger]
    trials = run_trials(models, reader, threshold=config.evaluate.threshold)
    every = trials[0].every_modality
    difference = None
    if champion:
        one, other = (trial.probabilities[every] for trial in trials)
        difference = paired_difference(
            gate.metric,
            one,
            other,
            reader.labels,
            resamples=gate.bootstrap_resamples,
            confidence=gate.confidence,
            seed=config.seed,
        )
    facts = {
        "num_pairs": len(reader),
        "test_set": f"sha256:{content_sha256(shards)}",
        "data": reader.origin.described,
        "commit": git_state()["commit"],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "thresholds": gate.model_dump(),
        "trials": [trial.to_json() for trial in trials],
    }
    return judge(trials[0], trials[1] if champion else None, difference, gate, facts), reader.origin.warning
