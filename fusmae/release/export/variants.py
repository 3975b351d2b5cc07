"""Writes variants of an exported graph at lower precision, with the same inputs, outputs and metadata."""

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
from fusmae.release.export.variant_comparison import settings_of
from fusmae.release.export.variant_graphs import CALIBRATION, HALVES, Feeds, Precision, half_precision, quantised


def make_variants(
    source: Path, train: ShardReader, folder: Path, *, num_pairs: int, seed: int
) -> dict[Precision, Path]:
    """Write each variant of a graph: the same inputs, outputs and metadata at another precision.

    Args:
        source: path of the exported graph.
        train: reader of the train split, whose pairs are used to calibrate.
        folder: folder to write to.
        num_pairs: number of pairs to calibrate on, drawn by the seed; all, if there are fewer.
        seed: random seed of the draw.

    Returns:
        Paths of the files by precision; the same arguments give the same bytes.

    Raises:
        ExportError: the graph is not from this project's exporter.
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
    """Yield each pair once in every modality setting: activations depend on the modalities that are present."""
    known = session.metadata["modalities"]
    presence = np.array([[name in setting for name in known] for setting in settings_of(session)], np.float32)
    for index in track(indices, description="calibration pairs", console=Console(stderr=True)):
        pixels = train.read([index]).pixels
        feeds = {name: np.repeat(array.astype(np.float32), len(presence), axis=0) for name, array in pixels.items()}
        yield {**feeds, PRESENCE: presence}
