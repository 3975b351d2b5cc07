"""The plan of a world: its random numbers, its blocks of ground, where and when each was observed, splits and names.

Blocks lie so far apart that each is a place of its own, so all patches of a block are in one split. Random numbers are
keyed by (seed, purpose, block, part), so that the number of processes changes no pixel.
"""

import enum
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fusmae.data.index import Split
from fusmae.data.randomness import generator
from fusmae.errors import SourceError
from fusmae.sources.patches.places import MGRS_COLUMNS, MGRS_ROWS, PATCH_M, PLACE_DISTANCE_M

VERSION = 3
"""Version of the generator: raise it with any change of pixels, names or labels."""

_SPLIT_SHARES: tuple[Split, ...] = ("train", "train", "validation", "test")
"""Splits of every four consecutive blocks, in a random order."""

# Small worlds have small blocks, so that each split has several.
_SMALL_WORLD, _SMALL_SIDE, _SIDE = 256, 2, 4
# Patches from the last of one block to the first of the next; their corners are then too far apart for one place.
_GAP = PLACE_DISTANCE_M // PATCH_M + 1
# Usable patches along an MGRS tile of 100 km: the first block of the next tile must be one gap away.
_TILE_PATCHES = 100_000 // PATCH_M - _GAP + 1

# MGRS squares well inside their UTM zone and latitude band, so that blocks of different zones are far apart too.
_ZONES = range(29, 39)
_COLUMNS = (4, 5)
_ROWS = {"U": range(54, 62), "T": range(45, 53)}

_FIRST_DAY = datetime(2017, 6, 1, tzinfo=UTC)
_NUM_DAYS = 365
# Starts beyond the purposes of `fusmae.data.randomness`, because a run and its world may share a seed.
_FIRST_PURPOSE = 1 << 32


Draw = enum.IntEnum(
    "Draw", "SPLITS WHEN REGIONS STRUCTURE TERRAIN ATMOSPHERE SNOW OPTICAL_NOISE SPECKLE", start=_FIRST_PURPOSE
)
"""Purposes of random numbers, whose keys are (seed, purpose, block, part): see `generator`."""


class World(NamedTuple):
    """The number of pairs and the random seed of a world, which determine it."""

    num_pairs: int
    seed: int

    @property
    def side(self) -> int:
        """Patches along a block's side."""
        return _SMALL_SIDE if self.num_pairs < _SMALL_WORLD else _SIDE

    def __str__(self) -> str:
        return f"seed={self.seed} num_pairs={self.num_pairs} version={VERSION}"


class Block(NamedTuple):
    """A square of neighbouring patches of one split: one continuous scene, observed once in each modality."""

    number: int  # counted from 0; it keys all random numbers of the block
    side: int  # number of patches along a side
    num_patches: int  # number of the block's patches that belong to the world
    tile: str  # name of the MGRS tile
    column: int  # column of the western patches in the tile
    row: int  # row of the northern patches in the tile
    split: Split
    s2_date: datetime  # acquisition time of S2 (UTC)
    s1_date: datetime  # acquisition time of S1 (UTC), a few hours to days before or after S2

    @property
    def s2_scene(self) -> str:
        """Name of the S2 scene's folder."""
        return f"S2{self._unit}_MSIL2A_{self.s2_date:%Y%m%dT%H%M%S}_N9999_R022_T{self.tile}"

    @property
    def s1_scene(self) -> str:
        """Name of the S1 scene's folder."""
        return f"S1{self._unit}_IW_GRDH_1SDV_{self.s1_date:%Y%m%dT%H%M%S}"

    @property
    def patches(self) -> Iterator["Patch"]:
        """The block's patches that belong to the world, row by row."""
        return (Patch(self, *divmod(number, self.side)) for number in range(self.num_patches))

    @property
    def _unit(self) -> str:
        return "AB"[self.number % 2]


class Patch(NamedTuple):
    """One patch of a block, by the number of patches between it and the block's northern and western edge."""

    block: Block
    down: int
    right: int

    @property
    def s2_name(self) -> str:
        """Name of the S2 patch, which is the pair's key."""
        return f"{self.block.s2_scene}_{self._position}"

    @property
    def s1_name(self) -> str:
        """Name of the S1 patch."""
        return f"{self.block.s1_scene}_{self.block.tile}_{self._position}"

    @property
    def s2v1_name(self) -> str:
        """Name that BigEarthNet v1 would give to the S2 patch."""
        return f"{self.block.s2_scene.split('_N9999_')[0]}_{self._position}"

    @property
    def _position(self) -> str:
        return f"{self.block.column + self.right:02d}_{self.block.row + self.down:02d}"

    def cut(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the patch's part of the block's pixels `[h, w]`, at any resolution."""
        side = len(pixels) // self.block.side
        return pixels[self.down * side : (self.down + 1) * side, self.right * side : (self.right + 1) * side]


def blocks_of(world: World) -> list[Block]:
    """Return every block of a world.

    Raises:
        SourceError: the world has more pairs than the MGRS squares reserved for it have room for.
    """
    sites = list(_sites(world.side))
    room = len(sites) * world.side**2
    if world.num_pairs > room:
        raise SourceError("The synthetic world has no room for so many pairs.", got=world.num_pairs, expected=room)
    num_blocks = -(-world.num_pairs // world.side**2)  # the last one may not be full
    return [_block(world, number, *sites[number]) for number in range(num_blocks)]


def _block(world: World, number: int, tile: str, column: int, row: int) -> Block:
    group, member = divmod(number, len(_SPLIT_SHARES))
    order = generator(world.seed, Draw.SPLITS, group).permutation(len(_SPLIT_SHARES))
    when = generator(world.seed, Draw.WHEN, number)
    # The seconds count the blocks: no two blocks share a scene name, even on the same date.
    start = _FIRST_DAY + timedelta(days=int(when.integers(_NUM_DAYS)), seconds=number)
    s1_start = start + timedelta(days=int(when.integers(-3, 4)))
    return Block(
        number=number,
        side=world.side,
        num_patches=min(world.side**2, world.num_pairs - number * world.side**2),
        tile=tile,
        column=column,
        row=row,
        split=_SPLIT_SHARES[order[member]],
        s2_date=start + timedelta(hours=10),
        s1_date=s1_start + timedelta(hours=5 + 11 * int(when.integers(2))),
    )


def _sites(side: int) -> Iterator[tuple[str, int, int]]:
    """Yield tile, column and row of each place where a block can lie."""
    starts = range(0, _TILE_PATCHES - side + 1, side - 1 + _GAP)
    for band, rows in _ROWS.items():
        for zone, row, column in product(_ZONES, rows, _COLUMNS):
            # In even zones the row letters start five squares later.
            row_letter = MGRS_ROWS[(row + (0 if zone % 2 else 5)) % len(MGRS_ROWS)]
            tile = f"{zone}{band}{MGRS_COLUMNS[(zone - 1) % 3][column - 1]}{row_letter}"
            yield from ((tile, right, down) for down, right in product(starts, starts))
