"""Compares a registered model with one that was made again: hashes, weights and scores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusmae.files import file_sha256
from fusmae.release.lineage.record import is_run_file

Answer = Literal["same", "within", "other", "noted"]


@dataclass(frozen=True)
class Made:
    """The results of a run of the pipeline, and the surroundings in which it ran."""

    outs: Mapping[str, str]  # DVC's hashes by path
    weights: Mapping[str, str]  # SHA-256 of weights by checkpoint folder
    export: str  # folder of the graph, one of `outs`
    graph: Path  # path of the ONNX file
    metrics: Mapping[str, Any]  # scores of every model, as the stage `evaluate` wrote them
    surroundings: Mapping[str, str]  # versions of libraries, device and threads, by name


@dataclass(frozen=True)
class ComparedRow:
    """One comparison of the registered model with the one that was made again.

    The answer is `same`; `within` the tolerance; `other`; or `noted` for a difference that is no reason to fail.
    """

    what: str
    before: str
    now: str
    answer: Answer


@dataclass(frozen=True)
class ModelComparison:
    """All comparisons, and what they had to fulfil."""

    rows: tuple[ComparedRow, ...]  # rows, one per comparison
    expects_bits: bool  # whether libraries, device and threads are the same, so that the same bits are required
    tolerance: float  # largest absolute difference allowed in a score

    @property
    def other(self) -> tuple[ComparedRow, ...]:
        """Rows whose difference is not allowed."""
        return tuple(row for row in self.rows if row.answer == "other")

    @property
    def is_reproduced(self) -> bool:
        """Whether no row has a difference that is not allowed."""
        return not self.other


def compare(before: Made, now: Made, tolerance: float) -> ModelComparison:
    """Compare the results of a registered model with those of the same model made again.

    If the surroundings are the same, every hash must be the same; for checkpoints and graph, whose metadata may state
    another commit, the weights must be. If the surroundings differ, only the scores are judged, within the tolerance:
    the largest absolute difference allowed in one.
    """
    surroundings = tuple(_surroundings(before, now))
    strict: Answer = "noted" if surroundings else "other"
    rows = (*surroundings, *_outs(before, now, strict), _graph(before, now, strict), *_scores(before, now, tolerance))
    return ModelComparison(rows, not surroundings, tolerance)


def _surroundings(before: Made, now: Made) -> Iterator[ComparedRow]:
    for name in sorted({*before.surroundings, *now.surroundings}):
        one, two = (made.surroundings.get(name, "not recorded") for made in (before, now))
        if one != two:
            yield ComparedRow(name, one, two, "noted")


def _outs(before: Made, now: Made, strict: Answer) -> Iterator[ComparedRow]:
    for path, md5 in before.outs.items():
        found, weights = now.outs.get(path, "not made"), before.weights.get(path)
        if is_run_file(path):
            continue  # it contains a run's random id and is never the same
        if found == md5:
            yield ComparedRow(path, md5[:12], found[:12], "same")
        elif weights and weights == now.weights.get(path):
            yield ComparedRow(f"{path}: weights", weights[:12], weights[:12], "same")
        elif path != before.export:  # the row of the graph has more detail
            yield ComparedRow(path, md5[:12], found[:12], strict)


def _graph(before: Made, now: Made, strict: Answer) -> ComparedRow:
    one, two = (file_sha256(made.graph) for made in (before, now))
    what = f"{before.export}/{now.graph.name}"
    if one == two:
        return ComparedRow(what, one[:12], two[:12], "same")
    largest = graph_difference(before.graph, now.graph)
    if largest == 0:
        return ComparedRow(f"{what}: graph and weights", "", "differ in their notes only", "same")
    words = "another graph" if largest is None else f"weights differ by up to {largest:.2g}"
    return ComparedRow(what, one[:12], words, strict)


def graph_difference(one: Path, two: Path) -> float | None:
    """Largest absolute difference between two ONNX files' weights; None if the graphs themselves differ."""
    import onnx

    graphs = [onnx.load(path).graph for path in (one, two)]
    weights = [{item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer} for graph in graphs]
    for graph in graphs:
        del graph.initializer[:]
        for node in graph.node:  # stack traces of older exports contain the folder in which they ran
            del node.metadata_props[:]
    shapes = [{name: array.shape for name, array in arrays.items()} for arrays in weights]
    texts = [graph.SerializeToString(deterministic=True) for graph in graphs]
    if shapes[0] != shapes[1] or texts[0] != texts[1]:
        return None
    return max((_largest(array, weights[1][name]) for name, array in weights[0].items()), default=0.0)


def _largest(one: Any, two: Any) -> float:
    if np.array_equal(one, two, equal_nan=np.issubdtype(one.dtype, np.floating)):
        return 0.0
    return float(np.max(np.abs(one.astype(np.float64) - two.astype(np.float64)), initial=0.0))


def _scores(before: Made, now: Made, tolerance: float) -> Iterator[ComparedRow]:
    """A row for each row of the metrics table, with the score or interval end that differs most."""
    one, two = dict(_leaves(before.metrics)), dict(_leaves(now.metrics))
    for group, found in groupby(sorted({*one, *two}, key=lambda name: (_group(name), name)), key=_group):
        distances = {name: _distance(one.get(name), two.get(name)) for name in found}
        worst = max(distances, key=lambda name: distances[name])
        if not distances[worst]:
            yield ComparedRow(group, "", "", "same")
            continue
        answer: Answer = "within" if distances[worst] <= tolerance else "other"
        what = f"{group}: {worst.removeprefix(f'{group}/')}"
        yield ComparedRow(what, _shown(one.get(worst)), _shown(two.get(worst)), answer)


def _shown(value: Any) -> str:
    return f"{value:.9f}" if isinstance(value, float) else str(value)


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, Mapping | list):
        for key, value in values.items() if isinstance(values, Mapping) else enumerate(values):
            yield from _leaves(value, f"{prefix}{key}/")
    else:
        yield prefix.removesuffix("/"), values


def _group(name: str) -> str:
    parts = name.split("/")
    # rows/<protocol>/<weights>/<modalities>/…
    return "/".join(parts[:4] if parts[0] == "rows" else parts[:1])


def _distance(one: Any, two: Any) -> float:
    if one == two or (one != one and two != two):  # NaN on both sides is no difference; NaN on one side is
        return 0.0
    is_number = isinstance(one, int | float) and isinstance(two, int | float)
    return float(np.nan_to_num(abs(one - two), nan=np.inf)) if is_number else float("inf")
