"""The service's answers, and the texts and examples of its OpenAPI document."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, Field


class ModelName(BaseModel):
    """The model version that answered."""

    name: str = Field(examples=["fusmae"])
    version: str = Field(examples=["3"], description="empty for a plain ONNX file")
    sha256: str = Field(description="SHA-256 of the ONNX file")


class Answer(BaseModel):
    """What every answer about a request's tiles states."""

    model: ModelName
    modalities: list[str] = Field(examples=[["s1", "s2"]], description="modalities of the request")
    warnings: list[str] = Field(examples=[[]], description="unusual findings that one tile can't prove")


class Prediction(Answer):
    """Probabilities of a request's tiles, in the request's order."""

    classes: list[str] = Field(examples=[["Urban fabric", "Pastures", "Inland waters"]])
    probabilities: list[list[float]] = Field(examples=[[[0.02, 0.91, 0.13]]], description="[B, K]: one row per tile")


class Embeddings(Answer):
    """Embeddings of a request's tiles, in the request's order."""

    embeddings: list[list[float]] = Field(examples=[[[0.31, -1.2, 0.05]]], description="[B, D]: one row per tile")


class ModelDescription(ModelName):
    """Inputs that the model takes, and where the model comes from."""

    inputs: list[dict[str, Any]] = Field(description="arrays by name: modality, units, gsd_m, bands, side_px")
    modalities: list[str]
    tile_m: int
    classes: list[str] = Field(description="empty for an encoder, which answers /embed only")
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


DESCRIPTION = """Land cover of tiles, and their embeddings. `GET /model` names the arrays that the model takes, with
their units: S1 is in dB, S2 in digital numbers (reflectance times 10,000, without the offset of 1000). Arrays of an
absent modality are left out. Each answer names the model version that gave it. The service has no authentication: put
a proxy before it."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "The body is too large; it was not read."},
    415: {"model": Refusal, "description": "Another content type."},
    422: {"model": Refusal, "description": "Wrong shape, units, bands, CRS or grid, or damaged."},
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
    "application/x-npz": {"schema": _NPZ},
    "application/json": {"schema": _JSON, "example": {"inputs": _EXAMPLE}},
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
