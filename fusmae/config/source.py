"""The section `data.source` of params.yaml: each raw dataset's name and settings."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from fusmae.config.section import Section
from fusmae.config.task import KINDS, Kind, Value
from fusmae.modalities import BIGEARTHNET, SEN12MS, Modality
from fusmae.runs.utf8 import composed


class _SourceSection(Section):
    """A raw dataset."""

    on_disk: ClassVar[Mapping[str, Modality]] = {}  # what it has, by modality; empty where the user's files decide that
    name: str  # name of the dataset

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kinds of labels that it offers."""
        return ("multilabel",)

    @property
    def settings(self) -> dict[str, Any]:
        """All values but the name: the arguments of the source's reader."""
        return self.model_dump(exclude={"name"})

    def faults(self, modalities: Mapping[str, Modality]) -> Iterator[str]:
        """Messages about configured modalities, bands, units and resolutions that the dataset does not have."""
        for key, modality in modalities.items() if self.on_disk else ():
            known = self.on_disk.get(key)
            if known is None:
                yield f"modalities.{key}: {self.name} has no such modality; expected {', '.join(self.on_disk)}"
                continue
            if modality.units != known.units:
                yield f"modalities.{key}.units: got {modality.units}; {self.name} has {key} in {known.units}"
            for band, gsd_m in modality.gsds_m.items():
                if fault := _band_fault(band, gsd_m, known.gsds_m):
                    yield f"modalities.{key}: {self.name} {fault}"


def _band_fault(band: str, gsd_m: int, known: Mapping[str, int]) -> str:
    if band in known:
        return "" if known[band] == gsd_m else f"has band {band} at {known[band]} m; got {gsd_m} m"
    plain = re.sub(r"^B(\d)$", r"B0\1", band.upper())
    # Names are short: one right letter of two counts as near.
    near = [plain] if plain in known else difflib.get_close_matches(plain, known, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"has no band {band}; {hint}It has {', '.join(known)}"


PROVIDED_BY_USER = ("folder",)
"""Sources whose raw files a user may change at any time; those of the others are fetched and stay."""

FOLDER_DESCRIPTION = "folder.yaml"
"""Name of the file in a folder of a user's own pairs that has their section `data`: classes, bands, a tile's side."""


class SampleConfig(_SourceSection):
    """60 real BigEarthNet-MM pairs from the Python package index."""

    on_disk: ClassVar[Mapping[str, Modality]] = BIGEARTHNET
    name: Literal["sample"]


class BigEarthNetConfig(_SourceSection):
    """BigEarthNet-MM."""

    on_disk: ClassVar[Mapping[str, Modality]] = BIGEARTHNET
    name: Literal["bigearthnet"]
    version: Literal[1, 2]  # version of the dataset: 1, or 2 (reBEN)
    countries: list[str]  # names of the countries, as the dataset's table spells them; an empty list for all
    snow_and_clouds: bool  # whether pairs with seasonal snow, cloud or cloud shadow are taken too

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Version 2 has reference maps."""
        return ("multilabel", "segmentation") if self.version == 2 else ("multilabel",)


class Sen12msConfig(_SourceSection):
    """SEN12MS."""

    on_disk: ClassVar[Mapping[str, Modality]] = SEN12MS
    name: Literal["sen12ms"]
    seasons: list[Literal["spring", "summer", "fall", "winter"]]  # names of the archives to take; an empty list for all
    validation_share: float = Field(gt=0.0, lt=1.0)  # share of the training scenes that is split off for validation

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Every IGBP class that covers a share of 0.1 or more, the largest class, or the land-cover maps."""
        return ("multilabel", "multiclass", "segmentation")

    @model_validator(mode="before")
    @classmethod
    def _kind_says_which_labels(cls, values: Any) -> Any:
        if isinstance(values, dict) and "labels" in values:
            kind = {"multi": "multilabel", "single": "multiclass"}.get(str(values["labels"]), "multilabel")
            raise ValueError(
                f"got labels {values['labels']}; expected no such key: delete it, and write data.kind: {kind}"
            )
        return values


class SyntheticConfig(_SourceSection):
    """A generated world in BigEarthNet v2's layout."""

    on_disk: ClassVar[Mapping[str, Modality]] = BIGEARTHNET
    name: Literal["synthetic"]
    num_pairs: int = Field(ge=50)  # number of pairs
    seed: int = Field(ge=0)  # random seed; another seed gives another world
    value_per: Literal["tile", "pixel"] = "pixel"  # what has one number where the kind is regression

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All of them."""
        return KINDS


class FolderConfig(_SourceSection):
    """A user's own pairs of GeoTIFFs in `data/raw/folder`."""

    name: Literal["folder"]
    # Names of the classes, in the order of a label vector; an empty list where no pair has a label, or for a value.
    classes: list[str]
    # Numbers of the classes in the maps of a segmentation, in the order of `classes`; 0, 1, … where the list is empty.
    class_values: list[int] = Field(default_factory=list)
    # Numbers of pixels without a class in the maps, besides what a map states as nodata.
    ignore_values: list[int] = Field(default_factory=lambda: [255])
    value: Value | None = None  # quantity of a regression; None for labels that are classes
    # Offset that the products add to every S2 digital number, if it was not subtracted: 1000 from baseline 04.00 on.
    s2_offset: int = Field(ge=0)
    # Units of the files of backscatter, by modality: power and amplitude are converted to dB. dB where none are named.
    units: dict[str, Literal["dB", "power", "amplitude"]] = Field(default_factory=dict)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """A value makes a regression; classes make the others."""
        return ("regression",) if self.value is not None else ("multilabel", "multiclass", "segmentation")

    @model_validator(mode="after")
    def _labels_are_of_one_sort(self) -> "FolderConfig":
        if self.value is not None and self.classes:
            raise ValueError(f"got value {self.value.name} and classes {self.classes}; expected one: leave classes: []")
        values = self.class_values
        if values and (len(values) != len(self.classes) or len(set(values)) < len(values)):
            raise ValueError(f"got class_values {values}; expected a number of its own for each of {self.classes}")
        if both := set(values or range(len(self.classes))) & set(self.ignore_values):
            raise ValueError(f"got {sorted(both)} as ignore_values and as numbers of classes; expected either")
        return self

    def faults(self, modalities: Mapping[str, Modality]) -> Iterator[str]:
        """Messages about a modality named like the folder of maps, and linear units of what is no backscatter."""
        if "maps" in modalities:
            yield "modalities.maps: got a modality named maps; expected another name: maps/ holds the maps of labels"
        for key, units in self.units.items():
            known = modalities.get(key)
            if units != "dB" and (known is None or known.unit.quantity != "backscatter"):
                is_other = "data.modalities lacks it" if known is None else f"its pixels are {known.unit.noun}"
                yield f"source.units.{key}: got {units}; expected that of a modality with backscatter in dB: {is_other}"

    @field_validator("classes")
    @classmethod
    def _composed_and_unique(cls, classes: list[str]) -> list[str]:
        names = [composed(name) for name in classes]
        wrong = [name for name in names if names.count(name) > 1 or not name.strip() or set(name) & set(";|")]
        if wrong:
            raise ValueError(f"got {wrong}; expected names that differ from one another, without ; and |")
        return names


SourceConfig = Annotated[
    SampleConfig | BigEarthNetConfig | Sen12msConfig | SyntheticConfig | FolderConfig, Field(discriminator="name")
]
