"""Bounds of the service: how much it does at once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one service; memory is at most about `max_requests` times `max_body_mb`.

    Attributes:
        max_batch: maximum number of tiles in one request.
        max_requests: maximum number of requests in progress; further ones get status 503.
        max_body_mb: maximum size of a request's body in MB (10^6 bytes).
        poll_s: seconds between two queries of the alias.
        stop_s: seconds that requests have to finish when the service stops.
    """

    max_batch: int
    max_requests: int
    max_body_mb: float
    poll_s: float
    stop_s: int

    @property
    def max_body_bytes(self) -> int:
        """Maximum size of a request's body in bytes."""
        return int(self.max_body_mb * 1e6)
