"""How far new scenes are from what a model learned from, and whether held-out scenes are as far.

Each band is measured by the Wasserstein distance of its pixels from the training pixels (Rubner et al. 2000, "The Earth
Mover's Distance as a Metric for Image Retrieval"), in training standard deviations: a shift of all pixels by one
deviation is 1. The embedding is measured twice: by the energy distance of the tiles from the training tiles (Székely
and Rizzo 2013, "Energy statistics"), which sees another mixture of known things, and by the distance to the k-th
nearest training tile (Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors"), which sees unknown
things.

No distance means anything alone. The same measures of validation scenes, as many tiles at a time, say what is usual; a
scene drifts where one of its measures is farther out than any of theirs is in all but a chosen share of draws (the
maximum over all measures, Westfall and Young 1993, "Resampling-Based Multiple Testing"; whole scenes are drawn, with
replacement: Field and Welsh 2007, "Bootstrapping clustered data").
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fusmae.config.gate import DriftThresholds
from fusmae.inference.drift.reference import Reference
from fusmae.inference.drift.tiles import SceneTiles

MIXTURE, NOVELTY = "embedding mixture", "embedding novelty"
_USUAL = 0.95


@dataclass(frozen=True)
class Measure:
    """One distance of a scene.

    Attributes:
        name: of the band, or what of the embedding.
        modality: of the band; "" for the embedding.
        value: the distance.
        usual: what 95 % of the draws of validation scenes stay below.
        limit: beyond it is drift.
    """

    name: str
    modality: str
    value: float
    usual: float
    limit: float

    @property
    def is_beyond(self) -> bool:
        """Whether this measure says drift."""
        return self.value > self.limit


@dataclass(frozen=True)
class Drift:
    """What was found of a scene.

    Attributes:
        measures: of every band that is there, then of the embedding.
        setting: of the tiles whose embedding was measured.
        num_tiles: that were looked at.
        num_embedded: those of the setting.
        num_drawn: validation tiles in a draw, at most: as many as have a band, or the setting.
        num_pooled: validation scenes in a draw, on average.
        false_alarms: the share of scenes like validation's that would be called drift; it can't be known to be less.
        novelty: `[N]` of each tile of the setting, the others NaN.
    """

    measures: tuple[Measure, ...]
    setting: str
    num_tiles: int
    num_embedded: int
    num_drawn: int
    num_pooled: float
    false_alarms: float
    novelty: NDArray[np.float64]

    @property
    def beyond(self) -> tuple[Measure, ...]:
        """Measures that say drift, the farthest first."""
        found = [measure for measure in self.measures if measure.is_beyond]
        return tuple(sorted(found, key=lambda measure: -measure.value / measure.limit))


def judge_scene(reference: Reference, scene: SceneTiles, thresholds: DriftThresholds, seed: int) -> Drift:
    """Compare a scene with what the model learned from; the same tiles give the same answer to the last bit.

    Args:
        reference: of the model.
        scene: its tiles.
        thresholds: what counts as drift.
        seed: of the draws.
    """
    space = _Space(reference, scene.setting, thresholds.neighbours)
    in_setting = np.array([name == scene.setting for name in scene.settings])
    has_band = np.isfinite(scene.quantiles[:, :, 0])
    bands = np.flatnonzero(has_band.any(axis=0)).tolist()
    distances = space.to_train(scene.embeddings[in_setting])
    values = [
        *(band_distance(reference, n, scene.quantiles[has_band[:, n], n]) for n in bands),
        space.mixture(distances, euclidean_distances(scene.embeddings[in_setting], scene.embeddings[in_setting])),
        float(space.novelty(distances).mean()),
    ]
    num_drawn = min(len(scene.settings), reference.facts["tiles_per_scene"])
    draws = draw_scenes(reference.validation_scenes, num_drawn, thresholds.draws, seed)
    counts = {n: int(has_band[:, n].sum()) for n in bands}
    usual, limits = _limits(_null(reference, space, counts, int(in_setting.sum()), draws), thresholds, len(bands))
    names = [(reference.bands[n].name, reference.bands[n].modality) for n in bands] + [(MIXTURE, ""), (NOVELTY, "")]
    novelty = np.full(len(in_setting), np.nan)
    novelty[in_setting] = space.novelty(distances)
    return Drift(
        tuple(Measure(*name, *map(float, found)) for name, *found in zip(names, values, usual, limits, strict=True)),
        scene.setting,
        num_tiles=len(scene.settings),
        num_embedded=int(in_setting.sum()),
        num_drawn=num_drawn,
        num_pooled=float(np.mean([len(np.unique(reference.validation_scenes[rows])) for rows in draws])),
        false_alarms=max(thresholds.false_alarms, 1 / (reference.num_scenes + 1)),
        novelty=novelty,
    )


def band_distance(reference: Reference, band: int, quantiles: NDArray[np.float32]) -> float:
    """Wasserstein distance of tiles `[N, 32]` from the training pixels of a band, in training standard deviations."""
    return wasserstein_distance(quantiles.ravel(), reference.train_quantiles[band]) / float(reference.train_std[band])


def wasserstein_distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The area between the distribution functions of two samples `[N]` and `[M]`, as scipy gives it.

    Here for maps and drift to run without scipy: 140 MB of an image.
    """
    one, other = np.sort(one.astype(np.float64)), np.sort(other.astype(np.float64))
    both = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(sample, both[:-1], "right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(both))


def euclidean_distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances `[N, M]` of points `[N, D]` from points `[M, D]`; of equal points 0 but for rounding."""
    centre = other.mean(axis=0, dtype=np.float64)
    left, right = one - centre, other - centre
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2 * left @ right.T
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return found


def energy_distance(cross: NDArray[np.float64], within: NDArray[np.float64], other_within: float) -> float:
    """Energy distance of two samples, 2 E|X-Y| - E|X-X'| - E|Y-Y'|; 0 where they are the same.

    Args:
        cross: distances `[N, T]` of one sample's points from the other's.
        within: distances `[N, N]` in the first.
        other_within: their mean in the second.
    """
    return float(2 * cross.mean() - within.mean() - other_within)


def draw_scenes(scenes: NDArray[np.int32], num_tiles: int, num_draws: int, seed: int) -> list[NDArray[np.int64]]:
    """Tiles of whole scenes, drawn with replacement until there are enough; more of a scene than are wanted are cut.

    Args:
        scenes: `[V]`, each tile's scene.
        num_tiles: in a draw.
        num_draws: how often.
        seed: of the draws.

    Returns:
        Rows `[num_tiles]` a draw.
    """
    random = np.random.Generator(np.random.Philox(seed))
    rows_of = [np.flatnonzero(scenes == scene) for scene in np.unique(scenes)]
    draws = []
    for _ in range(num_draws):
        rows = np.empty(0, np.int64)
        while len(rows) < num_tiles:
            rows = np.concatenate([rows, random.permutation(rows_of[random.integers(len(rows_of))])])
        draws.append(rows[:num_tiles])
    return draws


class _Space:
    """The embeddings of training tiles in one setting; distances are in units of that between two of them."""

    def __init__(self, reference: Reference, setting: str, neighbours: int) -> None:
        self._train = reference.train_embeddings[setting]
        self.validation = reference.validation_embeddings[setting]
        within = euclidean_distances(self._train, self._train)
        self._unit = float(within.mean())
        self._neighbours = min(neighbours, len(self._train) - 1)
        # Of a training tile, the nearest is itself.
        nearest = np.partition(within, self._neighbours, axis=1)[:, self._neighbours]
        self._usual_nearest = float(np.median(nearest)) / self._unit

    def to_train(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances `[N, T]` of `[N, D]` from the training tiles."""
        return euclidean_distances(embeddings, self._train) / self._unit

    def mixture(self, to_train: NDArray[np.float64], within: NDArray[np.float64]) -> float:
        """Energy distance; `within` in units of the embedding."""
        return energy_distance(to_train, within / self._unit, 1.0)

    def novelty(self, to_train: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each tile's k-th nearest training tile is, `[N]`; 1 is the median of training tiles."""
        k = self._neighbours - 1
        found: NDArray[np.float64] = np.partition(to_train, k, axis=1)[:, k] / self._usual_nearest
        return found


def _null(
    reference: Reference,
    space: _Space,
    counts: Mapping[int, int],
    num_embedded: int,
    draws: Sequence[NDArray[np.int64]],
) -> NDArray[np.float64]:
    """The measures of draws of validation tiles, `[draws, measures]`.

    Each is of as many tiles as the scene's own measure is: few tiles are farther from the training data than many, and
    a band may be in few tiles of a scene.

    Args:
        reference: of the model.
        space: of the embeddings.
        counts: the scene's tiles that have a band, by its number.
        num_embedded: those whose embedding is measured.
        draws: rows of validation tiles; of more than are wanted the first count, whole scenes as long as they last.
    """
    to_train, within = space.to_train(space.validation), euclidean_distances(space.validation, space.validation)
    novelty = space.novelty(to_train)
    return np.array(
        [
            [
                *(
                    band_distance(reference, band, reference.validation_quantiles[rows[:count], band])
                    for band, count in counts.items()
                ),
                space.mixture(to_train[embedded], within[np.ix_(embedded, embedded)]),
                novelty[embedded].mean(),
            ]
            for rows, embedded in ((rows, rows[:num_embedded]) for rows in draws)
        ]
    )


def _limits(
    null: NDArray[np.float64], thresholds: DriftThresholds, num_bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What is usual of each measure, and its limit."""
    usual = np.maximum(np.quantile(null, _USUAL, axis=0, method="higher"), np.finfo(np.float32).tiny)
    farthest = (null / usual).max(axis=1)
    limits = usual * np.quantile(farthest, 1 - thresholds.false_alarms, method="higher")
    limits[:num_bands] = np.maximum(limits[:num_bands], thresholds.min_band_shift)
    return usual, limits
