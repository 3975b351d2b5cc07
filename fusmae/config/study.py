"""The section `study` of a study's params.yaml: what is compared, and how it is measured."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fusmae.config.section import Count, Rate, Section, Share
from fusmae.config.task import Kind
from fusmae.config.training import Readout
from fusmae.errors import ConfigError

Protocol = Literal["knn", "probe", "finetune", "segment"]
_WITH_FOCUS: tuple[Kind, ...] = ("multilabel", "segmentation")
"""Kinds of which tiles have any number of classes."""
Start = Literal["pretrained", "random", "croma_base", "dofa_base", "copernicusfm_base"]


class VariantConfig(Section):
    """One way to get an encoder."""

    about: str = Field(min_length=1)  # description in one sentence
    start: Start = "pretrained"  # origin of the weights; a rival is another project's backbone
    modalities: list[str] = Field(default_factory=list)  # names of the encoder's modalities; an empty list for all
    is_stacked: bool = False  # whether all bands go through one projection
    model: dict[str, Any] = Field(default_factory=dict)  # values that differ from section `model`
    pretrain: dict[str, Any] = Field(default_factory=dict)  # values that differ from section `pretrain`
    weights: str = ""  # path of a file with a rival's weights; "" for random ones
    weights_sha256: str = (
        ""  # checksum of that file; `fusmae study` fills it in, so that a changed file is measured anew
    )


class StepsConfig(Section):
    """A supervised training of the study; it has the same length for few labels as for all."""

    steps: Count  # number of optimizer steps, the same for every share of labels
    batch_size: Count  # number of pairs in a batch
    learning_rate: Rate  # peak learning rate of AdamW


class FocusConfig(Section):
    """Some of the classes, which are also scored by themselves."""

    about: str = Field(min_length=1)  # what they have in common, such as "classes that need both sensors"
    classes: list[str] = Field(min_length=1)  # names of the classes


class StudyConfig(Section):
    """What is compared, and how."""

    title: str = Field(min_length=1)  # title of the report
    focus: FocusConfig | None  # classes for which the questions are also answered separately, by their APs
    variants: dict[str, VariantConfig]  # ways to get an encoder, by name
    run: list[str] = Field(min_length=1)  # names of the variants that are run
    # Random seeds of weights, order, masks and label subsets; each gives one cell per variant.
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    shares: list[Share] = Field(min_length=1)  # shares of the training labels, 0..1
    protocols: list[Protocol] = Field(min_length=1)  # ways in which an encoder is used
    readout: Readout  # how an encoder's tokens become one vector for kNN and probe; a rival has its own way
    neighbours: Count  # number k of neighbours of kNN
    finetune: StepsConfig  # training of encoder and head together
    segment: StepsConfig  # training of a head for maps on the frozen encoder
    clouded_share: Share  # share of a tile under cloud, where s2 is degraded
    bootstrap_resamples: int = Field(ge=20)  # number of bootstrap draws over test places
    num_pictures: int = Field(ge=0)  # number of pictures of each gallery and cell

    @model_validator(mode="before")
    @classmethod
    def _kind_is_that_of_the_data(cls, values: Any) -> Any:
        if isinstance(values, dict) and "kind" in values:
            raise ValueError(f"got kind {values['kind']}; expected no such key: delete it, data.kind says the same")
        return values

    @model_validator(mode="after")
    def _variants_are_known(self) -> "StudyConfig":
        unknown = [name for name in self.run if name not in self.variants]
        if unknown:
            raise ValueError(f"got {unknown} in run; expected names of study.variants: {list(self.variants)}")
        return self

    def require_focus_fits(self, kind: Kind) -> None:
        """Refuse classes in focus of labels that have no average precision.

        Raises:
            ConfigError: there are such classes, and tiles have one class each, or a value.
        """
        if self.focus and kind not in _WITH_FOCUS:
            raise ConfigError(
                "study.focus names classes whose average precision is compared, which these labels don't have.",
                got=f"study.focus with data.kind {kind}",
                expected=f"study.focus null, or data.kind {' or '.join(_WITH_FOCUS)}",
                hint="make study STUDY='study.focus=null …'",
            )
