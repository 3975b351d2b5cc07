"""A study of two variants and one seed, on labels of each kind: measured, summarised, and shown on a page."""

import json

import numpy as np
import pytest
import torch

from fusmae.evaluation.scorers import metrics_of
from fusmae.reports.study import write_report
from fusmae.study.comparisons import compare
from fusmae.study.curves import confusions, micro_curves, value_scatters
from fusmae.study.results import HEADLINE
from fusmae.study.summary import summarise
from tests.study.conftest import TINY_KINDS, measure_cells

pytestmark = pytest.mark.usefixtures("_one_thread")

BOTH = ("s1+s2", "s1", "s2", "s1+clouded s2")
# Kinds of rows by protocol.
EXPECTED = {
    "multilabel": {"knn": "multilabel", "probe": "multilabel", "finetune": "multilabel", "segment": "segmentation"},
    "multiclass": {"knn": "multiclass", "probe": "multiclass", "finetune": "multiclass", "segment": "segmentation"},
    "segmentation": {
        "knn": "multilabel",
        "probe": "multilabel",
        "finetune": "segmentation",
        "segment": "segmentation",
    },
    "value": {"knn": "regression", "probe": "regression", "finetune": "regression"},
    "value_map": {"knn": "regression", "probe": "regression", "finetune": "regression", "segment": "regression"},
}
# Of these only sums are kept.
MAPS_OF_VALUES = {("value_map", "finetune"), ("value_map", "segment")}
kinds = pytest.mark.parametrize("kind", EXPECTED)


@kinds
def test_every_protocol_predicts_what_its_labels_are(measured, kind):
    fused, _ = measured(kind)
    assert {row.protocol: row.kind for row in fused.cell.rows} == EXPECTED[kind]
    names = [row.name for row in fused.cell.rows]
    assert sorted(names) == sorted(f"{protocol}/1/{condition}" for protocol in EXPECTED[kind] for condition in BOTH)


@kinds
def test_every_row_has_the_scores_of_its_kind_and_a_draw_of_the_headline_per_resample(measured, kind):
    for found in measured(kind):
        for row in found.cell.rows:
            assert HEADLINE[row.kind] in row.scores
            assert len(row.draws) == 20
            assert np.isfinite([*row.draws, *row.scores.values()]).all()
            assert bool(row.per_class) == (row.kind != "regression")


def test_the_headline_is_a_score_by_which_models_of_the_kind_are_compared():
    for task, _, _ in TINY_KINDS.values():
        assert HEADLINE[task.kind] in metrics_of(task)
        assert task.kind == "multilabel" or HEADLINE[task.kind] == metrics_of(task)[0]


@kinds
def test_predictions_of_tiles_are_kept_and_maps_are_counted(measured, kind):
    fused, _ = measured(kind)
    of_tiles = {row.name for row in fused.cell.rows if EXPECTED[kind][row.protocol] != "segmentation"}
    if kind == "value_map":
        of_tiles = {name for name in of_tiles if name.startswith(("knn", "probe"))}
    assert set(fused.predictions) == of_tiles
    counted = {row.name for row in fused.cell.rows if row.kind in ("multiclass", "segmentation")}
    assert set(fused.confusions) == counted
    is_value = kind.startswith("value")
    assert fused.labels.dtype == (np.float32 if is_value else np.uint8)
    assert fused.cell.value == ("biomass (t/ha)" if is_value else "")


@kinds
def test_a_page_tables_and_numbers_are_written_for_every_kind(measured, kind, tmp_path):
    cells = measured(kind)
    write_report(cells, tmp_path / "out", "A study", {}, "fusmae")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    study = summarise(cells, "fusmae")
    assert set(summary["scores"]["fusmae"]) == set(EXPECTED[kind])
    for protocol, row_kind in EXPECTED[kind].items():
        found = summary["scores"]["fusmae"][protocol]["100 %"]
        line = study.line("fusmae", (protocol, 1.0))
        assert (found["metric"], found["score"]) == (line.metric, line.scores[HEADLINE[row_kind]].mean)
    assert summary["verdict"]["better_single"]["finetune"]["100 %"]["against"] == "s1-only"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    titles = {
        "multilabel": ("macro AP", "mean IoU", "boundary F1"),
        "multiclass": ("top-1 accuracy", "balanced accuracy", "mean IoU"),
        "segmentation": ("macro AP", "mean IoU"),
        "value": ("R²", "RMSE", "biomass (t/ha)"),
        "value_map": ("R²", "RMSE", "biomass (t/ha)"),
    }
    for title in titles[kind]:
        assert title in page


@kinds
def test_figures_are_those_of_the_kind(measured, kind):
    study = summarise(measured(kind), "fusmae")
    of_kind = {row_kind: [name for name, own in EXPECTED[kind].items() if own == row_kind] for row_kind in HEADLINE}
    assert {curve.use[0] for curve in micro_curves(study)} == set(of_kind["multilabel"])
    assert {found.use[0] for found in confusions(study)} == {
        *of_kind["multilabel"],
        *of_kind["multiclass"],
        *of_kind["segmentation"],
    }
    scattered = {scatter.use[0]: scatter for scatter in value_scatters(study)}
    assert set(scattered) == {name for name in of_kind["regression"] if (kind, name) not in MAPS_OF_VALUES}
    for scatter in scattered.values():
        assert scatter.true.shape == scatter.predicted.shape == (6,)


@kinds
def test_rows_of_one_protocol_are_compared_on_the_same_resamples(measured, kind):
    study = summarise(measured(kind), "fusmae")
    for use in study.uses:
        one, other = (study.line(variant, use, "s1") for variant in ("fusmae", "s1-only"))
        found = compare(one, other)
        assert found.low <= found.difference + 0.5
        assert found.low <= found.high


def test_labels_that_are_maps_count_for_tiles_by_the_classes_in_them(measured, tiny_of):
    fused, _ = measured("segmentation")
    reader = tiny_of("segmentation").data().reader("test")
    np.testing.assert_array_equal(fused.labels, reader.labels)
    np.testing.assert_array_equal(fused.labels.any(axis=0), [True, True, False, False])


def test_segment_and_finetune_of_maps_share_one_head_and_differ_in_the_encoder(measured):
    fused, _ = measured("segmentation")
    rows = {row.name: row for row in fused.cell.rows}
    tuned, frozen = rows["finetune/1/s1+s2"], rows["segment/1/s1+s2"]
    assert tuned.scores.keys() == frozen.scores.keys()
    assert tuned.scores != frozen.scores
    total = {name: counts.sum() for name, counts in fused.confusions.items()}
    assert len(set(total.values())) == 1


def test_measuring_again_gives_the_same_numbers(tiny_of, measured, tmp_path):
    with torch.random.fork_rng():
        again, _ = measure_cells(tiny_of("value_map"), tmp_path)
    assert again.cell.rows == measured("value_map")[0].cell.rows
