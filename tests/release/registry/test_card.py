"""A card says what was tracked, computes what is known to fail, and shows pictures that lie beside it."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fusmae.config.task import Task
from fusmae.data.index import Pair
from fusmae.evaluation.report import ScoreRow, as_report
from fusmae.evaluation.scorers import Scores, scorer_of
from fusmae.release.lineage.record import GitState, Lineage, RunFacts
from fusmae.release.registry.card import PredictorFacts, model_card, short_card
from fusmae.runs.dvc_lock import LockedStage
from tests.kinds import CLASSES as KIND_CLASSES
from tests.kinds import TASKS

CLASSES = ("water", "forest", "town", "ice")
METRICS = {
    "kind": "multilabel",
    "compared": ["micro_ap", "macro_ap"],
    "others": ["micro_f1", "macro_f1"],
    "per_class": "AP",
    "unit": "",
    "per": "tile",
}


def scores(micro, per_class, interval=(0.4, 0.45)):
    return {
        "micro_ap": micro,
        "macro_ap": micro,
        "micro_f1": 0.5,
        "macro_f1": 0.5,
        "per_class": per_class,
        "intervals": {"micro_ap": interval, "macro_ap": interval},
    }


def pair(number, split, **changes):
    known = {"date": datetime(2017, 6, number, tzinfo=UTC), "country": "Austria", "lon": 10.0 + number, "lat": 48.0}
    named = {"key": f"p{number}", "files": {"s1": ""}, "labels": ("water",), "split": split, "place": f"place{number}"}
    return Pair(**(named | known | changes))


@pytest.fixture
def facts():
    trained = {"stage": "finetune-pretrained", "seed": 7}
    inputs = [{"name": "s1_10m", "bands": ["VV"], "side_px": 24, "units": "dB", "gsd_m": 10}]
    rows = {
        "s1+s2": scores(0.6, {"water": 0.9, "forest": 0.2, "town": 0.7}),
        "s1": scores(0.7, {"water": 0.9, "forest": 0.2, "town": 0.7}, (0.3, 0.9)),
        "s2": scores(0.3, {"water": 0.9, "forest": 0.2, "town": 0.7}),
    }
    random = {setting: scores(0.5, {}, (0.41, 0.5)) for setting in rows}
    counts = {"water": (5, 6), "forest": (5, 6), "town": (0, 2), "ice": (1, 0)}
    stage = LockedStage(name="fetch", code={}, inputs={}, outs={"data/raw.json": "0123"}, params={})
    run = RunFacts(
        stage="pretrain",
        run_id="run-1",
        experiment="e",
        status="FINISHED",
        started=datetime(2026, 1, 2, tzinfo=UTC),
        seconds=90.0,
        commit="c0ffee",
        device="a processor",
        num_threads=2,
    )
    return {
        "metadata": {
            "inputs": inputs,
            "modalities": ["s1", "s2"],
            "classes": list(CLASSES),
            "tile_m": 240,
            "tile_px": 24,
            "data": "made: free to use.",
            "runtime": {"opset": 17, "ir_version": 8, "onnxruntime": ">=1.12"},
            "trained": trained,
        },
        "scores": {
            "num_pairs": 10,
            "num_places": 8,
            "resamples": 100,
            "seed": 7,
            "warning": "",
            "absent_classes": ["ice"],
            "metrics": {"finetune": METRICS},
            "rows": {"finetune": {"pretrained": rows, "random": random}},
        },
        "parity": {"num_pairs": 10, "max_abs_error_allowed": 1e-4, "checks": [{"max_abs_error": 2e-6}]},
        "report": {
            "pairs": {"train": 2, "validation": 1, "test": 10},
            "classes": {name: {"train": t, "validation": 1, "test": n} for name, (t, n) in counts.items()},
            "left_out": [{"key": "p9"}],
            "checks": [
                {"name": "neighbours", "status": "passed", "got": "no test pair is near"},
                {"name": "clouds", "status": "warns", "got": "half of the pairs"},
            ],
        },
        "pairs": [pair(1, "train"), pair(2, "train"), pair(3, "validation"), pair(4, "test")],
        "lineage": Lineage(
            name="tiny",
            onnx_sha256="0" * 64,
            git=GitState(commit="c0ffee", is_dirty=True),
            exported=GitState(commit="c0ffee", is_dirty=True),
            seed=7,
            versions={"torch": "2"},
            stages=(stage,),
            receipt={"files": {"pixels.tar": "sha256:abc"}},
            runs=(run,),
        ),
        "accepted": [Path("variants/int8.onnx")],
        "variants_table": "| variant | accepted |\n|---|---|\n| int8 | yes |",
        "figures": [Path("evaluate/precision-recall.png")],
        "reconstructions": [Path("pictures/00_p3.png")],
    }


def section(card, title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)[1]


def test_use_is_stated_by_tile_classes_region_and_period_of_the_training_pairs(facts):
    card = model_card(PredictorFacts(**facts))
    intended = section(card, "Intended use")
    for wanted in ("240 m a side (24 px", "each of 4 classes", "2 pairs in Austria", "11.00° and 12.00°", "2017-06-01"):
        assert wanted in intended
    outside = section(card, "Out of scope")
    assert "May, July" in outside
    assert "June" not in outside
    assert "seasonal snow: no training pair has any" in outside


def test_snow_and_clouds_are_in_scope_where_training_had_them(facts):
    facts["pairs"] += [pair(5, "train", is_snowy=True, is_cloudy=True)]
    outside = section(model_card(PredictorFacts(**facts)), "Out of scope")
    assert "snow" not in outside
    assert "cloud" not in outside


def test_places_in_two_splits_are_counted(facts):
    assert "Places in more than one split: none." in section(model_card(PredictorFacts(**facts)), "Data")
    facts["pairs"] += [pair(5, "test", place="place1"), pair(6, "test", place="place2")]
    assert "Places in more than one split: 2." in section(model_card(PredictorFacts(**facts)), "Data")


def test_data_has_its_licence_its_splits_and_what_was_left_out(facts):
    data = section(model_card(PredictorFacts(**facts)), "Data")
    assert "made: free to use." in data
    assert "| train | 2 | 2 | 2017-06-01 to 2017-06-02 | Austria |" in data
    assert "No test pair is near." in data
    assert "could not be used: 1" in data


def test_a_missing_modality_is_compared_with_all_and_random_weights_with_pretrained(facts):
    card = model_card(PredictorFacts(**facts))
    assert "| s2 | 0.300 (-0.300) |" in section(card, "Where a modality is missing")
    against = section(card, "Against random initial weights")
    assert "| finetune | pretrained | s2 | micro AP | 0.300 | 0.500 | -0.200 | overlap |" in against


def test_known_failures_are_computed(facts):
    failures = section(model_card(PredictorFacts(**facts)), "Known failures")
    for wanted in (
        "Not tested, because no test pair has them: ice.",
        "Not learned, because no training pair has them: town.",
        "At or below chance (AP, and the class’s share of the test pairs): forest (0.20, 0.60).",
        "fewer than 5 pairs, so that their AP says little: town (2).",
        "wider than 0.1: smaller differences mean nothing: s1 (0.30–0.90).",
        "falls where a modality is missing: s2 (0.300 instead of 0.600).",
        "higher without it: s1 (0.700, all 0.600).",
        "Pretraining does not beat random initial weights in micro AP: s2 (0.300, random 0.500).",
        "The examination’s check `clouds` warns: half of the pairs.",
    ):
        assert wanted in failures


def test_what_does_not_fail_is_not_said_to(facts):
    good = {"water": 0.9, "forest": 0.9, "town": 0.9}
    rows = {"s1+s2": scores(0.9, good, (0.88, 0.92)), "s1": scores(0.9, good, (0.88, 0.92))}
    random = {setting: scores(0.5, {}, (0.48, 0.52)) for setting in rows}
    facts["scores"] |= {"absent_classes": [], "rows": {"finetune": {"pretrained": rows, "random": random}}}
    many = {"train": 5, "validation": 5, "test": 6}
    facts["report"] |= {"classes": dict.fromkeys(CLASSES, many), "checks": []}
    assert section(model_card(PredictorFacts(**facts)), "Known failures").strip() == "None that these scores show."


def test_weights_that_training_started_from_are_named_where_there_are_some(facts):
    assert "other weights" not in model_card(PredictorFacts(**facts))
    start = {"reference": "europe@champion", "origin": "europe/3", "sha256": "5e11a"}
    facts["lineage"] = facts["lineage"].model_copy(update={"starts": {"models/start/pretrain": start}})
    comes_from = section(model_card(PredictorFacts(**facts)), "Where it comes from")
    assert "- training started from other weights, `europe/3` (`sha256:5e11a`)" in comes_from


def test_time_is_that_of_the_runs_and_energy_only_where_it_was_measured(facts):
    assert "| pretrain | 2026-01-02 00:00 | 90 s | a processor | 2 | not measured |" in model_card(
        PredictorFacts(**facts)
    )
    (run,) = facts["lineage"].runs
    facts["lineage"] = facts["lineage"].model_copy(update={"runs": (run.model_copy(update={"gpu_wh": 12.34}),)})
    assert "| a processor | 2 | 12.3 Wh |" in model_card(PredictorFacts(**facts))


def test_a_run_that_the_store_lacks_is_named_without_numbers(facts):
    run = RunFacts(stage="pretrain", run_id="run-1", experiment="e")
    facts["lineage"] = facts["lineage"].model_copy(update={"runs": (run,)})
    card = model_card(PredictorFacts(**facts))
    assert "| pretrain | not known | not known | not known | not known | not measured |" in card
    assert "An unknown time in total" in card
    assert "run `run-1` of pretrain, commit not known" in card


def test_origin_has_commit_dirty_flag_hashes_archives_and_runs(facts):
    origin = section(model_card(PredictorFacts(**facts)), "Where it comes from")
    for wanted in (
        "commit `c0ffee`, with uncommitted changes",
        "run `run-1` of pretrain, commit `c0ffee`, changes unknown",
        "seed 7; torch 2",
        "`pixels.tar`: `sha256:abc`",
        "`data/raw.json` is `md5:0123`, made by stage fetch",
        "largest difference 2e-06 over 10 test pairs",
    ):
        assert wanted in origin


def test_a_clean_commit_stands_alone(facts):
    clean = GitState(commit="c0ffee", is_dirty=False)
    facts["lineage"] = facts["lineage"].model_copy(update={"git": clean})
    assert "registered at commit `c0ffee`\n" in section(model_card(PredictorFacts(**facts)), "Where it comes from")


def test_variants_are_in_the_card_with_what_was_measured_of_them(facts):
    variants = section(model_card(PredictorFacts(**facts)), "Variants")
    assert "beside this graph in the version's folder `extra_files`: `int8.onnx`." in variants
    assert "| int8 | yes |" in variants
    facts["accepted"] = []
    assert "None is accepted" in section(model_card(PredictorFacts(**facts)), "Variants")


def test_pictures_are_linked_by_their_names_beside_the_card(facts):
    assert re.findall(r"!\[.*?\]\((.*?)\)", model_card(PredictorFacts(**facts))) == [
        "precision-recall.png",
        "00_p3.png",
    ]


def test_made_up_data_is_called_so_on_top_and_real_data_is_not(facts):
    assert "SYNTHETIC" not in model_card(PredictorFacts(**facts))
    facts["scores"]["warning"] = "SYNTHETIC data: made-up pixels, no evidence about the real world."
    card = model_card(PredictorFacts(**facts))
    assert card.splitlines()[2] == "> **SYNTHETIC data: made-up pixels, no evidence about the real world.**"


def test_a_bar_in_a_class_name_does_not_break_the_table(facts):
    facts["metadata"]["classes"] = ["water|sea"]
    facts["report"]["classes"]["water|sea"] = {"train": 1, "validation": 0, "test": 0}
    assert "| water\\|sea | 1 | 0 | 0 | not tested |  |" in model_card(PredictorFacts(**facts))


def test_the_short_card_has_use_scores_and_failures_and_names_the_whole_one(facts):
    text = short_card(PredictorFacts(**facts), 5000)
    lines = text.splitlines()
    assert lines[0].startswith("Multi-label classification of co-registered s1 and s2 tiles of 240 m")
    rows = facts["scores"]["rows"]["finetune"]
    for setting, scores in rows["pretrained"].items():
        row = next(line for line in lines if line.startswith(f"| {setting} |"))
        low, high = scores["intervals"]["micro_ap"]
        assert f"{scores['micro_ap']:.3f} [{low:.2f}, {high:.2f}]" in row
        assert f"{rows['random'][setting]['micro_ap']:.3f}" in row
    assert "10 test pairs of 8 places" in text
    assert "**Known failures**" in lines
    assert "- Not tested, because no test pair has them: ice." in lines
    assert "`card.md`" in lines[-1]


def test_the_short_card_leaves_out_failures_where_there_is_no_room(facts):
    whole = short_card(PredictorFacts(**facts), 5000)
    short = short_card(PredictorFacts(**facts), len(whole) - 1)
    assert len(short) < len(whole)
    assert re.search(r"- … and \d+ more, in the card", short)
    assert short.splitlines()[-1] == whole.splitlines()[-1]


def test_the_short_card_of_made_up_data_says_so_first(facts):
    facts["scores"]["warning"] = "SYNTHETIC data"
    assert short_card(PredictorFacts(**facts), 5000).startswith("**SYNTHETIC data**")


VALUES_OF_KIND = {
    "multiclass": {"accuracy": 0.7, "balanced_accuracy": 0.6, "macro_f1": 0.55, "macro_ap": 0.65},
    "segmentation": {"miou": 0.5, "pixel_accuracy": 0.8, "boundary_f1": 0.4},
    "tile value": {"r2": 0.6, "rmse": 21.5, "mae": 15.25, "bias": -2.5},
    "pixel value": {"r2": 0.6, "rmse": 21.5, "mae": 15.25, "bias": -2.5},
}
PER_CLASS = {"dark": 0.9, "bright": 0.02}


def of_kind(facts, name):
    """The facts of a model of another kind; `s1` alone is worse, random weights are as good."""
    task = TASKS[name]
    scorer, per_class = scorer_of(task, []), PER_CLASS if task.classes else {}
    rows = []
    for initialisation in ("pretrained", "random"):
        for setting, factor in (("s1+s2", 1.0), ("s1", 0.5)):
            values = {metric: value * factor for metric, value in VALUES_OF_KIND[name].items()}
            absent = tuple(of for of in task.classes if of not in per_class)
            ends = {metric: (values[metric] - 0.02, values[metric] + 0.02) for metric in scorer.metrics}
            row = ScoreRow("finetune", initialisation, setting, scorer, Scores(values, per_class, absent), ends)
            rows.append(row)
    facts["scores"] = as_report(rows, num_pairs=10, num_places=8, resamples=100, seed=7)
    facts["metadata"] |= {"classes": list(task.classes), "task": task.model_dump(mode="json")}
    facts["report"]["classes"] = {of: {"train": 5, "validation": 1, "test": 6} for of in task.classes}
    facts["report"]["classes"] |= {"absent": {"train": 0, "validation": 0, "test": 0}} if task.classes else {}
    numbers = {"count": 1000, "min": 0.0, "mean": 81.234, "max": 240.0, "std": 60.5}
    facts["report"]["values"] = None if task.classes else dict.fromkeys(("train", "validation", "test"), numbers)
    facts["figures"] = [Path(f"evaluate/{of}.png") for of in ("confusion", "maps")]
    return PredictorFacts(**facts)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("multiclass", "Single-label classification of co-registered s1 and s2 tiles of 240 m a side"),
        ("segmentation", "for each pixel of 10 m, a probability for each of 3 classes, of which one holds"),
        ("tile value", "for each tile a value in t/ha"),
        ("pixel value", "for each pixel of 10 m a value in t/ha"),
    ],
)
def test_the_card_says_what_a_model_of_the_kind_is_for(facts, name, use):
    found = of_kind(facts, name)
    assert use in section(model_card(found), "Intended use")
    assert use in short_card(found, 5000)
    outside = section(model_card(found), "Out of scope")
    assert ("finer than a pixel of 10 m" in outside) == TASKS[name].is_dense
    assert ("other classes" in outside) == bool(TASKS[name].classes)
    assert ("numbers beyond those of the training values" in outside) == (not TASKS[name].classes)


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("multiclass", ("top-1 accuracy", "balanced accuracy")),
        ("segmentation", ("mean IoU", "pixel accuracy")),
        ("tile value", ("R²", "RMSE (t/ha)")),
        ("pixel value", ("R²", "RMSE (t/ha)")),
    ],
)
def test_tables_of_the_card_have_the_scores_of_the_kind(facts, name, labels):
    found = of_kind(facts, name)
    first, second = labels
    missing = section(model_card(found), "Where a modality is missing")
    assert f"| modalities | {first} (difference to all) | {second} (difference to all) |" in missing
    assert f"| modalities | {first} | {second} | {first} from random weights |" in short_card(found, 5000)
    assert f"| finetune | pretrained | s1+s2 | {first} |" in section(
        model_card(found), "Against random initial weights"
    )
    assert "AP" not in section(model_card(found), "Known failures")


@pytest.mark.parametrize(
    ("name", "row"),
    [("multiclass", "| bright | 5 | 1 | 6 | 0.020 |"), ("segmentation", "| bright | 5 | 1 | 6 | 0.020 |")],
)
def test_the_card_lists_classes_with_the_score_of_the_kind(facts, name, row):
    card = model_card(of_kind(facts, name))
    classes = section(card, "Classes")
    assert row in classes
    assert "| absent | 0 | 0 | 0 | not tested |" in classes
    assert ("whose map has the class" in classes) == (name == "segmentation")
    failures = section(card, "Known failures")
    score = {"multiclass": "recall", "segmentation": "IoU"}[name]
    assert f"({score}" in failures
    assert "Not tested, because no test pair has them: absent." in failures
    assert tuple(KIND_CLASSES) == ("dark", "bright", "absent")


@pytest.mark.parametrize("name", ["tile value", "pixel value"])
def test_the_card_of_values_has_their_range_and_no_classes(facts, name):
    card = model_card(of_kind(facts, name))
    assert "## Classes" not in card
    assert f"per {TASKS[name].value.per}" in section(card, "Values")
    assert "| train | 1000 | 0 | 81.23 | 240 | 60.5 |" in section(card, "Values")
    assert section(card, "Values").startswith("\nBiomass (t/ha), per ")


def test_capitals_of_a_quantity_and_its_unit_stay(facts):
    found = of_kind(facts, "tile value")
    facts["metadata"]["task"]["value"] |= {"name": "NDVI gain", "unit": "Mg C/ha"}
    assert "Regression of NDVI gain (Mg C/ha) from" in section(model_card(found), "Intended use")
    assert "\nNDVI gain (Mg C/ha), per tile." in section(model_card(found), "Values")


def test_an_error_that_grows_where_a_modality_is_missing_is_no_gain(facts):
    """RMSE halves here with one modality; the card judges by R², of which more is better."""
    failures = section(model_card(of_kind(facts, "tile value")), "Known failures")
    assert "R² falls where a modality is missing: s1 (0.300 instead of 0.600)" in failures
    assert "does not help" not in failures


def test_a_graph_of_an_older_version_states_classes_alone(facts):
    assert "task" not in facts["metadata"]
    assert "Multi-label classification" in model_card(PredictorFacts(**facts))
    assert Task(classes=CLASSES).kind == "multilabel"


def test_every_picture_of_predictions_is_in_the_card(facts):
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", model_card(of_kind(facts, "segmentation")))
    assert [path for _, path in pictures] == ["confusion.png", "maps.png", "00_p3.png"]
    assert pictures[0][0] == "Confusion, over the test set"
