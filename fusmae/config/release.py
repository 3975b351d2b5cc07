"""The sections `export`, `variants`, `reference` and `register_as` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Count, Rate, Section, Share


class ExportConfig(Section):
    """The ONNX graph and how closely it must follow torch."""

    opset: int = Field(ge=17, le=25)  # ONNX operator set; the older it is, the more runtimes can run the graph
    # Largest absolute difference of outputs to those of torch; of values, in their standard deviations.
    max_abs_error: Rate


class VariantsConfig(Section):
    """Smaller graphs that are made from the exported one."""

    calibration_pairs: Count  # number of train pairs whose activations give the ranges that 8 bits must cover
    batch_size: Count  # number of pairs per run, with which latency is measured besides batch size 1
    rounds: Count  # number of runs of each graph when its latency is measured
    bootstrap_resamples: Count  # number of paired bootstrap draws over test pairs
    confidence: float = Field(gt=0.5, lt=1.0)  # confidence level of a difference's interval
    # Largest drop of a score (AP, accuracy, IoU, R²) below the fp32 graph's that the interval may include.
    max_loss: Share


class ReferenceConfig(Section):
    """How much of its data a model's reference keeps, with which new scenes are compared."""

    # At least three: with two tiles each has only one neighbour, too few to judge distances by.
    train_tiles: int = Field(ge=3)  # maximum number of train tiles
    validation_tiles: Count  # maximum number of validation tiles
    tiles_per_scene: Count  # maximum number of validation tiles from one acquisition


class RegisterConfig(Section):
    """Where a version is registered."""

    model_name: str = Field(min_length=1)  # name of the registered model in MLflow
    encoder_name: str = Field(min_length=1)  # name of the registered encoder
    experiment: str = Field(min_length=1)  # name of the MLflow experiment
