"""Describes an exported graph as a STAC item with the extension MLM (Machine Learning Model), for catalogues of models.

All facts come from the ONNX file: its metadata, and the shapes of its arrays.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusmae.config.task import Kind, Task
from fusmae.files import file_sha256
from fusmae.inference.session import METADATA_KEY, PRESENCE, task_of
from fusmae.modalities import ModalityInput

_FILE_EXTENSION = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
# A model is of no date: STAC asks for a range, and MLM recommends the widest one.
_ALWAYS = {"start_datetime": "1900-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
_ANSWERS = ("logits", "probabilities", "map", "value")
_KINDS: dict[Kind, str] = {
    "multilabel": "classifier",
    "multiclass": "classifier",
    "segmentation": "segmenter",
    "regression": "regressor",
}


def mlm_item(graph: Path, href: str) -> dict[str, Any]:
    """The item as JSON values.

    Where the model may be used is not in the metadata, so that the item has no geometry. Pixels are standardised inside
    the graph: means and deviations are stated as statistics of the bands, not as a scaling for users to do.

    Args:
        graph: ONNX file that `fusmae export` wrote, of a classifier or an encoder.
        href: where the item says that the file is, such as `./model.onnx`.
    """
    import onnx
    from pystac import Asset, Item
    from pystac.extensions.mlm import MLMExtension

    model, sha256 = onnx.load(graph), file_sha256(graph)
    metadata = next(json.loads(item.value) for item in model.metadata_props if item.key == METADATA_KEY)
    inputs = [ModalityInput.model_validate(item) for item in metadata["inputs"]]
    task = task_of(metadata)
    shapes = {array.name: _shape(array) for array in (*model.graph.input, *model.graph.output)}
    outputs = [_output(array.name, shapes[array.name], metadata, task) for array in model.graph.output]
    kind = _KINDS[task.kind] if task else "encoder"
    asset = Asset(
        href,
        f"ONNX graph, {metadata.get('precision', 'fp32')}",
        media_type="application/octet-stream; framework=onnx",
        roles=["mlm:model", "mlm:weights"],
        extra_fields={
            # STAC allows bands in an item's properties, where MLM wants them, only if an asset has some.
            "bands": [{"name": name} for item in inputs for name in item.bands],
            "mlm:artifact_type": "onnx",
            "file:size": graph.stat().st_size,
            "file:checksum": f"1220{sha256}",  # a multihash: SHA-256 of 32 bytes
        },
    )
    stated = {name: metadata[name] for name in ("modalities", "tile_m", "runtime", "data", "git") if name in metadata}
    item = Item(
        id=f"fusmae-{kind}-{sha256[:12]}",
        geometry=None,
        bbox=None,
        datetime=None,
        properties={
            **_ALWAYS,
            "bands": [_band(item, name, metadata.get("statistics", {})) for item in inputs for name in item.bands],
            **{f"fusmae:{name}": value for name, value in stated.items()},
        },
        stac_extensions=[_FILE_EXTENSION],
        assets={"model": asset},
    )
    MLMExtension.ext(item, add_if_missing=True).apply(
        name=f"Fus-MAE {kind}",
        architecture="Fus-MAE, a Vision Transformer for Sentinel-1 and Sentinel-2 tiles",
        tasks=list(dict.fromkeys(task for output in outputs for task in output.tasks)),
        input=[*(_input(item) for item in inputs), _presence(metadata, shapes[PRESENCE])],
        output=outputs,
        framework="ONNX",
        pretrained=True,
        pretrained_source=metadata.get("data"),
    )
    found: dict[str, Any] = item.to_dict(include_self_link=False, transform_hrefs=False)
    return found


def _shape(array: Any) -> list[int]:
    """Sides of a graph's array; -1 for the batch."""
    return [side.dim_value or -1 for side in array.type.tensor_type.shape.dim]


def _band(item: ModalityInput, name: str, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """One band in STAC's common metadata; names are unique over all modalities."""
    band = {"name": name, "gsd": item.gsd_m, "unit": item.units, "data_type": "float32"}
    found = statistics.get(item.modality, {}).get(name)
    return band | ({"statistics": {"mean": found["mean"], "stddev": found["std"]}} if found else {})


def _input(item: ModalityInput) -> Any:
    from pystac.extensions.mlm import InputStructure, ModelInput
    from pystac.extensions.raster import DataType

    return ModelInput.create(
        item.name,
        list(item.bands),
        InputStructure.create(
            [-1, len(item.bands), item.side_px, item.side_px], ["batch", "bands", "height", "width"], DataType.FLOAT32
        ),
        description=f"{item.modality} at {item.gsd_m} m in {item.units}; the graph standardises and resamples it",
    )


def _presence(metadata: Mapping[str, Any], shape: list[int]) -> Any:
    from pystac.extensions.mlm import InputStructure, ModelInput
    from pystac.extensions.raster import DataType

    columns = ", ".join(metadata.get("presence_columns") or metadata["modalities"])
    return ModelInput.create(
        PRESENCE,
        [],
        InputStructure.create(shape, ["batch", "column"], DataType.FLOAT32),
        description=f"1 where a tile has what a column names, else 0; columns: {columns}",
    )


def _output(name: str, shape: list[int], metadata: Mapping[str, Any], task: Task | None) -> Any:
    from pystac.extensions.classification import Classification
    from pystac.extensions.mlm import ModelOutput, ResultStructure, TaskType
    from pystac.extensions.raster import DataType

    answers = task if name in _ANSWERS else None
    if answers is None:
        # Tokens are a sequence or a grid between the batch and their features.
        kind, dimensions = TaskType.SIMILARITY_SEARCH, {2: [], 3: ["token"], 4: ["row", "column"]}[len(shape)]
        dimensions = [*dimensions, "embedding"]
    else:
        of_classes = TaskType.SEMANTIC_SEGMENTATION if answers.is_dense else TaskType.SCENE_CLASSIFICATION
        kind = of_classes if answers.classes else TaskType.REGRESSION
        dimensions = ["class" if answers.classes else "value", *(["row", "column"] if answers.is_dense else [])]
    return ModelOutput.create(
        name,
        [kind],
        ResultStructure.create(shape, ["batch", *dimensions], DataType.FLOAT32),
        description=metadata.get("outputs", {}).get(name),
        classes=[
            Classification.create(number, label, re.sub(r"\W+", "_", label.lower(), flags=re.ASCII).strip("_"))
            for number, label in enumerate(answers.classes)
        ]
        if answers is not None and answers.classes
        else None,
    )
