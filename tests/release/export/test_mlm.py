"""The STAC item beside an exported graph, checked by what pystac's packages hold, with no network.

STAC's own schema is in pystac. That of the extension MLM is in no package: what it asks for beyond pystac's types is
stated here as rules, by hand from the schema's text.
"""

import json
import re
import socket

import onnx
import pystac
import pytest
from pystac.extensions.mlm import MLMExtension
from pystac.stac_object import STACObjectType
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from fusmae.files import file_sha256
from fusmae.inference.session import METADATA_KEY
from fusmae.release.export.mlm import mlm_item
from fusmae.release.registry.publish import registered_item


def saved(model, statistics, path):
    """An exported graph with statistics of its bands."""
    graph, metadata = onnx.load(model.path), dict(model.session.metadata)
    metadata["statistics"] = {
        modality: {band: vars(found) for band, found in by_band.items()} for modality, by_band in statistics.items()
    }
    del graph.metadata_props[:]
    onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(metadata)})
    onnx.save(graph, path)
    return path


@pytest.fixture(scope="module")
def graphs(exported, exported_encoder, tmp_path_factory):
    folder, statistics = tmp_path_factory.mktemp("mlm"), exported.preprocess.preprocessing.statistics
    models = {"classifier": exported, "encoder": exported_encoder}
    return {kind: saved(model, statistics, folder / f"{kind}.onnx") for kind, model in models.items()}


@pytest.fixture(params=["classifier", "encoder"])
def graph(request, graphs):
    return graphs[request.param]


@pytest.fixture
def item(graph):
    return mlm_item(graph, "./model.onnx")


@pytest.fixture(autouse=True)
def without_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_item_fits_stac_s_schema(item):
    assert item["stac_version"] == "1.1.0"
    JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")
    item["properties"]["bands"][0]["gsd"] = "ten"
    with pytest.raises(pystac.STACValidationError, match="'ten' is not of type 'number'"):
        JsonSchemaSTACValidator().validate_core(item, STACObjectType.ITEM, "1.1.0")


def test_pystac_reads_the_item_and_writes_it_as_it_was(item):
    read = pystac.Item.from_dict(json.loads(json.dumps(item)))
    assert read.to_dict(include_self_link=False, transform_hrefs=False) == item
    model = MLMExtension.ext(read)
    assert [(found.name, found.bands) for found in model.input] == [
        ("s1_10m", ["VV", "VH"]),
        ("s2_10m", ["B02", "B03"]),
        ("s2_20m", ["B05"]),
        ("presence", []),
    ]
    assert [found.input.shape for found in model.input] == [[-1, 2, 24, 24], [-1, 2, 24, 24], [-1, 1, 12, 12], [-1, 2]]
    assert all(found.value_scaling is None for found in model.input)  # the graph does it


def test_the_item_keeps_the_rules_of_mlm_s_schema(item):
    properties, (asset,) = item["properties"], item["assets"].values()
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert {"mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= set(properties)
    assert not {"mlm:artifact_type", "mlm:compile_method", "mlm:entrypoint"} & set(properties)
    assert "mlm:model" in asset["roles"]
    assert asset["mlm:artifact_type"] == "onnx"
    assert {band["name"] for band in properties["bands"]} == {
        band for found in properties["mlm:input"] for band in found["bands"]
    }
    for found in properties["mlm:input"]:
        order = found["input"]["dim_order"]
        assert ("bands" in order) == bool(found["bands"])
        assert len(order) == len(set(order)) == len(found["input"]["shape"])
    for found in properties["mlm:output"]:
        order = found["result"]["dim_order"]
        assert all(re.fullmatch(r"[a-z-_]+", name) for name in order)
        assert len(order) == len(set(order)) == len(found["result"]["shape"])
        for entry in found.get("classification:classes") or ():
            assert re.fullmatch(r"[0-9A-Za-z-_]+", entry["name"])


def test_the_facts_are_those_of_the_file(item, graph, exported):
    (asset,) = item["assets"].values()
    assert (asset["href"], asset["file:size"]) == ("./model.onnx", graph.stat().st_size)
    assert asset["file:checksum"] == f"1220{file_sha256(graph)}"
    bands = {band["name"]: band for band in item["properties"]["bands"]}
    assert bands["B05"] == {
        "name": "B05",
        "gsd": 20,
        "unit": "DN",
        "data_type": "float32",
        "statistics": {"mean": 900, "stddev": 400},
    }
    assert item["properties"]["mlm:framework"] == "ONNX"
    assert mlm_item(graph, "./model.onnx") == item


def test_a_classifier_has_classes_and_an_encoder_none(graphs):
    found = mlm_item(graphs["classifier"], "./model.onnx")
    outputs = {output["name"]: output for output in found["properties"]["mlm:output"]}
    assert found["properties"]["fusmae:runtime"]["opset"] == 17
    assert [entry["description"] for entry in outputs["logits"]["classification:classes"]] == ["a", "b", "c"]
    assert outputs["embedding"]["result"]["dim_order"] == ["batch", "embedding"]
    encoder = mlm_item(graphs["encoder"], "./model.onnx")
    assert encoder["properties"]["mlm:name"] == "Fus-MAE encoder"
    assert encoder["properties"]["mlm:tasks"] == ["similarity-search"]
    outputs = {output["name"]: output for output in encoder["properties"]["mlm:output"]}
    assert list(outputs) == ["embedding", "tokens_s1", "tokens_s2"]
    assert outputs["tokens_s2"]["result"] == {
        "shape": [-1, 3, 3, 16],
        "dim_order": ["batch", "row", "column", "embedding"],
        "data_type": "float32",
    }
    assert not any("classification:classes" in output for output in outputs.values())


def test_the_registered_item_links_the_graph_from_mlflow_s_folder_of_further_files(item, tmp_path):
    (tmp_path / "mlm.json").write_text(json.dumps(item), encoding="utf-8")
    registered = registered_item(tmp_path / "mlm.json")
    assert registered["assets"]["model"]["href"] == "../model.onnx"
    registered["assets"]["model"]["href"] = "./model.onnx"
    assert registered == item
