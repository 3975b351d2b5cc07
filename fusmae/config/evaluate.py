"""The section `evaluate` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Section, Share


class EvaluateConfig(Section):
    """How scores over the whole test set are computed.

    Attributes:
        batch_size: number of pairs in a batch.
        neighbours: number k of neighbours of kNN.
        threshold: probability from which a class counts as predicted, for F1.
        bootstrap_resamples: number of bootstrap draws over places; 0 for no intervals.
    """

    batch_size: int = Field(gt=0)
    neighbours: int = Field(gt=0)
    threshold: Share
    bootstrap_resamples: int = Field(ge=0)
