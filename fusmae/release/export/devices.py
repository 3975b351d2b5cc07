"""Checks a graph on each device that the machine has; the report names the providers of onnxruntime that ran it."""

from collections.abc import Callable
from typing import Any

from fusmae.errors import ExportError
from fusmae.inference.session import PROVIDERS, Session


def on_every_device(session: Session, check: Callable[[Session], dict[str, Any]]) -> dict[str, Any]:
    """Run a check of parity on the CPU, and on a GPU if onnxruntime can use one.

    Args:
        session: session of the graph on the CPU.
        check: function that returns a report with `checks`, a list of rows.

    Returns:
        The report of the CPU; rows of a GPU follow its own, and name their `provider`.

    Raises:
        ExportError: a check fails; where it is that of a GPU, the error names the provider.
    """
    report, other = check(session), Session(session.path, device="auto")
    if other.device == session.device:
        return report
    provider = PROVIDERS[other.device]
    try:
        rows = [{**row, "provider": provider} for row in check(other)["checks"]]
    except ExportError as error:
        raise ExportError(f"With {provider}: {error}") from error
    return {**report, "checks": [*report["checks"], *rows]}
