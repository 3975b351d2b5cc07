"""The sections `export`, `variants`, `reference` and `register_as` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Rate, Section, Share


class ExportConfig(Section):
    """The ONNX graph and how closely it must follow torch.

    Attributes:
        opset: ONNX operator set; the older it is, the more runtimes can run the graph.
        max_abs_error: largest absolute difference of logits and of probabilities to those of torch.
    """

    opset: int = Field(ge=17, le=25)
    max_abs_error: Rate


class VariantsConfig(Section):
    """Smaller graphs that are made from the exported one.

    Attributes:
        calibration_pairs: number of train pairs whose activations give the ranges that 8 bits must cover.
        batch_size: number of pairs per run, with which latency is measured besides batch size 1.
        rounds: number of runs of each graph when its latency is measured.
        bootstrap_resamples: number of paired bootstrap draws over test pairs.
        confidence: confidence level of a difference's interval.
        max_ap_loss: largest drop of average precision below the fp32 graph's that the interval may include.
    """

    calibration_pairs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    rounds: int = Field(gt=0)
    bootstrap_resamples: int = Field(gt=0)
    confidence: float = Field(gt=0.5, lt=1.0)
    max_ap_loss: Share


class ReferenceConfig(Section):
    """How much of its data a model's reference keeps, with which new scenes are compared.

    Attributes:
        train_tiles: maximum number of train tiles.
        validation_tiles: maximum number of validation tiles.
        tiles_per_scene: maximum number of validation tiles from one acquisition.
    """

    # At least three: with two tiles each has only one neighbour, too few to judge distances by.
    train_tiles: int = Field(ge=3)
    validation_tiles: int = Field(gt=0)
    tiles_per_scene: int = Field(gt=0)


class RegisterConfig(Section):
    """Where a version is registered.

    Attributes:
        model_name: name of the registered model in MLflow.
        experiment: name of the MLflow experiment.
    """

    model_name: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
