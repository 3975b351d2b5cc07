"""Makes the reference that new scenes are compared with: statistics of a data set's training and validation tiles."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.data.shards import ShardReader
from fusmae.inference.drift.reference import TRAIN_SHARES, Reference, bands_of, tile_quantiles
from fusmae.inference.run_tiles import setting_name
from fusmae.inference.session import EMBEDDING, Session

_BATCH = 16
# A smaller standard deviation is only rounding error, in dB as in DN.
_CONSTANT = 1e-6


def make_reference(
    session: Session,
    graph_sha256: str,
    shards: Path,
    pairs: Sequence[Pair],
    *,
    train_tiles: int,
    validation_tiles: int,
    tiles_per_scene: int,
    seed: int,
) -> Reference:
    """Describe a sample of the training pairs and, scene by scene, of the validation pairs; hashes of keys draw it.

    The numbers of tiles are maxima; `tiles_per_scene` is of validation pairs of one acquisition.

    Raises:
        ShardError: the shards can't be read.
        InputError: the shards hold other bands than the graph takes.
    """
    train, validation = ShardReader(shards, "train"), ShardReader(shards, "validation")
    session.require_inputs(train.inputs, str(shards))
    scene_of = {pair.key: pair.acquisition for pair in pairs}
    held_out = _limited(_shuffled(validation.keys, seed), scene_of, tiles_per_scene)[:validation_tiles]
    of_train, train_embeddings = _describe(session, train, _shuffled(train.keys, seed)[:train_tiles])
    of_validation, validation_embeddings = _describe(session, validation, held_out)
    pooled = np.moveaxis(of_train, 1, 0).reshape(of_train.shape[1], -1)
    std = pooled.std(axis=1, dtype=np.float64)
    _, scene_numbers = np.unique([repr(scene_of[key]) for key in held_out], return_inverse=True)
    return Reference(
        graph_sha256=graph_sha256,
        bands=bands_of(session.inputs),
        train_quantiles=np.quantile(pooled, TRAIN_SHARES, axis=1).T.astype(np.float32),
        # Distances of a band that is the same everywhere are in its own units.
        train_std=np.where(std > _CONSTANT, std, 1.0).astype(np.float32),
        train_embeddings=train_embeddings,
        validation_quantiles=of_validation,
        validation_embeddings=validation_embeddings,
        validation_scenes=scene_numbers.astype(np.int32),
        facts={
            "data": train.origin.described,
            "warning": train.origin.warning,
            "num_train": len(train),
            "num_train_kept": len(of_train),
            "num_validation": len(validation),
            "num_validation_kept": len(of_validation),
            "tiles_per_scene": tiles_per_scene,
        },
    )


def _shuffled(keys: Sequence[str], seed: int) -> list[str]:
    """Keys ordered by a hash, so that a sample does not depend on shards or their order."""
    return sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).digest())


def _limited(keys: Sequence[str], scene_of: Mapping[str, Any], tiles_per_scene: int) -> list[str]:
    """The first keys of each scene, in the order given."""
    numbers: defaultdict[Any, Iterator[int]] = defaultdict(count)
    return [key for key in keys if next(numbers[scene_of[key]]) < tiles_per_scene]


def _describe(
    session: Session, reader: ShardReader, keys: Sequence[str]
) -> tuple[NDArray[np.float32], dict[str, NDArray[np.float32]]]:
    """Quantiles `[N, bands, 32]`, and embeddings `[N, D]` by modality setting."""
    row_of = {key: row for row, key in enumerate(reader.keys)}
    quantiles = []
    embeddings: dict[str, list[NDArray[np.float32]]] = {setting_name(setting): [] for setting in session.settings}
    for start in range(0, len(keys), _BATCH):
        pixels = reader.read([row_of[key] for key in keys[start : start + _BATCH]])
        quantiles.append(tile_quantiles(pixels, session.inputs))
        for setting in session.settings:
            embeddings[setting_name(setting)].append(session.run(pixels, setting, outputs=[EMBEDDING])[EMBEDDING])
    return np.concatenate(quantiles), {name: np.concatenate(parts) for name, parts in embeddings.items()}
