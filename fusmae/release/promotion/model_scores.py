"""Measures a registered model on a test set through its ONNX file: scores, calibration, latency, size."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.training import EvaluateConfig
from fusmae.data.index import Split
from fusmae.data.shards import ShardReader
from fusmae.errors import PromotionError
from fusmae.evaluation.map_counts import NUM_BINS, calibration_of_bins
from fusmae.evaluation.scorers import Scorer, Scores, scorer_of
from fusmae.inference.session import EMBEDDING, Session
from fusmae.release.answers import answers_of_graphs
from fusmae.release.encoder_scores import KNN, PROBE, frozen_answers
from fusmae.release.latency import times_by_turns
from fusmae.release.registry.model_file import ModelFile, read_artifact

_ROUNDS = 30


@dataclass(frozen=True)
class Answers:
    """What one model answers on the test set."""

    # What a scorer takes, `[N, …]`, by row: a modality setting, of an encoder as `knn s1+s2`.
    found: Mapping[str, NDArray[Any]]
    compared: tuple[str, ...]  # names of the rows in which a challenger must not be worse than the champion
    num_bad: int  # number of answers or features that are no valid numbers; they are replaced by 0


@dataclass(frozen=True)
class ModelScores:
    """The measurements of one model on one test set."""

    label: str  # name and version of the model, as `fusmae/4`
    sha256: str  # SHA-256 of the ONNX file
    commit: str | None  # commit at which the graph was exported; None if it is not recorded
    is_dirty: bool  # whether there were uncommitted changes at the export
    answers: Answers  # answers on the test set
    scorer: Scorer  # how they are scored
    scores: Mapping[str, Scores]  # scores by row
    class_pairs: Mapping[str, int]  # number of test pairs that have a class, by class; empty for an encoder or a value
    # Expected calibration error with every modality; None for an encoder or a value.
    calibration_error: float | None
    # Milliseconds of one pair's run with every modality, one per round, in which each model runs once.
    times_ms: tuple[float, ...]
    size_mb: float  # size of the ONNX file in MiB
    parity_error: float | None  # largest difference from torch, measured at the export; None without a valid report

    @property
    def latency_ms(self) -> float:
        """Median time of one pair's run in milliseconds."""
        return statistics.median(self.times_ms)

    @property
    def per_class(self) -> Mapping[str, float]:
        """Score by class with every modality; empty for an encoder or a value."""
        return self.scores[self.answers.compared[0]].per_class if self.class_pairs else {}

    def to_json(self) -> dict[str, Any]:
        """The part that a verdict states, as JSON values."""
        origin = {"model": self.label, "sha256": self.sha256, "commit": self.commit, "is_dirty": self.is_dirty}
        numbers = ("calibration_error", "latency_ms", "size_mb", "parity_error")
        return {
            **origin,
            "num_bad": self.answers.num_bad,
            **{name: getattr(self, name) for name in numbers},
            "scores": {name: {row: found[name] for row, found in self.scores.items()} for name in self.scorer.metrics},
            "class_metric": self.scorer.class_metric,
            "per_class": dict(self.per_class),
        }


def score_models(
    models: Sequence[ModelFile], readers: Mapping[Split, ShardReader], section: EvaluateConfig
) -> list[ModelScores]:
    """Run models on the same test pairs; latencies are measured in turns, so that a busy machine slows all alike.

    `readers` has that of the test set, and for encoders those of the splits that kNN and probe learn from.

    Raises:
        PromotionError: a model has another task, or takes other arrays, than the test set has.
    """
    reader, sessions = readers["test"], [Session(model.path) for model in models]
    for model, session in zip(models, sessions, strict=True):
        require_same(model, session, reader)
    times_ms = times_by_turns(sessions, reader.read([0]), _ROUNDS)
    return [
        _scores_of(model, session, readers, section, tuple(times.tolist()))
        for model, session, times in zip(models, sessions, times_ms, strict=True)
    ]


def require_same(model: ModelFile, session: Session, reader: ShardReader) -> None:
    """Refuse a model that can't be run on a test set; an encoder may have learned from data with other labels.

    Raises:
        PromotionError: it has another task, or takes other arrays, than the test set has.
    """
    task = session.task or reader.task
    for why, got, expected in (
        ("its labels are of another kind", task.kind, reader.task.kind),
        ("its classes are others", task.classes, reader.task.classes),
        ("its value is another", task.value, reader.task.value),
        ("it takes other arrays", session.inputs, reader.inputs),
    ):
        if got != expected:
            raise PromotionError(
                f"{model.label} can't be judged on this test set: {why}.",
                got=got,
                expected=expected,
                hint="use the shards that it was trained for: dvc checkout data/shards at its commit",
            )


def _scores_of(
    model: ModelFile,
    session: Session,
    readers: Mapping[Split, ShardReader],
    section: EvaluateConfig,
    times_ms: tuple[float, ...],
) -> ModelScores:
    reader = readers["test"]
    labels, git = np.asarray(reader.labels), session.metadata.get("git") or {}
    scorer = scorer_of(session.task or reader.task.of_tiles, labels, section.threshold)
    answers = _of_predictor(session, reader) if session.task else _of_encoder(session, readers, section)
    classes = session.task.classes if session.task else ()
    return ModelScores(
        label=model.label,
        sha256=model.sha256,
        commit=git.get("commit"),
        is_dirty=bool(git.get("is_dirty")),
        answers=answers,
        scorer=scorer,
        scores={row: scorer.score(found) for row, found in answers.found.items()},
        class_pairs=dict(zip(classes, labels.sum(axis=0).tolist(), strict=True)) if classes else {},
        calibration_error=calibration_error(scorer, answers.found[answers.compared[0]]) if classes else None,
        times_ms=times_ms,
        size_mb=model.path.stat().st_size / 2**20,
        parity_error=_parity_error(model),
    )


def _of_predictor(session: Session, reader: ShardReader) -> Answers:
    found = {"+".join(setting): answers_of_graphs([session], reader, setting)[0] for setting in session.settings}
    every = "+".join(session.settings[0])
    return Answers({row: of.found for row, of in found.items()}, (every,), sum(of.num_bad for of in found.values()))


def _of_encoder(session: Session, readers: Mapping[Split, ShardReader], section: EvaluateConfig) -> Answers:
    found, num_bad = frozen_answers(
        lambda pixels, setting: session.run(pixels, setting, outputs=[EMBEDDING])[EMBEDDING],
        readers,
        session.settings,
        neighbours=section.neighbours,
        max_pairs=section.encoder_pairs,
    )
    by_row = {f"{protocol} {setting}": values for (protocol, setting), values in found.items()}
    every = "+".join(session.settings[0])
    return Answers(by_row, (f"{KNN} {every}", f"{PROBE} {every}"), num_bad)


def calibration_error(scorer: Scorer, found: NDArray[Any]) -> float:
    """Expected calibration error in 15 equal bins (Guo et al. 2017), of what the scorer takes `[N, …]`.

    It is over every (pair, class) decision for `multilabel`, and over the most probable class for the other kinds.
    """
    import torch
    from torchmetrics.functional.classification import binary_calibration_error, multiclass_calibration_error

    if scorer.task.kind == "segmentation":
        return calibration_of_bins(found[:, -3 * NUM_BINS :].sum(axis=0, dtype=np.float64))
    chances = torch.from_numpy(np.ascontiguousarray(found, np.float32))
    truth = torch.from_numpy(scorer.labels.astype(np.int64))
    if scorer.task.kind == "multiclass":
        num_classes = truth.shape[1]
        return float(multiclass_calibration_error(chances, truth.argmax(dim=1), num_classes, n_bins=NUM_BINS))
    return float(binary_calibration_error(chances.flatten(), truth.flatten(), n_bins=NUM_BINS))


def _parity_error(model: ModelFile) -> float | None:
    try:
        report = json.loads(read_artifact(model, "parity.json") or "{}")
        return max(float(check["max_abs_error"]) for check in report["checks"])
    except (ValueError, KeyError, TypeError):  # an unreadable report counts as none, and the gate then fails
        return None
