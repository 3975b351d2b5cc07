"""The rasters that a map consists of, by the task of its model, and how their pixels are made of blended answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Task, Value

STEP = 0.004
"""Step of stored probabilities and confidence, which are whole multiples of it: 250 is 1."""
NODATA = 255
"""What is stored for a probability where there is none."""
NO_CLASS = 0
"""Number of a cell without data; the first class is 1."""

Answers = NDArray[np.floating[Any]]
"""Blended answers `[K, rows, columns]`: probabilities of classes, or values with K = 1; NaN where there is no data."""


@dataclass(frozen=True)
class Layer:
    """One raster of a map."""

    name: str  # `probabilities`, `classes`, `certainty` or `values`
    suffix: str | None  # end of its file's name before `.tif`; None for a raster that only the picture needs
    title: str  # what it shows, for people
    bands: tuple[str, ...]  # description of each band
    dtype: Literal["uint8", "float32"]
    nodata: float
    make: Callable[[Answers], NDArray[Any]]  # from answers to its pixels `[bands, rows, columns]`
    scale: float | None = None  # number that stored numbers are multiplied by; None where they are the quantity
    unit: str = ""  # unit of its numbers; "" where they have none
    classes: tuple[str, ...] = ()  # names of the classes from 1 on, where its numbers are classes
    tags: dict[str, str] = field(default_factory=dict)  # tags of its file besides those of the map

    @property
    def resampling(self) -> Literal["MODE", "AVERAGE"]:
        """How its overviews are made: they invent no class."""
        return "MODE" if self.classes else "AVERAGE"


def map_layers(task: Task, *, has_probabilities: bool = False) -> tuple[Layer, ...]:
    """The layers of a map, the main one first.

    `has_probabilities` is whether a segmentation has a raster of all probabilities; maps of classes per tile always do.
    """
    if task.value is not None:
        make, value = partial(_within, task.value), task.value
        return (Layer("values", "", value.title, (value.name,), "float32", np.nan, make, unit=value.unit),)
    if task.kind == "segmentation":
        names = {f"CLASS_{number}": name for number, name in enumerate(task.classes, start=1)}
        top = "probability of the most probable class"
        main = _classes(task, "", names)
        layers = (main, Layer("certainty", None, top, (top,), "uint8", NODATA, _certainty, STEP))
        title = "probability of each class"
        every = Layer("probabilities", "_probabilities", title, task.classes, "uint8", NODATA, stored, STEP)
        return (*layers, every) if has_probabilities else layers
    make_both = partial(_with_confidence, task.kind == "multiclass")
    title, bands = "probability of each class, and confidence", (*task.classes, "confidence")
    main = Layer("probabilities", "", title, bands, "uint8", NODATA, make_both, STEP)
    return main, _classes(task, "_classes", {})


def bands_of(layers: Sequence[Layer], answers: Answers) -> NDArray[Any]:
    """The pixels of all layers, which have one type, `[bands of all layers, rows, columns]`."""
    return np.concatenate([layer.make(answers) for layer in layers])


def confidence(probabilities: Answers, *, is_exclusive: bool = False) -> Answers:
    """Confidence `[...]` of probabilities `[K, ...]`, from 0 to 1.

    Of classes of which any number may be present it is 1 minus the mean entropy, in bits, of whether a class is
    present: 1 if each class is certainly present or certainly absent, and 0 if each has a probability of 0.5. Of
    classes that exclude one another it is 1 minus the entropy of which class it is, as a share of the largest possible:
    1 if one class is certain, and 0 if all are equally probable.
    """
    inside = np.clip(probabilities, 1e-12, 1 - 1e-12)
    if is_exclusive:
        entropy = -(inside * np.log2(inside)).sum(axis=0) / np.log2(max(2, len(inside)))
        return np.asarray(np.clip(1 - entropy, 0, 1))
    entropy = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    return np.asarray(1 - entropy.mean(axis=0))


def top_class(answers: Answers) -> NDArray[np.uint8]:
    """Numbers `[1, rows, columns]` of the most probable classes, of equal ones the first; `NO_CLASS` for no data."""
    numbers = np.full(answers.shape[1:], NO_CLASS, np.uint8)
    highest = np.full(answers.shape[1:], -np.inf, answers.dtype)
    for number, probability in enumerate(answers, start=1):
        is_higher = probability > highest  # false for NaN
        np.copyto(numbers, number, where=is_higher)
        np.copyto(highest, probability, where=is_higher)
    return numbers[None]


def stored(values: Answers) -> NDArray[np.uint8]:
    """Numbers from 0 to 1 as stored, in multiples of `STEP`; `NODATA` for NaN."""
    steps = values / STEP
    np.rint(steps, out=steps)
    np.copyto(steps, NODATA, where=np.isnan(values))
    return steps.astype(np.uint8)


def _classes(task: Task, suffix: str, tags: dict[str, str]) -> Layer:
    title = "most probable class"
    return Layer("classes", suffix, title, (title,), "uint8", NO_CLASS, top_class, classes=task.classes, tags=tags)


def _certainty(answers: Answers) -> NDArray[np.uint8]:
    return stored(answers.max(axis=0, keepdims=True))


def _with_confidence(is_exclusive: bool, answers: Answers) -> NDArray[np.uint8]:
    return stored(np.concatenate([answers, confidence(answers, is_exclusive=is_exclusive)[None]]))


def _within(value: Value, answers: Answers) -> NDArray[np.float32]:
    """Values within the limits of the quantity, which the rounding of a mean could exceed."""
    is_limited = value.min is not None or value.max is not None
    return (np.clip(answers, value.min, value.max) if is_limited else answers).astype(np.float32)
