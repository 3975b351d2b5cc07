"""What every section of params.yaml has in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveShare = Annotated[float, Field(gt=0.0, le=1.0)]
ShareBelowOne = Annotated[float, Field(ge=0.0, lt=1.0)]
Rate = Annotated[float, Field(gt=0.0)]


class Section(BaseModel):
    """A frozen part of params.yaml: an unknown key or a wrong type is an error."""

    # Strict, so that "3" is not accepted as an integer; a whole number is still accepted as a float.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
