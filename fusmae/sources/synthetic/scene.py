"""A block as both modalities show it: light, haze, clouds, snow; digital numbers, decibels, reference map and flags.

Its biomass is a quantity that no sensor alone shows: the root of greenness, which S2 shows, times roughness, which S1
shows. With the root, both count about the same.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Value
from fusmae.data.randomness import generator
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.synthetic.landscape import CLASSES, COVERS, PATCH_PX, Surface, build_surface, lay_regions, relief
from fusmae.sources.synthetic.materials import (
    CLOUD,
    HAZE,
    S2_BANDS,
    SNOW,
    backscatter_db,
    greenness,
    reflectance,
    with_speckle,
)
from fusmae.sources.synthetic.plan import Block, Draw, Patch
from fusmae.sources.synthetic.texture import Field, Shape, smooth_noise

LABEL_SHARE = 0.1
"""Share of a patch's reference map that a class must cover at least to be a label of the patch."""

BIOMASS = Value(name="biomass", unit="t/ha", min=0.0, max=300.0, per="pixel")
"""The world's made-up quantity; no real biomass follows its rule."""

# Files of maps deflate well if numbers are multiples of a power of 2.
_BIOMASS_STEP = 0.125
# Share of the blocks that have clouds, and of those seen in the three coldest months that have snow.
_CLOUDY_SHARE, _SNOWY_SHARE = 0.15, 0.5
_SNOW_MONTHS = (12, 1, 2)
_GSD_M = 10
_DN_PER_REFLECTANCE = 10_000
_LOWEST_DN = 1  # 0 is nodata
# A patch counts as snowy or cloudy if at least this share of its pixels is at least half covered.
_FLAGGED_SHARE = 0.01
# Backscatter in dB that a slope of 45° towards the radar adds; of the order of the tangent of its look angle.
_SLOPE_DB = 9.0


class Weather(NamedTuple):
    """Cover by clouds, by their shadows and by snow when S2 passed: 0 to 1, `[h, w]` each."""

    cloud: Field
    shadow: Field
    snow: Field


class SyntheticScene(NamedTuple):
    """One observed block of ground."""

    bands: dict[str, NDArray[Any]]  # pixels `[h, w]` by band at native resolution: S1 float32 dB, S2 uint16 DN
    corine: NDArray[np.uint16]  # reference map of CORINE codes, `[h, w]` at 10 m
    biomass: Field  # map of `BIOMASS`, `[h, w]` at 10 m
    weather: Weather  # clouds, shadows and snow in the S2 image

    def cut(self, patch: Patch) -> dict[str, NDArray[Any]]:
        """Cut out a patch's bands."""
        return {name: patch.cut(pixels) for name, pixels in self.bands.items()}

    def is_snowy(self, patch: Patch) -> bool:
        """Return whether enough of the patch is covered by snow to flag it."""
        return _is_flagged(patch.cut(self.weather.snow))

    def is_cloudy(self, patch: Patch) -> bool:
        """Return whether enough of the patch is covered by clouds or their shadows to flag it."""
        return _is_flagged(patch.cut(np.maximum(self.weather.cloud, self.weather.shadow)))


def make_scene(seed: int, block: Block) -> SyntheticScene:
    """Make a block; the result depends only on the seed and the block."""
    number, side = block.number, block.side * PATCH_PX
    regions = lay_regions(seed, number, (side, side))
    surface, shift_db = build_surface(seed, number, regions)
    height, south, east = relief(seed, number, (side, side))
    summer = summer_of(block.s2_date)
    sky = weather(seed, number, block.s2_date, height)
    ground = reflectance(surface.material, surface.state, surface.gain, summer)
    seen = seen_from_above(seed, number, ground, sky, (south, east), summer)
    # S1 looks to its right: from the east on the southward morning pass, from the west on the northward evening pass.
    towards = -east if block.s1_date.hour < 12 else east
    shift_db = (shift_db + np.clip(_SLOPE_DB * towards, -6, 6)).astype(np.float32)
    level_db = backscatter_db(surface.scatterer, surface.rough, shift_db)
    s1 = zip(BIGEARTHNET["s1"].bands, with_speckle(generator(seed, Draw.SPECKLE, number), level_db), strict=True)
    s2 = _digital_numbers(generator(seed, Draw.OPTICAL_NOISE, number), seen)
    return SyntheticScene({**dict(s1), **s2}, regions.corine, biomass_of(surface, summer), sky)


def summer_of(date: datetime) -> float:
    """Return the season as a number: 0 in the middle of January, 1 in the middle of July."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * (date.timetuple().tm_yday - 15) / 365.25))


def weather(seed: int, block: int, date: datetime, height: Field) -> Weather:
    """Draw clouds over some blocks, with shadows on the side away from the sun, and snow on some winter blocks."""
    shape: Shape = height.shape
    random = generator(seed, Draw.ATMOSPHERE, block)
    cloud = shadow = np.zeros(shape, dtype=np.float32)
    if random.random() < _CLOUDY_SHARE:
        pad = 40
        noise = smooth_noise(random, (shape[0] + pad, shape[1] + pad), random.uniform(12, 30))
        noise += 0.25 * smooth_noise(random, (shape[0] + pad, shape[1] + pad), 3.0)
        edge = np.quantile(noise, 1 - random.uniform(0.03, 0.3))
        cover = np.clip((noise - edge) / 0.35, 0, 1)
        down, right = random.integers(8, pad - 8, 2)
        # In the northern hemisphere the sun stands in the south: a shadow falls north of (above) its cloud, and west
        # of it before noon.
        cloud = cover[down : down + shape[0], right : right + shape[1]]
        shadow = cover[pad : pad + shape[0], pad : pad + shape[1]]
    snow = np.zeros(shape, dtype=np.float32)
    random = generator(seed, Draw.SNOW, block)
    if date.month in _SNOW_MONTHS and random.random() < _SNOWY_SHARE:
        ground = height + 0.5 * smooth_noise(random, shape, 6.0)
        edge = np.quantile(ground, random.uniform(0.1, 0.7))
        snow = np.clip((ground - edge) / 0.5, 0, 1) * np.float32(random.uniform(0.5, 0.95))
    return Weather(cloud, shadow, snow)


def seen_from_above(
    seed: int, block: int, ground: Field, sky: Weather, slopes: tuple[Field, Field], summer: float
) -> Field:
    """Return reflectance `[C, h, w]` as S2 measures it.

    `ground` is the reflectance `[C, h, w]` of flat ground without snow in even light; `slopes` rise to the south and to
    the east (rise over run, `[h, w]` each); `summer` is 0 (winter) to 1: the lower the sun, the darker shaded slopes.
    """
    random = generator(seed, Draw.ATMOSPHERE, block, 1)
    south, east = slopes
    # The sun stands in the south-east: ground that rises to the north or to the west faces the sun.
    towards = -0.9 * south - 0.4 * east
    light = random.normal(0, 0.12) + np.log1p(np.clip((0.9 - 0.5 * summer) * towards, -0.6, 1))
    haze = random.gamma(1.5, 0.012) * (1 + 0.2 * smooth_noise(random, south.shape, 40.0))
    seen = ground + sky.snow * (SNOW[:, None, None] - ground)
    seen = seen * (np.exp(light) * (1 - 0.6 * sky.shadow)) + HAZE[:, None, None] * haze
    brightness = CLOUD[:, None, None] * np.float32(random.uniform(0.8, 1.3))
    return np.asarray(seen + sky.cloud * (brightness - seen), dtype=np.float32)


def biomass_of(surface: Surface, summer: float) -> Field:
    """Return the biomass `[h, w]` of the ground in t/ha, as green as it is in this season."""
    product = np.sqrt(greenness(surface.material, surface.state, summer)) * surface.rough
    steps = np.rint(product * np.float32(BIOMASS.max or 0) / np.float32(_BIOMASS_STEP))
    return np.asarray(steps * np.float32(_BIOMASS_STEP), dtype=np.float32)


def labels_of(reference_map: NDArray[np.uint16]) -> tuple[str, ...]:
    """Return the classes that cover enough of a patch, in the order of the class table."""
    return tuple(name for name in CLASSES if (reference_map == COVERS[name].corine).mean() >= LABEL_SHARE)


def largest_class_of(reference_map: NDArray[np.uint16]) -> str:
    """Return the class that covers most of a patch; of equal ones the first in the class table."""
    return max(CLASSES, key=lambda name: np.count_nonzero(reference_map == COVERS[name].corine))


def labels_by_key(
    seed: int, block: Block, labels: Callable[[NDArray[np.uint16]], tuple[str, ...]] = labels_of
) -> dict[str, tuple[str, ...]]:
    """Return the labels of a block's pairs by key, computed from its regions alone by a function of a reference map."""
    side = block.side * PATCH_PX
    corine = lay_regions(seed, block.number, (side, side)).corine
    return {patch.s2_name: labels(patch.cut(corine)) for patch in block.patches}


def _digital_numbers(random: np.random.Generator, seen: Field) -> dict[str, NDArray[Any]]:
    """Average each band to its own resolution and add sensor noise."""
    bands: dict[str, NDArray[Any]] = {}
    for name, pixels in zip(S2_BANDS, seen, strict=True):
        step = BIGEARTHNET["s2"].gsds_m[name] // _GSD_M
        side = len(pixels) // step
        mean = pixels.reshape(side, step, side, step).mean(axis=(1, 3))
        noisy = mean * (1 + 0.01 * random.standard_normal(mean.shape, dtype=np.float32))
        numbers = np.rint(noisy * _DN_PER_REFLECTANCE)
        bands[name] = np.clip(numbers, _LOWEST_DN, np.iinfo(np.uint16).max).astype(np.uint16)
    return bands


def _is_flagged(cover: Field) -> bool:
    return bool((cover >= 0.5).mean() >= _FLAGGED_SHARE)
