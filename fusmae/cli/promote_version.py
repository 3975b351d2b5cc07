"""Promote a version: the gate, its report, the ledger, the alias."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fusmae.config.params import Config, load_config
from fusmae.data.index import SPLITS, Split
from fusmae.data.shards import ShardReader
from fusmae.errors import PromotionError
from fusmae.evaluation.resampling import paired_differences, read_places
from fusmae.files import file_sha256
from fusmae.inference.session import Session
from fusmae.release.promotion.champion import move_champion
from fusmae.release.promotion.commit_checks import check_origin, require_committed, require_locked, require_origin
from fusmae.release.promotion.experiments import commit_experiment
from fusmae.release.promotion.gate import GateCheck, Verdict, compared_metric, judge
from fusmae.release.promotion.ledger import Ledger, require_recorded, sentence
from fusmae.release.promotion.model_scores import require_same, score_models
from fusmae.release.registry.model_file import ModelFile, add_artifacts, model_file
from fusmae.release.registry.versions import CHALLENGER, champion_number
from fusmae.reports.verdict import as_text, write_verdict
from fusmae.runs.provenance import content_sha256, git_state


def promote_version(
    config: Config,
    *,
    params: Path,
    name: str,
    version: str,
    shards: Path,
    index: Path,
    verdict: Path,
    reports: Path,
    experiment: str,
    force: bool,
    reason: str,
    dry_run: bool,
) -> str:
    """Judge a version by the gate, and make it champion if it passes; see the options of `fusmae promote`.

    `config` is read from the file `params`. An experiment's challenger is the version that it registered.

    Returns:
        A text that states what was done.

    Raises:
        PromotionError: the gate refuses, thresholds or test set are not those of a commit, or force has no reason.
        LedgerError: another process is changing the champion.
        LineageError: the challenger's lineage is damaged.
        RegistryError: MLflow refuses.
    """
    if force and not reason.strip():
        raise PromotionError(
            "Promoting against the gate needs a reason that names who agreed.",
            expected='--reason "agreed with A. Person: flood response needs it today"',
        )
    if experiment:
        version = _committed(experiment, name, version, config.register_as.encoder_name, dry_run=dry_run)
        config = load_config(params)
    require_committed(name, params)
    require_locked(index, shards, verdict)
    version = version or CHALLENGER
    challenger = model_file(f"{name}/{version}" if version.isdigit() else f"{name}@{version}")
    current = champion_number(name)
    if challenger.version == current:
        raise PromotionError(f"{challenger.label} is champion already.", hint=f"fusmae ledger {name}")
    require_recorded(name, Ledger(name).entries(), current)
    origin = check_origin(challenger, shards, params)
    if not force:
        require_origin(challenger, origin)
    champion = model_file(f"{name}/{current}") if current else None
    judged, warning = _judged(config, challenger, champion, shards, index, origin)
    folder = reports / f"{name}-{challenger.version}"
    report = write_verdict(folder, judged, warning)
    if not dry_run:  # a refusal is kept, too
        add_artifacts(challenger, folder, f"verdicts/{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if not judged.is_passed and (dry_run or not force):
        raise PromotionError(
            as_text(judged),
            got=f"no; the champion stays {current or 'none'}",
            hint=f'open {folder / "verdict.html"}; to promote nevertheless: --force --reason "…", which is recorded',
        )
    summary = f"{as_text(judged)}\nreport: {folder / 'verdict.html'}\n"
    if dry_run:
        return f"{summary}nothing was changed (--dry-run)"
    has_origin = not any(check.status == "failed" for check in origin)
    entry = move_champion(
        "promote",
        challenger,
        current,
        verdict=file_sha256(report),
        forced=not judged.is_passed,
        reason=reason,
        commit=judged.facts["commit"] if has_origin else "",
    )
    return f"{summary}{sentence(entry)}\nlast entry of the ledger: {entry.sha256}"


def _committed(experiment: str, name: str, version: str, encoder_name: str, *, dry_run: bool) -> str:
    """Commit an experiment; the number of the version that it registered."""
    if dry_run or version:
        raise PromotionError(
            "--experiment commits and determines the version: it can't be combined with "
            f"{'--dry-run' if dry_run else '--version'}.",
            hint=f"leave one of them out: fusmae promote {name} --experiment {experiment}",
        )
    stage = "register-encoder" if name == encoder_name else "register"
    commit_experiment(experiment, name, stage)
    made = json.loads((Path("reports") / stage / "version.json").read_text(encoding="utf-8"))
    if made["name"] != name:
        raise PromotionError(
            f"Experiment {experiment} registered another model.",
            got=made["name"],
            expected=name,
            hint=f"fusmae promote {made['name']} --version {made['version']}",
        )
    return str(made["version"])


def _judged(
    config: Config,
    challenger: ModelFile,
    champion: ModelFile | None,
    shards: Path,
    index: Path,
    origin: Sequence[GateCheck],
) -> tuple[Verdict, str]:
    """The gate's verdict, and what the data's origin warns of."""
    is_encoder = Session(challenger.path).task is None
    thresholds = config.encoder_gate if is_encoder else config.gate
    # A finetuned model needs no other split, and each is compared with its checksums once.
    splits: tuple[Split, ...] = SPLITS if is_encoder else ("test",)
    readers = {split: ShardReader(shards, split) for split in splits}
    reader = readers["test"]
    models, incomparable = [challenger], ""
    if champion:
        session = Session(champion.path)
        try:
            require_same(champion, session, reader)
            if (session.task is None) == is_encoder:
                models.append(champion)
            else:
                incomparable = f"champion {champion.label} is {'a finetuned model' if session.task else 'an encoder'}"
        except PromotionError as error:  # it has another task or other bands; it can still be replaced
            incomparable = f"champion {str(error).splitlines()[0]}"
    measured = score_models(models, readers, config.evaluate)
    new, old = measured[0], measured[1] if len(measured) > 1 else None
    places = read_places(index, reader.keys)
    differences = {}
    if old:
        differences = {
            row: paired_differences(
                new.scorer,
                new.answers.found[row],
                old.answers.found[row],
                places=places,
                resamples=thresholds.bootstrap_resamples,
                confidence=thresholds.confidence,
                seed=config.seed,
            )[compared_metric(new, thresholds)]
            for row in new.answers.compared
            if row in new.answers.found
        }
    facts = {
        "num_pairs": len(reader),
        "num_places": len(set(places)),
        "test_set": f"sha256:{content_sha256(shards)}",
        "data": reader.origin.described,
        "commit": git_state()["commit"],
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "thresholds": thresholds.model_dump(),
        "models": [model.to_json() for model in measured],
    }
    judged = judge(new, old, differences, thresholds, facts, origin=origin, incomparable=incomparable)
    return judged, reader.origin.warning
