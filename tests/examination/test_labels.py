from dataclasses import replace

from fusmae.sources.source import Facts


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
    assert "3 of 3 known pairs have other classes in the index (as if shifted by +1): train00 has" in check.got


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
    assert "the shards have 5 label columns, the class table 4 classes" in check.got


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
