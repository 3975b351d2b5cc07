"""The synthetic world as a source of pairs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Pair
from fusmae.errors import SourceError
from fusmae.sources.patches.facts import V2_CHECKED, V2_NOT_CHECKED
from fusmae.sources.patches.geotiff import read_patches
from fusmae.sources.patches.maps import read_reference_map
from fusmae.sources.patches.v2 import table_pairs
from fusmae.sources.shared.source import Facts
from fusmae.sources.synthetic.classes import CLASSES
from fusmae.sources.synthetic.generate import MARKER, generate, identity_of, is_complete
from fusmae.sources.synthetic.plan import World, blocks_of


class SyntheticSource:
    """Any number of made-up pairs in BigEarthNet v2's layout; see `Source` for the methods.

    Args:
        num_pairs: number of pairs, including those with clouds or snow.
        seed: random seed; another seed gives another world.
    """

    name = "synthetic"
    classes = map_classes = CLASSES
    is_synthetic = True
    licence = "made up by fusmae (Apache-2.0): no imagery of any real place"

    def __init__(self, num_pairs: int, seed: int) -> None:
        self._world = World(num_pairs, seed)

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
        """Make the world in `raw`; nothing is downloaded."""
        generate(self._world, raw)
        return {"synthetic": str(self._world)}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every pair of the world in the order of keys, including pairs with clouds or snow."""
        self._check(raw)
        return table_pairs(raw, (), snow_and_clouds=True)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the map of classes `[120, 120]`; each pixel has a class."""
        return read_reference_map(raw, pair, self.map_classes)

    def facts(self, raw: Path) -> Facts:
        """Return how many pairs each split has by the world's plan, and the labels of one block per split."""
        from fusmae.sources.synthetic.scene import labels_by_key

        blocks = blocks_of(self._world)
        counts: Counter[Any] = Counter()
        for block in blocks:
            counts[block.split] += block.num_patches
        known = [next(block for block in blocks if block.split == split) for split in SPLITS]
        labels = {key: found for block in known for key, found in labels_by_key(self._world.seed, block).items()}
        return Facts(counts=dict(counts), labels=labels, cross_checked=V2_CHECKED, not_checked=V2_NOT_CHECKED)

    def _check(self, raw: Path) -> None:
        if not is_complete(raw, self._world):
            raise SourceError(
                f"The synthetic world is not, or not wholly, at {raw}.",
                got=identity_of(raw) or f"no {MARKER}",
                expected=f"{self._world}, with its tables",
                hint="dvc repro -f -s fetch",
            )
