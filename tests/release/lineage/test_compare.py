"""Which differences between a registered model and the one made again count."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from fusmae.release.lineage.compare import Made, compare, graph_difference

TOLERANCE = 1e-6


@pytest.fixture
def before(exported):
    metrics = {
        "num_pairs": 3,
        "absent_classes": ["ice"],
        "rows": {"finetune": {"pretrained": {"s1": {"micro_ap": 0.5, "intervals": {"micro_ap": [0.4, 0.6]}}}}},
    }
    return Made(
        outs={"data/shards": "shards", "models/pretrain": "checkpoint", "models/export": "export"},
        weights={"models/pretrain": "weights"},
        export="models/export",
        graph=exported.path,
        metrics=metrics,
        surroundings={"torch": "2", "device": "a processor, CPU threads: 1"},
    )


def changed_graph(path, folder, *, scale=1.0, notes=()):
    """A copy with other weights or other notes."""
    model = onnx.load(path)
    for item in model.graph.initializer:
        array = onnx.numpy_helper.to_array(item)
        if scale != 1 and array.dtype == np.float32:
            item.CopyFrom(onnx.numpy_helper.from_array((array * scale).astype(np.float32), item.name))
    for key, value in notes:
        onnx.helper.set_model_props(model, {key: value})
        model.graph.node[0].metadata_props.add(key=key, value=value)
    onnx.save(model, folder / "changed.onnx")
    return Path(folder / "changed.onnx")


def answers(comparison):
    return {row.what: row.answer for row in comparison.rows}


def test_the_same_is_reproduced_bit_for_bit(before):
    found = compare(before, before, TOLERANCE)
    assert found.is_reproduced
    assert found.expects_bits
    assert set(answers(found).values()) == {"same"}


@pytest.mark.parametrize("path", ["data/shards", "models/pretrain"])
def test_another_hash_on_the_same_machine_is_no_reproduction(before, path):
    now = replace(before, outs={**before.outs, path: "other"}, weights={"models/pretrain": "other"})
    found = compare(before, now, TOLERANCE)
    assert [row.what for row in found.other] == [path]
    assert not found.is_reproduced


def test_an_output_that_was_not_made_is_no_reproduction(before):
    now = replace(before, outs={"models/pretrain": "checkpoint", "models/export": "export"})
    assert [row.now for row in compare(before, now, TOLERANCE).other] == ["not made"]


def test_the_same_weights_under_another_commit_are_the_same(before):
    now = replace(before, outs={**before.outs, "models/pretrain": "checkpoint of another commit"})
    found = compare(before, now, TOLERANCE)
    assert found.is_reproduced
    assert "models/pretrain: weights" in answers(found)


def test_a_graph_with_other_notes_is_the_same_and_one_with_other_weights_is_not(before, tmp_path):
    notes = changed_graph(before.graph, tmp_path, notes=[("fusmae", "another commit")])
    assert graph_difference(before.graph, notes) == 0
    assert compare(before, replace(before, graph=notes), TOLERANCE).is_reproduced
    scaled = changed_graph(before.graph, tmp_path, scale=1.001)
    assert graph_difference(before.graph, scaled) > 0
    (row,) = compare(before, replace(before, graph=scaled), TOLERANCE).other
    assert "weights differ by up to" in row.now


def test_another_graph_is_no_reproduction(before, tmp_path):
    model = onnx.load(before.graph)
    model.graph.node[0].name = "another"
    onnx.save(model, tmp_path / "another.onnx")
    (row,) = compare(before, replace(before, graph=tmp_path / "another.onnx"), TOLERANCE).other
    assert row.now == "another graph"


@pytest.mark.parametrize(("difference", "answer"), [(0.0, "same"), (5e-7, "within"), (2e-6, "other")])
def test_scores_are_judged_by_the_tolerance(before, difference, answer):
    metrics = copy.deepcopy(before.metrics)
    metrics["rows"]["finetune"]["pretrained"]["s1"]["intervals"]["micro_ap"][1] += difference
    found = compare(before, replace(before, metrics=metrics), TOLERANCE)
    assert [row.answer for row in found.rows if row.what.startswith("rows/finetune/pretrained/s1")] == [answer]
    assert found.is_reproduced == (answer != "other")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["rows"].update(probe={}, finetune={}),
        lambda m: m.update(absent_classes=["town"]),
        lambda m: m["rows"]["finetune"]["pretrained"]["s1"].update(micro_ap=float("nan")),
        lambda m: m["rows"]["finetune"]["pretrained"]["s1"].update(extra=1.0),
    ],
)
def test_a_missing_added_or_unusable_score_is_no_reproduction(before, change):
    metrics = copy.deepcopy(before.metrics)
    change(metrics)
    assert not compare(before, replace(before, metrics=metrics), 1.0).is_reproduced


def test_on_another_machine_hashes_are_stated_and_scores_are_judged(before, tmp_path):
    elsewhere = {**before.surroundings, "device": "a card, CPU threads: 16"}
    outs = {**before.outs, "models/pretrain": "other"}
    graph = changed_graph(before.graph, tmp_path, scale=1.001)
    now = replace(before, surroundings=elsewhere, outs=outs, weights={"models/pretrain": "other"}, graph=graph)
    found = compare(before, now, TOLERANCE)
    assert found.is_reproduced
    assert not found.expects_bits
    assert {name for name, answer in answers(found).items() if answer == "noted"} == {
        "device",
        "models/pretrain",
        "models/export/changed.onnx",
    }
    metrics = copy.deepcopy(before.metrics)
    metrics["rows"]["finetune"]["pretrained"]["s1"]["micro_ap"] += 0.01
    assert not compare(before, replace(now, metrics=metrics), TOLERANCE).is_reproduced
    assert compare(before, replace(now, metrics=metrics), 0.02).is_reproduced
