"""Measure one variant and seed in every way that the study asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fusmae.config.params import Config
from fusmae.config.study import StudyConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair
from fusmae.errors import ConfigError
from fusmae.evaluation.resampling import independent_places, place_resamples
from fusmae.evaluation.subsets import label_subset
from fusmae.models.fusmae import FusMAE
from fusmae.models.preprocess import Preprocess
from fusmae.study.measure import diagnostics, supervised
from fusmae.study.measure.conditions import CloudCover, conditions_of
from fusmae.study.measure.features import SplitFeatures, collect_features
from fusmae.study.measure.frozen import FrozenEncoder
from fusmae.study.measure.heads import head_probabilities
from fusmae.study.measure.rows import RowBook
from fusmae.study.variants import study_of
from fusmae.training.checkpoint import Checkpoint

RESAMPLING_SEED = 0
"""Random seed for a whole study: all rows must be scored on the same resamples and have the same clouds."""


@dataclass(frozen=True)
class Measured:
    """The results from which a cell is written.

    Attributes:
        book: rows with predictions.
        reconstruction: reconstruction errors; see `Cell`.
        retrieval: retrieval scores; see `Cell`.
    """

    book: RowBook
    reconstruction: Mapping[str, Mapping[str, float]]
    retrieval: Mapping[str, Mapping[str, float]]


class Measurement:
    """The measurement of a variant's encoder on a data set.

    Args:
        config: the variant's own configuration.
        encoder: the frozen encoder.
        checkpoint: weights to train further; None for a rival.
        is_scratch: whether those weights are random.
        data: pairs of every split, whose draws give test its masks.
        pairs: pairs of the index, by key.
        scratch: folder for resume checkpoints.
    """

    def __init__(
        self,
        config: Config,
        encoder: FrozenEncoder,
        checkpoint: Checkpoint | None,
        *,
        is_scratch: bool,
        data: PairDataModule,
        pairs: Mapping[str, Pair],
        scratch: Path,
    ) -> None:
        self.config, self.study = config, study_of(config)
        self.encoder, self.checkpoint, self.is_scratch = encoder, checkpoint, is_scratch
        self.data, self.scratch = data, scratch
        self.device = torch.device(
            "cuda" if config.runtime.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
        )
        self.weather = CloudCover(RESAMPLING_SEED, self.study.clouded_share)
        available = tuple(dict.fromkeys(item.modality for item in data.reader("test").inputs))
        self.conditions = conditions_of(available, encoder.modalities)
        self.train_labels = np.asarray(data.reader("train").labels)
        self.labelled = {share: label_subset(self.train_labels, share, config.seed) for share in self.study.shares}
        reader = data.reader("test")
        places = independent_places([pairs[key] for key in reader.keys])
        weights = place_resamples(places, self.study.bootstrap_resamples, RESAMPLING_SEED)
        focus = _columns(self.study, reader.classes)
        self.book = RowBook(self.study.kind, np.asarray(reader.labels), reader.classes, weights, focus)

    def features(self) -> SplitFeatures:
        """Features of every split, under each condition."""
        return collect_features(self.encoder, self.data, self.conditions, self.weather, self.device)

    def add_heads(self, features: SplitFeatures) -> None:
        """Add the rows of kNN and probe at every label share."""
        validation = np.asarray(self.data.reader("validation").labels)
        for protocol in ("knn", "probe"):
            if protocol not in self.study.protocols:
                continue
            for share, rows in self.labelled.items():
                found = head_probabilities(
                    protocol,
                    features,
                    self.conditions,
                    rows,
                    self.train_labels,
                    validation,
                    kind=self.study.kind,
                    neighbours=self.study.neighbours,
                )
                for condition, probabilities in found.items():
                    self.book.add(protocol, share, condition, probabilities)

    def add_finetuned(self) -> None:
        """Add the rows of encoder and head trained together, at every label share; a rival has none."""
        if "finetune" not in self.study.protocols or self.checkpoint is None:
            return
        recipe = self.config.finetune
        draws = self._draws(recipe.modality_drop, recipe.augment.model_dump())
        for share in self.study.shares:
            module = supervised.finetune(
                self._task("finetune", share, draws),
                self.checkpoint,
                kind=self.study.kind,
                num_classes=self.train_labels.shape[1],
                recipe=recipe,
                is_scratch=self.is_scratch,
            )
            found = supervised.finetuned_probabilities(module, self.data, self.conditions, self.weather, self.device)
            for condition, probabilities in found.items():
                self.book.add("finetune", share, condition, probabilities)

    def add_maps(self) -> None:
        """Add the rows of a segmentation head; there are none for a rival, or where the data has no maps."""
        classes = self.data.reader("test").map_classes
        if "segment" not in self.study.protocols or self.checkpoint is None or not classes:
            return
        draws = self._draws(0.0, None)
        with_maps = PairDataModule(self.data.shards, batch_size=self.data.batch_size, draws=draws, with_maps=True)
        for share in self.study.shares:
            for setting in dict.fromkeys(condition.setting for condition in self.conditions):
                task = self._task(f"segment-{'-'.join(setting)}", share, draws)
                module = supervised.segment(task, self.checkpoint, setting, len(classes))
                found = supervised.map_confusions(module, with_maps, self.conditions, self.weather, self.device)
                for condition, confusions in found.items():
                    self.book.add_maps(share, condition, confusions, classes)

    def evidence(self, features: SplitFeatures, reconstructor: tuple[FusMAE, Preprocess] | None) -> Measured:
        """The rows so far, and the measures that need no labels.

        Args:
            features: features of every split.
            reconstructor: model and preprocessing, if the variant was trained to reconstruct; None otherwise.
        """
        reconstruction = {}
        if reconstructor is not None:
            model, preprocess = reconstructor
            reconstruction = diagnostics.reconstruction(model, preprocess, self.data, self.device)
        return Measured(self.book, reconstruction, diagnostics.retrieval(features, self.encoder.modalities))

    def _draws(self, modality_drop: float, augment: Mapping[str, Any] | None) -> Draws:
        return Draws(self.config.seed, self.encoder.modalities, 1, modality_drop, augment)

    def _task(self, name: str, share: float, draws: Draws) -> supervised.Task:
        steps = self.study.finetune if name == "finetune" else self.study.segment
        rows, scratch = self.labelled[share], self.scratch / f"{name}-{share:g}"
        return supervised.Task(self.data.shards, rows, steps, draws, self.config.runtime, scratch)


def _columns(study: StudyConfig, classes: Sequence[str]) -> list[int]:
    """Columns of the classes in focus, in a label vector.

    Raises:
        ConfigError: the data has no such class.
    """
    names = study.focus.classes if study.focus else []
    if unknown := [name for name in names if name not in classes]:
        raise ConfigError("study.focus names classes that the data lacks.", got=unknown, expected=f"some of {classes}")
    return [classes.index(name) for name in names]


def named_draws(modalities: Sequence[str], config: Config) -> Draws:
    """The draws that give the pairs of a study their masks."""
    return Draws(config.seed, tuple(modalities), config.model.num_patches(config.data.tile_px))
