"""The sections `model`, `pretrain`, `probe`, `finetune` and `evaluate` of params.yaml."""

from typing import Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Count, PositiveShare, Rate, Section, Share, ShareBelowOne

Masking = Literal["independent", "consistent"]
"""independent: each modality has its own random mask. consistent: the same patches are removed from all modalities."""

TargetNorm = Literal["patch", "group", "band"]
"""patch: normalised per patch over all its values (MAE). group: normalised per patch and band group (as MAESTRO).
band: the band-standardised values unchanged, without normalisation per patch."""

SupervisedLoss = Literal["cross_entropy", "focal", "dice"]
"""cross_entropy: as the kind of labels has it. focal: less weight on what is sure already (multiclass, segmentation).
dice: cross-entropy plus Dice, which counts each class alike however small (segmentation)."""

Readout = Literal["mean", "cls", "concat", "spread"]
"""mean: mean of all present tokens. cls: the CLS latent. concat: each modality's mean, side by side. spread: each
modality's mean and the standard deviation over its tokens, side by side."""


class ModelConfig(Section):
    """Switches and sizes of the network that `fusmae.models.fusmae` draws."""

    patch_px: Count  # side P of a patch in pixels; it divides the tile's side
    dim: Count  # width D of the encoder, a multiple of 4 and of `num_heads`
    # CLS joins after the first block: with one block it would see no token.
    depth: int = Field(ge=2)  # number of the encoder's blocks
    num_heads: Count  # number of attention heads in the encoder and in feature fusion
    decoder_dim: Count  # width of each decoder, a multiple of 4 and of `decoder_num_heads`
    decoder_depth: Count  # number of blocks of each decoder
    decoder_num_heads: Count  # number of attention heads in each decoder
    early_fusion: bool  # whether the encoder's block 0 has cross-attention between modalities (Fus-MAE's XAttnEncoder)
    feature_fusion: bool  # whether the latents attend to one another before the decoders (Fus-MAE's XAttnDecoder)
    masking: Masking  # way in which masks are drawn
    mask_ratio: dict[str, ShareBelowOne]  # share of patches removed, by modality
    target_norm: TargetNorm  # way in which the decoders' targets are normalised
    decode_fraction: PositiveShare  # share of the removed patches that is decoded (CrossMAE); 1 is all, as in MAE

    def num_patches(self, tile_px: int) -> int:
        """L, the number of patches of one modality's tile with a side of `tile_px` pixels."""
        return (tile_px // self.patch_px) ** 2


class AugmentConfig(Section):
    """Geometric augmentation, the same for every modality of a pair."""

    flip: bool  # whether half of the tiles are mirrored left to right
    turn: bool  # whether tiles are turned by 0, 90, 180 or 270 degrees at random
    min_crop: PositiveShare  # smallest side of a random crop, as a share of the tile's side; 1 is no crop


class _EncoderTrainingConfig(Section):
    """Parameters of every training that changes the encoder: AdamW, linear warm-up, then half a cosine per step."""

    # Weights to start from: a checkpoint's folder, a registered version or alias, or a file of weights beside its
    # checkpoint.json; "" for none (docs/start.md).
    start: str = ""
    epochs: Count  # number of passes over the training pairs
    batch_size: Count  # number of pairs in a batch of all processes together
    base_lr: Rate  # learning rate at a batch size of 256; it grows with the batch size (Goyal et al. 2017)
    weight_decay: float = Field(ge=0.0)  # weight decay of all parameters except tokens and 1-D parameters
    warmup_epochs: float = Field(ge=0.0)  # duration of the warm-up in epochs; it may be a fraction
    modality_drop: Share  # probability that one modality of a batch is left out
    # Probability of each resolution group (the bands of one ground sampling distance) to be hidden in a batch; at least
    # one group of a modality is left. Above 0, the model also takes tiles that lack some groups.
    group_drop: Share = 0.0
    augment: AugmentConfig  # geometric augmentation

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "_EncoderTrainingConfig":
        if self.epochs and self.warmup_epochs >= self.epochs:
            raise ValueError(f"got warmup_epochs {self.warmup_epochs:g}; expected fewer than epochs, {self.epochs}")
        return self


class PretrainConfig(_EncoderTrainingConfig):
    """Masked reconstruction, and the terms that can be added to its loss."""

    epochs: int = Field(ge=0)  # number of passes over the training pairs; 0 keeps the weights of `start` as they are
    num_pictures: int = Field(ge=0)  # number of reconstructions to draw
    reconstruction_weight: float = Field(ge=0.0)  # weight of the reconstruction loss; 0 leaves it out
    contrastive_weight: float = Field(ge=0.0)  # weight of the contrastive term between modalities; 0 leaves it out
    ema_decay: ShareBelowOne  # decay of the weights' running mean, which is kept instead of the last ones; 0 is off
    # Number of pairs of train and of validation for the kNN score after each epoch; 0 is off.
    evidence_pairs: int = Field(ge=0)
    patience: int = Field(ge=0)  # number of epochs without a better kNN score after which training stops; 0 is off

    @model_validator(mode="after")
    def _something_is_learned(self) -> "PretrainConfig":
        if not self.epochs and not self.start:
            raise ValueError("got epochs 0 without start; expected 1 or more, or weights to start from")
        if not self.reconstruction_weight and not self.contrastive_weight:
            raise ValueError("got reconstruction_weight 0 and contrastive_weight 0; expected one above 0")
        if not self.reconstruction_weight and self.modality_drop:
            raise ValueError(
                f"got modality_drop {self.modality_drop} with reconstruction_weight 0; expected modality_drop 0: "
                "the contrastive term needs two modalities"
            )
        if self.patience and not self.evidence_pairs:
            raise ValueError(f"got patience {self.patience} with evidence_pairs 0; expected evidence_pairs above 0")
        return self


class ProbeConfig(Section):
    """Logistic regression on the features of a frozen encoder; its strength is chosen on validation."""

    batch_size: Count  # number of pairs that are encoded at once
    readout: Readout  # how tokens become features, of which kNN takes the same

    @model_validator(mode="before")
    @classmethod
    def _is_not_trained_by_steps(cls, values: Any) -> Any:
        old = [name for name in ("epochs", "learning_rates") if isinstance(values, dict) and name in values]
        if old:
            raise ValueError(
                f"got {' and '.join(old)}; expected batch_size and readout alone: the probe is a logistic regression "
                f"now, without epochs or learning rates. Delete {' and '.join(f'probe.{name}' for name in old)}"
            )
        return values


class FinetuneConfig(_EncoderTrainingConfig):
    """Supervised training of encoder and head."""

    layer_decay: PositiveShare  # factor on the learning rate from each layer of the encoder to the one below; 1 is off
    drop_path: ShareBelowOne  # drop path rate of the encoder's last block; it grows linearly from 0 at block 0
    readout: Readout  # way in which tokens become the head's input; maps have a head of their own
    # Form of the loss of classes; values have a Huber loss.
    loss: SupervisedLoss = "cross_entropy"
    # Weights of classes in the loss: equal, or inverse to how often train has them.
    class_weights: Literal["equal", "balanced"] = "equal"


class EvaluateConfig(Section):
    """How scores over the whole test set are computed."""

    batch_size: Count  # number of pairs in a batch
    neighbours: Count  # number k of neighbours of kNN
    # Maximum number of pairs of train, and of validation, that kNN and probe of an exported encoder learn from.
    encoder_pairs: Count
    threshold: Share  # probability from which a class counts as predicted, for F1
    bootstrap_resamples: int = Field(ge=0)  # number of bootstrap draws over places; 0 for no intervals
