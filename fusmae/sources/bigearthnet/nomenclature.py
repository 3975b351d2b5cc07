"""The 19 classes of BigEarthNet, and which of v1's 43 CORINE labels each merges."""

from collections.abc import Iterable

from fusmae.errors import SourceError

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
