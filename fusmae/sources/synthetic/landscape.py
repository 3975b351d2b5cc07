"""The ground of a block: its regions and their classes, which material and scatterer lies where, and how high it is.

Classes come in contrasts. The classes of a contrast are built by the same function and differ in one argument, the cue
that gives the contrast its name. Everything else is drawn from the same distributions: materials and their shares,
spectra, season, backscatter, and so every band's mean.

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

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects
from scipy.spatial import cKDTree

from fusmae.data.randomness import generator
from fusmae.sources.patches.nomenclature import in_table_order
from fusmae.sources.synthetic import texture
from fusmae.sources.synthetic.materials import MATERIAL_IDS, SCATTERER_IDS
from fusmae.sources.synthetic.plan import Draw
from fusmae.sources.synthetic.texture import Field, Shape

PATCH_PX = 120
"""Side length of a patch in pixels of 10 m."""

_REGION_PX = 105.0  # distance between the centres of neighbouring regions, in pixels: a patch has about three classes

_RELIEF_PX, _RELIEF_M = 45.0, 60.0
_FIELD_AREA_PX = 380.0
_HOUSE_PX, _HALL_PX = 5.0, 16.0
_PLOT_PX = 9.0
_CHANNEL_PX, _POND_PX = 36.0, 22.0
_STREAK_PX, _STREAK_WIDTH_PX = 11.0, 1.3
_CLUMP_PX = 3.8  # a clump has the area of a streak
_ROOF_SIDE = 0.58  # share of the side of a building plot that the roof takes


class Surface(NamedTuple):
    """Ground as both modalities would show it; what is one number is the same in all pixels."""

    material: Any  # ids of `materials.MATERIAL_IDS`, `[h, w]`
    state: Field  # state of the material, 0 to 1, `[h, w]`
    scatterer: Any  # ids of `materials.SCATTERER_IDS`, `[h, w]`
    rough: Field  # roughness of the scatterer, 0 to 1, `[h, w]`
    gain: Any = 1.0  # optical brightness relative to the material's, `[h, w]`


class Regions(NamedTuple):
    """The regions of a block: the id of the region of each pixel, `[h, w]`, and the class name of each id."""

    ids: NDArray[np.intp]
    classes: tuple[str, ...]

    @property
    def corine(self) -> NDArray[np.uint16]:
        """CORINE codes `[h, w]`, as in a reference map."""
        return np.array([COVERS[name].corine for name in self.classes], dtype=np.uint16)[self.ids]


def lay_regions(seed: int, block: int, shape: Shape) -> Regions:
    """Divide a block into cells with irregular borders around scattered points; all classes are equally frequent."""
    random = generator(seed, Draw.REGIONS, block)
    steps = [np.arange(-1, side / _REGION_PX + 2) for side in shape]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1) + random.uniform(-0.38, 0.38, (1, 1, 2))
    points = (points + random.uniform(-0.33, 0.33, points.shape)) * _REGION_PX
    pixels = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    bends = [texture.smooth_noise(random, shape, 14.0) for _ in shape]
    nearest = cKDTree(points.reshape(-1, 2)).query(pixels + 6.0 * np.stack(bends, axis=-1))[1]
    # Visible regions get classes from whole shuffled decks of all classes, so that small worlds have every class.
    seen, ids = np.unique(nearest, return_inverse=True)
    decks = [random.permutation(len(CLASSES)) for _ in range(-(-len(seen) // len(CLASSES)))]
    dealt = np.concatenate(decks)[: len(seen)]
    return Regions(ids.reshape(shape), tuple(CLASSES[number] for number in dealt))


def build_surface(seed: int, block: int, regions: Regions) -> tuple[Surface, Field]:
    """Return what covers the ground, and by how many dB moisture shifts each pixel's backscatter, `[h, w]`."""
    shape = regions.ids.shape
    ids, shares = ([np.zeros(shape, dtype) for _ in range(3)] for dtype in (np.uint8, np.float32))
    surface = Surface(ids[0], shares[0], ids[1], shares[1], shares[2])
    shift_db = np.zeros(shape, dtype=np.float32)
    for number, box in enumerate(find_objects(regions.ids + 1)):
        random = generator(seed, Draw.STRUCTURE, block, number)
        is_inside = regions.ids[box] == number
        for whole, part in zip(surface, build(regions.classes[number], random, is_inside.shape), strict=True):
            whole[box][is_inside] = part[is_inside]
        shift_db[box][is_inside] = random.normal(0, 1.2)
    return surface, shift_db


def relief(seed: int, block: int, shape: Shape) -> tuple[Field, Field, Field]:
    """Return height relative to the mean in standard deviations, and slopes to the south and to the east (rise over
    run), `[h, w]` each.
    """
    random = generator(seed, Draw.TERRAIN, block)
    height = texture.smooth_noise(random, shape, _RELIEF_PX) + 0.12 * texture.smooth_noise(random, shape, 8.0)
    south, east = np.gradient(height * np.float32(_RELIEF_M * random.uniform(0.3, 1.6)), 10.0)
    return np.asarray(height), np.asarray(south), np.asarray(east)


def build(name: str, random: np.random.Generator, shape: Shape) -> Surface:
    """Build a region of the class `name`, in a box of this shape."""
    surface = COVERS[name].build(random, shape)
    # Regions of the same class differ in brightness as much as regions of different classes.
    gain = np.exp(random.normal(0, 0.2) + 0.04 * random.standard_normal(shape, dtype=np.float32))
    levels, spans = random.uniform(0, 0.25, 2), random.uniform(0.65, 0.75, 2)
    return Surface(
        np.full(shape, surface.material, dtype=np.uint8),
        np.clip(levels[0] + spans[0] * surface.state, 0, 1).astype(np.float32),
        np.full(shape, surface.scatterer, dtype=np.uint8),
        np.clip(levels[1] + spans[1] * surface.rough, 0, 1).astype(np.float32),
        (surface.gain * gain).astype(np.float32),
    )


def _fields(random: np.random.Generator, shape: Shape, *, aspect: tuple[float, float]) -> Surface:
    """Build fields of one area, each with its own crop; `aspect` is the range of length divided by width."""
    wide = np.sqrt(_FIELD_AREA_PX / random.uniform(*aspect))
    cells = texture.cells(random, shape, _FIELD_AREA_PX / wide, wide)
    return Surface(MATERIAL_IDS["crop"], _by_cell(random, cells), SCATTERER_IDS["field"], _by_cell(random, cells))


def _town(random: np.random.Generator, shape: Shape, *, plot_px: float) -> Surface:
    """Build houses on plots along streets; the shares of roof, street and garden don't depend on the plot size."""
    plot_px *= random.uniform(0.85, 1.15)
    cells = texture.cells(random, shape, plot_px, plot_px)
    middle = [np.abs(position - 0.5) * 2 for position in (cells.along, cells.across)]
    is_built = (random.random(cells.num_cells) < 0.9)[cells.ids]
    is_roof = (np.maximum(*middle) < _ROOF_SIDE) & is_built
    is_street = middle[1] > 0.75
    kinds = [is_roof, is_street, ~is_street]
    material = np.select(kinds, [MATERIAL_IDS[name] for name in ("roof", "asphalt", "grass")])
    scatterer = np.select(kinds, [SCATTERER_IDS[name] for name in ("wall", "street", "meadow")])
    return Surface(material, _by_cell(random, cells), scatterer, _by_cell(random, cells))


def _forest(random: np.random.Generator, shape: Shape, *, material: str) -> Surface:
    """Build stands of different age under a canopy of crowns; texture and backscatter don't depend on the species."""
    stands = texture.even_ranks(texture.smooth_noise(random, shape, 8.0))
    crowns = texture.smooth_noise(random, shape, 0.8)
    return Surface(
        material=MATERIAL_IDS[material],
        state=0.5 + 0.4 * (stands - 0.5) + 0.1 * crowns,
        gain=np.exp(0.1 * crowns + 0.25 * (texture.even_ranks(texture.smooth_noise(random, shape, 10.0)) - 0.5)),
        scatterer=SCATTERER_IDS["forest"],
        rough=texture.even_ranks(texture.smooth_noise(random, shape, 4.0)),
    )


def _heath(random: np.random.Generator, shape: Shape, *, form: Literal["streaks", "clumps"]) -> Surface:
    """Build shrubs over grass: both forms look alike in S2; in S1 the branches form streaks or round clumps."""
    if form == "streaks":
        pattern = texture.streaks(random, shape, _STREAK_PX, _STREAK_WIDTH_PX)
    else:
        pattern = texture.smooth_noise(random, shape, _CLUMP_PX)
    shrubs = texture.even_ranks(texture.smooth_noise(random, shape, 3.0))
    return Surface(
        material=MATERIAL_IDS["shrub"],
        state=shrubs,
        gain=np.exp(0.06 * texture.smooth_noise(random, shape, 1.0)),
        scatterer=SCATTERER_IDS["bush"],
        # Pushed towards 0 and 1; the middle stays where it is.
        rough=(1 / (1 + np.exp(-10 * (texture.even_ranks(pattern) - 0.5)))).astype(np.float32),
    )


def _plots(random: np.random.Generator, shape: Shape, *, is_green_rough: bool) -> Surface:
    """Build small plots, green or not and rough or not: each modality shows the plots, but only both together show
    whether the green plots are the rough ones.
    """
    cells = texture.cells(random, shape, _PLOT_PX * random.uniform(1.0, 1.3), _PLOT_PX)
    is_green = random.random(cells.num_cells) < 0.5
    is_rough = is_green == is_green_rough
    states, roughs = (np.where(is_high, 0.85, 0.15) for is_high in (is_green, is_rough))
    jitter = random.normal(0, 0.08, (2, cells.num_cells))
    return Surface(
        material=MATERIAL_IDS["crop"],
        state=np.clip(states + jitter[0], 0, 1).astype(np.float32)[cells.ids],
        gain=np.exp(0.06 * texture.smooth_noise(random, shape, 1.0)),
        scatterer=SCATTERER_IDS["field"],
        rough=np.clip(roughs + jitter[1], 0, 1).astype(np.float32)[cells.ids],
    )


def _water(
    random: np.random.Generator,
    shape: Shape,
    *,
    form: Literal["channels", "ponds"],
    reeds: Literal["near", "far", "any"],
) -> Surface:
    """Build water of one form in a meadow, with reeds near it or apart from it; the shares of water and reeds have the
    same distributions for all forms.
    """
    water_share, reed_share = random.uniform(0.2, 0.4), random.uniform(0.15, 0.25)
    if form == "channels":
        wet = texture.channel_distance(random, shape, _CHANNEL_PX)
        dry = -wet
    else:
        wet, dry = texture.pond_distances(random, shape, _POND_PX)
    is_water = _lowest(wet, water_share)
    is_near = random.random() < 0.5 if reeds == "any" else reeds == "near"
    closeness = np.where(is_water, np.inf, wet if is_near else dry)
    is_reed = _lowest(closeness, reed_share)
    kinds = [is_water, is_reed, ~is_reed]
    material = np.select(kinds, [MATERIAL_IDS[name] for name in ("water", "reed", "grass")])
    scatterer = np.select(kinds, [SCATTERER_IDS[name] for name in ("water", "flooded", "meadow")])
    # All ponds, channels or reed beds of a region share one level, which is drawn for the region.
    levels = random.uniform(0, 1, (2, len(MATERIAL_IDS))).astype(np.float32)
    noise = 0.15 * texture.smooth_noise(random, shape, 3.0)
    states, roughs = (np.clip(level[material] + noise, 0, 1) for level in levels)
    return Surface(material, states, scatterer, roughs)


def _by_cell(random: np.random.Generator, cells: texture.Cells) -> Field:
    return random.random(cells.num_cells, dtype=np.float32)[cells.ids]


def _lowest(values: Field, share: float) -> NDArray[np.bool_]:
    """Mark the pixels with the lowest values, as many as this share of all pixels."""
    last = int(share * values.size)
    return np.asarray(values <= np.partition(values, last, axis=None)[last])


class Cover(NamedTuple):
    """One class of the world."""

    corine: int  # CORINE code in reference maps
    contrast: str  # name of the cue that tells the class from its rivals
    build: Callable[[np.random.Generator, Shape], Surface]  # builds a region of the class


COVERS: dict[str, Cover] = {
    "Urban fabric": Cover(112, "scale", partial(_town, plot_px=_HOUSE_PX)),
    "Industrial or commercial units": Cover(121, "scale", partial(_town, plot_px=_HALL_PX)),
    "Arable land": Cover(211, "field geometry", partial(_fields, aspect=(1.0, 1.6))),
    "Permanent crops": Cover(222, "field geometry", partial(_fields, aspect=(9.0, 13.0))),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": Cover(
        243, "agreement", partial(_plots, is_green_rough=False)
    ),
    "Agro-forestry areas": Cover(244, "agreement", partial(_plots, is_green_rough=True)),
    "Broad-leaved forest": Cover(311, "spectrum", partial(_forest, material="broad_leaved")),
    "Coniferous forest": Cover(312, "spectrum", partial(_forest, material="coniferous")),
    "Moors, heathland and sclerophyllous vegetation": Cover(322, "roughness", partial(_heath, form="streaks")),
    "Transitional woodland, shrub": Cover(324, "roughness", partial(_heath, form="clumps")),
    "Inland wetlands": Cover(411, "neighbourhood", partial(_water, form="ponds", reeds="near")),
    "Coastal wetlands": Cover(421, "neighbourhood", partial(_water, form="ponds", reeds="far")),
    "Inland waters": Cover(511, "shape", partial(_water, form="channels", reeds="any")),
}
"""The classes of the world by name."""

CLASSES: tuple[str, ...] = in_table_order(COVERS)
"""The names of the classes in the order of BigEarthNet's table."""
