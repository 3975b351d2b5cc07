"""The sections `model`, `pretrain`, `probe` and `finetune` of params.yaml."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Rate, Section, Share

ReadoutName = Literal["mean", "cls", "concat", "spread"]
"""How tokens become one vector: see `fusmae.models.heads.Readout`."""


class ModelConfig(Section):
    """The architecture; see `fusmae.models` for what each switch does."""

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
    masking: Literal["independent", "consistent"]
    mask_ratio: dict[str, Annotated[float, Field(ge=0.0, lt=1.0)]]
    target_norm: Literal["patch", "group", "band"]
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
    """Parameters of every training that changes the encoder."""

    epochs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    base_lr: Rate
    weight_decay: float = Field(ge=0.0)
    warmup_epochs: int = Field(ge=0)
    modality_drop: Share
    augment: AugmentConfig

    @model_validator(mode="after")
    def _warm_up_ends(self) -> "_EncoderTrainingConfig":
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"got warmup_epochs {self.warmup_epochs}; expected fewer than epochs, {self.epochs}")
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

    @property
    def recipe(self) -> dict[str, Any]:
        """The values that the Lightning module needs."""
        return self.model_dump(
            include={
                "base_lr", "batch_size", "weight_decay", "warmup_epochs", "reconstruction_weight", "contrastive_weight"
            }
        )  # fmt: skip

    @property
    def watch(self) -> dict[str, Any]:
        """The values that the callbacks of the training need."""
        return self.model_dump(include={"evidence_pairs", "patience", "ema_decay"})

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
    readout: ReadoutName

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

    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)]
    drop_path: Annotated[float, Field(ge=0.0, lt=1.0)]
    readout: ReadoutName
