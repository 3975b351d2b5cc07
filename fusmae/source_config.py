"""The section `data.source` of params.yaml: each raw dataset's name and settings."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fusmae.section import Section


class _SourceSection(Section):
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """All but the name: what the source's reader is made with."""
        return self.model_dump(exclude={"name"})


BROUGHT_BY_HAND = ("folder",)
"""Sources whose raw files a user may change at any time; those of the others are fetched and stay."""


class SampleConfig(_SourceSection):
    """60 real BigEarthNet-MM pairs from the Python package index."""

    name: Literal["sample"]


class BigEarthNetConfig(_SourceSection):
    """BigEarthNet-MM.

    Attributes:
        version: 1, or 2 (reBEN).
        countries: as the dataset's table spells them; none for all.
        snow_and_clouds: take the pairs with seasonal snow, cloud or cloud shadow too.
    """

    name: Literal["bigearthnet"]
    version: Literal[1, 2]
    countries: list[str]
    snow_and_clouds: bool


class Sen12msConfig(_SourceSection):
    """SEN12MS.

    Attributes:
        seasons: which of the four archives; none for all.
        validation_share: share of the training scenes that is carved for validation.
        labels: every IGBP class of a share of 0.1 and more, or the one with the largest share.
    """

    name: Literal["sen12ms"]
    seasons: list[Literal["spring", "summer", "fall", "winter"]]
    validation_share: Annotated[float, Field(gt=0.0, lt=1.0)]
    labels: Literal["multi", "single"]


class SyntheticConfig(_SourceSection):
    """A generated world in BigEarthNet v2's layout.

    Attributes:
        num_pairs: its size.
        seed: another seed is another world.
    """

    name: Literal["synthetic"]
    num_pairs: int = Field(ge=50)
    seed: int = Field(ge=0)


class FolderConfig(_SourceSection):
    """A user's own pairs of GeoTIFFs in `data/raw/folder`.

    Attributes:
        classes: the class table, in the order of a label vector.
        s2_offset: what the products add to every S2 digital number, if it was not subtracted: 1000 from baseline
            04.00 on.
    """

    name: Literal["folder"]
    classes: list[str] = Field(min_length=1)
    s2_offset: int = Field(ge=0)


SourceConfig = Annotated[
    SampleConfig | BigEarthNetConfig | Sen12msConfig | SyntheticConfig | FolderConfig, Field(discriminator="name")
]
