"""Two models that should be one: hashes, weights, scores, side by side."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fusmae.files import file_sha256

Answer = Literal["same", "within", "other", "noted"]


@dataclass(frozen=True)
class Made:
    """What a run of the pipeline made, and on what.

    Attributes:
        outs: DVC's hashes by path.
        weights: SHA-256 of weights by checkpoint folder.
        export: folder of the graph, one of the outs.
        graph: the ONNX file.
        metrics: the scores of every model, as `evaluate` wrote them.
        surroundings: libraries' versions, device and threads, by name.
    """

    outs: Mapping[str, str]
    weights: Mapping[str, str]
    export: str
    graph: Path
    metrics: Mapping[str, Any]
    surroundings: Mapping[str, str]


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        what: is compared.
        before: what it was.
        now: what it is.
        answer: the same; within the tolerance; other; or other and noted, for no verdict rests on it.
    """

    what: str
    before: str
    now: str
    answer: Answer


@dataclass(frozen=True)
class Comparison:
    """All comparisons, and what was asked of them.

    Attributes:
        rows: one a thing.
        expects_bits: libraries, device and threads are the same, so the same bits are asked for.
        tolerance: of each score, absolute.
    """

    rows: tuple[Row, ...]
    expects_bits: bool
    tolerance: float
    other: tuple[Row, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "other", tuple(row for row in self.rows if row.answer == "other"))

    @property
    def is_reproduced(self) -> bool:
        """Nothing is other than it may be."""
        return not self.other


def compare(before: Made, now: Made, tolerance: float) -> Comparison:
    """Compare what was made then with what was made now.

    Where the surroundings are the same, every hash must be; checkpoints and graph may carry another commit in their
    notes, so there the weights must be. Elsewhere only the scores are judged, within the tolerance.

    Args:
        before: what was registered.
        now: what was made again.
        tolerance: largest difference of a score, absolute.
    """
    surroundings = tuple(_surroundings(before, now))
    expects_bits = not surroundings
    strict: Answer = "other" if expects_bits else "noted"
    rows = (*surroundings, *_outs(before, now, strict), _graph(before, now, strict), *_scores(before, now, tolerance))
    return Comparison(rows, expects_bits, tolerance)


def _surroundings(before: Made, now: Made) -> Iterator[Row]:
    for name in sorted({*before.surroundings, *now.surroundings}):
        one, two = (made.surroundings.get(name, "not recorded") for made in (before, now))
        if one != two:
            yield Row(name, one, two, "noted")


def _outs(before: Made, now: Made, strict: Answer) -> Iterator[Row]:
    for path, md5 in before.outs.items():
        found = now.outs.get(path, "not made")
        if found == md5:
            yield Row(path, md5[:12], found[:12], "same")
        elif path == before.export:
            continue  # the graph's own row says more
        elif path in before.weights and before.weights[path] == now.weights.get(path):
            yield Row(f"{path}: weights", before.weights[path][:12], now.weights[path][:12], "same")
        else:
            yield Row(path, md5[:12], found[:12], strict)


def _graph(before: Made, now: Made, strict: Answer) -> Row:
    hashes = [file_sha256(made.graph) for made in (before, now)]
    what = f"{before.export}/{now.graph.name}"
    if hashes[0] == hashes[1]:
        return Row(what, hashes[0][:12], hashes[1][:12], "same")
    largest = graph_difference(before.graph, now.graph)
    if largest == 0:
        return Row(f"{what}: graph and weights", "", "differ in their notes only", "same")
    words = "another graph" if largest is None else f"weights differ by up to {largest:.2g}"
    return Row(what, hashes[0][:12], words, strict)


def graph_difference(one: Path, two: Path) -> float | None:
    """Largest difference between two ONNX files' weights; None where the graphs themselves differ."""
    import onnx

    graphs = [onnx.load(path).graph for path in (one, two)]
    weights = [{item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer} for graph in graphs]
    for graph in graphs:
        del graph.initializer[:]
        for node in graph.node:  # an older export's stack traces name the folder that it ran in
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


def _scores(before: Made, now: Made, tolerance: float) -> Iterator[Row]:
    """A row for each row of the metrics table: its scores and interval ends, and the one that differs most."""
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
        yield Row(what, _shown(one.get(worst), answer), _shown(two.get(worst), answer), answer)


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
        # Not a number on both sides is no difference; on one side it is.
        both_nan = one != one and two != two
        return 0.0 if both_nan else float(np.nan_to_num(abs(one - two), nan=np.inf))
    return float("inf")


def _shown(value: Any, answer: Answer) -> str:
    if answer == "same":
        return ""
    return f"{value:.9f}" if isinstance(value, float) else str(value)
