"""The section `data` of params.yaml."""

from typing import Annotated

from pydantic import Field, model_validator

from fusmae.config.section import Section
from fusmae.config.source import SourceConfig
from fusmae.modalities import Modality, ModalityInput, modality_inputs


class DataConfig(Section):
    """Which dataset, and how its tiles are cut.

    Attributes:
        source: the raw dataset, by name, and its settings.
        tile_m: side of a tile in metres.
        shard_pairs: pairs in one shard folder.
        modalities: bands, units and resolutions by modality.
        tolerated: findings of a check of the examination that don't block training, by the check's name.
    """

    source: SourceConfig
    tile_m: int = Field(gt=0)
    shard_pairs: int = Field(gt=0)
    # YAML has lists where the specs hold tuples; strictness would refuse them.
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
        """Side in pixels of the finest grid, to which every band is upsampled."""
        return max(item.side_px for item in self.inputs)
