import json

import pytest

from fusmae.data.shards import Origin
from fusmae.evaluation.metrics import Scores
from fusmae.evaluation.report import Row, as_markdown, as_metrics


def row(protocol: str, initialisation: str, setting: str, micro_ap: float, intervals=None) -> Row:
    scores = Scores(
        micro_ap=micro_ap,
        macro_ap=micro_ap - 0.1,
        micro_f1=0.5,
        macro_f1=0.25,
        per_class_ap={"water": micro_ap},
        absent_classes=("Transitional woodland, shrub", "ice"),
        intervals={"micro_ap": (0.1, 0.95), "macro_ap": (0.2, 0.9)} if intervals is None else intervals,
    )
    return Row(protocol, initialisation, setting, scores)


@pytest.fixture
def rows() -> list[Row]:
    return [
        row(protocol, weights, setting, 0.8 if weights == "pretrained" else 0.7)
        for protocol in ("probe", "finetune")
        for weights in ("pretrained", "random")
        for setting in ("s1+s2", "s1", "s2")
    ]


def cells_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table_has_every_row_with_its_own_scores(rows):
    header, _, *body = cells_of(as_markdown(as_metrics(rows, 6, 0)))
    assert header == [
        "protocol",
        "weights",
        "modalities",
        "micro AP",
        "95 %",
        "macro AP",
        "95 %",
        "micro F1",
        "macro F1",
    ]
    assert [tuple(cells[:3]) for cells in body] == [(row.protocol, row.initialisation, row.setting) for row in rows]
    assert ["probe", "random", "s1+s2", "0.700", "0.10–0.95", "0.600", "0.20–0.90", "0.500", "0.250"] in body
    assert {len(cells) for cells in body} == {len(header)}


def test_random_rows_stand_for_both_protocols_and_every_setting(rows):
    _, _, *body = cells_of(as_markdown(as_metrics(rows, 6, 0)))
    random = {(cells[0], cells[2]) for cells in body if cells[1] == "random"}
    assert random == {(protocol, setting) for protocol in ("probe", "finetune") for setting in ("s1+s2", "s1", "s2")}


def test_table_names_absent_classes_pairs_and_seed(rows):
    table = as_markdown(as_metrics(rows, 6, 3))
    assert "left out of macro means: Transitional woodland, shrub; ice." in table
    assert "6 test pairs, seed 3" in table
    assert table.endswith("\n")


def test_table_survives_json(rows):
    metrics = as_metrics(rows, 6, 0)
    assert as_markdown(json.loads(json.dumps(metrics))) == as_markdown(metrics)


def test_metrics_are_nested_as_the_rows_are_named(rows):
    metrics = as_metrics(rows, 6, 0)
    assert metrics["rows"]["finetune"]["random"]["s2"]["micro_ap"] == 0.7
    assert metrics["rows"]["probe"]["pretrained"]["s1"]["per_class_ap"] == {"water": 0.8}
    assert metrics["absent_classes"] == ["Transitional woodland, shrub", "ice"]
    assert "absent_classes" not in metrics["rows"]["probe"]["pretrained"]["s1"]
    assert rows[0].name == "probe/pretrained/s1+s2"


def test_a_set_with_every_class_and_no_intervals_says_so():
    plain = row("probe", "random", "s1", 0.5, intervals={})
    metrics = as_metrics([plain], 6, 0) | {"absent_classes": []}
    table = as_markdown(metrics)
    assert "left out of macro means: none." in table
    assert cells_of(table)[2][4] == "–"


def test_made_up_data_is_called_so_above_the_table(rows):
    warning = Origin("synthetic", "none", is_synthetic=True).warning
    lines = as_markdown(as_metrics(rows, 6, 0, warning)).splitlines()
    assert lines[0] == f"**{warning}**"
    assert "SYNTHETIC" in lines[0]
    assert as_markdown(as_metrics(rows, 6, 0)).startswith("| protocol")
