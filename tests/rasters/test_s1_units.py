"""Power, amplitude and dB are told apart by levels that ground has, or it is said that they can't be."""

import numpy as np
import pytest

from fusmae.rasters.s1_units import (
    FACTOR,
    conversion_to_decibels,
    doubt_of_decibels,
    is_scaled,
    stated_units,
    weigh,
)

GROUND = {
    "calm water": (-23, -29, 1.8),
    "rough sea": (-13, -24, 2.5),
    "noise over water": (-24, -26, 2),
    "desert": (-17, -26, 2.5),
    "bright sand": (-15, -24, 2),
    "steppe": (-13, -21, 2.5),
    "fields": (-11, -18, 3),
    "fields, filtered": (-11, -17, 1.4),
    "forest": (-8, -14, 2.4),
    "forest, filtered": (-8, -14, 1),
    "wet forest": (-7, -12.5, 2.2),
    "city": (-2, -9, 5),
    "suburb": (-6, -13, 4),
    "ice": (-4, -9, 3),
    "Europe": (-12.6, -19.3, 5),
}
"""VV, VH and spread in dB."""


def decibels(spread, **medians):
    """Pixels in dB with these medians, and this half of the distance between their 16th and 84th percentile."""
    return {
        name: (median + spread / 0.68 * np.linspace(-1, 1, 101)).astype(np.float32) for name, median in medians.items()
    }


def linear(ground, units):
    vv, vh, spread = GROUND[ground]
    return {name: 10 ** (band / FACTOR[units]) for name, band in decibels(spread, VV=vv, VH=vh).items()}


@pytest.mark.parametrize("ground", GROUND)
@pytest.mark.parametrize("units", FACTOR)
def test_no_ground_in_either_units_is_surely_taken_for_the_other(ground, units):
    assert weigh(linear(ground, units)).sure in (None, units)


@pytest.mark.parametrize(
    ("ground", "units"),
    [
        ("calm water", "power"),
        ("calm water", "amplitude"),
        ("desert", "power"),
        ("fields", "power"),
        ("fields", "amplitude"),
        ("forest", "amplitude"),
        ("city", "power"),
        ("Europe", "power"),
    ],
)
def test_levels_that_only_one_reading_explains_are_told_surely(ground, units):
    evidence = weigh(linear(ground, units))
    assert evidence.sure == units
    assert f"convert with {FACTOR[units]:g} * log10({units})" in conversion_to_decibels(evidence)


@pytest.mark.parametrize(
    ("ground", "units"), [("forest", "power"), ("desert", "amplitude"), ("rough sea", "amplitude")]
)
def test_levels_that_both_readings_explain_advise_neither(ground, units):
    text = conversion_to_decibels(weigh(linear(ground, units)))
    assert text.startswith("find out which it is")
    assert "power" in text
    assert "amplitude" in text


def test_one_polarisation_alone_is_weighed_too():
    assert weigh({"VV": np.full(9, 10**-2.0)}).sure == "power"
    assert weigh({"VH": np.full(9, 10**-0.9)}).sure in (None, "amplitude")


@pytest.mark.parametrize("median_dn", [150, 40_000])
def test_digital_numbers_of_the_sensor_are_neither(median_dn):
    evidence = weigh({"VV": np.full(9, median_dn, np.float32), "VH": np.full(9, median_dn / 2, np.float32)})
    assert evidence.is_uncalibrated
    assert conversion_to_decibels(evidence).startswith("calibrate it")


@pytest.mark.parametrize("ground", GROUND)
def test_right_decibels_are_not_doubted(ground):
    vv, vh, spread = GROUND[ground]
    assert not doubt_of_decibels(decibels(spread, VV=vv, VH=vh))


def test_decibels_that_were_computed_with_the_other_factor_are_doubted():
    assert "half" in doubt_of_decibels(decibels(1.2, VV=-5.5, VH=-9.0))
    assert "twice" in doubt_of_decibels(decibels(6.0, VV=-24.0, VH=-38.0))


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("S1A_IW_20200607T010800_DVP_RTC10_G_gaunem_0000_VV", "amplitude"),
        ("S1A_IW_20200607T010800_DVP_RTC30_G_gpuned_1E3F_VV", "power"),
        ("S1B_IW_20200607T010800_SVR_RTC30_G_sdwfcm_1E3F_VH", "dB"),
        ("gAun_VV", "amplitude"),
        ("S1A_gPun_rtcm01", "power"),
        ("Sigma0_VV_db", "dB"),
        ("gamma0-vv-dB", "dB"),
        ("linear_power", "power"),
        ("Amplitude_VV", "amplitude"),
        ("Sigma0_VV", None),
        ("VV", None),
        ("dB or power", None),
        ("sandbank", None),
    ],
)
def test_names_state_units(name, units):
    assert stated_units([name]) == units


def test_decibels_times_100_are_known_as_such():
    assert is_scaled(-1121)
    assert not is_scaled(-12)
    assert not is_scaled(-9999)
