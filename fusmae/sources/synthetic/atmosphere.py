"""What lies between S2 and the ground, or on the ground: light, haze, clouds with their shadows, snow."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from fusmae.sources.synthetic import texture
from fusmae.sources.synthetic.draws import Draw, stream
from fusmae.sources.synthetic.spectra import CLOUD, HAZE, SNOW
from fusmae.sources.synthetic.texture import Field, Shape

Mask = NDArray[np.bool_]

_CLOUDY_SHARE = 0.15
"""Share of the blocks that have clouds."""
_SNOWY_SHARE = 0.5
"""Share of the blocks that have snow, among those seen in the three coldest months."""
_SNOW_MONTHS = (12, 1, 2)


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
        noise = texture.smooth_noise(random, (shape[0] + pad, shape[1] + pad), random.uniform(12, 30))
        noise += 0.25 * texture.smooth_noise(random, (shape[0] + pad, shape[1] + pad), 3.0)
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
        ground = height + 0.5 * texture.smooth_noise(random, shape, 6.0)
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
    haze = random.gamma(1.5, 0.012) * (1 + 0.2 * texture.smooth_noise(random, south.shape, 40.0))
    seen = ground + sky.snow * (SNOW[:, None, None] - ground)
    seen = seen * (np.exp(light) * (1 - 0.6 * sky.shadow)) + HAZE[:, None, None] * haze
    brightness = CLOUD[:, None, None] * np.float32(random.uniform(0.8, 1.3))
    return np.asarray(seen + sky.cloud * (brightness - seen), dtype=np.float32)
