"""The sections `model`, `pretrain`, `probe` and `finetune` of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Rate, Section, Share

Masking = Literal["independent", "consistent"]
"""independent: each modality has its own random mask. consistent: the same patches are removed from all modalities."""

TargetNorm = Literal["patch", "group", "band"]
"""patch: normalised per patch over all its values (MAE). group: normalised per patch and band group (as MAESTRO).
band: the band-standardised values unchanged, without normalisation per patch."""

LabelKind = Literal["multilabel", "multiclass"]
"""Kind of label vector: any number of classes per pair, or exactly one."""

Readout = Literal["mean", "cls", "concat", "spread"]
"""mean: mean of all present tokens. cls: the CLS latent. concat: each modality's mean, side by side. spread: each
modality's mean and the standard deviation over its tokens, side by side."""


class ModelConfig(Section):
    """Switches and sizes of the network that `fusmae.models.fusmae` draws.

    Attributes:
        patch_px: side P of a patch in pixels; it divides the tile's side.
        dim: width D of the encoder, a multiple of 4 and of `num_heads`.
        depth: number of the encoder's blocks.
        num_heads: number of attention heads in the encoder and in feature fusion.
        decoder_dim: width of each decoder, a multiple of 4 and of `decoder_num_heads`.
        decoder_depth: number of blocks of each decoder.
        decoder_num_heads: number of attention heads in each decoder.
        early_fusion: whether the encoder's block 0 has cross-attention between modalities (Fus-MAE's XAttnEncoder).
        feature_fusion: whether the latents attend to one another before the decoders (Fus-MAE's XAttnDecoder).
        masking: way in which masks are drawn.
        mask_ratio: share of patches removed, by modality.
        target_norm: way in which the decoders' targets are normalised.
        decode_fraction: share of the removed patches that is decoded (CrossMAE); 1 is all, as in MAE.
    """

    patch_px: int = Field(gt=0)
    dim: int = Field(gt=0)
    # CLS joins after the first block: with one block it would see no token.
    depth: int = Field(ge=2)
    num_heads: int = Field(gt=0)
    decoder_dim: int = Field(gt=0)
    decoder_depth: int = Field(gt=0)
    decoder_num_heads: int = Field(gt=0)
    early_fusion: bool
    feature_fusion: bool
    masking: Masking
    mask_ratio: dict[str, Annotated[float, Field(ge=0.0, lt=1.0)]]
    target_norm: TargetNorm
    decode_fraction: Annotated[float, Field(gt=0.0, le=1.0)]

    def num_patches(self, tile_px: int) -> int:
        """L, the number of patches of one modality's tile with a side of `tile_px` pixels."""
        return (tile_px // self.patch_px) ** 2


class AugmentConfig(Section):
    """Geometric augmentation, the same for every modality of a pair.

    Attributes:
        flip: whether half of the tiles are mirrored left to right.
        turn: whether tiles are turned by 0, 90, 180 or 270 degrees at random.
        min_crop: smallest side of a random crop, as a share of the tile's side; 1 is no crop.
    """

    flip: bool
    turn: bool
    min_crop: Annotated[float, Field(gt=0.0, le=1.0)]


class _EncoderTrainingConfig(Section):
    """Parameters of every training that changes the encoder: AdamW, linear warm-up, then half a cosine per step.

    Attributes:
        epochs: number of passes over the training pairs.
        batch_size: number of pairs in a batch of all processes together.
        base_lr: learning rate at a batch size of 256; it grows with the batch size (Goyal et al. 2017).
        weight_decay: weight decay of all parameters except tokens and 1-D parameters.
        warmup_epochs: duration of the warm-up in epochs; it may be a fraction.
        modality_drop: probability that one modality of a batch is left out.
        augment: geometric augmentation.
    """

    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    base_lr: Rate
    weight_decay: float = Field(ge=0.0)
    warmup_epochs: float = Field(ge=0.0)
    modality_drop: Share
    augment: AugmentConfig

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "_EncoderTrainingConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"got warmup_epochs {self.warmup_epochs:g}; expected fewer than epochs, {self.epochs}")
        return self


class PretrainConfig(_EncoderTrainingConfig):
    """Masked reconstruction, and the terms that can be added to its loss.

    Attributes:
        num_pictures: number of reconstructions to draw.
        reconstruction_weight: weight of the reconstruction loss; 0 leaves it out.
        contrastive_weight: weight of the contrastive term between modalities; 0 leaves it out.
        ema_decay: decay of the running mean of the weights, which is kept instead of the last ones; 0 is off.
        evidence_pairs: number of pairs of train and of validation for the kNN score after each epoch; 0 is off.
        patience: number of epochs without a better kNN score after which training stops; 0 is off.
    """

    num_pictures: int = Field(ge=0)
    reconstruction_weight: float = Field(ge=0.0)
    contrastive_weight: float = Field(ge=0.0)
    ema_decay: float = Field(ge=0.0, lt=1.0)
    evidence_pairs: int = Field(ge=0)
    patience: int = Field(ge=0)

    @model_validator(mode="after")
    def _something_is_learned(self) -> "PretrainConfig":
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
    """Logistic regression on the features of a frozen encoder; its strength is chosen on validation.

    Attributes:
        batch_size: number of pairs that are encoded at once.
        readout: how tokens become features, of which kNN takes the same.
    """

    batch_size: int = Field(gt=0)
    readout: Readout

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
    """Supervised training of encoder and head.

    Attributes:
        layer_decay: factor on the learning rate from each layer of the encoder to the one below; 1 is off.
        drop_path: drop path rate of the encoder's last block; it grows linearly from 0 at block 0.
        readout: way in which tokens become the head's input.
    """

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)]
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)]
    readout: Readout
