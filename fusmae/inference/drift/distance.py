"""Drift of a scene: how far it is from a model's training data, compared with held-out scenes.

Each band is measured by the Wasserstein distance of its pixels from the training pixels (Rubner et al. 2000, "The Earth
Mover's Distance as a Metric for Image Retrieval"), in training standard deviations: a shift of all pixels by one
deviation is 1. The embedding is measured twice: by the energy distance of the tiles from the training tiles (Székely
and Rizzo 2013, "Energy statistics"), which responds to another mixture of known land cover, and by the distance to the
k-th nearest training tile (Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors"), which
responds to what training data did not contain.

A distance is meaningful only by comparison. The same measures of validation scenes, with as many tiles, show what is
usual. A scene drifts if one of its measures, divided by its usual value, is larger than the largest such ratio in all
but a chosen share of draws of validation scenes (the maximum over all measures: Westfall and Young 1993,
"Resampling-Based Multiple Testing"; whole scenes are drawn, with replacement: Field and Welsh 2007, "Bootstrapping
clustered data").
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
    """One distance of a scene from the training data."""

    name: str  # name of the band, or of the embedding's measure
    modality: str  # modality of the band; "" for the embedding
    value: float  # the distance
    usual: float  # value that the distance has at most in 95 % of the draws of validation scenes
    limit: float  # value above which the distance is drift

    @property
    def is_beyond(self) -> bool:
        """Whether the value is beyond its limit, which is drift."""
        return self.value > self.limit


@dataclass(frozen=True)
class Drift:
    """The comparison of a scene with a model's training data."""

    measures: tuple[Measure, ...]  # measures of every band that is present, then of the embedding
    setting: str  # modalities, as `s1+s2`, of the tiles whose embedding was measured
    num_tiles: int  # number of tiles that were read
    num_embedded: int  # number of these tiles that have the setting
    num_drawn: int  # largest number of validation tiles in a draw
    num_pooled: float  # mean number of validation scenes in a draw
    # Share of scenes like the validation scenes that would be reported as drift; with so few validation scenes, a
    # smaller share can't be shown.
    false_alarms: float
    novelty: NDArray[np.float64]  # `[N]`, the novelty of each tile of the setting; NaN for other tiles

    @property
    def beyond(self) -> tuple[Measure, ...]:
        """Measures beyond their limit, the farthest first."""
        beyond = filter(lambda measure: measure.is_beyond, self.measures)
        return tuple(sorted(beyond, key=lambda measure: -measure.value / measure.limit))


def judge_scene(reference: Reference, scene: SceneTiles, thresholds: DriftThresholds, seed: int) -> Drift:
    """Compare a scene with the model's training data; the same tiles give the same result to the last bit."""
    space = _Space(reference, scene.setting, thresholds.neighbours)
    in_setting = np.array([name == scene.setting for name in scene.settings])
    has_band = np.isfinite(scene.quantiles[:, :, 0])
    bands = np.flatnonzero(has_band.any(axis=0)).tolist()
    embeddings = scene.embeddings[in_setting]
    distances = space.to_train(embeddings)
    novelty = np.full(len(in_setting), np.nan)
    novelty[in_setting] = space.novelty(distances)
    values = [
        *(band_distance(reference, n, scene.quantiles[has_band[:, n], n]) for n in bands),
        space.mixture(distances, euclidean_distances(embeddings, embeddings)),
        novelty[in_setting].mean(),
    ]
    num_drawn = min(len(scene.settings), reference.facts["tiles_per_scene"])
    draws = draw_scenes(reference.validation_scenes, num_drawn, thresholds.draws, seed)
    counts = {n: int(has_band[:, n].sum()) for n in bands}
    usual, limits = _limits(_null(reference, space, counts, len(embeddings), draws), thresholds, len(bands))
    names = [(reference.bands[n].name, reference.bands[n].modality) for n in bands] + [(MIXTURE, ""), (NOVELTY, "")]
    return Drift(
        tuple(Measure(*name, *map(float, found)) for name, *found in zip(names, values, usual, limits, strict=True)),
        scene.setting,
        num_tiles=len(scene.settings),
        num_embedded=len(embeddings),
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

    It is computed here so that maps and drift run without scipy, which takes 140 MB of a container image.
    """
    one, other = np.sort(one.astype(np.float64)), np.sort(other.astype(np.float64))
    both = np.sort(np.concatenate([one, other]))
    shares = [np.searchsorted(sample, both[:-1], "right") / len(sample) for sample in (one, other)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(both))


def euclidean_distances(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Distances `[N, M]` of points `[N, D]` from points `[M, D]`; for equal points it is 0 except for rounding."""
    centre = other.mean(axis=0, dtype=np.float64)
    left, right = one - centre, other - centre
    squares = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0)))


def energy_distance(cross: NDArray[np.float64], within: NDArray[np.float64], other_within: float) -> float:
    """Energy distance of two samples, 2 E|X-Y| - E|X-X'| - E|Y-Y'|; 0 where they are the same.

    `cross` has the distances `[N, T]` between the samples, `within` those in the first, and `other_within` is the mean
    of those in the second.
    """
    return float(2 * cross.mean() - within.mean() - other_within)


def draw_scenes(scenes: NDArray[np.int32], num_tiles: int, num_draws: int, seed: int) -> list[NDArray[np.int64]]:
    """Draw whole scenes with replacement until there are enough tiles; surplus tiles of the last scene are dropped.

    `scenes` has the number of each tile's scene. A draw is `[num_tiles]` row numbers of tiles.
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
    """The embeddings of training tiles in one setting; distances are in units of the mean distance between two."""

    def __init__(self, reference: Reference, setting: str, neighbours: int) -> None:
        self._train = reference.train_embeddings[setting]
        self.validation = reference.validation_embeddings[setting]
        within = euclidean_distances(self._train, self._train)
        self._unit = float(within.mean())
        self._neighbours = min(neighbours, len(self._train) - 1)
        # The nearest training tile of a training tile is itself, at index 0.
        nearest = np.partition(within, self._neighbours, axis=1)[:, self._neighbours]
        self._usual_nearest = float(np.median(nearest)) / self._unit

    def to_train(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Distances `[N, T]` of `[N, D]` from the training tiles."""
        return euclidean_distances(embeddings, self._train) / self._unit

    def mixture(self, to_train: NDArray[np.float64], within: NDArray[np.float64]) -> float:
        """Energy distance from the training tiles; `within` is in units of the embedding."""
        return energy_distance(to_train, within / self._unit, 1.0)

    def novelty(self, to_train: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distance `[N]` of each tile from its k-th nearest training tile; 1 is the median of training tiles."""
        k = self._neighbours - 1
        return np.asarray(np.partition(to_train, k, axis=1)[:, k] / self._usual_nearest)


def _null(
    reference: Reference,
    space: _Space,
    counts: Mapping[int, int],
    num_embedded: int,
    draws: Sequence[NDArray[np.int64]],
) -> NDArray[np.float64]:
    """Measures `[draws, measures]` of draws of validation tiles.

    Each measure uses as many tiles as the scene's own measure does, which `counts` gives by band: few tiles are farther
    from the training data than many, and a band may be in few tiles of a scene. They are a draw's first tiles, which
    are whole scenes but for the last.
    """
    to_train, within = space.to_train(space.validation), euclidean_distances(space.validation, space.validation)
    novelty = space.novelty(to_train)

    def measures(rows: NDArray[np.int64]) -> list[float]:
        quantiles, embedded = reference.validation_quantiles, rows[:num_embedded]
        return [
            *(band_distance(reference, band, quantiles[rows[:count], band]) for band, count in counts.items()),
            space.mixture(to_train[embedded], within[np.ix_(embedded, embedded)]),
            novelty[embedded].mean(),
        ]

    return np.array([measures(rows) for rows in draws])


def _limits(
    null: NDArray[np.float64], thresholds: DriftThresholds, num_bands: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The usual value and the limit of each measure, `[measures]` each."""
    usual = np.maximum(np.quantile(null, _USUAL, axis=0, method="higher"), np.finfo(np.float32).tiny)
    farthest = (null / usual).max(axis=1)
    limits = usual * np.quantile(farthest, 1 - thresholds.false_alarms, method="higher")
    limits[:num_bands] = np.maximum(limits[:num_bands], thresholds.min_band_shift)
    return usual, limits
