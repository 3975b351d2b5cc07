import pytest

from fusmae.units import UNITS


@pytest.mark.parametrize("units", UNITS)
def test_the_bounds_of_a_row_lie_in_one_another(units):
    unit = UNITS[units]
    for inner, outer in ((unit.medians, unit.plausible), (unit.plausible, unit.limits), (unit.shown, unit.medians)):
        assert outer[0] <= inner[0] < inner[1] <= outer[1]


def test_a_lookalike_is_found_by_its_name():
    unit = UNITS["DN"]
    assert unit.lookalike("an 8-bit picture") is unit.lookalikes[1]
    assert unit.lookalike("another level") is None
