"""Colours of classes, the same in maps, in pictures and in figures."""

import colorsys
from collections.abc import Sequence

Colour = tuple[int, int, int]

# BigEarthNet's 19 classes come first. Their colours follow the well-known legend of CORINE land cover; where that has
# shades of one colour, they are set further apart.
_KNOWN: dict[str, Colour] = {
    "Urban fabric": (230, 0, 77),
    "Industrial or commercial units": (150, 60, 200),
    "Arable land": (255, 255, 140),
    "Permanent crops": (242, 166, 77),
    "Pastures": (200, 230, 60),
    "Complex cultivation patterns": (255, 215, 0),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (214, 176, 90),
    "Agro-forestry areas": (190, 150, 130),
    "Broad-leaved forest": (100, 220, 60),
    "Coniferous forest": (0, 110, 40),
    "Mixed forest": (40, 165, 70),
    "Natural grassland and sparsely vegetated areas": (170, 215, 160),
    "Moors, heathland and sclerophyllous vegetation": (120, 140, 40),
    "Transitional woodland, shrub": (90, 120, 100),
    "Beaches, dunes, sands": (235, 225, 205),
    "Inland wetlands": (140, 120, 230),
    "Coastal wetlands": (190, 180, 255),
    "Inland waters": (70, 190, 245),
    "Marine waters": (20, 70, 190),
    # SEN12MS's classes; and the names that people give to the same ground.
    **dict.fromkeys(("Forest", "forest", "trees"), (0, 110, 40)),
    "Shrubland": (120, 140, 40),
    "Savanna": (200, 190, 90),
    **dict.fromkeys(("Grassland", "grassland", "grass"), (170, 215, 160)),
    **dict.fromkeys(("Wetlands", "wetland"), (140, 120, 230)),
    **dict.fromkeys(("Croplands", "cropland", "crops", "field", "fields"), (255, 235, 130)),
    **dict.fromkeys(("Urban/Built-up", "built-up", "urban"), (230, 0, 77)),
    **dict.fromkeys(("Snow/Ice", "snow", "ice"), (225, 240, 250)),
    **dict.fromkeys(("Barren", "bare"), (190, 165, 140)),
    **dict.fromkeys(("Water", "water"), (70, 150, 235)),
}
_GOLDEN_ANGLE = 0.381966


def class_colours(classes: Sequence[str]) -> list[Colour]:
    """A colour for each class, in their order; classes that are not BigEarthNet's get hues that are far apart."""
    return [_KNOWN.get(name) or _spread(number) for number, name in enumerate(classes)]


def _spread(number: int) -> Colour:
    # Two neighbours differ in brightness, too, for people who can't tell some hues apart.
    value = (0.95, 0.7)[number % 2]
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_ANGLE % 1, 0.65, value)
    return round(red * 255), round(green * 255), round(blue * 255)
