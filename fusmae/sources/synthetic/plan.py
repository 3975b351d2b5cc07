"""The plan of a world: its random numbers, its blocks of ground, where and when each was observed, splits and names.

Blocks lie so far apart that each is a place of its own, so all patches of a block are in one split. Random numbers are
keyed by (seed, purpose, block, part), so that the number of processes changes no pixel.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from fusmae.data.index import Split
from fusmae.errors import SourceError
from fusmae.sources.patches.bands import PATCH_M
from fusmae.sources.patches.places import MGRS_COLUMNS, MGRS_ROWS, PLACE_DISTANCE_M

VERSION = 2
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


class Draw(enum.IntEnum):
    """Purposes of random numbers; each purpose has its own stream."""

    SPLITS = _FIRST_PURPOSE
    WHEN = enum.auto()
    REGIONS = enum.auto()
    STRUCTURE = enum.auto()
    TERRAIN = enum.auto()
    ATMOSPHERE = enum.auto()
    SNOW = enum.auto()
    OPTICAL_NOISE = enum.auto()
    SPECKLE = enum.auto()


def stream(seed: int, draw: Draw, block: int = 0, part: int = 0) -> np.random.Generator:
    """Return the generator of one (seed, purpose, block, part): a counter-based Philox, so that keys never overlap.

    Args:
        seed: random seed of the world.
        draw: purpose of the numbers.
        block: number of a block of ground.
        part: number of a region in the block.
    """
    # The two lowest words of the counter belong to the stream, which counts with them.
    return np.random.Generator(np.random.Philox(key=[seed, draw], counter=[0, 0, block, part]))


@dataclass(frozen=True)
class World:
    """The parameters that determine a world.

    Attributes:
        num_pairs: number of pairs.
        seed: random seed; another seed gives another world.
    """

    num_pairs: int
    seed: int

    @property
    def side(self) -> int:
        """Patches along a block's side."""
        return _SMALL_SIDE if self.num_pairs < _SMALL_WORLD else _SIDE

    @property
    def num_blocks(self) -> int:
        """Number of blocks that hold all the pairs; the last block may not be full."""
        return -(-self.num_pairs // self.side**2)

    def __str__(self) -> str:
        return f"seed={self.seed} num_pairs={self.num_pairs} version={VERSION}"


@dataclass(frozen=True)
class Block:
    """A square of neighbouring patches: one continuous scene, observed once in each modality.

    Attributes:
        number: number of the block, counted from 0; it keys all random numbers of the block.
        side: number of patches along a side.
        num_patches: number of the block's patches that belong to the world.
        tile: name of the MGRS tile.
        column: column of the western patches in the tile.
        row: row of the northern patches in the tile.
        split: split of all patches.
        s2_date: acquisition time of S2 (UTC).
        s1_date: acquisition time of S1 (UTC), a few hours to days before or after S2.
    """

    number: int
    side: int
    num_patches: int
    tile: str
    column: int
    row: int
    split: Split
    s2_date: datetime
    s1_date: datetime

    @property
    def s2_scene(self) -> str:
        """Name of the S2 scene's folder."""
        return f"S2{self._unit}_MSIL2A_{_stamp(self.s2_date)}_N9999_R022_T{self.tile}"

    @property
    def s1_scene(self) -> str:
        """Name of the S1 scene's folder."""
        return f"S1{self._unit}_IW_GRDH_1SDV_{_stamp(self.s1_date)}"

    @property
    def patches(self) -> Iterator["Patch"]:
        """The block's patches that belong to the world, row by row."""
        for number in range(self.num_patches):
            down, right = divmod(number, self.side)
            yield Patch(self, down, right)

    @property
    def _unit(self) -> str:
        return "AB"[self.number % 2]


@dataclass(frozen=True)
class Patch:
    """One patch of a block.

    Attributes:
        block: block that the patch belongs to.
        down: number of patches between it and the block's northern edge.
        right: number of patches between it and the block's western edge.
    """

    block: Block
    down: int
    right: int

    @property
    def column(self) -> int:
        """Column in the tile's grid of patches."""
        return self.block.column + self.right

    @property
    def row(self) -> int:
        """Row in the tile's grid of patches."""
        return self.block.row + self.down

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
        return f"{self.column:02d}_{self.row:02d}"


def blocks_of(world: World) -> list[Block]:
    """Return every block of a world.

    Raises:
        SourceError: the world has more pairs than the MGRS squares reserved for it have room for.
    """
    sites = list(_sites(world.side))
    room = len(sites) * world.side**2
    if world.num_pairs > room:
        raise SourceError("The synthetic world has no room for so many pairs.", got=world.num_pairs, expected=room)
    return [_block(world, number, *sites[number]) for number in range(world.num_blocks)]


def _block(world: World, number: int, tile: str, column: int, row: int) -> Block:
    group, member = divmod(number, len(_SPLIT_SHARES))
    order = stream(world.seed, Draw.SPLITS, group).permutation(len(_SPLIT_SHARES))
    when = stream(world.seed, Draw.WHEN, number)
    day = _FIRST_DAY + timedelta(days=int(when.integers(_NUM_DAYS)))
    s1_day = day + timedelta(days=int(when.integers(-3, 4)))
    # The seconds count the blocks: no two blocks share a scene name, even on the same date.
    clock = timedelta(seconds=number)
    return Block(
        number=number,
        side=world.side,
        num_patches=min(world.side**2, world.num_pairs - number * world.side**2),
        tile=tile,
        column=column,
        row=row,
        split=_SPLIT_SHARES[order[member]],
        s2_date=day + timedelta(hours=10) + clock,
        s1_date=s1_day + timedelta(hours=5 + 11 * int(when.integers(2))) + clock,
    )


def _sites(side: int) -> Iterator[tuple[str, int, int]]:
    """Yield tile, column and row of each place where a block can lie."""
    starts = range(0, _TILE_PATCHES - side + 1, side - 1 + _GAP)
    for band, rows in _ROWS.items():
        for zone in _ZONES:
            for square_row in rows:
                for square_column in _COLUMNS:
                    tile = _tile(zone, band, square_column, square_row)
                    yield from ((tile, column, row) for row in starts for column in starts)


def _tile(zone: int, band: str, column: int, row: int) -> str:
    # In even zones the row letters start five squares later.
    row_letter = MGRS_ROWS[(row + (0 if zone % 2 else 5)) % len(MGRS_ROWS)]
    return f"{zone}{band}{MGRS_COLUMNS[(zone - 1) % 3][column - 1]}{row_letter}"


def _stamp(date: datetime) -> str:
    return date.strftime("%Y%m%dT%H%M%S")
