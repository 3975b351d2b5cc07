"""Which variants are accepted, and how the report says so."""

from fusmae.evaluation.resampling import Difference
from fusmae.release.export.variant_comparison import Latency, Variant, VariantScores, as_report, as_tables

BASIS = {"num_test_pairs": 16, "num_test_places": 12, "num_threads": 2, "max_loss": 0.02}


def variant(scores, ratios=(0.9, 0.9), is_finite=True):
    latencies = [Latency(size, 1.0, ratio, ratio, ratio) for size, ratio in zip((1, 16), ratios, strict=True)]
    return Variant("int8", "0" * 64, 1.0, latencies, scores, is_finite)


def scores_with(low):
    differences = {
        "micro_ap": Difference("micro_ap", 0.0, low, 0.0, 0.95, 20, 12),
        "macro_ap": Difference("macro_ap", 0.0, 0.0, 0.0, 0.95, 20, 12),
    }
    values = {"macro_ap": 0.4, "micro_ap": 0.5}
    return {"s1": VariantScores(values, values, differences, 0.1)}


def test_the_interval_decides_not_the_difference_that_was_seen():
    assert variant(scores_with(low=-0.019)).faults(0.02) == []
    (fault,) = variant(scores_with(low=-0.03)).faults(0.02)
    assert fault == "micro_ap with s1 may be 0.0300 below fp32 (95%)"
    assert variant(scores_with(low=float("nan"))).faults(0.02)


def test_slower_at_one_batch_size_is_slower():
    assert variant(scores_with(0.0), ratios=(1.0, 0.9)).faults(0.02) == []
    (fault,) = variant(scores_with(0.0), ratios=(2.0, 0.99)).faults(0.02)
    assert fault == "slower than fp32 at batch 1 (2.00 × its time)"
    assert len(variant(scores_with(0.0), ratios=(1.2, 1.01)).faults(0.02)) == 2


def test_fp32_is_not_slower_than_itself():
    assert variant({}, ratios=(1.01, 1.01)).faults(0.02) == []


def test_overflow_is_a_fault():
    assert variant(scores_with(0.0), is_finite=False).faults(0.02) == ["answers overflow on saturated pixels"]


def test_the_tables_say_what_is_accepted_and_why_not():
    fp32 = Variant("fp32", "", 3.0, [Latency(1, 4.0, 1.0, 1.0, 1.0), Latency(16, 60.0, 1.0, 1.0, 1.0)], {}, True)
    bad = variant(scores_with(low=-0.03), ratios=(1.1, 1.2))
    report = as_report([fp32, bad], **BASIS, warning="SYNTHETIC data")
    assert report["variants"]["fp32"]["is_accepted"]
    assert not report["variants"]["int8"]["is_accepted"]
    table = as_tables(report)
    assert table.startswith("**SYNTHETIC data**\n")
    assert "| fp32 | yes | 3.00 | 4.00 | 1.00 [1.00, 1.00] | 60.00 |" in table
    assert "| int8 | **no** |" in table
    assert "Not accepted, int8: micro_ap with s1 may be 0.0300 below fp32 (95%); slower than fp32 at batch 1" in table
    assert "| int8 | s1 | 0.5000 | +0.0000 [-0.0300, +0.0000] | 0.4000 | +0.0000 [+0.0000, +0.0000] | 0.1 |" in table
    assert "16 test pairs of 12 places; in brackets the 95% interval of 20 paired draws of 12 places." in table


def test_what_is_lost_on_few_places_is_not_known_so_nothing_is_accepted():
    differences = {name: Difference(name, 0.0, None, None, 0.95, 20, 3) for name in ("micro_ap", "macro_ap")}
    values = dict.fromkeys(differences, 0.5)
    few = variant({setting: VariantScores(values, values, differences, 0.1) for setting in ("s1+s2", "s1")})
    why = "3 places are too few for a 95% interval, which needs 6"
    assert few.faults(0.02) == [f"the loss is not known: {why}"]
    fp32 = Variant("fp32", "", 3.0, [Latency(1, 4.0, 1.0, 1.0, 1.0)], {}, True)
    table = as_tables(as_report([fp32, few], **BASIS | {"num_test_places": 3}, warning=""))
    assert f"16 test pairs of 3 places; no intervals: {why}." in table
    assert "| int8 | s1 | 0.5000 | +0.0000 | 0.5000 | +0.0000 | 0.1 |" in table
