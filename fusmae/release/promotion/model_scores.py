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
from fusmae.evaluation.metrics import Scores, score
from fusmae.inference.session import EMBEDDING, Session
from fusmae.release.encoder_scores import KNN, PROBE, frozen_probabilities
from fusmae.release.latency import times_by_turns
from fusmae.release.registry.model_file import ModelFile, read_artifact

_BATCH, _ROUNDS, _CALIBRATION_BINS = 16, 30, 15


@dataclass(frozen=True)
class Answers:
    """What one model answers on the test set."""

    probabilities: Mapping[str, NDArray[Any]]  # `[N, K]` by row: a modality setting, of an encoder as `knn s1+s2`
    compared: tuple[str, ...]  # names of the rows in which a challenger must not be worse than the champion
    num_bad: int  # number of probabilities or features that are no valid numbers; they are replaced by 0


@dataclass(frozen=True)
class ModelScores:
    """The measurements of one model on one test set."""

    label: str  # name and version of the model, as `fusmae/4`
    sha256: str  # SHA-256 of the ONNX file
    commit: str | None  # commit at which the graph was exported; None if it is not recorded
    is_dirty: bool  # whether there were uncommitted changes at the export
    answers: Answers  # probabilities on the test set
    scores: Mapping[str, Scores]  # scores by row
    class_pairs: Mapping[str, int]  # number of test pairs that have a class, by class; empty for an encoder
    # Expected calibration error over all (pair, class) decisions, with every modality; None for an encoder.
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
    def per_class_ap(self) -> Mapping[str, float]:
        """AP by class with every modality; empty for an encoder."""
        return self.scores[self.answers.compared[0]].per_class_ap if self.class_pairs else {}

    def to_json(self) -> dict[str, Any]:
        """The part that a verdict states, as JSON values."""
        origin = {"model": self.label, "sha256": self.sha256, "commit": self.commit, "is_dirty": self.is_dirty}
        numbers = ("calibration_error", "latency_ms", "size_mb", "parity_error")
        return {
            **origin,
            "num_bad": self.answers.num_bad,
            **{name: getattr(self, name) for name in numbers},
            "micro_ap": {row: found.micro_ap for row, found in self.scores.items()},
            "macro_ap": {row: found.macro_ap for row, found in self.scores.items()},
            "per_class_ap": self.per_class_ap,
        }


def score_models(
    models: Sequence[ModelFile], readers: Mapping[Split, ShardReader], section: EvaluateConfig
) -> list[ModelScores]:
    """Run models on the same test pairs; latencies are measured in turns, so that a busy machine slows all alike.

    `readers` has that of the test set, and for encoders those of the splits that kNN and probe learn from.

    Raises:
        PromotionError: a model has other classes, or takes other arrays, than the test set has.
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
    """Refuse a model that can't be run on a test set; an encoder may have learned from data with other classes.

    Raises:
        PromotionError: it has other classes, or takes other arrays, than the test set has.
    """
    for why, got, expected in (
        ("its classes are others", session.classes or reader.classes, reader.classes),
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
    answers = _of_classifier(session, reader) if session.classes else _of_encoder(session, readers, section)
    counts = dict(zip(reader.classes, labels.sum(axis=0).tolist(), strict=True))
    return ModelScores(
        label=model.label,
        sha256=model.sha256,
        commit=git.get("commit"),
        is_dirty=bool(git.get("is_dirty")),
        answers=answers,
        scores={
            row: score(labels, found, reader.classes, section.threshold) for row, found in answers.probabilities.items()
        },
        class_pairs=counts if session.classes else {},
        calibration_error=calibration_error(labels, answers.probabilities[answers.compared[0]])
        if session.classes
        else None,
        times_ms=times_ms,
        size_mb=model.path.stat().st_size / 2**20,
        parity_error=_parity_error(model),
    )


def _of_classifier(session: Session, reader: ShardReader) -> Answers:
    rows = range(len(reader))
    raw = {}
    for setting in session.settings:
        batches = (reader.read(rows[start : start + _BATCH]) for start in rows[::_BATCH])
        outputs = [session.run(pixels, setting, outputs=["probabilities"]) for pixels in batches]
        raw["+".join(setting)] = np.concatenate([values["probabilities"] for values in outputs])
    bad = {name: ~((values >= 0) & (values <= 1)) for name, values in raw.items()}
    found = {name: np.where(bad[name], np.float32(0), values) for name, values in raw.items()}
    return Answers(found, ("+".join(session.settings[0]),), int(sum(where.sum() for where in bad.values())))


def _of_encoder(session: Session, readers: Mapping[Split, ShardReader], section: EvaluateConfig) -> Answers:
    found, num_bad = frozen_probabilities(
        lambda pixels, setting: session.run(pixels, setting, outputs=[EMBEDDING])[EMBEDDING],
        readers,
        session.settings,
        neighbours=section.neighbours,
        max_pairs=section.encoder_pairs,
    )
    by_row = {f"{protocol} {setting}": values for (protocol, setting), values in found.items()}
    every = "+".join(session.settings[0])
    return Answers(by_row, (f"{KNN} {every}", f"{PROBE} {every}"), num_bad)


def calibration_error(labels: NDArray[Any], probabilities: NDArray[Any]) -> float:
    """Expected calibration error over every (pair, class) decision, in 15 equal bins (Guo et al. 2017).

    Labels `[N, K]` are 0 or 1, probabilities `[N, K]` from 0 to 1.
    """
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    chances = torch.from_numpy(np.ascontiguousarray(probabilities, np.float32)).flatten()
    truth = torch.from_numpy(labels.astype(np.int64)).flatten()
    return float(binary_calibration_error(chances, truth, n_bins=_CALIBRATION_BINS))


def _parity_error(model: ModelFile) -> float | None:
    try:
        report = json.loads(read_artifact(model, "parity.json") or "{}")
        return max(float(check["max_abs_error"]) for check in report["checks"])
    except (ValueError, KeyError, TypeError):  # an unreadable report counts as none, and the gate then fails
        return None
