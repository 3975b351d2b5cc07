"""What BigEarthNet states about itself: classes, bands, and what a patch's name says."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from numpy.typing import NDArray

from fusmae.data.pixels import PIXEL_DTYPES
from fusmae.errors import PairError, SourceError
from fusmae.modalities import BandGroup, Modality, ModalityInput, modality_inputs

# Each class with the CORINE labels of BigEarthNet v1 that it merges. The order is that of the 19-class
# nomenclature (CORINE's own), not the alphabet's; the spelling is v2's.
_NOMENCLATURE: dict[str, tuple[str, ...]] = {
    "Urban fabric": ("Continuous urban fabric", "Discontinuous urban fabric"),
    "Industrial or commercial units": ("Industrial or commercial units",),
    "Arable land": ("Non-irrigated arable land", "Permanently irrigated land", "Rice fields"),
    "Permanent crops": (
        "Vineyards",
        "Fruit trees and berry plantations",
        "Olive groves",
        "Annual crops associated with permanent crops",
    ),
    "Pastures": ("Pastures",),
    "Complex cultivation patterns": ("Complex cultivation patterns",),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Land principally occupied by agriculture, with significant areas of natural vegetation",
    ),
    "Agro-forestry areas": ("Agro-forestry areas",),
    "Broad-leaved forest": ("Broad-leaved forest",),
    "Coniferous forest": ("Coniferous forest",),
    "Mixed forest": ("Mixed forest",),
    "Natural grassland and sparsely vegetated areas": ("Natural grassland", "Sparsely vegetated areas"),
    "Moors, heathland and sclerophyllous vegetation": ("Moors and heathland", "Sclerophyllous vegetation"),
    "Transitional woodland, shrub": ("Transitional woodland/shrub",),
    "Beaches, dunes, sands": ("Beaches, dunes, sands",),
    "Inland wetlands": ("Inland marshes", "Peatbogs"),
    "Coastal wetlands": ("Salt marshes", "Salines"),
    "Inland waters": ("Water courses", "Water bodies"),
    "Marine waters": ("Coastal lagoons", "Estuaries", "Sea and ocean"),
}

CLASSES: tuple[str, ...] = tuple(_NOMENCLATURE)
"""The 19 classes in the nomenclature's order."""

CLASS_OF_V1_LABEL: dict[str, str] = {label: name for name, labels in _NOMENCLATURE.items() for label in labels}
"""Class by CORINE label of v1."""

DROPPED_V1_LABELS: frozenset[str] = frozenset(
    {
        "Road and rail networks and associated land",
        "Port areas",
        "Airports",
        "Mineral extraction sites",
        "Dump sites",
        "Construction sites",
        "Green urban areas",
        "Sport and leisure facilities",
        "Bare rock",
        "Burnt areas",
        "Intertidal flats",
    }
)
"""The 11 of v1's 43 labels that are in no class."""

MODALITIES: dict[str, Modality] = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(
        units="DN",
        groups=(
            BandGroup(gsd_m=10, bands=("B02", "B03", "B04", "B08")),
            BandGroup(gsd_m=20, bands=("B05", "B06", "B07", "B8A", "B11", "B12")),
            BandGroup(gsd_m=60, bands=("B01", "B09")),
        ),
    ),
}
"""Every band that a pair has on disk."""

PATCH_M = 1200
"""Side of a patch in metres."""

_NAME = re.compile(
    r"(?:S1[AB]_IW_GRDH_1SDV|S2[AB]_MSIL2A)_(?P<day>\d{8})T(?P<time>\d{5,6})"
    r"(?:_N\d{4}_R\d{3})?(?:_T?(?P<tile>\d{2}[A-Z]{3}))?_(?P<column>\d+)_(?P<row>\d+)"
)


@dataclass(frozen=True)
class PatchName:
    """What a patch's name says.

    Attributes:
        tile: MGRS tile like "33UUP"; "" for S2 patches of v1, whose names lack it.
        column: patches east of the tile's western edge.
        row: patches south of the tile's northern edge.
        date: acquisition (UTC), to some seconds.
    """

    tile: str
    column: int
    row: int
    date: datetime


def parse_patch_name(name: str) -> PatchName:
    """Read the name of an S1 or S2 patch of v1 or v2.

    Raises:
        SourceError: the name is no patch name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise SourceError(
            "This is no BigEarthNet patch name.", got=name, expected="like S2A_MSIL2A_20170613T101031_87_48"
        )
    try:
        day = datetime.strptime(found["day"], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise SourceError(f"{name} has no valid date.", got=found["day"], expected="YYYYMMDD") from error
    # v1 drops leading zeros (T93020 is 09:30:20) and knows second 61 (T94161), so the time is added, not parsed.
    clock = found["time"].zfill(6)
    time = timedelta(hours=int(clock[:2]), minutes=int(clock[2:4]), seconds=int(clock[4:]))
    return PatchName(found["tile"] or "", int(found["column"]), int(found["row"]), day + time)


def classes_of_v1_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Classes, in the table's order, of a patch with these CORINE labels; may be empty.

    Raises:
        SourceError: a label is not one of v1's 43.
    """
    labels = set(labels)
    unknown = sorted(labels - CLASS_OF_V1_LABEL.keys() - DROPPED_V1_LABELS)
    if unknown:
        raise SourceError("These are no BigEarthNet v1 labels.", got=unknown)
    return in_table_order(CLASS_OF_V1_LABEL[label] for label in labels - DROPPED_V1_LABELS)


def in_table_order(classes: Iterable[str]) -> tuple[str, ...]:
    """The same class names once each, in the order of `CLASSES`.

    Raises:
        SourceError: a name is not in the table.
    """
    wanted = set(classes)
    if not wanted <= set(CLASSES):
        raise SourceError("These are no BigEarthNet classes.", got=sorted(wanted - set(CLASSES)), expected=CLASSES)
    return tuple(name for name in CLASSES if name in wanted)


def validate_bands(key: str, bands: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Give a pair's bands in channel order after checking that all are there and as stated.

    Args:
        key: the pair's key, for errors.
        bands: `[h, w]` by band name, at native resolution.

    Returns:
        The same arrays: S1 float32 dB `[120, 120]`; S2 uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`.

    Raises:
        PairError: a band is missing, or of another size or type.
    """
    inputs = modality_inputs(MODALITIES, PATCH_M)
    return {band: _validated(key, band, bands, item) for item in inputs for band in item.bands}


def _validated(key: str, band: str, bands: Mapping[str, NDArray[Any]], item: ModalityInput) -> NDArray[Any]:
    if band not in bands:
        raise PairError(
            f"Pair {key} has no band {band}.", got=sorted(bands), expected=f"all of {item.modality}'s bands"
        )
    pixels, dtype, shape = bands[band], PIXEL_DTYPES[item.units], (item.side_px, item.side_px)
    if pixels.shape != shape or pixels.dtype != dtype:
        raise PairError(
            f"Pair {key}, band {band}: not the pixels it should have.",
            got=f"{pixels.dtype} {list(pixels.shape)}",
            expected=f"{dtype} {list(shape)}",
        )
    return pixels
