"""An exported graph at lower precision: files with the same inputs, outputs and metadata."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from fusmae.data.randomness import Purpose, generator
from fusmae.data.shards import ShardReader
from fusmae.files import file_sha256
from fusmae.inference.session import PRESENCE, Session
from fusmae.release.export.graph import save_onnx
from fusmae.release.export.variant_graphs import CALIBRATION, HALVES, Feeds, Precision, half_precision, quantised
from fusmae.release.export.variant_scores import settings_of


def make_variants(
    source: Path, train: ShardReader, folder: Path, *, num_pairs: int, seed: int
) -> dict[Precision, Path]:
    """Write each variant of a graph: the same inputs, outputs and metadata at another precision.

    Args:
        source: the exported graph.
        train: pairs to calibrate on.
        folder: where to.
        num_pairs: of the train split, drawn by the seed; all, if there are fewer.
        seed: the run's.

    Returns:
        Files by precision; the same bytes for the same arguments.

    Raises:
        ExportError: it is not a graph of this project's exporter.
    """
    import onnx

    session, sha256 = Session(source), file_sha256(source)
    drawn = generator(seed, Purpose.ORDER, 0).permutation(len(train))[:num_pairs].tolist()
    keys = sorted(train.keys[index] for index in drawn)
    made: dict[Precision, tuple[Any, dict[str, Any]]] = {
        "fp16": (half_precision(onnx.load(source)), {"method": HALVES}),
        "int8": (
            quantised(onnx.load(source), _calibration(session, train, drawn)),
            {"method": CALIBRATION, "calibration_pairs": keys},
        ),
    }
    files: dict[Precision, Path] = {}
    for precision, (graph, how) in made.items():
        files[precision] = folder / f"{precision}.onnx"
        metadata = {**session.metadata, "precision": precision, "variant_of": {"onnx_sha256": sha256, **how}}
        save_onnx(graph, metadata, files[precision])
    return files


def _calibration(session: Session, train: ShardReader, indices: Sequence[int]) -> Iterator[Feeds]:
    """Each pair once in every modality setting: activations differ with what is there."""
    known = session.metadata["modalities"]
    presence = np.array([[name in setting for name in known] for setting in settings_of(session)], np.float32)
    for index in track(indices, description="calibration pairs", console=Console(stderr=True)):
        pixels = train.read([index]).pixels
        feeds = {name: np.repeat(array.astype(np.float32), len(presence), axis=0) for name, array in pixels.items()}
        yield {**feeds, PRESENCE: presence}
