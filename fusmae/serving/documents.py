"""Texts and examples of the OpenAPI document."""

from collections.abc import Iterable
from typing import Any

from fusmae.serving.refusal import Refusal

DESCRIPTION = """Land cover of Sentinel-1 and Sentinel-2 tiles. `GET /model` says which arrays the model takes; S1 is in
dB, S2 in digital numbers (reflectance times 10,000, without the offset of 1000). An absent modality is left out. Each
answer names the model version that gave it. There is no authentication here: a proxy before the service has it."""

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        413: "The body is too large; it was not read.",
        415: "Another content type.",
        422: "Wrong shape, units, bands, CRS or grid, or damaged.",
        503: "Too many requests; `Retry-After` says when to come back.",
    }.items()
}

_PIXELS = {"type": "array", "description": "[B, C, h, w]: tiles, bands, rows, columns", "items": {}}

ARRAYS_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-npz": {
                "schema": {
                    "type": "string",
                    "format": "binary",
                    "description": "what `numpy.savez` or `savez_compressed` writes: an array an input, by its name",
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["inputs"],
                    "properties": {"inputs": {"type": "object", "additionalProperties": _PIXELS}},
                },
                "example": {
                    "inputs": {
                        "s1_10m": [[[["120 × 120 numbers in dB: VV"]], [["120 × 120 numbers in dB: VH"]]]],
                        "s2_60m": [[[["20 × 20 numbers: B01"]], [["20 × 20 numbers: B09"]]]],
                    }
                },
            },
        },
    }
}

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}


def geotiff_body(modalities: Iterable[str]) -> dict[str, Any]:
    """Describe a form with one tile's files, for a model that takes these modalities."""
    schema = {
        "type": "object",
        "description": "Fields are named after modalities; several files of one may have a grid each. Bands are named "
        "by their description. All files cover the same tile.",
        "properties": dict.fromkeys(modalities, _FILES),
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
