"""The service's answers, as its OpenAPI document shows them."""

from typing import Any

from pydantic import BaseModel, Field


class ModelName(BaseModel):
    """The model version that answered."""

    name: str = Field(examples=["fusmae"])
    version: str = Field(examples=["3"], description="empty for a plain ONNX file")
    sha256: str = Field(description="of the ONNX file")


class Prediction(BaseModel):
    """Probabilities of a request's tiles, in the request's order."""

    model: ModelName
    modalities: list[str] = Field(examples=[["s1", "s2"]], description="those that were there")
    classes: list[str] = Field(examples=[["Urban fabric", "Pastures", "Inland waters"]])
    probabilities: list[list[float]] = Field(examples=[[[0.02, 0.91, 0.13]]], description="[B, K]: a row a tile")
    warnings: list[str] = Field(examples=[[]], description="what looks odd and one tile can't prove")


class ModelDescription(ModelName):
    """What to send to the model, and where the model comes from."""

    inputs: list[dict[str, Any]] = Field(description="arrays by name: modality, units, gsd_m, bands, side_px")
    modalities: list[str]
    tile_m: int
    classes: list[str]
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
    registry: RegistryHealth
