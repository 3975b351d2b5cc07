"""The reference that new scenes are compared with: statistics of a model's training data, in a file without pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.examination.observe import Band
from fusmae.files import written_whole
from fusmae.modalities import ModalityInput

REFERENCE = "reference.npz"
# This name must change with the format, so that a file of another format is refused.
_GRAPH_KEY = "graph_sha256"

TILE_SHARES = (np.arange(32) + 0.5) / 32
"""Quantile levels that describe a band of a tile: those of many tiles, pooled, approximate their pooled pixels."""

TRAIN_SHARES = (np.arange(512) + 0.5) / 512
"""Quantile levels that describe a band of all training tiles together."""

_ARRAYS = ("train_quantiles", "train_std", "validation_quantiles", "validation_scenes")


@dataclass(frozen=True)
class Reference:
    """Statistics of a model's training and validation tiles."""

    graph_sha256: str  # SHA-256 of the ONNX file that computed the embeddings
    bands: tuple[Band, ...]  # bands in the order of all arrays
    train_quantiles: NDArray[np.float32]  # `[bands, 512]`, quantiles of the pooled training pixels, in physical units
    train_std: NDArray[np.float32]  # `[bands]`, standard deviations of the same pixels, above 0
    train_embeddings: dict[str, NDArray[np.float32]]  # `[T, D]`, embeddings of training tiles, by setting
    validation_quantiles: NDArray[np.float32]  # `[V, bands, 32]`, quantiles of validation tiles
    validation_embeddings: dict[str, NDArray[np.float32]]  # `[V, D]`, embeddings of the same tiles, by setting
    validation_scenes: NDArray[np.int32]  # `[V]`, number of the acquisition that each validation tile belongs to
    facts: dict[str, Any]  # facts about the data: how many tiles per scene there were, which data set it is

    @property
    def num_scenes(self) -> int:
        """Number of acquisitions among the validation tiles."""
        return len(np.unique(self.validation_scenes))


def bands_of(inputs: Sequence[ModalityInput]) -> tuple[Band, ...]:
    """All bands of the inputs, in their order."""
    return tuple(Band(item.modality, name, item.units) for item in inputs for name in item.bands)


def tile_quantiles(pixels: Mapping[str, NDArray[Any]], inputs: Sequence[ModalityInput]) -> NDArray[np.float32]:
    """Quantiles `[B, bands, 32]` of tiles `[B, C, h, w]` by input name; NaN for the bands of absent inputs."""
    batch = len(next(iter(pixels.values())))
    found = [
        np.moveaxis(np.quantile(pixels[item.name], TILE_SHARES, axis=(2, 3)), 0, -1)
        if item.name in pixels
        else np.full((batch, len(item.bands), len(TILE_SHARES)), np.nan)
        for item in inputs
    ]
    return np.concatenate(found, axis=1).astype(np.float32)


def save_reference(reference: Reference, path: Path) -> None:
    """Write a reference, whole or not at all; equal references give equal bytes."""
    head = {
        _GRAPH_KEY: reference.graph_sha256,
        "bands": [[band.modality, band.name, band.units] for band in reference.bands],
        "facts": reference.facts,
    }
    arrays: dict[str, Any] = {name: getattr(reference, name) for name in _ARRAYS}
    for kind in ("train", "validation"):
        by_setting = getattr(reference, f"{kind}_embeddings")
        arrays |= {f"{kind}_embeddings/{setting}": found for setting, found in by_setting.items()}
    with written_whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, head=np.array(json.dumps(head, sort_keys=True)), **arrays)


def load_reference(path: Path, graph_sha256: str, inputs: Sequence[ModalityInput]) -> Reference:
    """Read a reference that `save_reference` wrote for the ONNX file with this SHA-256, which takes these arrays.

    Raises:
        InputError: the file does not exist, can't be read, or belongs to another graph.
    """
    if not path.is_file():
        raise InputError(f"There is no reference at {path}.", hint="dvc repro reference")
    try:
        with np.load(path, allow_pickle=False) as found:
            arrays = dict(found)
        head = json.loads(str(arrays.pop("head")))
        reference = Reference(
            graph_sha256=head[_GRAPH_KEY],
            bands=tuple(Band(*band) for band in head["bands"]),
            facts=head["facts"],
            train_embeddings=_by_setting(arrays, "train"),
            validation_embeddings=_by_setting(arrays, "validation"),
            **{name: arrays[name] for name in _ARRAYS},
        )
    except (BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise InputError(f"{path} can't be read as a reference: {error}", hint="dvc repro -f -s reference") from error
    if reference.graph_sha256 != graph_sha256:
        raise InputError(
            f"{path} is the reference of another model.",
            got=f"graph {reference.graph_sha256[:16]}",
            expected=f"graph {graph_sha256[:16]}",
            hint="dvc repro reference, or leave out --reference for the one that was registered with the model",
        )
    if reference.bands != bands_of(inputs):
        raise InputError(
            f"{path} describes other bands than the model takes.",
            got=", ".join(band.name for band in reference.bands),
            expected=", ".join(band.name for band in bands_of(inputs)),
            hint="dvc repro -f -s reference",
        )
    if not (reference.train_std > 0).all():
        raise InputError(
            f"{path} has a band that is the same everywhere in training: nothing can be measured in its deviations.",
            got=f"deviations {reference.train_std.tolist()}",
            expected="all above 0",
            hint="dvc repro -f -s reference",
        )
    return reference


def _by_setting(arrays: Mapping[str, NDArray[Any]], kind: str) -> dict[str, NDArray[np.float32]]:
    prefix = f"{kind}_embeddings/"
    return {name.removeprefix(prefix): found for name, found in arrays.items() if name.startswith(prefix)}
