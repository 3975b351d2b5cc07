"""Patterns on a grid of pixels: smooth noise, streaks, fields and plots, channels, ponds."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, zoom
from scipy.spatial import cKDTree

Field = NDArray[np.float32]
Shape = tuple[int, int]


def smooth_noise(random: np.random.Generator, shape: Shape, scale_px: float) -> Field:
    """Return isotropic noise `[h, w]` of mean 0 and standard deviation 1, with bumps about `2 * scale_px` wide."""
    step = max(1, int(scale_px // 2))
    # Coarse noise is made on a coarse grid: a wide filter on the full grid would take most of the time.
    coarse = tuple(-(-side // step) + 2 for side in shape)
    noise = gaussian_filter(random.standard_normal(coarse, dtype=np.float32), scale_px / step, mode="wrap")
    if step > 1:
        noise = zoom(noise, step, order=1)
    noise = noise[: shape[0], : shape[1]] * np.float32(2 * np.sqrt(np.pi) * scale_px / step)
    return np.ascontiguousarray(noise, dtype=np.float32)


def streaks(random: np.random.Generator, shape: Shape, long_px: float, wide_px: float) -> Field:
    """Return noise like that of `smooth_noise`, stretched along a random direction."""
    along, across = rotated_grid(random, shape)
    side = int(np.hypot(*shape)) + 4
    noise = gaussian_filter(random.standard_normal((side, side), dtype=np.float32), (long_px, wide_px), mode="wrap")
    noise *= np.float32(2 * np.sqrt(np.pi * long_px * wide_px))
    return np.asarray(map_coordinates(noise, [along, across], order=1, mode="grid-wrap"), dtype=np.float32)


def even_ranks(noise: Field) -> Field:
    """Return the same pattern with values spread evenly over 0 to 1, for any distribution of the noise."""
    ranks = np.empty(noise.size, dtype=np.float32)
    ranks[np.argsort(noise, axis=None, kind="stable")] = np.linspace(0, 1, noise.size, dtype=np.float32)
    return ranks.reshape(noise.shape)


def rotated_grid(random: np.random.Generator, shape: Shape) -> tuple[Field, Field]:
    """Return coordinates `[h, w]` in pixels along and across a random direction, from a random origin."""
    angle = random.uniform(0, np.pi)
    origin = random.uniform(0, 1000, 2)
    down, right = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape), indexing="ij")
    along = down * np.cos(angle) + right * np.sin(angle) + origin[0]
    across = right * np.cos(angle) - down * np.sin(angle) + origin[1]
    return along.astype(np.float32), across.astype(np.float32)


@dataclass(frozen=True)
class Cells:
    """A pattern of cells."""

    ids: NDArray[np.intp]  # number of the cell of each pixel, counted from 0, `[h, w]`
    num_cells: int  # number of cells
    along: Field  # position along the cell from 0 to 1, `[h, w]`
    across: Field  # position across the cell from 0 to 1, `[h, w]`


def cells(random: np.random.Generator, shape: Shape, long_px: float, wide_px: float) -> Cells:
    """Return rectangles in rows along a random direction; rows are shifted at random, as fields and houses are."""
    along, across = rotated_grid(random, shape)
    rows = np.floor(across / wide_px).astype(np.intp)
    rows -= rows.min()
    along = along + random.uniform(0, long_px, rows.max() + 1).astype(np.float32)[rows]
    columns = np.floor(along / long_px).astype(np.intp)
    columns -= columns.min()
    width = columns.max() + 1
    inside = [np.mod(along / long_px, 1), np.mod(across / wide_px, 1)]
    return Cells(rows * width + columns, int((rows.max() + 1) * width), inside[0], inside[1])


def channel_distance(random: np.random.Generator, shape: Shape, spacing_px: float) -> Field:
    """Return each pixel's distance in pixels from the middle of the nearest winding channel, `[h, w]`."""
    along, across = rotated_grid(random, shape)
    bend = 0.35 * spacing_px * np.sin(2 * np.pi * along / (2.2 * spacing_px) + random.uniform(0, 2 * np.pi))
    across = across + bend + 0.12 * spacing_px * smooth_noise(random, shape, spacing_px / 3)
    phase = np.mod(across / spacing_px, 1)
    return np.asarray(np.abs(phase - 0.5) * spacing_px, dtype=np.float32)


def pond_distances(random: np.random.Generator, shape: Shape, spacing_px: float) -> tuple[Field, Field]:
    """Return each pixel's distance in pixels from the nearest point of two sets that avoid each other, `[h, w]` each.

    Distances are distorted by noise and scaled by a random factor per point, so that ponds differ in size and are not
    circles.
    """
    steps = [np.arange(-1, side / spacing_px + 2) for side in shape]
    down, right = np.meshgrid(*steps, indexing="ij")
    is_first = (np.arange(down.shape[0])[:, None] + np.arange(down.shape[1])[None]) % 2 == random.integers(2)
    points = np.stack([down, right], axis=-1) + random.uniform(-0.22, 0.22, (*down.shape, 2))
    points = (points + random.uniform(0, 1, 2)) * spacing_px
    pixels = np.stack(np.meshgrid(*(np.arange(side) for side in shape), indexing="ij"), axis=-1)
    crooked = 0.07 * spacing_px * smooth_noise(random, shape, spacing_px / 6)
    distances = []
    for chosen in (is_first, ~is_first):
        distance, nearest = cKDTree(points[chosen]).query(pixels)
        distances.append((distance * random.uniform(0.75, 1.3, chosen.sum())[nearest] + crooked).astype(np.float32))
    return distances[0], distances[1]
