"""The sections `gate` and `drift` of params.yaml; no stage reads them."""

from typing import Literal

from pydantic import Field

from fusmae.config.section import Rate, Section, Share


class Thresholds(Section):
    """What a challenger must show to become champion; no stage reads it.

    Attributes:
        metric: that it must not lose.
        bootstrap_resamples: paired draws over test pairs.
        confidence: of the interval of the difference.
        max_loss: the interval may reach this far below the champion.
        min_by_setting: the metric's floor by modalities that are there, as `s1+s2`.
        min_class_ap: every class's floor.
        min_class_pairs: classes with fewer test pairs are not judged.
        class_floors: floors of some classes, in place of `min_class_ap`.
        max_parity_error: largest difference between ONNX and torch.
        max_calibration_error: expected calibration error.
        max_latency_ms: median of one pair's run on the machine that decides.
        max_latency_ratio: to the champion's, measured by turns.
        max_size_mb: of the ONNX file.
    """

    metric: Literal["micro_ap", "macro_ap"]
    bootstrap_resamples: int = Field(gt=0)
    confidence: float = Field(gt=0.5, lt=1.0)
    max_loss: Share
    min_by_setting: dict[str, Share]
    min_class_ap: Share
    min_class_pairs: int = Field(ge=1)
    class_floors: dict[str, Share]
    max_parity_error: Rate
    max_calibration_error: Share
    max_latency_ms: Rate
    max_latency_ratio: Rate
    max_size_mb: Rate


class DriftThresholds(Section):
    """When new scenes are too far from what a model learned from.

    Attributes:
        false_alarms: share of scenes like those of validation that may be called drift, all measures together.
        draws: of validation scenes, which say what is usual.
        min_band_shift: a band that is nearer never drifts, in training standard deviations.
        neighbours: training tiles by which a tile is near to them or not.
        max_tiles: of a scene that are looked at, about.
    """

    false_alarms: float = Field(gt=0.0, lt=0.5)
    draws: int = Field(ge=20)
    min_band_shift: float = Field(ge=0.0)
    neighbours: int = Field(ge=1)
    max_tiles: int = Field(ge=1)
