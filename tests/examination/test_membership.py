from dataclasses import replace

from fusmae.data.index import Pair
from fusmae.errors import PairError
from fusmae.sources.shared.source import Facts


def test_a_whole_dataset_is_complete(ask, pairs):
    check = ask("complete")
    assert check.status == "passed"
    assert check.got == f"{len(pairs)} pairs in the index and in the shards"


def test_a_pair_without_a_side_is_incomplete(ask, pairs, read_pair):
    def read(pair: Pair):
        if pair.key == "train03":
            raise PairError("incomplete", f"Pair {pair.key} lacks a side.")
        return read_pair(pair)

    check = ask("complete", read=read)
    assert (check.status, check.found, check.examples) == ("blocks", 1, ("train03",))
    assert "1 pair left out: Pair train03 lacks a side." in check.got


def test_a_pair_that_is_in_no_shard_for_no_reason_is_found(ask, pairs):
    check = ask("complete", sharded=pairs[1:], index=pairs)
    assert (check.status, check.examples) == ("blocks", (pairs[0].key,))
    assert "in no shard, for no stated reason" in check.got


def test_a_pair_that_the_index_lacks_is_found(ask, pairs):
    check = ask("complete", sharded=pairs, index=pairs[1:])
    assert (check.status, check.examples) == ("blocks", (pairs[0].key,))
    assert "in the shards but not in the index" in check.got


def test_a_pair_in_the_shards_of_another_split_is_found(ask, pairs):
    check = ask("complete", sharded=pairs, index=[*pairs[:-1], replace(pairs[-1], split="train")])
    assert (check.status, check.examples) == ("blocks", (pairs[-1].key,))
    assert "in the shards of another split" in check.got


def test_a_pair_that_stands_twice_in_the_shards_is_found(ask, pairs):
    check = ask("complete", sharded=[*pairs, pairs[0]], index=pairs)
    assert (check.status, check.examples) == ("blocks", (pairs[0].key,))


def test_a_pair_left_out_for_its_pixels_is_not_called_missing(ask, changed):
    read = changed(lambda bands: {"VV": bands["VV"] * float("nan")}, only=lambda pair: pair.key == "test00")
    assert ask("complete", read=read).passed


def test_counts_as_stated_pass(ask):
    check = ask("counts", facts=Facts(counts={"train": 17, "validation": 5, "test": 6}))
    assert (check.status, check.got) == ("passed", "train 17, validation 5, test 6")


def test_other_counts_block(ask):
    check = ask("counts", facts=Facts(counts={"train": 20, "validation": 5, "test": 6}))
    assert (check.status, check.found) == ("blocks", 3)
    assert check.expected == "train 20, validation 5, test 6"


def test_counts_say_when_only_splits_have_moved(ask):
    check = ask("counts", facts=Facts(counts={"train": 16, "validation": 5, "test": 7}))
    assert check.status == "blocks"
    assert "the total is right, so pairs have changed their split" in check.got


def test_counts_that_nobody_states_are_skipped_in_words(ask):
    check = ask("counts")
    assert check.status == "skipped"
    assert "the dataset states no counts" in check.got


def test_what_a_table_can_and_can_t_show_is_said(ask):
    check = ask("table", facts=Facts(cross_checked="names have one tile", not_checked="classes"))
    assert check.status == "passed"
    assert check.got == "in the rows of 28 pairs: names have one tile. The tables can't show mistakes in: classes"


def test_a_table_that_states_nothing_twice_is_skipped_in_words(ask):
    check = ask("table")
    assert check.status == "skipped"
    assert "the tables state nothing twice" in check.got
    assert "labels, splits, dates and countries" in check.got
