"""Measure one variant and seed in every way that the study asks for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.study import StepsConfig, StudyConfig, VariantConfig
from fusmae.config.task import Task
from fusmae.config.training import FinetuneConfig, PretrainConfig, Readout
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair, Split
from fusmae.data.shards import ShardReader
from fusmae.errors import CheckpointError, ConfigError, StudyError, TrainingError
from fusmae.evaluation.conditions import Clouds, Condition, conditions_of, setting_name
from fusmae.evaluation.features import CheckpointEncoder, Features, FrozenEncoder, features_of
from fusmae.evaluation.metrics import average_precision_draws, average_precisions
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.predictions import finetuned_answers
from fusmae.evaluation.probe import fit_probe
from fusmae.evaluation.resampling import independent_places, place_resamples
from fusmae.evaluation.scorers import MulticlassScorer, SegmentationScorer, scorer_of
from fusmae.evaluation.subsets import label_subset, value_strata
from fusmae.files import file_sha256
from fusmae.rivals.backbones import build_rival
from fusmae.runs.device import device_of
from fusmae.study.results import FOCUS, HEADLINE, Row
from fusmae.training.checkpoint import Checkpoint, load_checkpoint
from fusmae.training.label_facts import require_labels
from fusmae.training.optim import REFERENCE_BATCH
from fusmae.training.supervised import Finetuner, start_finetuning
from fusmae.training.trainer import build_trainer, fit

RESAMPLING_SEED = 0
"""Random seed for a whole study: all rows must be scored on the same resamples and have the same clouds."""

_THRESHOLD = 0.5

_WARMUP_SHARE = 0.1
"""Share of a finetuning's epochs that is warm-up, the same for every share of labels."""


@dataclass(frozen=True)
class Opened:
    """A variant's weights, ready to use."""

    about: str  # description of the variant
    encoder: FrozenEncoder  # the frozen encoder
    checkpoint: Checkpoint | None  # weights to train further; None for a rival
    is_scratch: bool  # whether those weights are random
    is_reconstructing: bool  # whether the variant was trained to reconstruct
    history: Mapping[str, Any]  # training curves and cost of the pretraining


def open_variant(variant: VariantConfig, pretrain: PretrainConfig, readout: Readout, folder: Path, seed: int) -> Opened:
    """Load what `study_pretrain` wrote to `folder`, or make the rival that the variant names.

    `readout` is for encoders of this project, as a rival has its own; `seed` makes weights of a rival without a file.

    Raises:
        CheckpointError: the weights are absent, damaged, changed or of another model.
    """
    checkpoint = load_checkpoint(folder)
    history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    if variant.start not in ("pretrained", "random"):
        weights = _unchanged(variant) if variant.weights else None
        rival = build_rival(variant.start, checkpoint.preprocessing, weights, seed)
        return Opened(f"{variant.about}, {rival.origin}", rival, None, False, False, history)
    is_scratch = variant.start == "random"
    is_reconstructing = not is_scratch and bool(pretrain.reconstruction_weight)
    encoder = CheckpointEncoder(checkpoint, readout)
    return Opened(variant.about, encoder, checkpoint, is_scratch, is_reconstructing, history)


def _unchanged(variant: VariantConfig) -> Path:
    """A rival's file of weights, checked to be the one that the study was composed with."""
    weights = Path(variant.weights)
    found = file_sha256(weights) if weights.is_file() else "no such file"
    if found != variant.weights_sha256:
        raise CheckpointError(
            f"{weights} is not the file of weights that the study was composed with.",
            got=found,
            expected=variant.weights_sha256,
            hint="make study STUDY='…' once more",
        )
    return weights


@dataclass
class RowBook:
    """The rows of one cell collected one by one, with the predictions that the report draws."""

    task: Task  # what the labels of tiles are
    labels: NDArray[Any]  # label vectors `[N, K]` of test, or values `[N, 1]`
    weights: NDArray[np.int32]  # numbers `[draws, N]` of times that each resample contains each test pair
    focus: Sequence[int] = ()  # columns of the classes in focus; empty where none are
    rows: list[Row] = field(default_factory=list)  # rows added so far
    predictions: dict[str, NDArray[Any]] = field(default_factory=dict)  # what is predicted of tiles by row name
    confusions: dict[str, NDArray[Any]] = field(default_factory=dict)  # confusion counts `[K, K]` by row name

    def add(
        self, protocol: str, share: float, condition: str, found: NDArray[Any], map_task: Task | None = None
    ) -> None:
        """Score what the scorer of a task takes, `[N, …]`: answers for tiles, or with `map_task` counts of maps."""
        task = map_task or self.task
        scorer = scorer_of(task, self.labels, _THRESHOLD)
        whole = scorer.score(found)
        scores, focus_draws = dict(whole.values), list[float]()
        if self.focus and task.kind == "multilabel":
            own = self.labels[:, self.focus], found[:, self.focus]
            scores[FOCUS] = average_precisions(*own)[1]
            focus_draws = _rounded(_macro_ap_draws(*own, self.weights))
        if task.kind == "multilabel":  # the scorer would draw another score, too, in as much time again
            draws = _macro_ap_draws(self.labels, found, self.weights)
        else:
            draws = scorer.draws(found, self.weights)[HEADLINE[task.kind]]
        row = Row(protocol, share, condition, task.kind, scores, whole.per_class, _rounded(draws), focus_draws)
        self.rows.append(row)
        if not task.is_dense:
            self.predictions[row.name] = found
        if isinstance(scorer, MulticlassScorer | SegmentationScorer):
            self.confusions[row.name] = scorer.confusion(found)


def _macro_ap_draws(
    labels: NDArray[Any], probabilities: NDArray[Any], weights: NDArray[np.int32]
) -> NDArray[np.float64]:
    metric = HEADLINE["multilabel"]
    return average_precision_draws(labels, probabilities, weights, [metric])[metric]


class LabelledRows(ShardReader):
    """Some rows of a split, as a reader of all that a training with their labels may know."""

    def __init__(self, reader: ShardReader, rows: NDArray[np.int64], task: Task) -> None:
        """`task` says what is learnt of them: what the labels are, or the maps that come along.

        Such maps may have any of their classes; they are not read to find out which.
        """
        vars(self).update(vars(reader))
        self.task, self.classes = task, task.classes
        self.keys = [reader.keys[row] for row in rows]
        is_own = task == reader.task
        self.labels = reader.labels[rows] if is_own else np.ones((len(rows), task.num_outputs), np.uint8)
        self.rows: list[int] = rows.tolist()
        self._reader = reader

    def read_maps(self, indices: Sequence[int]) -> NDArray[Any]:
        """See `ShardReader`."""
        return self._reader.read_maps([self.rows[index] for index in indices])


@dataclass(frozen=True)
class Training:
    """The settings of one supervised training of the study."""

    shards: Path  # folder of the shards with the pairs
    labelled: LabelledRows  # rows of train whose labels are used
    steps: StepsConfig  # number of steps, batch size and learning rate
    draws: Draws  # random draws of augmentation and modality drop
    runtime: RuntimeConfig  # section `runtime` of params.yaml
    resume_folder: Path  # folder for resume checkpoints

    @property
    def batch_size(self) -> int:
        """Number of pairs in a batch, which is no larger than the number of pairs."""
        return min(self.steps.batch_size, len(self.labelled))

    @property
    def epochs(self) -> int:
        """Number of epochs that the steps begin; the number of steps is the same for every share of labels."""
        return -(-self.steps.steps // (len(self.labelled) // self.batch_size))

    def train(
        self, checkpoint: Checkpoint, recipe: FinetuneConfig, *, is_scratch: bool = False, is_frozen: bool = False
    ) -> Finetuner:
        """A predictor trained from a pretraining checkpoint's weights, in eval mode.

        Length and learning rate are the study's own, not the recipe's. With `is_scratch` the weights are random, and
        every layer learns at the full rate; with `is_frozen` the head alone learns.

        Raises:
            TrainingError: there is nothing to learn from these labels.
        """
        changes = {
            "base_lr": self.steps.learning_rate * REFERENCE_BATCH / self.batch_size,
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "warmup_epochs": self.epochs * _WARMUP_SHARE,
            "layer_decay": 1.0 if is_scratch else recipe.layer_decay,
        }
        own, seed = recipe.model_copy(update=changes), self.draws.seed
        module = start_finetuning(checkpoint, own, self.labelled, seed, is_frozen=is_frozen)
        data = PairDataModule(
            self.shards,
            batch_size=self.batch_size,
            draws=self.draws,
            train_rows=self.labelled.rows,
            with_maps=module.model.task.is_dense,
        )
        steps, folder = self.steps.steps, self.resume_folder
        trainer = build_trainer(self.runtime, self.epochs, seed, folder, max_steps=steps, is_validated=False)
        fit(trainer, module, data)
        return module.eval()


@dataclass
class Measurement:
    """The measurement of a variant's encoder on a data set; `book` has the rows added so far.

    Raises:
        ConfigError: the data lacks a class in focus.
        ShardError: the data has no labels.
        StudyError: nothing can be learned from a share of them.
    """

    study: StudyConfig  # section `study`
    recipe: FinetuneConfig  # settings of finetuning, but length and learning rate, which are the study's own
    runtime: RuntimeConfig  # section `runtime` of params.yaml
    opened: Opened  # the variant's weights
    seed: int  # random seed of the cell
    data: PairDataModule  # every split
    pairs: Mapping[str, Pair]  # pairs of the index by key
    resume_folder: Path  # folder for resume checkpoints

    def __post_init__(self) -> None:
        study, reader = self.study, self.data.reader("test")
        self.device = device_of(self.runtime.accelerator)
        available = tuple(dict.fromkeys(item.modality for item in reader.inputs))
        clouds = Clouds(RESAMPLING_SEED, study.clouded_share)
        self.conditions = conditions_of(available, self.opened.encoder.modalities, clouds)
        self.settings = list(dict.fromkeys(condition.setting for condition in self.conditions))
        self.task = self.data.task()
        self.train_labels = np.asarray(self.data.reader("train").labels)
        known = _known(self.train_labels)
        strata = self.train_labels[known]
        strata = strata if self.task.value is None else value_strata(strata[:, 0])
        self.labelled = {share: known[label_subset(strata, share, self.seed)] for share in study.shares}
        self._require_labels()
        places = independent_places([self.pairs[key] for key in reader.keys])
        self.num_places = len(set(places))  # number of test places that are drawn
        weights = place_resamples(places, study.bootstrap_resamples, RESAMPLING_SEED)
        focus = _columns(study.focus.classes if study.focus else [], reader.classes)
        self.book = RowBook(self.task.of_tiles, np.asarray(reader.labels), weights, focus)

    def _require_labels(self) -> None:
        """Refuse shares from which nothing can be learned, before the first one is trained on."""
        reader = self.data.reader("train")
        for share, rows in self.labelled.items():
            try:
                require_labels(LabelledRows(reader, rows, self.task))
            except TrainingError as error:
                raise StudyError(
                    f"study.shares: nothing can be learned from {share:g} of the labels.",
                    got=f"{len(rows)} of {len(reader)} training pairs; {str(error).splitlines()[1].strip()}",
                    expected="labels of two classes or more" if self.task.classes else "a value",
                    hint="larger study.shares, or more pairs",
                ) from error

    @property
    def map_task(self) -> Task | None:
        """What a head for maps learns: the labels, if pixels have them, or classes of maps that come along."""
        if self.task.is_dense:
            return self.task
        classes = self.data.reader("train").map_classes
        return Task(kind="segmentation", classes=classes) if classes else None

    def features(self) -> dict[Split, dict[str, Features]]:
        """Features of every split by condition; heads are trained and chosen without clouds."""
        clear = list(dict.fromkeys(condition.clear for condition in self.conditions))
        of_split: dict[Split, list[Condition]] = {"train": clear, "validation": clear, "test": self.conditions}
        return {
            split: features_of(self.opened.encoder, self.data, split, conditions, self.device)
            for split, conditions in of_split.items()
        }

    def add_heads(self, features: Mapping[Split, Mapping[str, Features]]) -> None:
        """Add the rows of kNN and probe at every label share; one head serves a setting, clear and under clouds."""
        for protocol in ("knn", "probe"):
            if protocol not in self.study.protocols:
                continue
            for share, rows in self.labelled.items():
                for setting in self.settings:
                    predict = self._head(protocol, features, setting_name(setting), rows)
                    for condition in self.conditions:
                        if condition.setting == setting:
                            self.book.add(protocol, share, condition.name, predict(features["test"][condition.name]))

    def _head(
        self, protocol: str, features: Mapping[Split, Mapping[str, Features]], setting: str, rows: NDArray[np.int64]
    ) -> Callable[[Features], NDArray[Any]]:
        """What makes answers for tiles `[N, K]` from features `[N, D]`, learnt from some rows of train."""
        labelled, labels = features["train"][setting][rows], self.train_labels[rows]
        if protocol == "knn":
            return partial(neighbour_answers, labelled, labels, k=self.study.neighbours)
        chosen_by = np.asarray(self.data.reader("validation").labels)
        known = _known(chosen_by)
        return fit_probe(
            labelled, labels, features["validation"][setting][known], chosen_by[known], self.book.task
        ).predict

    def add_trained(self) -> None:
        """Add the rows of `finetune` and `segment` at every label share; a rival has none.

        Each is one model for all conditions. `finetune` trains encoder and head on the labels, `segment` a head for
        maps on the frozen encoder; there is none where the data has no maps.
        """
        checkpoint, study, recipe = self.opened.checkpoint, self.study, self.recipe
        draws = Draws(
            self.seed, self.opened.encoder.modalities, 1, recipe.modality_drop, augment=recipe.augment.model_dump()
        )
        for protocol, task, steps in (
            ("finetune", self.task, study.finetune),
            ("segment", self.map_task, study.segment),
        ):
            if protocol not in study.protocols or checkpoint is None or task is None:
                continue
            shards, size = self.data.shards, self.data.batch_size
            data = PairDataModule(shards, batch_size=size, draws=draws, with_maps=task.is_dense)
            for share, rows in self.labelled.items():
                labelled = LabelledRows(self.data.reader("train"), rows, task)
                folder = self.resume_folder / f"{protocol}-{share:g}"
                training = Training(shards, labelled, steps, draws, self.runtime, folder)
                is_frozen = protocol == "segment"
                module = training.train(checkpoint, recipe, is_scratch=self.opened.is_scratch, is_frozen=is_frozen)
                found = finetuned_answers(module.model, module.preprocess, data, self.conditions, self.device)
                for condition, answers in found.items():
                    self.book.add(protocol, share, condition, answers, task if task.is_dense else None)


def _known(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Positions of the pairs that have a label; pairs of no class have one, those without a value have none."""
    return np.flatnonzero(np.isfinite(labels).all(axis=1))


def _columns(focus: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Columns of the classes in focus, in a label vector."""
    if unknown := [name for name in focus if name not in classes]:
        raise ConfigError("study.focus names classes that the data lacks.", got=unknown, expected=f"some of {classes}")
    return [classes.index(name) for name in focus]


def _rounded(draws: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in draws]
