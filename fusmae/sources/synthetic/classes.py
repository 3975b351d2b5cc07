"""The classes of the synthetic world, and the cue that tells each from its rivals.

Classes come in contrasts. Within a contrast everything is drawn from the same distributions (materials and their
shares, spectra, season, backscatter, and so every band's mean), except the one cue that gives the contrast its name:

| contrast | classes | cue | visible in |
|---|---|---|---|
| field geometry | Arable land / Permanent crops | square fields / long strips of the same area | S1, S2 |
| scale | Urban fabric / Industrial | small houses / large halls, the same share of roofs | S1, S2 |
| spectrum | Broad-leaved / Coniferous forest | spectra; season, texture and SAR are equal | S2 only |
| roughness | Moors / Transitional woodland | SAR in streaks / in round clumps; S2 is equal | S1 only |
| agreement | Agro-forestry / Land principally agriculture | green plots are the rough / the smooth ones | only both |
| shape | Inland waters / both wetlands | winding channels / round ponds, the same share of water | S1, S2 |
| neighbourhood | Inland / Coastal wetlands | reeds around the ponds / apart from them, the same share | S1, S2 |

The names are those of BigEarthNet, so that labels and tools stay valid; they claim nothing about the real classes.
"""

from typing import NamedTuple

from fusmae.sources.patches.nomenclature import in_table_order


class Cover(NamedTuple):
    """One class of the world: its CORINE code in reference maps, and the cue that tells it from its rivals."""

    corine: int
    contrast: str


COVERS: dict[str, Cover] = {
    "Urban fabric": Cover(112, "scale"),
    "Industrial or commercial units": Cover(121, "scale"),
    "Arable land": Cover(211, "field geometry"),
    "Permanent crops": Cover(222, "field geometry"),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": Cover(243, "agreement"),
    "Agro-forestry areas": Cover(244, "agreement"),
    "Broad-leaved forest": Cover(311, "spectrum"),
    "Coniferous forest": Cover(312, "spectrum"),
    "Moors, heathland and sclerophyllous vegetation": Cover(322, "roughness"),
    "Transitional woodland, shrub": Cover(324, "roughness"),
    "Inland wetlands": Cover(411, "neighbourhood"),
    "Coastal wetlands": Cover(421, "neighbourhood"),
    "Inland waters": Cover(511, "shape"),
}
"""The classes of the world by name."""

CLASSES: tuple[str, ...] = in_table_order(COVERS)
"""The names of the classes in the order of BigEarthNet's table."""

LABEL_SHARE = 0.1
"""Share of a patch's reference map that a class must cover at least to be a label of the patch."""
