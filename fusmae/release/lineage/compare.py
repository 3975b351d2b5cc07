"""Compares a registered model with one that was made again: hashes, weights and scores."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusmae.files import file_sha256

Answer = Literal["same", "within", "other", "noted"]


@dataclass(frozen=True)
class Made:
    """The results of a run of the pipeline, and the surroundings in which it ran.

    Attributes:
        outs: DVC's hashes by path.
        weights: SHA-256 of weights by checkpoint folder.
        export: folder of the graph, one of `outs`.
        graph: path of the ONNX file.
        metrics: scores of every model, as the stage `evaluate` wrote them.
        surroundings: versions of libraries, device and threads, by name.
    """

    outs: Mapping[str, str]
    weights: Mapping[str, str]
    export: str
    graph: Path
    metrics: Mapping[str, Any]
    surroundings: Mapping[str, str]


@dataclass(frozen=True)
class ComparedRow:
    """One comparison.

    Attributes:
        what: name of what is compared.
        before: value of the registered model.
        now: value of the model that was made again.
        answer: `same`; `within` the tolerance; `other`; or `noted` for a difference that is no reason to fail.
    """

    what: str
    before: str
    now: str
    answer: Answer


@dataclass(frozen=True)
class ModelComparison:
    """All comparisons, and what they had to fulfil.

    Attributes:
        rows: rows, one per comparison.
        expects_bits: whether libraries, device and threads are the same, so that the same bits are required.
        tolerance: largest absolute difference allowed in a score.
        other: rows whose difference is not allowed.
    """

    rows: tuple[ComparedRow, ...]
    expects_bits: bool
    tolerance: float
    other: tuple[ComparedRow, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "other", tuple(row for row in self.rows if row.answer == "other"))

    @property
    def is_reproduced(self) -> bool:
        """Whether no row has a difference that is not allowed."""
        return not self.other


def compare(before: Made, now: Made, tolerance: float) -> ModelComparison:
    """Compare the results of a registered model with those of the same model made again.

    If the surroundings are the same, every hash must be the same; for checkpoints and graph, whose metadata may state
    another commit, the weights must be. If the surroundings differ, only the scores are judged, within the tolerance.

    Args:
        before: results of the registered model.
        now: results of the model that was made again.
        tolerance: largest absolute difference allowed in a score.
    """
    surroundings = tuple(_surroundings(before, now))
    expects_bits = not surroundings
    strict: Answer = "other" if expects_bits else "noted"
    rows = (*surroundings, *_outs(before, now, strict), _graph(before, now, strict), *_scores(before, now, tolerance))
    return ModelComparison(rows, expects_bits, tolerance)


def _surroundings(before: Made, now: Made) -> Iterator[ComparedRow]:
    for name in sorted({*before.surroundings, *now.surroundings}):
        one, two = (made.surroundings.get(name, "not recorded") for made in (before, now))
        if one != two:
            yield ComparedRow(name, one, two, "noted")


def _outs(before: Made, now: Made, strict: Answer) -> Iterator[ComparedRow]:
    for path, md5 in before.outs.items():
        found = now.outs.get(path, "not made")
        if found == md5:
            yield ComparedRow(path, md5[:12], found[:12], "same")
        elif path == before.export:
            continue  # the row of the graph has more detail
        elif path in before.weights and before.weights[path] == now.weights.get(path):
            yield ComparedRow(f"{path}: weights", before.weights[path][:12], now.weights[path][:12], "same")
        else:
            yield ComparedRow(path, md5[:12], found[:12], strict)


def _graph(before: Made, now: Made, strict: Answer) -> ComparedRow:
    hashes = [file_sha256(made.graph) for made in (before, now)]
    what = f"{before.export}/{now.graph.name}"
    if hashes[0] == hashes[1]:
        return ComparedRow(what, hashes[0][:12], hashes[1][:12], "same")
    largest = graph_difference(before.graph, now.graph)
    if largest == 0:
        return ComparedRow(f"{what}: graph and weights", "", "differ in their notes only", "same")
    words = "another graph" if largest is None else f"weights differ by up to {largest:.2g}"
    return ComparedRow(what, hashes[0][:12], words, strict)


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
    if shapes[0] != shapes[1] or graphs[0].SerializeToString(deterministic=True) != graphs[1].SerializeToString(
        deterministic=True
    ):
        return None
    return max((_largest(array, weights[1][name]) for name, array in weights[0].items()), default=0.0)


def _largest(one: Any, two: Any) -> float:
    if np.array_equal(one, two, equal_nan=np.issubdtype(one.dtype, np.floating)):
        return 0.0
    return float(np.max(np.abs(one.astype(np.float64) - two.astype(np.float64)), initial=0.0))


def _scores(before: Made, now: Made, tolerance: float) -> Iterator[ComparedRow]:
    """A row for each row of the metrics table, with the score or interval end that differs most."""
    one, two = dict(_leaves(before.metrics)), dict(_leaves(now.metrics))
    groups: dict[str, list[str]] = {}
    for name in sorted({*one, *two}):
        groups.setdefault(_group(name), []).append(name)
    for group, names in groups.items():
        worst = max(names, key=lambda name: _distance(one.get(name), two.get(name)))
        distance = _distance(one.get(worst), two.get(worst))
        answer: Answer = "same" if distance == 0 else "within" if distance <= tolerance else "other"
        shown = worst.removeprefix(f"{group}/")
        what = group if answer == "same" else f"{group}: {shown}"
        yield ComparedRow(what, _shown(one.get(worst), answer), _shown(two.get(worst), answer), answer)


def _leaves(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items = values.items() if isinstance(values, Mapping) else enumerate(values) if isinstance(values, list) else None
    if items is None:
        yield prefix.removesuffix("/"), values
        return
    for key, value in items:
        yield from _leaves(value, f"{prefix}{key}/")


def _group(name: str) -> str:
    parts = name.split("/")
    # rows/<protocol>/<weights>/<modalities>/…
    return "/".join(parts[:4] if parts[0] == "rows" else parts[:1])


def _distance(one: Any, two: Any) -> float:
    if one == two:
        return 0.0
    if isinstance(one, int | float) and isinstance(two, int | float):
        # NaN on both sides is no difference; NaN on one side is.
        both_nan = one != one and two != two
        return 0.0 if both_nan else float(np.nan_to_num(abs(one - two), nan=np.inf))
    return float("inf")


def _shown(value: Any, answer: Answer) -> str:
    if answer == "same":
        return ""
    return f"{value:.9f}" if isinstance(value, float) else str(value)
