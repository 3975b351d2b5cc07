"""The section `evaluate` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Section, Share


class EvaluateConfig(Section):
    """Scores over the whole test set."""

    batch_size: int = Field(gt=0)
    threshold: Share
    bootstrap_resamples: int = Field(ge=0)
