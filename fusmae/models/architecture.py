"""What a model is built from, and what its checkpoint stores."""

from typing import Self

from pydantic import model_validator

from fusmae.config.training import ModelConfig, Readout
from fusmae.models.preprocess import Preprocessing


class Architecture(ModelConfig):
    """The section `model` of params.yaml, with what follows from the inputs and from the labels."""

    tile_px: int  # side of a tile on the finest grid, in pixels
    # Number of bands in each band group, by modality; the order of its keys is the modality order.
    groups: dict[str, tuple[int, ...]]
    num_classes: int | None = None  # number K of classes, 1 for a value; None without a head
    readout: Readout | None = None  # way in which tokens become the head's input; None without a head
    map_px: int | None = None  # side of the map that a dense head makes, in pixels; None for one answer per tile

    @classmethod
    def of(cls, section: ModelConfig, preprocessing: Preprocessing) -> Self:
        """The architecture of a model over the tiles that `preprocessing` makes; a stack has the first mask ratio."""
        values, groups = section.model_dump(), preprocessing.groups
        if preprocessing.is_stacked:
            (stack,) = groups
            values["mask_ratio"] = {stack: section.mask_ratio[preprocessing.inputs[0].modality]}
        return cls(**values, tile_px=preprocessing.tile_px, groups=groups)

    @model_validator(mode="after")
    def _every_modality_has_a_mask_ratio(self) -> Self:
        missing = [name for name in self.groups if name not in self.mask_ratio]
        if missing:
            raise ValueError(f"mask_ratio lacks {missing}; it has {list(self.mask_ratio)}")
        return self

    @property
    def in_chans(self) -> dict[str, int]:
        """Number of bands C by modality, in the modality order."""
        return {name: sum(sizes) for name, sizes in self.groups.items()}


def modality_settings(modalities: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Sets of modalities that a model is evaluated with: all together, then each alone."""
    return [modalities, *((name,) for name in modalities if len(modalities) > 1)]
