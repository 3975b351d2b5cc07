"""The sections `export`, `variants`, `reference` and `register_as` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Rate, Section, Share


class ExportConfig(Section):
    """The ONNX graph and how closely it must follow torch.

    Attributes:
        opset: ONNX operator set; the older, the more runtimes run the graph.
        max_abs_error: largest difference of logits and of probabilities.
    """

    opset: int = Field(ge=17, le=25)
    max_abs_error: Rate


class VariantsConfig(Section):
    """Smaller graphs of the exported one.

    Attributes:
        calibration_pairs: of train, whose activations say what 8 bits must cover.
        batch_size: pairs a run, where latency is measured beside batch 1.
        rounds: how often each graph is run for its latency.
        bootstrap_resamples: paired draws over test pairs.
        confidence: of the interval of a difference.
        max_ap_loss: the interval may reach this far below the fp32 graph.
    """

    calibration_pairs: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    rounds: int = Field(gt=0)
    bootstrap_resamples: int = Field(gt=0)
    confidence: float = Field(gt=0.5, lt=1.0)
    max_ap_loss: Share


class ReferenceConfig(Section):
    """What a model's reference keeps of its data, for new scenes to be compared with.

    Attributes:
        train_tiles: at most so many.
        validation_tiles: likewise.
        tiles_per_scene: likewise, of one acquisition among validation's.
    """

    # Two neighbours of a tile are one too few to say what is near.
    train_tiles: int = Field(ge=3)
    validation_tiles: int = Field(gt=0)
    tiles_per_scene: int = Field(gt=0)


class RegisterConfig(Section):
    """Where a version is registered."""

    model_name: str = Field(min_length=1)
    experiment: str = Field(min_length=1)
