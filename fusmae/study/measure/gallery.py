"""A cell's pictures: reconstructed test tiles, and those with the worst predictions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.data.index import Pair
from fusmae.evaluation.figures import Image, displayed, save_tiles
from fusmae.evaluation.reconstructions import draw_reconstructions
from fusmae.modalities import Modality, ModalityInput, Statistics
from fusmae.study.results import Picture
from fusmae.training.reconstruction import Reconstructor


def reconstruction_pictures(
    folder: Path,
    module: Reconstructor,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    modalities: Mapping[str, Modality],
    statistics: Statistics,
    count: int,
) -> list[Picture]:
    """Draw reconstructions of test tiles that are evenly spread over the split; `folder` is written anew.

    Args:
        folder: folder of the cell's pictures.
        module: pretrained model.
        data: pairs, whose draws give each tile its masks.
        pairs: entries of the index by key, with each pair's location.
        modalities: modalities by name, which give the order of bands.
        statistics: mean and standard deviation of each band, to undo the normalisation.
        count: number of tiles.
    """
    reader = data.reader("test")
    rows = np.unique(np.linspace(0, len(reader) - 1, count).astype(int)).tolist()
    keys = [reader.keys[row] for row in rows]
    batch = whole(list(data.batches("test", rows)))
    batch = batch._replace(pixels=batch.only(tuple(modalities)))
    draw_reconstructions(folder, module, batch, keys, modalities, statistics, reader.origin.warning)
    return [
        Picture(f"{at:02d}_{key}.png", "reconstruction", key, "true, masked, predicted", pairs[key].lon, pairs[key].lat)
        for at, key in enumerate(keys)
    ]


def failure_pictures(
    folder: Path,
    data: PairDataModule,
    pairs: Mapping[str, Pair],
    probabilities: NDArray[Any],
    count: int,
) -> list[Picture]:
    """Draw the test tiles whose labels a model finds least likely.

    Args:
        folder: folder of the cell's pictures, to which these are added.
        data: pairs of every split.
        pairs: entries of the index by key, with each pair's labels and location.
        probabilities: probabilities `[N, K]` of test.
        count: number of tiles.
    """
    reader = data.reader("test")
    labels, chances = (
        np.asarray(reader.labels, np.float64),
        np.clip(np.asarray(probabilities, np.float64), 1e-6, 1 - 1e-6),
    )
    surprise = -(labels * np.log(chances) + (1 - labels) * np.log(1 - chances)).sum(axis=1)
    rows = np.argsort(-surprise, kind="stable")[:count].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for at, (row, batch) in enumerate((row, next(data.batches("test", [row]))) for row in rows):
        key, classes = reader.keys[row], reader.classes
        said = [
            f"{classes[k]} {chances[row, k]:.2f}" for k in np.argsort(-chances[row])[: max(2, int(labels[row].sum()))]
        ]
        caption = f"true: {'; '.join(pairs[key].labels)}. Said: {'; '.join(said)}."
        file = f"failure_{at:02d}_{key}.png"
        save_tiles(folder / file, key, _images(batch, reader.inputs), reader.origin.warning)
        found.append(Picture(file, "failure", key, caption, pairs[key].lon, pairs[key].lat))
    return found


def whole(batches: Sequence[Batch]) -> Batch:
    """Several batches joined into one."""
    import torch

    first = batches[0]
    return first._replace(
        pixels={name: torch.cat([batch.pixels[name] for batch in batches]) for name in first.pixels},
        labels=torch.cat([batch.labels for batch in batches]),
        indices=torch.cat([batch.indices for batch in batches]),
        geometry=torch.cat([batch.geometry for batch in batches]),
        noise={name: torch.cat([batch.noise[name] for batch in batches]) for name in first.noise},
    )


def _images(batch: Batch, inputs: Sequence[ModalityInput]) -> dict[str, Image]:
    """The first tile of a batch as an image per modality, from the bands of its finest resolution."""
    images = {}
    for modality in dict.fromkeys(item.modality for item in inputs):
        finest = min((item for item in inputs if item.modality == modality), key=lambda item: item.gsd_m)
        pixels = batch.pixels[finest.name][0].numpy()
        images[modality] = displayed(dict(zip(finest.bands, pixels, strict=True)), finest.unit)
    return images
