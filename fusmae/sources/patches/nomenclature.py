"""The 19 classes of BigEarthNet, and the CORINE labels (43 in v1) and codes that each class merges."""

from collections.abc import Iterable

from fusmae.errors import SourceError

# Each class with the CORINE classes that it merges: their codes, and their labels in BigEarthNet v1. The order is that
# of the 19-class nomenclature (CORINE's own), not alphabetical; the 19 names are spelled as in v2.
_NOMENCLATURE: dict[str, dict[int, str]] = {
    "Urban fabric": {111: "Continuous urban fabric", 112: "Discontinuous urban fabric"},
    "Industrial or commercial units": {121: "Industrial or commercial units"},
    "Arable land": {211: "Non-irrigated arable land", 212: "Permanently irrigated land", 213: "Rice fields"},
    "Permanent crops": {
        221: "Vineyards",
        222: "Fruit trees and berry plantations",
        223: "Olive groves",
        241: "Annual crops associated with permanent crops",
    },
    "Pastures": {231: "Pastures"},
    "Complex cultivation patterns": {242: "Complex cultivation patterns"},
    "Land principally occupied by agriculture, with significant areas of natural vegetation": {
        243: "Land principally occupied by agriculture, with significant areas of natural vegetation",
    },
    "Agro-forestry areas": {244: "Agro-forestry areas"},
    "Broad-leaved forest": {311: "Broad-leaved forest"},
    "Coniferous forest": {312: "Coniferous forest"},
    "Mixed forest": {313: "Mixed forest"},
    "Natural grassland and sparsely vegetated areas": {321: "Natural grassland", 333: "Sparsely vegetated areas"},
    "Moors, heathland and sclerophyllous vegetation": {322: "Moors and heathland", 323: "Sclerophyllous vegetation"},
    "Transitional woodland, shrub": {324: "Transitional woodland/shrub"},
    "Beaches, dunes, sands": {331: "Beaches, dunes, sands"},
    "Inland wetlands": {411: "Inland marshes", 412: "Peatbogs"},
    "Coastal wetlands": {421: "Salt marshes", 422: "Salines"},
    "Inland waters": {511: "Water courses", 512: "Water bodies"},
    "Marine waters": {521: "Coastal lagoons", 522: "Estuaries", 523: "Sea and ocean"},
}

CLASSES: tuple[str, ...] = tuple(_NOMENCLATURE)
"""The 19 classes in the order of the nomenclature."""

CLASS_OF_V1_LABEL: dict[str, str] = {label: name for name, merged in _NOMENCLATURE.items() for label in merged.values()}
"""Class by v1's CORINE label."""

CLASS_OF_CODE: dict[int, str] = {code: name for name, merged in _NOMENCLATURE.items() for code in merged}
"""Class by CORINE code, as in v2's reference maps; the codes of the 11 dropped labels are in no class."""

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
    """Return the classes, in the order of `CLASSES`, of a patch with these CORINE labels; may be empty.

    Raises:
        SourceError: a label is not one of v1's 43.
    """
    labels = set(labels)
    unknown = sorted(labels - CLASS_OF_V1_LABEL.keys() - DROPPED_V1_LABELS)
    if unknown:
        raise SourceError("These are no BigEarthNet v1 labels.", got=unknown)
    return in_table_order(CLASS_OF_V1_LABEL[label] for label in labels - DROPPED_V1_LABELS)


def in_table_order(classes: Iterable[str]) -> tuple[str, ...]:
    """Return the same class names, each once, in the order of `CLASSES`.

    Raises:
        SourceError: a name is not a class.
    """
    wanted = set(classes)
    if not wanted <= set(CLASSES):
        raise SourceError("These are no BigEarthNet classes.", got=sorted(wanted - set(CLASSES)), expected=CLASSES)
    return tuple(name for name in CLASSES if name in wanted)
