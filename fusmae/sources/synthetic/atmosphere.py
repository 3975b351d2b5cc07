"""What lies between S2 and the ground, or on it: light, haze, clouds with their shadows, snow."""

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
"""Of the blocks."""
_SNOWY_SHARE = 0.5
"""Of the blocks in the three coldest months."""
_SNOW_MONTHS = (12, 1, 2)


@dataclass(frozen=True)
class Weather:
    """What was in the sky and on the ground when S2 passed, each map `[h, w]`.

    Attributes:
        cloud: cover of cloud, 0 to 1.
        shadow: cover of cloud shadow, 0 to 1.
        snow: cover of snow, 0 to 1.
    """

    cloud: Field
    shadow: Field
    snow: Field


def summer_of(date: datetime) -> float:
    """0 in the middle of January, 1 in the middle of July."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * (date.timetuple().tm_yday - 15) / 365.25))


def weather(seed: int, block: int, date: datetime, height: Field) -> Weather:
    """Clouds over some blocks, snow on some of winter's; their shadows fall away from the sun."""
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
        # In the north the sun stands south: shadows fall north (up) of their cloud, west before noon.
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
    """Reflectance `[C, h, w]` as S2 measures it.

    Args:
        seed: the world's.
        block: number of the block.
        ground: reflectance of flat, bare-of-snow ground in even light, `[C, h, w]`.
        sky: clouds and snow.
        slopes: to the south and to the east.
        summer: 0 to 1; the lower the sun, the deeper the relief's shade.
    """
    random = stream(seed, Draw.ATMOSPHERE, block, part=1)
    south, east = slopes
    # The sun stands in the south-east: ground that rises to the north or to the west faces it.
    towards = -0.9 * south - 0.4 * east
    light = random.normal(0, 0.12) + np.log1p(np.clip((0.9 - 0.5 * summer) * towards, -0.6, 1))
    haze = random.gamma(1.5, 0.012) * (1 + 0.2 * texture.smooth_noise(random, south.shape, 40.0))
    seen = ground + sky.snow * (SNOW[:, None, None] - ground)
    seen = seen * (np.exp(light) * (1 - 0.6 * sky.shadow)) + HAZE[:, None, None] * haze
    brightness = CLOUD[:, None, None] * np.float32(random.uniform(0.8, 1.3))
    return np.asarray(seen + sky.cloud * (brightness - seen), dtype=np.float32)
