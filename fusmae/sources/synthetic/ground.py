"""The ground of a block: where its regions lie, which class each is, and how high it stands."""

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
"""Side of a patch in pixels of 10 m."""

_REGION_PX = 105.0
"""From the middle of a region to the next: some three classes a patch."""

_RELIEF_PX = 45.0
_RELIEF_M = 60.0


@dataclass(frozen=True)
class Regions:
    """Where the regions of a block lie.

    Attributes:
        ids: the region of each pixel, `[h, w]`.
        classes: the class of each region, by id.
    """

    ids: NDArray[np.intp]
    classes: tuple[str, ...]

    @property
    def corine(self) -> NDArray[np.uint16]:
        """CORINE codes `[h, w]`, as a reference map has them."""
        codes = np.array([COVERS[name].corine for name in self.classes], dtype=np.uint16)
        return codes[self.ids]


def lay_regions(seed: int, block: int, shape: Shape) -> Regions:
    """Cells around scattered points with crooked borders; each class as often as another.

    Args:
        seed: the world's.
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
    # The regions that can be seen are dealt whole decks of classes, so that small worlds have them all.
    seen, ids = np.unique(nearest, return_inverse=True)
    decks = [random.permutation(len(CLASSES)) for _ in range(-(-len(seen) // len(CLASSES)))]
    dealt = np.concatenate(decks)[: len(seen)]
    return Regions(ids.reshape(shape), tuple(CLASSES[number] for number in dealt))


def build_surface(seed: int, block: int, regions: Regions) -> tuple[Surface, Field]:
    """What covers the ground, and by how many dB moisture shifts each pixel's backscatter."""
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
    """Height relative to the mean in deviations, and slopes to the south and to the east (rise over run)."""
    random = stream(seed, Draw.TERRAIN, block)
    height = texture.smooth_noise(random, shape, _RELIEF_PX) + 0.12 * texture.smooth_noise(random, shape, 8.0)
    south, east = np.gradient(height * np.float32(_RELIEF_M * random.uniform(0.3, 1.6)), 10.0)
    return np.asarray(height), np.asarray(south), np.asarray(east)
