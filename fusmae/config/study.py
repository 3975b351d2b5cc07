"""The section `study` of a study's params.yaml: what is compared, and how it is measured."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Rate, Section, Share
from fusmae.config.training import ReadoutName

Protocol = Literal["knn", "probe", "finetune", "segment"]
Start = Literal["pretrained", "random", "croma_base", "dofa_base", "copernicusfm_base"]


class VariantConfig(Section):
    """One way to come by an encoder.

    Attributes:
        about: what it is, in a sentence.
        start: pretrained here, as initialised, or a rival of another project.
        modalities: that it has; none for all.
        is_stacked: all bands through one projection.
        model: values that differ from section `model`.
        pretrain: values that differ from section `pretrain`.
        weights: file of a rival's weights; "" for random ones.
        weights_sha256: of that file, which `fusmae study` fills in: so a changed file is measured anew.
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
    """A supervised training of the study: as long for few labels as for all.

    Attributes:
        steps: of the optimizer, whatever the share of labels.
        batch_size: pairs in a batch.
        learning_rate: of AdamW at its peak.
    """

    steps: int = Field(gt=0)
    batch_size: int = Field(gt=0)
    learning_rate: Rate


class FocusConfig(Section):
    """Some of the classes, scored by themselves, too.

    Attributes:
        about: what they have in common: "classes that need both sensors".
        classes: names.
    """

    about: str = Field(min_length=1)
    classes: list[str] = Field(min_length=1)


class StudyConfig(Section):
    """What is compared.

    Attributes:
        title: of the report.
        kind: what a label vector means: several classes, or exactly one.
        focus: classes that the questions are asked about once more; `multilabel` only.
        variants: ways to come by an encoder, by name.
        run: names of the variants that are run.
        seeds: of weights, order, masks and label subsets; each gives a cell a variant.
        shares: of the training labels.
        protocols: how an encoder is used.
        readout: how kNN and probe see an encoder's tokens; a rival has its own.
        neighbours: k of kNN.
        finetune: of encoder and head together.
        segment: of the head on frozen tokens.
        clouded_share: of a tile under cloud, where s2 is degraded.
        bootstrap_resamples: draws over test places.
        num_pictures: of each gallery and cell.
    """

    title: str = Field(min_length=1)
    kind: Literal["multilabel", "multiclass"]
    focus: FocusConfig | None
    variants: dict[str, VariantConfig]
    run: list[str] = Field(min_length=1)
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    shares: list[Share] = Field(min_length=1)
    protocols: list[Protocol] = Field(min_length=1)
    readout: ReadoutName
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
