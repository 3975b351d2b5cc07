"""Times graphs in turns on the same pairs, so that a busy machine slows all alike."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusmae.inference.session import Session

_WARM_UP = 3


def times_by_turns(
    sessions: Sequence[Session], pixels: Mapping[str, NDArray[np.float32]], rounds: int
) -> NDArray[np.float64]:
    """Milliseconds `[sessions, rounds]` of a batch; each session runs once per round, another one first each time.

    `rounds` of them are measured, after some that warm up.
    """
    taken = np.zeros((len(sessions), _WARM_UP + rounds))
    for turn in range(_WARM_UP + rounds):
        # The first place rotates, so that no session always gains from what another leaves in the caches.
        for at in np.roll(np.arange(len(sessions)), turn).tolist():
            start = time.perf_counter()
            sessions[at].run(pixels)
            taken[at, turn] = 1000 * (time.perf_counter() - start)
    return taken[:, _WARM_UP:]
