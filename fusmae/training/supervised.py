"""Finetuning: encoder and head are trained together, with several classes per pair or exactly one."""

import torch
import torch.nn.functional as F
from torch import Tensor

from fusmae.config.training import FinetuneConfig, LabelKind
from fusmae.data.augment import apply_geometry
from fusmae.data.datamodule import Batch
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.objective import EncoderObjective


class Finetuner(EncoderObjective):
    """Trains a Classifier: AdamW with betas (0.9, 0.999) and layer decay.

    The loss is binary cross-entropy per class for `multilabel`, and cross-entropy for `multiclass`.
    """

    model: Classifier
    recipe: FinetuneConfig
    betas = (0.9, 0.999)

    def __init__(
        self, model: Classifier, preprocess: Preprocess, recipe: FinetuneConfig, kind: LabelKind = "multilabel"
    ) -> None:
        super().__init__(model, preprocess, recipe)
        self.kind = kind

    def loss_of(self, batch: Batch, split: str, batch_idx: int) -> Tensor:
        """Loss of one batch; in training it is augmented, and a modality or some resolutions may be left out of it."""
        tiles = self.seen(self.preprocess(batch.only(batch.present)), batch)
        logits = self.model(apply_geometry(tiles, batch.geometry) if split == "train" else tiles).float()
        if self.kind == "multilabel":
            loss = F.binary_cross_entropy_with_logits(logits, batch.labels)
        else:
            loss = F.cross_entropy(logits, batch.labels.argmax(dim=1))
        self.log_loss(f"{split}/loss", loss, f"{split} loss on {'+'.join(batch.present)}", batch, batch_idx)
        return loss

    def lr_scale(self, name: str) -> float:
        """Layer decay: the lower a parameter's layer, the smaller its learning rate; the head has the full rate."""
        encoder, in_encoder = self.model.encoder, name.removeprefix("model.encoder.")
        if in_encoder == name:
            return 1.0
        return float(self.recipe.layer_decay ** (encoder.num_layers - encoder.layer_of(in_encoder)))


def start_finetuning(
    start: Checkpoint, recipe: FinetuneConfig, num_classes: int, seed: int, kind: LabelKind = "multilabel"
) -> Finetuner:
    """The module to train: a checkpoint's encoder, and a head whose initial weights depend on the seed."""
    encoder = start.encoder(drop_path=recipe.drop_path)
    torch.manual_seed(seed)
    head = ClassifierHead(readout_dim(encoder, recipe.readout), num_classes)
    return Finetuner(Classifier(encoder, recipe.readout, head), Preprocess(start.preprocessing), recipe, kind)
