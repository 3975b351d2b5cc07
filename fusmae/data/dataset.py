"""A split of the shards as a torch data set of single tiles, with the keys of torchgeo's samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from fusmae.data.index import SPLITS, Split
from fusmae.data.shards import ShardReader
from fusmae.errors import ShardError
from fusmae.modalities import by_modality

Sample = dict[str, Any]


def open_shards(path: str | Path, split: Split, transforms: Callable[[Sample], Sample] | None = None) -> "TileDataset":
    """Open a split of the shards that `dvc repro shard` makes; every file is compared with its checksum first.

    Args:
        path: folder of the shards, `data/shards`.
        split: `train`, `validation` or `test`.
        transforms: function that changes a sample, as torchgeo's data sets take one.

    Raises:
        ShardError: there are no shards, they are damaged, or there is no such split.
    """
    if split not in SPLITS:
        raise ShardError(f"Shards have no split {split!r}.", expected=" or ".join(SPLITS))
    return TileDataset(ShardReader(Path(path), split), transforms)


class TileDataset(Dataset[Sample]):
    """Samples with an image per modality.

    A sample has `image_s1`, `image_s2` and so on, float32 `[C, H, W]` in physical units on the finest grid of the
    modality, where each pixel of a coarser band is repeated; `label` `[K]` int64, 1 where the pair has the class, or
    float32 `[1]` for a value; the pair's `key`; and, where the source has maps, `mask` `[h, w]` at 10 m, int64 with 255
    where a pixel has no class, or float32 with NaN where it has no value.

    Attributes:
        task: what the labels are: their kind, and classes or value.
        classes: names of the columns of `label`; empty for a value.
        map_classes: names of the values of `mask`; empty where there are no maps.
        bands: names of the channels by modality.
    """

    def __init__(self, reader: ShardReader, transforms: Callable[[Sample], Sample] | None) -> None:
        self._reader, self._transforms = reader, transforms
        self.task, self.classes, self.map_classes = reader.task, reader.classes, reader.map_classes
        self._inputs = by_modality(reader.inputs)
        self.bands = {name: sum((item.bands for item in items), ()) for name, items in self._inputs.items()}

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Sample:
        row = range(len(self))[index]
        pixels, sample = self._reader.read([row]), Sample()
        for name, items in self._inputs.items():
            side = max(item.side_px for item in items)
            bands = [_repeated(pixels[item.name][0], side // item.side_px) for item in items]
            sample[f"image_{name}"] = torch.from_numpy(np.concatenate(bands).astype(np.float32))
        sample["label"] = _label(self._reader.labels[row])
        sample["key"] = self._reader.keys[row]
        if self._reader.has_maps:
            sample["mask"] = _label(self._reader.read_maps([row])[0])
        return sample if self._transforms is None else self._transforms(sample)


def _label(array: NDArray[Any]) -> torch.Tensor:
    """Classes as int64, as losses expect them; values as they are."""
    tensor = torch.from_numpy(array)
    return tensor if array.dtype.kind == "f" else tensor.long()


def _repeated(bands: NDArray[Any], times: int) -> NDArray[Any]:
    """Each pixel of `[C, h, w]` `times` times in both directions."""
    return bands.repeat(times, axis=1).repeat(times, axis=2)
