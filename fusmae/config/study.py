"""The section `study` of a study's params.yaml: what is compared, and how it is measured."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Rate, Section, Share
from fusmae.config.training import LabelKind, Readout

Protocol = Literal["knn", "probe", "finetune", "segment"]
Start = Literal["pretrained", "random", "croma_base", "dofa_base", "copernicusfm_base"]


class VariantConfig(Section):
    """One way to get an encoder.

    Attributes:
        about: description in one sentence.
        start: origin of the weights: pretrained here, random, or a rival, which is another project's backbone.
        modalities: names of the encoder's modalities; an empty list for all.
        is_stacked: whether all bands go through one projection.
        model: values that differ from section `model`.
        pretrain: values that differ from section `pretrain`.
        weights: path of a file with a rival's weights; "" for random ones.
        weights_sha256: checksum of that file, which `fusmae study` fills in, so that a changed file is measured anew.
    """

    about: str = Field(min_length=1)
    start: Start = "pretrained"
    modalities: list[str] = Field(default_factory=list)
    is_stacked: bool = False
    model: dict[str, Any] = Field(default_factory=dict)
    pretrain: dict[str, Any] = Field(default_factory=dict)
    weights: str = ""
    weights_sha256: str = ""


class StepsConfig(Section):
    """A supervised training of the study; it has the same length for few labels as for all.

    Attributes:
        steps: number of optimizer steps, the same for every share of labels.
        batch_size: number of pairs in a batch.
        learning_rate: peak learning rate of AdamW.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: Rate


class FocusConfig(Section):
    """Some of the classes, which are also scored by themselves.

    Attributes:
        about: description of what they have in common, such as "classes that need both sensors".
        classes: names of the classes.
    """

    about: str = Field(min_length=1)
    classes: list[str] = Field(min_length=1)


class StudyConfig(Section):
    """What is compared, and how.

    Attributes:
        title: title of the report.
        kind: kind of label vector: several classes, or exactly one.
        focus: classes for which the questions are also answered separately; `multilabel` only.
        variants: ways to get an encoder, by name.
        run: names of the variants that are run.
        seeds: random seeds of weights, order, masks and label subsets; each gives one cell per variant.
        shares: shares of the training labels, 0..1.
        protocols: ways in which an encoder is used.
        readout: how an encoder's tokens become one vector for kNN and probe; a rival has its own way.
        neighbours: number k of neighbours of kNN.
        finetune: training of encoder and head together.
        segment: training of the segmentation head on frozen tokens.
        clouded_share: share of a tile under cloud, where s2 is degraded.
        bootstrap_resamples: number of bootstrap draws over test places.
        num_pictures: number of pictures of each gallery and cell.
    """

    title: str = Field(min_length=1)
    kind: LabelKind
    focus: FocusConfig | None
    variants: dict[str, VariantConfig]
    run: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    shares: list[Share] = Field(min_length=1)
    protocols: list[Protocol] = Field(min_length=1)
    readout: Readout
    neighbours: int = Field(gt=0)
    finetune: StepsConfig
    segment: StepsConfig
    clouded_share: Share
    bootstrap_resamples: int = Field(ge=20)
    num_pictures: int = Field(ge=0)

    @model_validator(mode="after")
    def _focus_has_a_score(self) -> "StudyConfig":
        if self.focus and self.kind != "multilabel":
            raise ValueError(f"got study.focus with kind {self.kind}; expected kind multilabel, or focus null")
        return self

    @model_validator(mode="after")
    def _variants_are_known(self) -> "StudyConfig":
        unknown = [name for name in self.run if name not in self.variants]
        if unknown:
            raise ValueError(f"got {unknown} in run; expected names of study.variants: {list(self.variants)}")
        return self
