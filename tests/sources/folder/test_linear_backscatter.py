"""S1 files in linear power or amplitude are read as dB; a statement that the pixels contradict is refused."""

import numpy as np
import pytest

from fusmae.config.source import FolderConfig
from fusmae.errors import PairError, SourceError
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.sources.folder.source import FolderSource
from tests.inference.conftest import write_raster

SIDE_PX, FACTORS = 24, {"power": 10, "amplitude": 20}
MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02",)),)),
}


def backscatter(units, seed=0):
    """Fields: VV about -11 dB, VH about -18 dB, with speckle, in some units."""
    noise = np.random.default_rng(seed).normal(0, 2.5, (2, SIDE_PX, SIDE_PX))
    decibels = (np.array([-11.0, -18.0])[:, None, None] + noise).astype(np.float32)
    return decibels, decibels if units == "dB" else (10 ** (decibels / FACTORS[units])).astype(np.float32)


@pytest.fixture
def make(tmp_path):
    def make_folder(written, stated, change=lambda pixels: pixels):
        rows = ["key,labels"]
        for number in range(3):
            write_raster(
                tmp_path / "s1" / f"p{number}.tif", change(backscatter(written, number)[1]), names=("VV", "VH")
            )
            write_raster(tmp_path / "s2" / f"p{number}.tif", np.ones((1, SIDE_PX, SIDE_PX), np.uint16), names=("B02",))
            rows.append(f"p{number},")
        (tmp_path / "pairs.csv").write_text("\n".join(rows), encoding="utf-8")
        return FolderSource([], units={"s1": stated}, inputs=modality_inputs(MODALITIES, SIDE_PX * 10)), tmp_path

    return make_folder


@pytest.mark.parametrize("units", ["dB", "power", "amplitude"])
def test_stated_units_are_read_as_decibels(make, units):
    source, raw = make(units, units)
    source.fetch(raw, raw)
    bands = source.read(raw, source.pairs(raw)[1])
    np.testing.assert_allclose([bands["VV"], bands["VH"]], backscatter(units, 1)[0], atol=2e-5)


@pytest.mark.parametrize(("written", "stated"), [("amplitude", "power"), ("power", "amplitude")])
def test_the_other_linear_unit_is_refused_before_anything_else_runs(make, written, stated):
    source, raw = make(written, stated)
    with pytest.raises(
        SourceError, match=rf"(?s)look like {written}, not {stated}.*-S data.source.units.s1={written} converts"
    ):
        source.fetch(raw, raw)


def test_decibels_that_are_stated_as_power_are_refused(make):
    source, raw = make("dB", "power")
    with pytest.raises(PairError, match=r"(?s)no linear power: it has negative pixels.*units.s1=dB") as caught:
        source.read(raw, source.pairs(raw)[0])
    assert caught.value.fault == "units"


def test_pixels_without_power_have_no_data_in_any_band(make):
    def darken(pixels):
        pixels[0, 2, 3] = 0
        return pixels

    source, raw = make("power", "power", darken)
    bands = source.read(raw, source.pairs(raw)[0])
    for band in bands["VV"], bands["VH"]:
        assert np.argwhere(np.isnan(band)).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("units", "fault"),
    [
        ({"s1": "power"}, ""),
        ({"s3": "dB"}, ""),
        ({"s2": "power"}, "its pixels are digital numbers"),
        ({"dem": "amplitude"}, "data.modalities lacks it"),
    ],
)
def test_linear_units_are_of_backscatter(units, fault):
    config = FolderConfig(name="folder", classes=[], s2_offset=0, units=units)
    assert fault in "; ".join(config.faults(MODALITIES))
    assert bool(fault) == bool(list(config.faults(MODALITIES)))
