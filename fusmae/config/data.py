"""The section `data` of params.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from fusmae.config.section import Section
from fusmae.config.source import SourceConfig
from fusmae.modalities import Modality, ModalityInput, modality_inputs


class DataConfig(Section):
    """The dataset, and how its tiles are cut.

    Attributes:
        source: name and settings of the raw dataset.
        tile_m: side of a tile in metres.
        shard_pairs: number of pairs in one shard folder.
        modalities: bands, units and resolutions by modality.
        tolerated: number of findings of an examination's check that don't block training, by the check's name.
    """

    source: SourceConfig
    tile_m: int = Field(gt=0)
    shard_pairs: int = Field(gt=0)
    # YAML has lists where the modalities have tuples; a strict check would refuse them.
    modalities: dict[str, Annotated[Modality, Field(strict=False)]] = Field(min_length=1)
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

    @property
    def inputs(self) -> tuple[ModalityInput, ...]:
        """The arrays that one tile consists of."""
        return modality_inputs(self.modalities, self.tile_m)

    @property
    def tile_px(self) -> int:
        """Side of a tile in pixels of the finest grid, to which every band is upsampled."""
        return max(item.side_px for item in self.inputs)
