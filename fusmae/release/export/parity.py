"""Checks that the exported graph gives the same results as torch, on every pair and in every modality setting."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import ExportError
from fusmae.inference.session import Session

BATCH_SIZES = (1, 3, 8)
Arrays = Mapping[str, NDArray[Any]]


def check_parity(
    session: Session,
    reference: Callable[[Arrays, Sequence[str]], NDArray[np.float32]],
    read: Callable[[Sequence[int]], Arrays],
    num_pairs: int,
    settings: Sequence[Sequence[str]],
    *,
    max_abs_error: float,
) -> dict[str, Any]:
    """Compare logits and probabilities.

    Args:
        session: session of the exported graph.
        reference: function that computes torch's logits `[B, K]` from pixels and the modalities that are present.
        read: function that reads pairs by their indices and returns arrays by input name.
        num_pairs: number of pairs; every one is compared.
        settings: modality settings, each the modalities that are present.
        max_abs_error: largest difference allowed, in logits and in probabilities.

    Returns:
        The report: largest difference by setting and batch size.

    Raises:
        ExportError: a difference is larger; the error states setting and batch size.
    """
    rows = []
    for setting in settings:
        for batch_size in BATCH_SIZES:
            batches = (
                read(range(start, min(start + batch_size, num_pairs))) for start in range(0, num_pairs, batch_size)
            )
            # np.max keeps a NaN, which Python's max would drop.
            worst = float(np.max([_difference(session, reference, batch, setting) for batch in batches]))
            rows.append({"modalities": list(setting), "batch_size": batch_size, "max_abs_error": worst})
            if not worst <= max_abs_error:
                raise ExportError(
                    f"ONNX and torch differ on {'+'.join(setting)} at batch size {batch_size}.",
                    got=worst,
                    expected=f"at most {max_abs_error}",
                    hint="look for an operator that the exporter changed; nothing was exported",
                )
    return {"num_pairs": num_pairs, "max_abs_error_allowed": max_abs_error, "checks": rows}


def _difference(session: Session, reference: Any, batch: Arrays, setting: Sequence[str]) -> float:
    found, logits = session.run(batch, setting), reference(batch, setting)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return float(np.max(np.abs([found["logits"] - logits, found["probabilities"] - probabilities])))
