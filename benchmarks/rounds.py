"""Rounds of a comparison: what is printed is their median, with their range beside it."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def medians(by_round: Mapping[str, Sequence[float]], digits: int) -> dict[str, Any]:
    """Each number's median, and under `by_round` what each round found, rounded alike.

    Args:
        by_round: values, one per round, by the number's name.
        digits: after the point.
    """
    rounded = {name: [round(value, digits) for value in values] for name, values in by_round.items()}
    return {
        **{name: round(statistics.median(values), digits) for name, values in by_round.items()},
        "by_round": rounded,
    }


def with_range(result: Mapping[str, Any], name: str) -> str:
    """`1.04 (0.81 to 1.44)`: median and range of the rounds, as people read them."""
    values = result["by_round"][name]
    return f"{result[name]} ({min(values)} to {max(values)})"
