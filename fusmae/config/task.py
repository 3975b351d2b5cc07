"""What the labels of a data set are: its kind, and the classes or the value that a model predicts."""

from typing import Literal, get_args

from pydantic import Field, model_validator

from fusmae.config.section import Section

Kind = Literal["multilabel", "multiclass", "segmentation", "regression"]
"""multilabel: any number of classes per tile. multiclass: exactly one class per tile. segmentation: one class per pixel
of 10 m, or none. regression: a number per tile or per pixel of 10 m."""
KINDS: tuple[Kind, ...] = get_args(Kind)

ClassKind = Literal["multilabel", "multiclass", "segmentation"]
"""Kinds whose labels are classes."""


class Value(Section):
    """The quantity of a regression."""

    name: str = Field(min_length=1)  # name of the quantity, such as `above-ground biomass`
    unit: str = ""  # unit of the numbers, such as `t/ha`; "" for a number without one
    min: float | None = None  # lowest possible number; None for no limit
    max: float | None = None  # highest possible number; None for no limit
    per: Literal["tile", "pixel"] = "tile"  # what has one number: a whole tile, or a pixel of 10 m

    @model_validator(mode="after")
    def _limits_are_in_order(self) -> "Value":
        if self.min is not None and self.max is not None and self.min >= self.max:
            raise ValueError(f"got min {self.min:g} and max {self.max:g}; expected min below max")
        return self

    @property
    def title(self) -> str:
        """Name and unit, as an axis shows them: `above-ground biomass (t/ha)`."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def range(self) -> str:
        """The possible numbers, for an error."""
        ends = [f"{word} {end:g}" for word, end in (("at least", self.min), ("at most", self.max)) if end is not None]
        return " and ".join(ends) or "any number"


class Task(Section):
    """What a model learns from the labels of a data set, and predicts."""

    kind: Kind = "multilabel"  # kind of labels
    classes: tuple[str, ...] = Field(default=(), strict=False)  # names of the classes; empty for a regression
    value: Value | None = None  # quantity of a regression; None for classes

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> "Task":
        if (self.kind == "regression") != (self.value is not None):
            raise ValueError(f"got kind {self.kind} {'without' if self.value is None else 'with'} a value")
        if self.value is not None and self.classes:
            raise ValueError("got a regression with classes; expected one of the two")
        return self

    @property
    def is_dense(self) -> bool:
        """Whether each pixel of 10 m has a label, and not a tile as a whole."""
        return self.kind == "segmentation" or (self.value is not None and self.value.per == "pixel")

    @property
    def num_outputs(self) -> int:
        """Number K of classes, or 1 for a value; 0 where there are no labels."""
        return 1 if self.value is not None else len(self.classes)

    @property
    def of_tiles(self) -> "Task":
        """The task of whole tiles that goes with maps: which classes are present, or the mean value.

        A task of tiles is its own.
        """
        if not self.is_dense:
            return self
        if self.value is not None:
            return self.model_copy(update={"value": self.value.model_copy(update={"per": "tile"})})
        return self.model_copy(update={"kind": "multilabel"})

    @property
    def noun(self) -> str:
        """What a model does, for people: `multi-label classification`."""
        match self.kind:
            case "multilabel":
                return "multi-label classification"
            case "multiclass":
                return "single-label classification"
            case "segmentation":
                return "segmentation"
        return f"regression of {self.value.title if self.value else 'a value'}"
