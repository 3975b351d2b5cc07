"""Every unit of pixels, one row each in `UNITS`: how they are stored, judged and shown.

Shards, the examination, maps and the service read this table, so that a modality in a new unit needs one new row. What
is known of a sensor rather than of a unit (power and amplitude of Sentinel-1, the offset of Sentinel-2) is in
`fusmae/rasters/` and applies to the units of one `quantity`. `fusmae/rasters/unit_check.py` judges pixels by a row.
"""

from dataclasses import dataclass
from math import inf
from typing import Literal

MAX_STRANGE_SHARE = 0.001
"""Maximum share of pixels that are not `plausible`; more of them are nodata that the file does not state."""

MAX_NEGATIVE_SHARE = 0.05
"""Maximum share of negative pixels in what is never negative, such as power: subtraction of noise, and atmospheric
correction, leave a few. In dB only bright buildings are at 0 or above, so that even the tile of a city has more."""


@dataclass(frozen=True)
class Lookalike:
    """Pixels in another unit that may be given for a unit's."""

    name: str  # what these pixels are, such as `linear power or amplitude`
    advice: str  # how to convert them
    highest: float = inf  # largest value that one of their pixels has
    max_negative_share: float = MAX_NEGATIVE_SHARE  # maximum share of their pixels that are negative
    is_certain: bool = True  # whether one tile is enough; otherwise a whole scene or data set


@dataclass(frozen=True)
class Unit:
    """A unit of pixels."""

    noun: str  # name of the unit in sentences
    quantity: str  # name of what is measured in it
    limits: tuple[float, float]  # lowest and highest pixel that a tile may have; shards can't store others
    stored: Literal["int16", "uint16", "float32"]  # type in which shards store pixels
    histogram: tuple[float, float, float]  # first edge, last edge and width of the bins of a histogram
    shown: tuple[float, float]  # values that a picture shows as black and as white
    step: float | None = None  # value of 1 as it is stored; None where pixels are stored as they are
    plausible: tuple[float, float] = (-inf, inf)  # lowest and highest measurement, but for `MAX_STRANGE_SHARE` of them
    medians: tuple[float, float] = (-inf, inf)  # lowest and highest median of a band in a tile
    min_spread: float = 0.0  # minimum difference of the 1st and the 99th percentile of a file's pixels
    is_judged_by_band: bool = True  # whether each band tells its unit; otherwise only all of a modality do
    lookalikes: tuple[Lookalike, ...] = ()  # other units that may be taken for this one, the first that applies first
    # Whether 0 in all bands is nodata; `by default` unless all bands state another nodata value.
    zero_is_nodata: Literal["always", "by default", "never"] = "never"
    clipped_to: float | None = None  # value to which producers raise lower ones, over dark water and at a swath's edge
    is_never_whole: bool = False  # whether a tile of whole numbers must have been rounded
    per_quantity: float = 1.0  # number of units in 1 of the quantity, where files may hold the quantity itself
    max_mean_shift_stds: float = inf  # largest distance of a band's mean from the published one, in its deviations
    max_std_ratio: float = inf  # maximum ratio of a band's standard deviation and the published one, either way
    digits: str = ",.0f"  # format of a pixel's value in pages
    description: str = ""  # noun with an explanation
    expected: str = ""  # what a band's pixels are like
    care: str = ""  # what to heed when a modality `{0}` is prepared

    @property
    def nodata(self) -> float | None:
        """Value that means nodata where all bands of a modality have it; None where there is none."""
        return None if self.zero_is_nodata == "never" else 0.0

    @property
    def dtype(self) -> str:
        """Name of the type of pixels in memory."""
        return self.stored if self.step is None else "float32"

    def lookalike(self, name: str) -> Lookalike | None:
        """The lookalike of a name; None where there is none."""
        return next((other for other in self.lookalikes if other.name == name), None)


_REFLECTANCE = 10_000.0

UNITS: dict[str, Unit] = {
    "DN": Unit(
        noun="digital numbers",
        description="digital numbers (reflectance times 10,000)",
        expected="up to some thousands",
        care="don't rescale {0}",
        quantity="reflectance",
        per_quantity=_REFLECTANCE,
        limits=(0.0, 65_535.0),
        plausible=(0.0, 65_534.0),  # 65,535 is where the sensor is blinded
        medians=(0.0, 30_000.0),  # snow in full sun has up to about 15,000
        is_judged_by_band=False,  # whole bands of dark water are clipped to 1
        stored="uint16",
        lookalikes=(
            # What 16 bits of digital numbers express: glint and snow exceed 1, and even 3. No tile of digital numbers
            # is so dark in all bands but for pixels that are clipped.
            Lookalike("reflectance from 0 to 1", "multiply by 10,000", highest=65_535 / _REFLECTANCE),
            # A dark lake may be as dark, but no scene and no data set is.
            Lookalike("an 8-bit picture", "bring the product's own bands", highest=255.0, is_certain=False),
        ),
        zero_is_nodata="by default",
        clipped_to=1.0,
        histogram=(0.0, 20_000.0, 100.0),
        shown=(0.0, 3000.0),
        # Snow and cloud move the mean of digital numbers by many standard deviations. Published standard deviations
        # include cloud; clear pairs of one scene have as little as 0.3 times the published one.
        max_std_ratio=10.0,
    ),
    "dB": Unit(
        noun="dB",
        description="dB",
        expected="medians from -40 to 5 dB with decimals",
        care="convert linear {0} to dB (10 * log10 of power, 20 * log10 of amplitude); read {0} as float32",
        quantity="backscatter",
        limits=(-300.0, 300.0),
        plausible=(-80.0, 40.0),  # from noise over calm water to the brightest ship
        medians=(-40.0, 5.0),  # calm water has about -32 dB in VH, a city about 0 dB in VV
        min_spread=0.5,  # speckle alone has some dB
        stored="int16",
        step=0.01,  # at most 0.005 dB off, a hundredth of speckle's uncertainty
        lookalikes=(Lookalike("linear power or amplitude", "10 * log10 of power, 20 * log10 of amplitude"),),
        zero_is_nodata="always",
        is_never_whole=True,
        histogram=(-60.0, 30.0, 0.5),
        shown=(-25.0, 0.0),
        max_mean_shift_stds=2.0,
        max_std_ratio=4.0,
        digits=",.1f",
    ),
    "m": Unit(
        noun="metres",
        description="metres above sea level",
        quantity="elevation",
        limits=(-500.0, 9000.0),  # from the shore of the Dead Sea to Mount Everest
        plausible=(-500.0, 9000.0),
        medians=(-500.0, 9000.0),
        stored="float32",
        histogram=(-500.0, 5000.0, 50.0),
        shown=(0.0, 3000.0),
    ),
}
"""Units by the name that `units` of a modality has in `params.yaml`."""
