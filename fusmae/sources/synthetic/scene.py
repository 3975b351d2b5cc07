"""A block as both modalities show it: light, haze, clouds, snow; digital numbers, decibels, reference map and flags."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.modalities import Modality
from fusmae.sources.patches.bands import MODALITIES
from fusmae.sources.synthetic.classes import CLASSES, COVERS, LABEL_SHARE
from fusmae.sources.synthetic.landscape import PATCH_PX, build_surface, lay_regions, relief
from fusmae.sources.synthetic.materials import (
    CLOUD,
    HAZE,
    S1_BANDS,
    S2_BANDS,
    SNOW,
    backscatter_db,
    reflectance,
    with_speckle,
)
from fusmae.sources.synthetic.plan import Block, Draw, Patch, stream
from fusmae.sources.synthetic.texture import Field, Shape, smooth_noise

_CLOUDY_SHARE = 0.15
"""Share of the blocks that have clouds."""
_SNOWY_SHARE = 0.5
"""Share of the blocks that have snow, among those seen in the three coldest months."""
_SNOW_MONTHS = (12, 1, 2)
_GSD_M = 10
_DN_PER_REFLECTANCE = 10_000
_LOWEST_DN = 1  # 0 is nodata
_FLAGGED_SHARE = 0.01
"""A patch counts as snowy or cloudy if at least this share of its pixels is at least half covered."""
_SLOPE_DB = 9.0
"""Backscatter in dB that a slope of 45° towards the radar adds; of the order of the tangent of its look angle."""


@dataclass(frozen=True)
class Weather:
    """Weather in the sky and on the ground when S2 passed.

    Attributes:
        cloud: cloud cover `[h, w]`, 0 to 1.
        shadow: cover of cloud shadow `[h, w]`, 0 to 1.
        snow: snow cover `[h, w]`, 0 to 1.
    """

    cloud: Field
    shadow: Field
    snow: Field


@dataclass(frozen=True)
class SyntheticScene:
    """One observed block of ground.

    Attributes:
        bands: pixels `[h, w]` by band name at native resolution: S1 float32 dB, S2 uint16 digital numbers.
        corine: reference map of CORINE codes, `[h, w]` at 10 m.
        weather: clouds, shadows and snow in the S2 image.
    """

    bands: dict[str, NDArray[Any]]
    corine: NDArray[np.uint16]
    weather: Weather

    def cut(self, patch: Patch) -> dict[str, NDArray[Any]]:
        """Cut out a patch's bands."""
        cut = {}
        for name, pixels in self.bands.items():
            side = pixels.shape[0] // patch.block.side
            cut[name] = pixels[patch.down * side : (patch.down + 1) * side, patch.right * side :][:, :side]
        return cut

    def reference_map(self, patch: Patch) -> NDArray[np.uint16]:
        """Cut out a patch's CORINE codes `[h, w]`."""
        return self.corine[_window(patch)]

    def is_snowy(self, patch: Patch) -> bool:
        """Return whether enough of the patch is covered by snow to flag it."""
        return bool((self.weather.snow[_window(patch)] >= 0.5).mean() >= _FLAGGED_SHARE)

    def is_cloudy(self, patch: Patch) -> bool:
        """Return whether enough of the patch is covered by clouds or their shadows to flag it."""
        cover = np.maximum(self.weather.cloud, self.weather.shadow)[_window(patch)]
        return bool((cover >= 0.5).mean() >= _FLAGGED_SHARE)


def make_scene(seed: int, block: Block) -> SyntheticScene:
    """Make a block; the result depends only on the seed and the block."""
    number, shape = block.number, (block.side * PATCH_PX,) * 2
    regions = lay_regions(seed, number, (shape[0], shape[1]))
    surface, shift_db = build_surface(seed, number, regions)
    height, south, east = relief(seed, number, (shape[0], shape[1]))
    summer = summer_of(block.s2_date)
    sky = weather(seed, number, block.s2_date, height)
    ground = reflectance(surface.material, surface.state, surface.gain, summer)
    seen = seen_from_above(seed, number, ground, sky, (south, east), summer)
    # S1 looks to its right: from the east on the southward morning pass, from the west on the northward evening pass.
    towards = -east if block.s1_date.hour < 12 else east
    shift_db = shift_db + np.clip(_SLOPE_DB * towards, -6, 6)
    level_db = backscatter_db(surface.scatterer, surface.rough, shift_db.astype(np.float32))
    speckled = with_speckle(stream(seed, Draw.SPECKLE, number), level_db)
    bands: dict[str, NDArray[Any]] = dict(zip(S1_BANDS, speckled, strict=True))
    noise = stream(seed, Draw.OPTICAL_NOISE, number)
    return SyntheticScene(bands | _digital_numbers(noise, seen), regions.corine, sky)


def summer_of(date: datetime) -> float:
    """Return the season as a number: 0 in the middle of January, 1 in the middle of July."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * (date.timetuple().tm_yday - 15) / 365.25))


def weather(seed: int, block: int, date: datetime, height: Field) -> Weather:
    """Draw clouds over some blocks, with shadows on the side away from the sun, and snow on some winter blocks."""
    shape: Shape = height.shape
    random = stream(seed, Draw.ATMOSPHERE, block)
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
    random = stream(seed, Draw.SNOW, block)
    if date.month in _SNOW_MONTHS and random.random() < _SNOWY_SHARE:
        ground = height + 0.5 * smooth_noise(random, shape, 6.0)
        edge = np.quantile(ground, random.uniform(0.1, 0.7))
        snow = np.clip((ground - edge) / 0.5, 0, 1) * np.float32(random.uniform(0.5, 0.95))
    return Weather(cloud, shadow, snow)


def seen_from_above(
    seed: int, block: int, ground: Field, sky: Weather, slopes: tuple[Field, Field], summer: float
) -> Field:
    """Return reflectance `[C, h, w]` as S2 measures it.

    Args:
        seed: random seed of the world.
        block: number of the block.
        ground: reflectance `[C, h, w]` of flat ground without snow in even light.
        sky: clouds, shadows and snow.
        slopes: slopes of the ground to the south and to the east (rise over run), `[h, w]` each.
        summer: season, 0 (winter) to 1 (summer); the lower the sun, the darker the shaded slopes.
    """
    random = stream(seed, Draw.ATMOSPHERE, block, part=1)
    south, east = slopes
    # The sun stands in the south-east: ground that rises to the north or to the west faces the sun.
    towards = -0.9 * south - 0.4 * east
    light = random.normal(0, 0.12) + np.log1p(np.clip((0.9 - 0.5 * summer) * towards, -0.6, 1))
    haze = random.gamma(1.5, 0.012) * (1 + 0.2 * smooth_noise(random, south.shape, 40.0))
    seen = ground + sky.snow * (SNOW[:, None, None] - ground)
    seen = seen * (np.exp(light) * (1 - 0.6 * sky.shadow)) + HAZE[:, None, None] * haze
    brightness = CLOUD[:, None, None] * np.float32(random.uniform(0.8, 1.3))
    return np.asarray(seen + sky.cloud * (brightness - seen), dtype=np.float32)


def labels_of(reference_map: NDArray[np.uint16]) -> tuple[str, ...]:
    """Return the classes that cover enough of a patch, in the order of the class table."""
    return tuple(name for name in CLASSES if (reference_map == COVERS[name].corine).mean() >= LABEL_SHARE)


def labels_by_key(seed: int, block: Block) -> dict[str, tuple[str, ...]]:
    """Return the labels of a block's pairs by key, computed from its regions alone."""
    side = block.side * PATCH_PX
    corine = lay_regions(seed, block.number, (side, side)).corine
    return {patch.s2_name: labels_of(corine[_window(patch)]) for patch in block.patches}


def _digital_numbers(random: np.random.Generator, seen: Field) -> dict[str, NDArray[Any]]:
    """Average each band to its own resolution and add sensor noise."""
    s2: Modality = MODALITIES["s2"]
    gsd_m = {band: group.gsd_m for group in s2.groups for band in group.bands}
    bands: dict[str, NDArray[Any]] = {}
    for name, pixels in zip(S2_BANDS, seen, strict=True):
        step = gsd_m[name] // _GSD_M
        side = pixels.shape[0] // step
        mean = pixels.reshape(side, step, side, step).mean(axis=(1, 3))
        noisy = mean * (1 + 0.01 * random.standard_normal(mean.shape, dtype=np.float32))
        numbers = np.rint(noisy * _DN_PER_REFLECTANCE)
        bands[name] = np.clip(numbers, _LOWEST_DN, np.iinfo(np.uint16).max).astype(np.uint16)
    return bands


def _window(patch: Patch) -> tuple[slice, slice]:
    return (
        slice(patch.down * PATCH_PX, (patch.down + 1) * PATCH_PX),
        slice(patch.right * PATCH_PX, (patch.right + 1) * PATCH_PX),
    )
