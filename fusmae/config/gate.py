"""The sections `gate` and `drift` of params.yaml; no stage reads them."""

from typing import Literal

from pydantic import Field

from fusmae.config.section import Rate, Section, Share


class Thresholds(Section):
    """What a challenger must reach to become champion; no stage reads it.

    Attributes:
        metric: name of the score that must not drop.
        bootstrap_resamples: number of paired bootstrap draws over test pairs.
        confidence: confidence level of the difference's interval.
        max_loss: largest drop of the metric below the champion's that the interval may include.
        min_by_setting: lowest value of the metric, by the modalities that are given, such as `s1+s2`.
        min_class_ap: lowest average precision of each class.
        min_class_pairs: number of test pairs below which a class is not judged.
        class_floors: lowest average precision of some classes by name, in place of `min_class_ap`.
        max_parity_error: largest difference between the outputs of ONNX and torch.
        max_calibration_error: largest expected calibration error.
        max_latency_ms: longest median latency of one pair in milliseconds, on the machine that runs the gate.
        max_latency_ratio: largest ratio of the latency to the champion's, both measured in turns.
        max_size_mb: largest size of the ONNX file in MB.
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
    """When new scenes are too far from the training data.

    Attributes:
        false_alarms: share of scenes like those of validation that may count as drift, over all measures together.
        draws: number of draws of validation scenes, which show how much scenes usually differ.
        min_band_shift: shift of a band, in training standard deviations, below which it never counts as drift.
        neighbours: number of nearest training tiles by which it is judged whether a tile is near the training data.
        max_tiles: approximate largest number of a scene's tiles that are compared.
    """

    false_alarms: float = Field(gt=0.0, lt=0.5)
    draws: int = Field(ge=20)
    min_band_shift: float = Field(ge=0.0)
    neighbours: int = Field(ge=1)
    max_tiles: int = Field(ge=1)
