"""Graphs timed by turns on the same pairs, so that a busy machine slows all alike."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.session import Session

_WARM_UP = 3


def times_by_turns(
    sessions: Sequence[Session], pixels: Mapping[str, NDArray[np.float32]], rounds: int
) -> NDArray[np.float64]:
    """Time runs; who goes first changes from round to round.

    Args:
        sessions: what is run, once in each round.
        pixels: of one batch, by input name.
        rounds: after those that warm up.

    Returns:
        Milliseconds `[sessions, rounds]`.
    """
    taken = np.zeros((len(sessions), _WARM_UP + rounds))
    for turn in range(_WARM_UP + rounds):
        # Each follows each: what one leaves in the caches is no one's lasting gain.
        for at in np.roll(np.arange(len(sessions)), turn).tolist():
            start = time.perf_counter()
            sessions[at].run(pixels)
            taken[at, turn] = 1000 * (time.perf_counter() - start)
    return taken[:, _WARM_UP:]
