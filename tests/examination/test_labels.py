from dataclasses import replace

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.shard_writer import write_shards
from fusmae.examination.check import Dataset
from fusmae.examination.examine import examine_data
from fusmae.examination.labels import check_labels, check_maps
from fusmae.examination.observe import merge
from fusmae.reports.examination import write_report
from fusmae.sources.shared.source import Facts


def _shifted(names, classes, by):
    return tuple(classes[(classes.index(name) + by) % len(classes)] for name in names)


def test_labels_that_agree_everywhere_pass(ask, pairs):
    check = ask("labels", facts=Facts(labels={pair.key: pair.labels for pair in pairs[:3]}))
    assert (check.status, check.got) == ("passed", "3 known pairs have the right classes")


def test_labels_say_when_no_known_pair_tests_the_map(ask):
    check = ask("labels", facts=Facts(labels={"elsewhere": ("water",)}))
    assert check.status == "passed"
    assert "no known pair is here to test the map" in check.got


def test_a_class_map_shifted_by_one_is_named(ask, pairs, classes):
    known = {pair.key: _shifted(pair.labels, classes, -1) for pair in pairs[:3]}
    check = ask("labels", facts=Facts(labels=known))
    assert (check.status, check.found) == ("blocks", 3)
    assert "3 pairs of 3 known ones with other classes in the index (as if shifted by +1): train00 has" in check.got


def test_a_class_map_in_the_order_of_the_alphabet_is_named(ask, pairs, classes):
    alphabet = sorted(classes)
    known = {pair.key: tuple(alphabet[classes.index(name)] for name in pair.labels) for pair in pairs}
    assert "(as if the classes stood in the alphabet's order)" in ask("labels", facts=Facts(labels=known)).got


def test_a_single_wrong_label_is_no_shift(ask, pairs):
    wrong = replace(pairs[0], labels=("town", "ice"))
    check = ask("labels", sharded=[wrong, *pairs[1:]], facts=Facts(labels={wrong.key: ("water",)}))
    assert (check.status, check.examples) == ("blocks", (wrong.key,))
    assert "as if" not in check.got


def test_columns_of_the_shards_shifted_by_one_are_named(ask, pairs, classes):
    check = ask("labels", columns=[classes[-1], *classes[:-1]])
    assert (check.status, check.found) == ("blocks", len(pairs))
    assert "28 pairs with other columns in the shards than in the index (as if shifted by +1)" in check.got


def test_shards_with_another_number_of_columns_block(ask, classes):
    check = ask("labels", columns=[*classes, "snow"])
    assert check.status == "blocks"
    assert "28 pairs in shards with 5 label columns, for a class table of 4 classes" in check.got


def test_a_name_outside_the_class_table_blocks(ask, pairs, classes):
    stray = replace(pairs[0], labels=("lava",))
    check = ask("labels", sharded=[stray, *pairs[1:]], columns=[*classes, "lava"], index=[stray, *pairs[1:]])
    assert check.status == "blocks"
    assert "1 pair with names outside the class table: ['lava']" in check.got


def test_a_class_without_a_training_pair_warns(diagnose):
    diagnosis = diagnose()
    check = next(check for check in diagnosis.checks if check.name == "classes")
    assert (check.status, check.found) == ("warns", 1)
    assert check.got == "no pair in train: “ice”"
    assert not diagnosis.blocks


def test_classes_that_are_all_there_pass(ask, pairs):
    icy = [replace(pair, labels=(*pair.labels, "ice")) for pair in pairs]
    check = ask("classes", sharded=icy)
    assert (check.status, check.got) == ("passed", "all 4 classes are in train and in test")


def test_pairs_without_any_class_are_counted(ask, pairs):
    check = ask("classes", sharded=[replace(pairs[0], labels=()), *pairs[1:]])
    assert "1 pair without any class" in check.got


def test_without_classes_nothing_blocks_and_the_report_says_what_is_missing(tmp_path, pairs, read_pair, inputs):
    bare = [replace(pair, labels=()) for pair in pairs]
    write_shards(bare, read_pair, tmp_path / "shards", inputs=inputs, task=Task(classes=()), shard_pairs=7)
    diagnosis = examine_data(bare, Task(), Facts(), shards=tmp_path / "shards", tolerated={})
    checks = {check.name: check for check in diagnosis.checks}
    assert checks["classes"].status == "skipped"
    assert "without labels: enough to pretrain" in checks["classes"].got
    assert checks["labels"].passed
    assert not diagnosis.blocks
    write_report(tmp_path / "report", diagnosis, title="bare", is_synthetic=False)
    assert "without labels: enough to pretrain" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_classes_that_differ_between_dates_of_a_place_block_where_the_dataset_has_them_by_place(pairs, classes):
    twice = [*pairs, replace(pairs[0], key="again", labels=("ice",)), replace(pairs[1], key="the same")]
    check = check_labels.ask(Dataset(twice, Task(classes=classes), Facts(has_labels_by_place=True), merge([])))
    assert (check.status, check.examples) == ("blocks", tuple(sorted(("again", pairs[0].key))))
    assert "2 pairs of places whose classes differ between dates" in check.got
    assert check.hint.endswith("`fusmae update`")
    assert check_labels.ask(Dataset(twice, Task(classes=classes), Facts(), merge([]))).passed


def test_the_hint_concerns_what_is_wrong(ask, pairs, classes):
    in_shards = ask("labels", columns=[classes[-1], *classes[:-1]])
    assert in_shards.hint == "the shards are of other labels or damaged maps: `fusmae update`"
    in_table = ask("labels", facts=Facts(labels={pairs[0].key: ("ice",)}))
    assert in_table.hint.startswith("compare the class table and the labels")
    assert in_table.hint.endswith("`fusmae update`")


@pytest.mark.parametrize(("wrong", "status"), [(0, "passed"), (1, "passed"), (3, "blocks"), (200, "blocks")])
def test_labels_are_compared_with_maps(wrong, status):
    classes = ("water", "land", "ice")
    rows = np.arange(200) % 3
    labels = np.eye(3, dtype=np.uint8)[rows]
    shares = np.eye(3, dtype=np.float32)[rows]
    shares[:wrong] = np.roll(shares[:wrong], 1, axis=1)
    keys = [f"p{number:03d}" for number in range(200)]
    observed = replace(merge([]), keys=keys, labels=labels, map_shares=shares)
    check = check_maps.ask(Dataset([], Task(classes=classes), Facts(), observed, map_classes=classes))
    assert (check.status, check.found) == (status, wrong if status == "blocks" else 0)
    assert f"contradict the labels of {wrong:,} of 200 pairs" in check.got


@pytest.mark.parametrize(
    ("labels", "shares", "passes"),
    [
        ([1, 1, 0], [0.6, 0.001, 0.399], True),
        ([1, 0, 0], [0.5, 0.5, 0.0], True),
        ([1, 1, 0], [1.0, 0.0, 0.0], False),
        ([0, 1, 0], [0.6, 0.4, 0.0], False),
        ([1, 0, 0], [0.2], True),
    ],
)
def test_a_label_needs_a_pixel_and_most_of_a_map_needs_a_label(labels, shares, passes):
    observed = replace(
        merge([]),
        keys=["a"],
        labels=np.array([labels], np.uint8),
        map_shares=np.array([shares], np.float32),
    )
    data = Dataset([], Task(classes=("a", "b", "c")), Facts(), observed, map_classes=("a", "b", "c"))
    assert check_maps.ask(data).passed is passes


def test_maps_in_another_order_of_classes_are_compared_by_name():
    observed = replace(
        merge([]), keys=["a"], labels=np.array([[1, 0]], np.uint8), map_shares=np.array([[0.0, 0.0, 1.0]], np.float32)
    )
    data = Dataset([], Task(classes=("water", "land")), Facts(), observed, map_classes=("road", "land", "water"))
    assert check_maps.ask(data).passed


def test_without_maps_nothing_is_compared(ask):
    check = ask("maps")
    assert (check.status, check.got) == ("skipped", "there are no land-cover maps to compare")
