"""The section `data` of params.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from fusmae.config.section import Count, Section
from fusmae.config.source import SourceConfig
from fusmae.config.task import Kind
from fusmae.modalities import Modality, ModalityInput, modality_inputs

_MAX_CLASSES = 255


class DataConfig(Section):
    """The dataset, and how its tiles are cut."""

    kind: Kind = "multilabel"  # kind of labels, of those that the dataset offers
    source: SourceConfig  # name and settings of the raw dataset
    tile_m: Count  # side of a tile in metres
    shard_pairs: Count  # number of pairs in one shard folder
    # Bands, units and resolutions. YAML has lists where these have tuples; a strict check would refuse them.
    modalities: dict[str, Annotated[Modality, Field(strict=False)]] = Field(min_length=1)
    # Number of findings of an examination's check that don't block training, by the check's name.
    tolerated: dict[str, Annotated[int, Field(ge=0)]]

    @model_validator(mode="after")
    def _grids_divide_tile(self) -> "DataConfig":
        modality_inputs(self.modalities, self.tile_m)
        return self

    @model_validator(mode="after")
    def _source_has_bands(self) -> "DataConfig":
        if faults := list(self.source.faults(self.modalities)):
            raise ValueError("; ".join(faults))
        return self

    @model_validator(mode="after")
    def _source_offers_kind(self) -> "DataConfig":
        if self.kind not in self.source.kinds:
            hint = ""
            if self.source.name == "folder":
                hint = "; a regression needs data.source.value and no classes, the other kinds classes and no value"
            raise ValueError(
                f"kind: got {self.kind}; expected {' or '.join(self.source.kinds)}, which {self.source.name} offers "
                f"with these settings{hint}"
            )
        if self.source.name == "folder" and self.kind in ("multiclass", "segmentation"):
            number = len(self.source.classes)
            # Pairs without any class are enough to pretrain. A map stores classes in a byte, and 255 is none of them.
            if number == 1 or (number == 0 and self.kind == "segmentation") or number > _MAX_CLASSES:
                raise ValueError(f"kind: got {self.kind} with {number} source.classes; expected 2 to {_MAX_CLASSES}")
        return self

    @property
    def inputs(self) -> tuple[ModalityInput, ...]:
        """The arrays that one tile consists of."""
        return modality_inputs(self.modalities, self.tile_m)

    @property
    def tile_px(self) -> int:
        """Side of a tile in pixels of the finest grid, to which every band is upsampled."""
        return max(item.side_px for item in self.inputs)
