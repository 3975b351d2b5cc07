"""Measure one variant and seed in every way that the study asks for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.study import StepsConfig, StudyConfig, VariantConfig
from fusmae.config.training import FinetuneConfig, LabelKind, PretrainConfig, Readout
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair, Split
from fusmae.errors import CheckpointError, ConfigError
from fusmae.evaluation.conditions import Clouds, Condition, conditions_of, over_split, setting_name
from fusmae.evaluation.features import CheckpointEncoder, Features, FrozenEncoder, features_of
from fusmae.evaluation.metrics import average_precisions, class_scores, confusion, score, segmentation_scores
from fusmae.evaluation.neighbours import neighbour_answers
from fusmae.evaluation.predictions import finetuned_probabilities
from fusmae.evaluation.probe import fit_probe
from fusmae.evaluation.resampling import headline_draws, independent_places, miou_draws, place_resamples
from fusmae.evaluation.subsets import label_subset
from fusmae.files import file_sha256
from fusmae.models.preprocess import Preprocess
from fusmae.rivals.backbones import build_rival
from fusmae.runs.device import device_of
from fusmae.study.results import FOCUS, Row
from fusmae.training.checkpoint import Checkpoint, load_checkpoint
from fusmae.training.optim import REFERENCE_BATCH
from fusmae.training.segmentation import Segmenter
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

    kind: LabelKind  # kind of the label vectors
    labels: NDArray[Any]  # label vectors `[N, K]` of test
    classes: Sequence[str]  # names of the K classes
    weights: NDArray[np.int32]  # numbers `[draws, N]` of times that each resample contains each test pair
    focus: Sequence[int] = ()  # columns of the classes in focus; empty where none are
    rows: list[Row] = field(default_factory=list)  # rows added so far
    predictions: dict[str, NDArray[Any]] = field(default_factory=dict)  # probabilities `[N, K]` by row name
    confusions: dict[str, NDArray[Any]] = field(default_factory=dict)  # confusion counts `[K, K]` by row name

    def add(self, protocol: str, share: float, condition: str, probabilities: NDArray[Any]) -> None:
        """Score probabilities `[N, K]` against the label vectors."""
        if self.kind == "multilabel":
            found = score(self.labels, probabilities, self.classes, _THRESHOLD)
            scores = {name: getattr(found, name) for name in ("macro_ap", "micro_ap", "macro_f1", "micro_f1")}
            per_class = found.per_class_ap
        else:
            scores, per_class = class_scores(self.labels, probabilities, self.classes)
        draws = headline_draws(self.kind, self.labels, probabilities, self.weights)
        focus_draws: list[float] = []
        if self.focus:
            own = self.labels[:, self.focus], probabilities[:, self.focus]
            scores[FOCUS] = average_precisions(*own)[1]
            focus_draws = _rounded(headline_draws(self.kind, *own, self.weights))
        row = Row(protocol, share, condition, self.kind, scores, per_class, _rounded(draws), focus_draws)
        self.rows.append(row)
        self.predictions[row.name] = probabilities
        if self.kind == "multiclass":
            self.confusions[row.name] = confusion(self.labels, probabilities)

    def add_maps(self, share: float, condition: str, confusions: NDArray[Any], classes: Sequence[str]) -> None:
        """Score land-cover maps by their confusion counts `[N, K, K]`, one matrix per pair."""
        total = confusions.sum(axis=0)
        scores, per_class = segmentation_scores(total, classes)
        draws = _rounded(miou_draws(confusions, self.weights))
        row = Row("segment", share, condition, "segmentation", scores, per_class, draws)
        self.rows.append(row)
        self.confusions[row.name] = total


@dataclass(frozen=True)
class Task:
    """The settings of one supervised training of the study."""

    shards: Path  # folder of the shards with the pairs
    rows: NDArray[np.int64]  # rows of train whose labels are used
    steps: StepsConfig  # number of steps, batch size and learning rate
    draws: Draws  # random draws of augmentation and modality drop
    runtime: RuntimeConfig  # section `runtime` of params.yaml
    resume_folder: Path  # folder for resume checkpoints

    @property
    def batch_size(self) -> int:
        """Number of pairs in a batch, which is no larger than the number of pairs."""
        return min(self.steps.batch_size, len(self.rows))

    @property
    def epochs(self) -> int:
        """Number of epochs that the steps begin; the number of steps is the same for every share of labels."""
        return -(-self.steps.steps // (len(self.rows) // self.batch_size))

    def train(self, module: L.LightningModule, *, with_maps: bool = False) -> None:
        """Train a module on the task's pairs; it is in eval mode afterwards."""
        rows, size = self.rows.tolist(), self.batch_size
        data = PairDataModule(self.shards, batch_size=size, draws=self.draws, train_rows=rows, with_maps=with_maps)
        steps, seed, folder = self.steps.steps, self.draws.seed, self.resume_folder
        trainer = build_trainer(self.runtime, self.epochs, seed, folder, max_steps=steps, is_validated=False)
        fit(trainer, module, data)
        module.eval()


@dataclass
class Measurement:
    """The measurement of a variant's encoder on a data set; `book` has the rows added so far.

    Raises:
        ConfigError: the data lacks a class in focus.
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
        self.train_labels = np.asarray(self.data.reader("train").labels)
        self.labelled = {share: label_subset(self.train_labels, share, self.seed) for share in study.shares}
        places = independent_places([self.pairs[key] for key in reader.keys])
        self.num_places = len(set(places))  # number of test places that are drawn
        weights = place_resamples(places, study.bootstrap_resamples, RESAMPLING_SEED)
        focus = _columns(study.focus.classes if study.focus else [], reader.classes)
        self.book = RowBook(study.kind, np.asarray(reader.labels), reader.classes, weights, focus)

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
        """What makes probabilities `[N, K]` from features `[N, D]`, learnt from some rows of train."""
        labelled, labels = features["train"][setting][rows], self.train_labels[rows]
        if protocol == "knn":
            return partial(neighbour_answers, labelled, labels, k=self.study.neighbours)
        chosen_by = features["validation"][setting], np.asarray(self.data.reader("validation").labels)
        return fit_probe(labelled, labels, *chosen_by, self.study.kind).probabilities

    def add_finetuned(self) -> None:
        """Add the rows of encoder and head trained together, at every label share; a rival has none."""
        if "finetune" not in self.study.protocols or self.opened.checkpoint is None:
            return
        recipe, kind, num_classes = self.recipe, self.study.kind, self.train_labels.shape[1]
        draws = self._draws(recipe.modality_drop, recipe.augment.model_dump())
        for share in self.study.shares:
            task = self._task("finetune", share, self.study.finetune, draws)
            weights, is_scratch = self.opened.checkpoint, self.opened.is_scratch
            module = finetune(task, weights, recipe, num_classes, kind, is_scratch=is_scratch)
            given = self.data, self.conditions, self.device, kind
            for condition, probabilities in finetuned_probabilities(module.model, module.preprocess, *given).items():
                self.book.add("finetune", share, condition, probabilities)

    def add_maps(self) -> None:
        """Add the rows of a segmentation head; there are none for a rival, or where the data has no maps."""
        classes = self.data.reader("test").map_classes
        if "segment" not in self.study.protocols or self.opened.checkpoint is None or not classes:
            return
        draws = self._draws()
        with_maps = PairDataModule(self.data.shards, batch_size=self.data.batch_size, draws=draws, with_maps=True)
        for share in self.study.shares:
            for setting in self.settings:
                task = self._task(f"segment-{'-'.join(setting)}", share, self.study.segment, draws)
                module = segment(task, self.opened.checkpoint, setting, len(classes))
                for condition, counts in map_confusions(module, with_maps, self.conditions, self.device).items():
                    self.book.add_maps(share, condition, counts, classes)

    def _draws(self, modality_drop: float = 0.0, augment: Mapping[str, Any] | None = None) -> Draws:
        return Draws(self.seed, self.opened.encoder.modalities, 1, modality_drop, augment=augment)

    def _task(self, name: str, share: float, steps: StepsConfig, draws: Draws) -> Task:
        folder = self.resume_folder / f"{name}-{share:g}"
        return Task(self.data.shards, self.labelled[share], steps, draws, self.runtime, folder)


def finetune(
    task: Task, checkpoint: Checkpoint, recipe: FinetuneConfig, num_classes: int, kind: LabelKind, *, is_scratch: bool
) -> Finetuner:
    """A classifier trained from a pretraining checkpoint's weights, in eval mode.

    Length and learning rate are the task's, not the recipe's. With `is_scratch` the weights are random, and every layer
    learns at the full rate.
    """
    changes = {
        "base_lr": task.steps.learning_rate * REFERENCE_BATCH / task.batch_size,
        "batch_size": task.batch_size,
        "epochs": task.epochs,
        "warmup_epochs": task.epochs * _WARMUP_SHARE,
        "layer_decay": 1.0 if is_scratch else recipe.layer_decay,
    }
    module = start_finetuning(checkpoint, recipe.model_copy(update=changes), num_classes, task.draws.seed, kind)
    task.train(module)
    return module


def segment(task: Task, checkpoint: Checkpoint, setting: tuple[str, ...], num_classes: int) -> Segmenter:
    """A segmentation head trained on a frozen encoder's tokens, in eval mode."""
    encoder, preprocess = checkpoint.encoder(), Preprocess(checkpoint.preprocessing)
    torch.manual_seed(task.draws.seed)
    rate = task.steps.learning_rate
    module = Segmenter(encoder, preprocess, setting=setting, learning_rate=rate, num_classes=num_classes)
    task.train(module, with_maps=True)
    return module


def map_confusions(
    module: Segmenter, data: PairDataModule, conditions: Sequence[Condition], device: torch.device
) -> dict[str, NDArray[Any]]:
    """Confusion counts `[N, K, K]` of test's maps, one matrix per pair, by name of each condition in its setting."""
    module.to(device)
    own = [condition for condition in conditions if condition.setting == module.setting]
    return over_split(lambda batch, _: module.predict_step(batch), data, "test", own, device)


def _columns(focus: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Columns of the classes in focus, in a label vector."""
    if unknown := [name for name in focus if name not in classes]:
        raise ConfigError("study.focus names classes that the data lacks.", got=unknown, expected=f"some of {classes}")
    return [classes.index(name) for name in focus]


def _rounded(draws: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in draws]
