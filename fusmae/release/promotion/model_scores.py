"""Measures a registered model on a test set through its ONNX file: scores, calibration, latency, size."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.shards import ShardReader
from fusmae.errors import PromotionError
from fusmae.evaluation.metrics import Scores, score
from fusmae.inference.session import Session
from fusmae.release.latency import times_by_turns
from fusmae.release.registry.model_file import ModelFile, read_artifact

_BATCH, _ROUNDS, _CALIBRATION_BINS = 16, 30, 15


@dataclass(frozen=True)
class ModelScores:
    """The measurements of one model on one test set."""

    label: str  # name and version of the model, as `fusmae/4`
    sha256: str  # SHA-256 of the ONNX file
    commit: str | None  # commit at which the graph was exported; None if it is not recorded
    is_dirty: bool  # whether there were uncommitted changes at the export
    probabilities: Mapping[str, NDArray[np.float32]]  # `[N, K]` by modality setting
    num_bad: int  # number of probabilities that were not numbers from 0 to 1; they are replaced by 0 here
    scores: Mapping[str, Scores]  # scores by modality setting
    every_modality: str  # name of the setting with all modalities
    class_pairs: Mapping[str, int]  # number of test pairs that have a class, by class
    calibration_error: float  # expected calibration error over all (pair, class) decisions, with every modality
    # Milliseconds of one pair's run with every modality, one per round, in which each model runs once.
    times_ms: tuple[float, ...]
    size_mb: float  # size of the ONNX file in MiB
    parity_error: float | None  # largest difference from torch, measured at the export; None without a valid report

    @property
    def latency_ms(self) -> float:
        """Median time of one pair's run in milliseconds."""
        return statistics.median(self.times_ms)

    def to_json(self) -> dict[str, Any]:
        """The part that a verdict states, as JSON values."""
        origin = {"model": self.label, "sha256": self.sha256, "commit": self.commit, "is_dirty": self.is_dirty}
        numbers = ("num_bad", "calibration_error", "latency_ms", "size_mb", "parity_error")
        return {
            **origin,
            **{name: getattr(self, name) for name in numbers},
            "micro_ap": {setting: found.micro_ap for setting, found in self.scores.items()},
            "macro_ap": {setting: found.macro_ap for setting, found in self.scores.items()},
            "per_class_ap": self.scores[self.every_modality].per_class_ap,
        }


def score_models(models: Sequence[ModelFile], reader: ShardReader, *, threshold: float) -> list[ModelScores]:
    """Run models on the same pairs; latencies are measured in turns, so that a busy machine slows all alike.

    For F1, a class counts as predicted from the probability `threshold` on.

    Raises:
        PromotionError: a model has other classes, or takes other arrays, than the test set has.
    """
    sessions = [Session(model.path) for model in models]
    for model, session in zip(models, sessions, strict=True):
        require_same(model, session, reader)
    times_ms = times_by_turns(sessions, reader.read([0]), _ROUNDS)
    return [
        _scores_of(model, session, reader, tuple(times.tolist()), threshold)
        for model, session, times in zip(models, sessions, times_ms, strict=True)
    ]


def require_same(model: ModelFile, session: Session, reader: ShardReader) -> None:
    """Refuse a model that can't be run on a test set.

    Raises:
        PromotionError: it has other classes, or takes other arrays, than the test set has.
    """
    for why, got, expected in (
        ("its classes are others", session.classes, reader.classes),
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
    model: ModelFile, session: Session, reader: ShardReader, times_ms: tuple[float, ...], threshold: float
) -> ModelScores:
    labels, git = np.asarray(reader.labels), session.metadata.get("git") or {}
    raw = {"+".join(setting): _probabilities(session, reader, setting) for setting in session.settings}
    bad = {name: ~((values >= 0) & (values <= 1)) for name, values in raw.items()}
    found = {name: np.where(bad[name], np.float32(0), values) for name, values in raw.items()}
    every = "+".join(session.settings[0])
    return ModelScores(
        label=model.label,
        sha256=model.sha256,
        commit=git.get("commit"),
        is_dirty=bool(git.get("is_dirty")),
        probabilities=found,
        num_bad=int(sum(where.sum() for where in bad.values())),
        scores={name: score(labels, values, reader.classes, threshold) for name, values in found.items()},
        every_modality=every,
        class_pairs=dict(zip(reader.classes, labels.sum(axis=0).tolist(), strict=True)),
        calibration_error=calibration_error(labels, found[every]),
        times_ms=times_ms,
        size_mb=model.path.stat().st_size / 2**20,
        parity_error=_parity_error(model),
    )


def _probabilities(session: Session, reader: ShardReader, setting: Sequence[str]) -> NDArray[np.float32]:
    rows = range(len(reader))
    batches = (reader.read(rows[start : start + _BATCH]) for start in rows[::_BATCH])
    return np.concatenate(
        [session.run(pixels, setting, outputs=["probabilities"])["probabilities"] for pixels in batches]
    )


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
