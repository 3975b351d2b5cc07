"""The service's answers, and the texts and examples of its OpenAPI document."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from fusmae.config.task import Task
from fusmae.data.pixels import NO_CLASS


class ModelName(BaseModel):
    """The model version that answered."""

    name: str = Field(examples=["fusmae"])
    version: str = Field(examples=["3"], description="empty for a plain ONNX file")
    sha256: str = Field(description="SHA-256 of the ONNX file")


JSON, NPZ, GEOTIFF = "application/json", "application/x-npz", "image/tiff"


class PredictQuery(BaseModel):
    """What an address may say after its `?`."""

    model_config = ConfigDict(extra="forbid")

    probabilities: bool = Field(
        default=False, description="whether a model of maps of classes also gives the probability of each class"
    )


# Arrays stay arrays until an answer is written, as JSON or in another format.
_SCHEMA = WithJsonSchema({"type": "array", "items": {}})
Numbers = Annotated[NDArray[Any], PlainSerializer(lambda array: array.tolist()), _SCHEMA]
RoundedNumbers = Annotated[
    NDArray[Any], PlainSerializer(lambda array: array.astype(np.float64).round(6).tolist()), _SCHEMA
]


class Answer(BaseModel):
    """What every answer about a request's tiles states."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: ModelName
    modalities: list[str] = Field(examples=[["s1", "s2"]], description="modalities of the request")
    warnings: list[str] = Field(examples=[[]], description="unusual findings that one tile can't prove")


class TileClasses(Answer):
    """Probabilities of classes of whole tiles, in the request's order."""

    kind: Literal["multilabel", "multiclass"] = Field(description="multilabel: any number of classes; multiclass: one")
    classes: list[str] = Field(examples=[["Urban fabric", "Pastures", "Inland waters"]])
    probabilities: Numbers = Field(examples=[[[0.02, 0.91, 0.13]]], description="[B, K]: one row per tile")


class ClassMaps(Answer):
    """The most probable class of each pixel of 10 m, rows from the north, in the request's order."""

    kind: Literal["segmentation"]
    classes: list[str] = Field(examples=[["Urban fabric", "Pastures", "Inland waters"]])
    map: Numbers = Field(
        examples=[[[[1, 1], [1, 2]]]],
        description=f"[B, h, w]: positions in `classes`, from 0; {NO_CLASS} where a GeoTIFF has no data",
    )
    probabilities: RoundedNumbers | None = Field(
        default=None,
        examples=[None],
        description="[B, K, h, w], with `?probabilities=true`; in JSON rounded to six digits, null without data",
    )


class Quantity(BaseModel):
    """What the numbers of a regression measure."""

    name: str = Field(examples=["above-ground biomass"])
    unit: str = Field(examples=["t/ha"], description="empty for a number without a unit")


class Values(Answer):
    """Values of tiles, or of each of their pixels of 10 m, rows from the north, in the request's order."""

    kind: Literal["regression"]
    value: Quantity
    values: Numbers = Field(
        examples=[[131.5]],
        description="[B], or [B, h, w] from a model of values per pixel; null where a GeoTIFF has no data",
    )


Prediction = Annotated[TileClasses | ClassMaps | Values, Field(discriminator="kind")]


class Embeddings(Answer):
    """Embeddings of a request's tiles, in the request's order."""

    embeddings: Numbers = Field(examples=[[[0.31, -1.2, 0.05]]], description="[B, D]: one row per tile")


class ModelDescription(ModelName):
    """Inputs that the model takes, and where the model comes from."""

    inputs: list[dict[str, Any]] = Field(description="arrays by name: modality, units, gsd_m, bands, side_px")
    modalities: list[str]
    tile_m: int
    task: Task | None = Field(description="what the model predicts; null for an encoder, which answers /embed only")
    classes: list[str] = Field(description="empty for an encoder and for a model of values")
    data: str
    git: dict[str, Any]


class RegistryHealth(BaseModel):
    """The result of the last query of the registry; the service is ready even if the registry is down."""

    status: str = Field(examples=["answers"], description="answers, fails, or not watched (no alias was named)")
    error: str = Field(examples=[""])


class Health(BaseModel):
    """Whether the service answers requests, and with which version."""

    is_ready: bool
    reference: str = Field(examples=["fusmae@champion"])
    model: ModelName
    loaded: str = Field(examples=["2026-01-31T12:00:00+00:00"])
    device: Literal["cpu", "cuda"]  # where the model runs
    registry: RegistryHealth


class Refusal(BaseModel):
    """Why there is no result."""

    error: str = Field(examples=["InputError"])  # kind of the error: InputError, Overloaded, BodyTooLarge, …
    # Message on what was wrong, what was got, what was expected and what to do next.
    text: str = Field(examples=["Tile 0, band VV looks like linear power, not dB.\n  got: …\n  expected: …\n  next: …"])


DESCRIPTION = """What a model predicts for tiles (classes per tile, maps of classes or values at 10 m, values), and
their embeddings. `GET /model` says what is predicted (`task`) and names the arrays that the model takes, with their
units: S1 is in dB, S2 in digital numbers (reflectance times 10,000, without the offset of 1000). Arrays of an absent
modality are left out. Each answer names the model version that gave it. The service has no authentication: put a proxy
before it."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    406: {"model": Refusal, "description": "`Accept` names no format in which the answer can be given."},
    408: {"model": Refusal, "description": "The body did not arrive in time."},
    413: {"model": Refusal, "description": "The body is too large; it was not read."},
    415: {"model": Refusal, "description": "Another content type."},
    422: {
        "model": Refusal,
        "description": "Wrong shape, units, bands, CRS, grid or query; damaged; or too large an answer.",
    },
    503: {"model": Refusal, "description": "Too many requests; `Retry-After` says when to ask again."},
}

_FILE = {"type": "string", "format": "binary"}
_NPZ = _FILE | {"description": "file of `numpy.savez` or `savez_compressed` with one array per input, by its name"}
_PIXELS = {"type": "array", "description": "[B, C, h, w]: tiles, bands, rows, columns", "items": {}}
_INPUTS = {"type": "object", "additionalProperties": _PIXELS}
_JSON = {"type": "object", "required": ["inputs"], "properties": {"inputs": _INPUTS}}
_EXAMPLE = {
    "s1_10m": [[[["120 × 120 numbers in dB: VV"]], [["120 × 120 numbers in dB: VH"]]]],
    "s2_60m": [[[["20 × 20 numbers: B01"]], [["20 × 20 numbers: B09"]]]],
}
_ARRAYS = {
    NPZ: {"schema": _NPZ},
    JSON: {"schema": _JSON, "example": {"inputs": _EXAMPLE}},
}
ARRAYS_BODY: dict[str, Any] = {"requestBody": {"required": True, "content": _ARRAYS}}


def geotiff_body(modalities: Iterable[str]) -> dict[str, Any]:
    """Describe a form with one tile's files, for a model that takes these modalities."""
    schema = {
        "type": "object",
        "description": "Fields are named after modalities; several files of one may have a grid each. Bands are named "
        "by their description. All files cover the same tile.",
        "properties": {key: {"type": "array", "items": _FILE} for key in modalities},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


_NPZ_ANSWER = _FILE | {
    "description": "file of `numpy.savez`: the arrays of the JSON answer by their names; `answer` is the rest, as JSON"
}
_MAP = _FILE | {
    "description": "the tile's own grid at 10 m, as a map of `fusmae predict`. Numbers of classes from 1, with palette "
    "and names, 0 without data; or with `?probabilities=true` a band of probabilities per class, uint8 with scale; or "
    "values, float32, with their unit. The rest of the answer is JSON in the tag `ANSWER`."
}


def answered(meaning: str, *, is_of_files: bool = False) -> dict[int | str, dict[str, Any]]:
    """Describe the formats of an answer besides JSON; `is_of_files` is whether it may be a GeoTIFF."""
    content = {NPZ: {"schema": _NPZ_ANSWER}} | ({GEOTIFF: {"schema": _MAP}} if is_of_files else {})
    return {200: {"description": meaning, "content": content}}
