"""Rounds of a comparison: their median, and their range beside it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def medians(by_round: Mapping[str, Sequence[float]], digits: int) -> dict[str, Any]:
    """The median of each number, and under `by_round` the values of all rounds, rounded in the same way.

    Args:
        by_round: values, one per round, by the number's name.
        digits: number of decimal places.
    """
    rounded = {name: [round(value, digits) for value in values] for name, values in by_round.items()}
    return {
        **{name: round(statistics.median(values), digits) for name, values in by_round.items()},
        "by_round": rounded,
    }


def with_range(result: Mapping[str, Any], name: str) -> str:
    """Median and range of the rounds as text, such as `1.04 (0.81 to 1.44)`."""
    values = result["by_round"][name]
    return f"{result[name]} ({min(values)} to {max(values)})"
