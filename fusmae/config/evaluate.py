"""The section `evaluate` of params.yaml."""

from pydantic import Field

from fusmae.config.section import Count, Section, Share


class EvaluateConfig(Section):
    """How scores over the whole test set are computed."""

    batch_size: Count  # number of pairs in a batch
    neighbours: Count  # number k of neighbours of kNN
    threshold: Share  # probability from which a class counts as predicted, for F1
    bootstrap_resamples: int = Field(ge=0)  # number of bootstrap draws over places; 0 for no intervals
