import json

import pytest

from fusmae.config.task import Task, Value
from fusmae.data.shards import Origin
from fusmae.evaluation.report import ScoreRow, as_markdown, as_metrics, as_report
from fusmae.evaluation.scorers import Scores, scorer_of

CLASSES = ("water", "Transitional woodland, shrub", "ice")


def row(protocol: str, initialisation: str, setting: str, micro_ap: float, intervals=None) -> ScoreRow:
    values = {"micro_ap": micro_ap, "macro_ap": micro_ap - 0.1, "micro_f1": 0.5, "macro_f1": 0.25}
    scores = Scores(values, {"water": micro_ap}, CLASSES[1:])
    known = {"micro_ap": (0.1, 0.95), "macro_ap": (0.2, 0.9)} if intervals is None else intervals
    return ScoreRow(protocol, initialisation, setting, scorer_of(Task(classes=CLASSES), []), scores, known)


def report(rows, **changes):
    basis = {"num_pairs": 16, "num_places": 10, "resamples": 100, "seed": 0} | changes
    return as_report(rows, **basis)


@pytest.fixture
def rows() -> list[ScoreRow]:
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
    header, _, *body = cells_of(as_markdown(report(rows)))
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
    _, _, *body = cells_of(as_markdown(report(rows)))
    random = {(cells[0], cells[2]) for cells in body if cells[1] == "random"}
    assert random == {(protocol, setting) for protocol in ("probe", "finetune") for setting in ("s1+s2", "s1", "s2")}


def test_table_names_absent_classes_pairs_places_seed_and_draws(rows):
    table = as_markdown(report(rows, seed=3))
    assert "left out of macro means: Transitional woodland, shrub; ice." in table
    assert "16 test pairs of 10 places, seed 3. 95 %: percentile bootstrap, 100 draws of 10 places" in table
    assert table.endswith("\n")


def test_table_survives_json(rows):
    found = report(rows)
    assert as_markdown(json.loads(json.dumps(found))) == as_markdown(found)


def test_the_report_is_nested_as_the_rows_are_named(rows):
    found = report(rows)
    assert found["rows"]["finetune"]["random"]["s2"]["micro_ap"] == 0.7
    assert found["rows"]["probe"]["pretrained"]["s1"]["per_class"] == {"water": 0.8}
    assert found["rows"]["probe"]["pretrained"]["s1"]["intervals"]["macro_ap"] == (0.2, 0.9)
    assert found["absent_classes"] == ["Transitional woodland, shrub", "ice"]
    assert "absent_classes" not in found["rows"]["probe"]["pretrained"]["s1"]
    assert rows[0].name == "probe/pretrained/s1+s2"


def test_metrics_are_the_dozen_that_runs_are_compared_by(rows):
    metrics = as_metrics(report(rows))
    both = {"micro_ap": 0.8, "macro_ap": pytest.approx(0.7)}
    assert metrics["finetune"]["pretrained"] == {"s1+s2": both, "s1": both, "s2": both}
    for protocol, weights in (("probe", "pretrained"), ("probe", "random"), ("finetune", "random")):
        assert list(metrics[protocol][weights]) == ["s1+s2"]
    numbers = [
        value
        for by_weights in metrics.values()
        for by_setting in by_weights.values()
        for scores in by_setting.values()
        for value in scores.values()
    ]
    assert len(numbers) == 12


def test_metrics_of_one_modality_are_of_that_one():
    metrics = as_metrics(report([row("finetune", "pretrained", "s2", 0.8), row("probe", "random", "s2", 0.7)]))
    assert list(metrics["finetune"]["pretrained"]) == list(metrics["probe"]["random"]) == ["s2"]


def test_metrics_of_made_up_data_say_so(rows):
    assert "warning" not in as_metrics(report(rows))
    assert as_metrics(report(rows, warning="SYNTHETIC data"))["warning"] == "SYNTHETIC data"


def test_too_few_places_are_named_where_the_intervals_would_be():
    plain = [row("probe", "random", "s1", 0.5, intervals={})]
    table = as_markdown(report(plain, num_places=3))
    assert (
        "16 test pairs of 3 places, seed 0. No intervals: 3 places are too few for a 95% interval, which needs 6."
        in (table)
    )
    assert cells_of(table)[2][4] == "–"


def test_a_set_with_every_class_and_no_intervals_says_so():
    plain = row("probe", "random", "s1", 0.5, intervals={})
    table = as_markdown(report([plain], resamples=0) | {"absent_classes": []})
    assert "left out of macro means: none." in table
    assert "No intervals were asked for." in table
    assert cells_of(table)[2][4] == "–"


def test_made_up_data_is_called_so_above_the_table(rows):
    warning = Origin("synthetic", "none", is_synthetic=True).warning
    lines = as_markdown(report(rows, warning=warning)).splitlines()
    assert lines[0] == f"**{warning}**"
    assert "SYNTHETIC" in lines[0]
    assert as_markdown(report(rows)).startswith("| protocol")


def of_task(protocol: str, task: Task, values: dict[str, float], per_class: dict[str, float]) -> ScoreRow:
    scorer = scorer_of(task, [])
    intervals = {name: (value - 0.05, value + 0.05) for name, value in values.items() if name in scorer.metrics}
    absent = tuple(name for name in task.classes if name not in per_class)
    return ScoreRow(protocol, "pretrained", "s1+s2", scorer, Scores(values, per_class, absent), intervals)


def test_scores_of_tiles_and_of_maps_have_a_table_each():
    task = Task(kind="segmentation", classes=("water", "ice"))
    of_tiles = {"micro_ap": 0.9, "macro_ap": 0.8, "micro_f1": 0.7, "macro_f1": 0.6}
    of_maps = {"miou": 0.5, "pixel_accuracy": 0.75, "boundary_f1": 0.25}
    rows = [of_task(name, task.of_tiles, of_tiles, {"water": 0.9, "ice": 0.7}) for name in ("knn", "probe")]
    rows.append(of_task("finetune", task, of_maps, {"water": 0.5}))
    found = report(rows)
    table = as_markdown(json.loads(json.dumps(found)))
    first, second = table.split("Classes of pixels: finetune\n\n")
    assert first.startswith("Classes of tiles: knn, probe\n\n| protocol |")
    assert cells_of(second)[0][3:] == ["mean IoU", "95 %", "pixel accuracy", "95 %", "boundary F1"]
    assert cells_of(second)[2] == [
        "finetune",
        "pretrained",
        "s1+s2",
        "0.500",
        "0.45–0.55",
        "0.750",
        "0.70–0.80",
        "0.250",
    ]
    assert [cells[0] for cells in cells_of(first)[2:]] == ["knn", "probe"]
    assert "left out of macro means: ice." in table
    assert found["metrics"]["finetune"]["compared"] == ["miou", "pixel_accuracy"]
    assert as_metrics(found)["finetune"]["pretrained"]["s1+s2"] == {"miou": 0.5, "pixel_accuracy": 0.75}
    assert as_metrics(found)["knn"]["pretrained"]["s1+s2"] == {"micro_ap": 0.9, "macro_ap": 0.8}


def test_values_of_tiles_and_of_pixels_have_a_table_each_and_no_word_of_classes():
    task = Task(kind="regression", value=Value(name="biomass", unit="t/ha", per="pixel"))
    values = {"r2": 0.5, "rmse": 12.0, "mae": 9.0, "bias": -1.5}
    table = as_markdown(report([of_task("probe", task.of_tiles, values, {}), of_task("finetune", task, values, {})]))
    assert table.index("Values of tiles: probe") < table.index("Values of pixels: finetune")
    assert cells_of(table)[0][3:] == ["R²", "95 %", "RMSE (t/ha)", "95 %", "MAE (t/ha)", "bias (t/ha)"]
    assert "lasses" not in table


def test_tracked_scores_are_those_that_have_intervals():
    task = Task(kind="multiclass", classes=("water", "ice"))
    values = {"accuracy": 0.5, "balanced_accuracy": 0.4, "macro_f1": 0.3, "macro_ap": 0.2}
    found = of_task("finetune", task, values, {"water": 0.5, "ice": 0.3})
    assert found.tracked == {"test/s1-s2/accuracy": 0.5, "test/s1-s2/balanced_accuracy": 0.4}
