"""How much the service takes on at once, and how long it waits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one service; memory is at most about `max_requests` times `max_body_mb`.

    Attributes:
        max_batch: tiles that run together, and the most that one request may hold.
        max_wait_ms: how long a request waits for others to share a batch with.
        max_requests: requests in the house; one more is told to come back later.
        max_body_mb: size of a request's body in MB (10^6 bytes).
        poll_s: seconds between two looks at the alias.
        stop_s: seconds that requests have to finish when the service is told to stop.
    """

    max_batch: int
    max_wait_ms: float
    max_requests: int
    max_body_mb: float
    poll_s: float
    stop_s: int

    @property
    def max_body_bytes(self) -> int:
        """Size of a request's body."""
        return int(self.max_body_mb * 1e6)
