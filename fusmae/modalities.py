"""What a modality is: its bands by name, their ground sampling distance and units."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fusmae.units import UNITS, Unit

MAP_GSD_M = 10
"""Side in metres of a pixel of a map, of classes or of values."""


def _known(units: str) -> str:
    if units not in UNITS:
        raise ValueError(f"got {units!r}; expected {', '.join(UNITS)}, the rows of fusmae/units.py")
    return units


Units = Annotated[str, AfterValidator(_known)]
"""Name of a row of `fusmae.units.UNITS`."""


class BandGroup(BaseModel):
    """Bands of one modality that share a grid: their ground sampling distance, and product names in channel order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gsd_m: int = Field(gt=0)
    bands: tuple[str, ...] = Field(min_length=1)


class Modality(BaseModel):
    """One sensor's bands as they are stored, fed to a model and exported.

    The channel order follows the groups, one per native resolution, and the bands within each group.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: Units
    groups: tuple[BandGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _bands_are_unique(self) -> "Modality":
        if len(set(self.bands)) != len(self.bands):
            raise ValueError(f"a band is named twice: {', '.join(self.bands)}")
        distances = [group.gsd_m for group in self.groups]
        if len(set(distances)) != len(distances):
            raise ValueError(f"two groups share a gsd_m: {distances}")
        return self

    @property
    def bands(self) -> tuple[str, ...]:
        """Every band in channel order."""
        return tuple(band for group in self.groups for band in group.bands)

    @property
    def gsds_m(self) -> dict[str, int]:
        """Ground sampling distance in metres by band, in channel order."""
        return {band: group.gsd_m for group in self.groups for band in group.bands}

    @property
    def unit(self) -> Unit:
        """The row of its units."""
        return UNITS[self.units]


_BACKSCATTER = Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),))
BIGEARTHNET: dict[str, Modality] = {
    "s1": _BACKSCATTER,
    "s2": Modality(
        units="DN",
        groups=(
            BandGroup(gsd_m=10, bands=("B02", "B03", "B04", "B08")),
            BandGroup(gsd_m=20, bands=("B05", "B06", "B07", "B8A", "B11", "B12")),
            BandGroup(gsd_m=60, bands=("B01", "B09")),
        ),
    ),
}
"""What BigEarthNet, its sample and the synthetic world have on disk of each pair."""

_L1C_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SEN12MS: dict[str, Modality] = {
    "s1": _BACKSCATTER,
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=_L1C_BANDS),)),
}
"""The same of SEN12MS: L1C, every band resampled to 10 m, in the order that its authors state (files name no bands)."""


class BandStatistics(BaseModel):
    """Mean and standard deviation of one band's pixels, in its modality's units."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    std: float = Field(gt=0.0)


Statistics = dict[str, dict[str, BandStatistics]]
"""Band statistics by modality, then by band name."""


class ModalityInput(BaseModel):
    """One array that a model is fed: a modality's bands on one grid."""

    model_config = ConfigDict(frozen=True)

    name: str  # name of the array in shards, batches and the ONNX graph, like `s2_20m`
    modality: str  # key of the modality, like `s2`
    units: Units
    gsd_m: int  # ground sampling distance in metres
    bands: tuple[str, ...]  # product names of the bands, in channel order
    side_px: int  # height and width in pixels at `gsd_m`

    @property
    def unit(self) -> Unit:
        """The row of its units."""
        return UNITS[self.units]


def modality_inputs(modalities: Mapping[str, Modality], tile_m: int) -> tuple[ModalityInput, ...]:
    """The arrays that a tile with a side of `tile_m` metres consists of, in channel order.

    Raises:
        ValueError: a group's resolution does not divide the tile's side.
    """
    inputs = []
    for key, modality in modalities.items():
        for group in modality.groups:
            side_px, rest = divmod(tile_m, group.gsd_m)
            if rest:
                raise ValueError(f"{key}: {group.gsd_m} m pixels do not divide a tile of {tile_m} m")
            name = f"{key}_{group.gsd_m}m"
            inputs.append(ModalityInput(name=name, modality=key, units=modality.units, side_px=side_px, **dict(group)))
    return tuple(inputs)


def by_modality(inputs: Iterable[ModalityInput]) -> dict[str, tuple[ModalityInput, ...]]:
    """The arrays of each modality, both in their order."""
    found: dict[str, tuple[ModalityInput, ...]] = {}
    for item in inputs:
        found[item.modality] = (*found.get(item.modality, ()), item)
    return found


def tile_side_m(inputs: Sequence[ModalityInput]) -> int:
    """Height and width of the tile that the arrays cover, in metres."""
    return inputs[0].side_px * inputs[0].gsd_m


def map_side_px(inputs: Sequence[ModalityInput]) -> int:
    """Height and width of a tile's map in pixels: always on a 10 m grid, whatever the bands' resolution."""
    return tile_side_m(inputs) // MAP_GSD_M
