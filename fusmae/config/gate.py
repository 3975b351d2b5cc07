"""The sections `gate`, `encoder_gate` and `drift` of params.yaml; no stage reads them."""

from typing import Literal

from pydantic import Field

from fusmae.config.section import Count, Rate, Section, Share


class EncoderThresholds(Section):
    """What a challenger among encoders must reach to become champion; no stage reads it."""

    # Name of the score that must not drop; primary is micro AP, top-1 accuracy, mean IoU or R², by the kind of labels.
    metric: Literal["primary", "micro_ap", "macro_ap", "accuracy", "balanced_accuracy", "miou", "pixel_accuracy", "r2"]
    bootstrap_resamples: Count  # number of paired bootstrap draws over test pairs
    confidence: float = Field(gt=0.5, lt=1.0)  # confidence level of the difference's interval
    max_loss: Share  # largest drop of the metric below the champion's that the interval may include
    min_by_setting: dict[str, Share]  # lowest value of the metric, by the modalities that are given, such as `s1+s2`
    max_parity_error: Rate  # largest difference between the outputs of ONNX and torch
    max_latency_ms: Rate  # longest median latency of one pair in milliseconds, on the machine that runs the gate
    max_latency_ratio: Rate  # largest ratio of the latency to the champion's, both measured in turns
    max_size_mb: Rate  # largest size of the ONNX file in MB


class Thresholds(EncoderThresholds):
    """What a challenger among finetuned models must reach to become champion; no stage reads it."""

    min_class_score: Share  # lowest score of each class: AP, recall or IoU, by the kind of labels
    min_class_pairs: Count  # number of test pairs below which a class is not judged
    class_floors: dict[str, Share]  # lowest score of some classes by name, in place of `min_class_score`
    max_calibration_error: Share  # largest expected calibration error; values have none


class DriftThresholds(Section):
    """When new scenes are too far from the training data."""

    # Share of scenes like those of validation that may count as drift, over all measures together.
    false_alarms: float = Field(gt=0.0, lt=0.5)
    draws: int = Field(ge=20)  # number of draws of validation scenes, which show how much scenes usually differ
    min_band_shift: float = Field(ge=0.0)  # shift in training standard deviations below which no band counts as drift
    neighbours: Count  # number of nearest training tiles by which it is judged whether a tile is near the training data
    max_tiles: Count  # approximate largest number of a scene's tiles that are compared
