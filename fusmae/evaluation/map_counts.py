"""What is counted of each pair's map, so that scores of any set of pairs follow from sums, and no map is kept.

A pair's row has for classes, in this order: a confusion matrix [K, K] (true classes in rows), four numbers of pixels on
borders between classes, and three numbers per bin of confidence. For values it has six sums.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS

NUM_BINS = 15
"""Number of bins of confidence, from 0 to 1 (Guo et al. 2017)."""
NUM_BORDERS = 4
"""Predicted border pixels near true ones, predicted ones, true ones near predicted ones, true ones."""
_TOLERANCE_PX = 2
"""Distance within which a border pixel counts as found: 20 m (Csurka et al. 2013 take .75 % of an image's diagonal)."""


def count_map(task: Task, answers: NDArray[Any], confidence: NDArray[Any] | None, maps: NDArray[Any]) -> NDArray[Any]:
    """Rows of counts `[B, S]` of predicted maps against the true ones.

    Args:
        task: what is predicted, per pixel.
        answers: `[B, h, w]`, numbers of the predicted classes, or values.
        confidence: `[B, h, w]`, probability of the predicted class; None for values.
        maps: true maps `[B, h, w]`, classes or `NO_CLASS`, or values or NaN; such pixels count for nothing.
    """
    if task.value is not None:
        return sums_of_values(answers, maps)
    num_classes = len(task.classes)
    known, pair = maps != NO_CLASS, np.arange(len(maps))[:, None, None]
    cells = ((pair * num_classes + maps) * num_classes + answers)[known]
    confusions = np.bincount(cells, minlength=len(maps) * num_classes**2).reshape(len(maps), -1)
    parts: list[NDArray[Any]] = [confusions, _borders(answers, maps)]
    if confidence is not None:
        parts.append(_bins(confidence, answers == maps, known))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def sums_of_values(predicted: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Sums `[B, 6]` of rows of numbers `[B, …]`: how many are known; truth, truth²; error, |error|, error²."""
    axes = tuple(range(1, truth.ndim))
    known = np.isfinite(truth)
    true = np.where(known, truth, 0.0).astype(np.float64)
    error = np.where(known, predicted.astype(np.float64) - true, 0.0)
    parts = [known, true, true**2, error, np.abs(error), error**2]
    return np.stack([part.sum(axis=axes, dtype=np.float64) for part in parts], axis=1)


def _borders(predicted: NDArray[Any], maps: NDArray[Any]) -> NDArray[np.int64]:
    """Counts `[B, 4]` of border pixels, see `NUM_BORDERS`."""
    known = maps != NO_CLASS
    # A border beside pixels without a class is of the labels, not of the ground.
    inside = ~maximum_filter(~known, size=(1, 3, 3))
    found, true = (_is_border(classes) & inside for classes in (predicted, maps))
    size = (1, 2 * _TOLERANCE_PX + 1, 2 * _TOLERANCE_PX + 1)
    near_found, near_true = (maximum_filter(border, size=size) for border in (found, true))
    counts = [found & near_true, found, true & near_found, true]
    return np.stack([flags.sum(axis=(1, 2)) for flags in counts], axis=1)


def _is_border(classes: NDArray[Any]) -> NDArray[np.bool_]:
    """Flags `[B, h, w]` of pixels whose neighbour to the right, or below, has another class."""
    flags = np.zeros(classes.shape, np.bool_)
    flags[:, :-1] |= classes[:, 1:] != classes[:, :-1]
    flags[:, :, :-1] |= classes[:, :, 1:] != classes[:, :, :-1]
    return flags


def _bins(confidence: NDArray[Any], is_right: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Per bin of confidence: number of known pixels, sum of confidence, number of right ones: `[B, 3 * NUM_BINS]`."""
    numbers = np.clip((confidence * NUM_BINS).astype(np.int64), 0, NUM_BINS - 1)
    cells = (np.arange(len(numbers))[:, None, None] * NUM_BINS + numbers)[known]
    weights = (None, confidence[known].astype(np.float64), is_right[known].astype(np.float64))
    length = len(numbers) * NUM_BINS
    rows = [np.bincount(cells, weights=weight, minlength=length).reshape(len(numbers), -1) for weight in weights]
    return np.concatenate(rows, axis=1)


def calibration_of_bins(bins: NDArray[Any]) -> float:
    """Expected calibration error of bins, summed over pairs: `[3 * NUM_BINS]`; 0 without any pixel."""
    counts, confidence, right = np.asarray(bins, np.float64).reshape(3, NUM_BINS)
    return float(np.abs(confidence - right).sum() / max(1.0, counts.sum()))
