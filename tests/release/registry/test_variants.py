"""The accepted variants go into the registry with the graph, and only if they are the graph's own."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import onnx
import pytest

from fusmae.config.params import load_config
from fusmae.data.index import SPLITS, Pair, write_index
from fusmae.errors import ExportError
from fusmae.files import file_sha256, write_json
from fusmae.inference.session import Session
from fusmae.release.export.mlm import mlm_item
from fusmae.release.export.onnx_file import save_onnx
from fusmae.release.registry.model_file import fetch_artifact, model_file, read_artifact
from fusmae.release.registry.variants import accepted_variants
from fusmae.stages.register import register

ROOT = Path(__file__).parents[3]
METRICS = {"kind": "multilabel", "compared": ["micro_ap", "macro_ap"], "others": [], "per_class": "AP", "unit": ""}
GRAPH, VARIANTS, MEASURED = Path("models/export/model.onnx"), Path("models/variants"), Path("reports/variants")


@pytest.fixture
def made(tmp_path, monkeypatch, exported):
    """What stages `export` and `variants` leave: int8 is accepted, fp16 is not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    known = {
        "trained": {"stage": "finetune-pretrained", "seed": 7, "versions": {"torch": "2"}},
        "git": {"commit": "c0ffee", "is_dirty": False},
        "tile_m": 240,
        "tile_px": 24,
        "data": "made: free to use.",
    }
    GRAPH.parent.mkdir(parents=True)
    VARIANTS.mkdir()
    save_onnx(onnx.load(exported.path), exported.metadata | known, GRAPH)
    save_onnx(onnx.load(exported.path), exported.metadata | {"precision": "int8"}, VARIANTS / "int8.onnx")
    hashes = {"fp32": file_sha256(GRAPH), "int8": file_sha256(VARIANTS / "int8.onnx"), "fp16": "0" * 64}
    rows = {name: {"sha256": sha256, "is_accepted": name != "fp16"} for name, sha256 in hashes.items()}
    write_json(VARIANTS / "accepted.json", {"variant_of": hashes["fp32"], "accepted": {"int8": hashes["int8"]}})
    write_json(MEASURED / "report.json", {"variants": rows})
    (MEASURED / "table.md").write_text("| variant | accepted |\n|---|---|\n| int8 | yes |\n", encoding="utf-8")


def test_what_is_accepted_is_found(made):
    assert accepted_variants(VARIANTS, MEASURED, GRAPH) == [VARIANTS / "int8.onnx"]


def another_graph():
    graph = onnx.load(GRAPH)
    graph.doc_string = "exported since"
    onnx.save(graph, GRAPH)


def changed_report():
    report = json.loads((MEASURED / "report.json").read_text())
    report["variants"]["fp16"]["is_accepted"] = True
    write_json(MEASURED / "report.json", report)


@pytest.mark.parametrize(
    "change",
    [
        another_graph,
        changed_report,
        lambda: (VARIANTS / "int8.onnx").write_bytes(b"forged"),
        lambda: (VARIANTS / "int8.onnx").unlink(),
    ],
)
def test_variants_that_were_not_measured_of_this_graph_are_refused(made, change):
    change()
    with pytest.raises(ExportError, match=r"not those that were measured of(.|\n)*dvc repro -f -s variants"):
        accepted_variants(VARIANTS, MEASURED, GRAPH)


def register_all():
    """Run the stage over the least that it reads."""
    scores = {"micro_ap": 0.5, "macro_ap": 0.5, "micro_f1": 0.5, "macro_f1": 0.5, "per_class": {}, "intervals": {}}
    rows = {"finetune": {"pretrained": {"s1+s2": scores}}}
    scores = {
        "num_pairs": 1,
        "num_places": 1,
        "resamples": 100,
        "seed": 7,
        "warning": "",
        "absent_classes": [],
        "metrics": {"finetune": METRICS},
        "rows": rows,
    }
    counts = dict.fromkeys(SPLITS, 1)
    classes = dict.fromkeys(Session(GRAPH).metadata["classes"], counts)
    write_json(Path("scores.json"), scores)
    write_json(Path("examine/report.json"), {"pairs": counts, "classes": classes, "left_out": [], "checks": []})
    write_json(Path("raw.json"), {"files": {}})
    write_json(
        GRAPH.with_name("parity.json"), {"num_pairs": 1, "max_abs_error_allowed": 1, "checks": [{"max_abs_error": 0}]}
    )
    write_json(GRAPH.with_name("preprocessing.json"), {})
    write_json(GRAPH.with_name("mlm.json"), mlm_item(GRAPH, "./model.onnx"))
    date = datetime(2017, 6, 1, tzinfo=UTC)
    write_index([Pair(split, {"s1": split}, ("a",), split, split, date) for split in SPLITS], Path("index.parquet"))
    Path("pictures").mkdir()
    Path("figures").mkdir()
    for name in ("figures/precision-recall.png", "pictures/1.png", "reference.npz"):
        Path(name).touch()
    files = {"reference": "reference.npz", "scores": "scores.json", "figures": "figures", "report": "examine"}
    files |= {"index": "index.parquet", "receipt": "raw.json", "pictures": "pictures", "run_file": "none.json"}
    places = {name: Path(path) for name, path in files.items()}
    section = load_config(ROOT / "params.yaml").register_as
    out = Path("register")
    register(section, exported=GRAPH.parent, variants=VARIANTS, measured=MEASURED, out=out, **places)
    return model_file(f"{section.model_name}@challenger")


def test_a_version_holds_the_accepted_variants_and_what_was_measured_of_all(made, tmp_path):
    model = register_all()
    found = fetch_artifact(model, "int8.onnx", tmp_path / "fetched")
    assert file_sha256(found) == file_sha256(VARIANTS / "int8.onnx")
    assert Session(found).metadata["precision"] == "int8"
    assert fetch_artifact(model, "fp16.onnx", tmp_path / "fetched") is None
    assert read_artifact(model, "variants.json") == (MEASURED / "report.json").read_text()
    assert read_artifact(model, "variants.md") == (MEASURED / "table.md").read_text()
    item = json.loads(read_artifact(model, "mlm.json"))
    assert item["assets"]["model"]["href"] == "../model.onnx"
    card = read_artifact(model, "card.md")
    assert re.search(r"^## Variants\n\nAccepted, .* folder `extra_files`: `int8.onnx`\.\n\n", card, re.MULTILINE)
    assert "| int8 | yes |" in card


def test_a_version_without_an_accepted_variant_is_registered_too(made):
    shutil.rmtree(VARIANTS)
    report = json.loads((MEASURED / "report.json").read_text())
    report["variants"]["int8"]["is_accepted"] = False
    write_json(MEASURED / "report.json", report)
    write_json(VARIANTS / "accepted.json", {"variant_of": file_sha256(GRAPH), "accepted": {}})
    assert "None is accepted" in read_artifact(register_all(), "card.md")
