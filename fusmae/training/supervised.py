"""Finetuning: encoder and head are trained together, on labels of any kind."""

import torch
from torch import Tensor

from fusmae.config.training import FinetuneConfig
from fusmae.data.augment import apply_geometry, apply_to_maps
from fusmae.data.datamodule import Batch
from fusmae.data.shards import ShardReader
from fusmae.modalities import map_side_px
from fusmae.models.predictors import Predictor, build_predictor
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.label_facts import class_weights, positive_weights, require_labels, value_moments
from fusmae.training.losses import loss_of_classes, loss_of_values
from fusmae.training.objective import EncoderObjective


class Finetuner(EncoderObjective):
    """Trains a predictor: AdamW with betas (0.9, 0.999) and layer decay.

    The loss is binary cross-entropy per class for `multilabel`, cross-entropy for `multiclass` and per pixel for
    `segmentation`, where the recipe may ask for other forms, and Huber's for `regression`. `weights` `[K]` are those of
    the classes; None for equal ones. With `is_frozen` the encoder keeps its weights, and the head alone is trained.
    """

    model: Predictor
    recipe: FinetuneConfig
    betas = (0.9, 0.999)

    def __init__(
        self,
        model: Predictor,
        preprocess: Preprocess,
        recipe: FinetuneConfig,
        weights: Tensor | None = None,
        *,
        is_frozen: bool = False,
    ) -> None:
        super().__init__(model, preprocess, recipe)
        self.is_frozen = is_frozen
        if is_frozen:
            model.encoder.requires_grad_(False)
        # Not persistent: no part of the trained model.
        self.register_buffer("weights", weights, persistent=False)

    def train(self, mode: bool = True) -> "Finetuner":
        """Set the model to training mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.is_frozen:
            self.model.encoder.eval()
        return self

    def loss_of(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        """Loss of one batch; in training it is augmented, and a modality or some resolutions may be left out of it."""
        tiles, labels = self.seen(self.preprocess(batch.only(batch.present)), batch), self._labels(batch)
        if split == "train":
            tiles = apply_geometry(tiles, batch.geometry)
            labels = apply_to_maps(labels, batch.geometry) if self.model.task.is_dense else labels
        raw = self.model(tiles).float()
        if self.model.scale is not None:
            loss = loss_of_values(raw, self.model.scale.standard(labels.reshape(raw.shape)))
        else:
            loss = loss_of_classes(raw, labels, self.model.task, self.recipe.loss, self.weights)  # type: ignore[arg-type]
        self.log_loss(f"{split}/loss", loss, f"{split} loss on {'+'.join(batch.present)}", batch, batch_idx)
        return loss

    def _labels(self, batch: Batch) -> Tensor:
        """Labels `[B, K]` of tiles, or maps `[B, h, w]`, in the type that losses expect."""
        if not self.model.task.is_dense:
            return batch.labels
        assert batch.maps is not None, "the data module was made without `with_maps`"  # noqa: S101
        return batch.maps if self.model.scale is not None else batch.maps.long()

    def lr_scale(self, name: str) -> float:
        """Layer decay: the lower a parameter's layer, the smaller its learning rate; the head has the full rate."""
        encoder, in_encoder = self.model.encoder, name.removeprefix("model.encoder.")
        if in_encoder == name:
            return 1.0
        return float(self.recipe.layer_decay ** (encoder.num_layers - encoder.layer_of(in_encoder)))


def start_finetuning(
    start: Checkpoint, recipe: FinetuneConfig, reader: ShardReader, seed: int, *, is_frozen: bool = False
) -> Finetuner:
    """The module to train: a checkpoint's encoder, and a head whose initial weights depend on the seed.

    `reader` is that of train: what its labels are decides the head, and how often they occur the weights of classes.

    Raises:
        TrainingError: there is nothing to learn from these labels.
    """
    require_labels(reader)
    task = reader.task
    encoder = start.encoder(drop_path=0.0 if is_frozen else recipe.drop_path)
    torch.manual_seed(seed)
    map_px = map_side_px(reader.inputs) if task.is_dense else None
    model = build_predictor(start.architecture, task, recipe.readout, map_px, encoder)
    if model.scale is not None:
        mean, std = value_moments(reader)
        model.scale.mean.fill_(mean)
        model.scale.std.fill_(std)
    weights = None
    if recipe.class_weights == "balanced" and task.classes:
        found = positive_weights(reader) if task.kind == "multilabel" else class_weights(reader)
        weights = torch.from_numpy(found).float()
    return Finetuner(model, Preprocess(start.preprocessing), recipe, weights, is_frozen=is_frozen)
