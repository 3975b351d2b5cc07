"""The ground of a block: where its regions lie, which class each region has, and how high the ground is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.synthetic import texture
from fusmae.sources.synthetic.classes import CLASSES, COVERS
from fusmae.sources.synthetic.draws import Draw, stream
from fusmae.sources.synthetic.structure import Surface, build
from fusmae.sources.synthetic.texture import Field, Shape

PATCH_PX = 120
"""Side length of a patch in pixels of 10 m."""

_REGION_PX = 105.0
"""Distance between the centres of neighbouring regions, in pixels: a patch has about three classes."""

_RELIEF_PX = 45.0
_RELIEF_M = 60.0


@dataclass(frozen=True)
class Regions:
    """The regions of a block.

    Attributes:
        ids: id of the region of each pixel, `[h, w]`.
        classes: class name of each region, at the position of its id.
    """

    ids: NDArray[np.intp]
    classes: tuple[str, ...]

    @property
    def corine(self) -> NDArray[np.uint16]:
        """CORINE codes `[h, w]`, as in a reference map."""
        codes = np.array([COVERS[name].corine for name in self.classes], dtype=np.uint16)
        return codes[self.ids]


def lay_regions(seed: int, block: int, shape: Shape) -> Regions:
    """Divide a block into cells with irregular borders around scattered points; all classes are equally frequent.

    Args:
        seed: random seed of the world.
        block: number of the block.
        shape: height and width in pixels.
    """
    from scipy.spatial import cKDTree

    random = stream(seed, Draw.REGIONS, block)
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
    from scipy.ndimage import find_objects

    shape: Shape = regions.ids.shape
    maps: dict[str, Any] = {
        "material": np.zeros(shape, dtype=np.uint8),
        "state": np.zeros(shape, dtype=np.float32),
        "gain": np.zeros(shape, dtype=np.float32),
        "scatterer": np.zeros(shape, dtype=np.uint8),
        "rough": np.zeros(shape, dtype=np.float32),
    }
    shift_db = np.zeros(shape, dtype=np.float32)
    for number, box in enumerate(find_objects(regions.ids + 1)):
        random = stream(seed, Draw.STRUCTURE, block, number)
        is_inside = regions.ids[box] == number
        surface = build(regions.classes[number], random, is_inside.shape)
        for name, whole in maps.items():
            whole[box][is_inside] = getattr(surface, name)[is_inside]
        shift_db[box][is_inside] = random.normal(0, 1.2)
    return Surface(**maps), shift_db


def relief(seed: int, block: int, shape: Shape) -> tuple[Field, Field, Field]:
    """Return height relative to the mean in standard deviations, and slopes to the south and to the east (rise over
    run), `[h, w]` each.
    """
    random = stream(seed, Draw.TERRAIN, block)
    height = texture.smooth_noise(random, shape, _RELIEF_PX) + 0.12 * texture.smooth_noise(random, shape, 8.0)
    south, east = np.gradient(height * np.float32(_RELIEF_M * random.uniform(0.3, 1.6)), 10.0)
    return np.asarray(height), np.asarray(south), np.asarray(east)
