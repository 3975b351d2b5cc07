"""The numbers that are claimed are those that were measured, each from a commit that says with which code."""

import json
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STUDY = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")


def result(name):
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))


IN_README = ("loader", "inference", "synthetic_world", "study_gpu", "study_quick")
RESULTS = sorted(path.stem for path in (ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.mark.parametrize("name", RESULTS)
def test_every_result_names_its_machine_and_a_commit_without_changes(name):
    found = result(name)
    assert re.fullmatch(r"[0-9a-f]{40}", found["commit"])
    # What a study's own parameters were stands in its result.
    assert found["is_dirty"] is False or found["changed"] == ["study/params.yaml"]
    assert "cores" in found["machine"]


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("study_")])
def test_the_study_s_page_links_each_of_its_results(name):
    assert f"(../benchmarks/results/{name}.json)" in STUDY


@pytest.mark.parametrize("name", IN_README)
def test_readme_links_every_result(name):
    assert f"(benchmarks/results/{name}.json)" in README


def test_the_rewritten_attention_is_faster_than_torch_s_own_export():
    for row in result("attention")["by_model_and_opset"].values():
        assert row["rewritten"]["bytes"] < row["torch"]["bytes"]
        assert row["rewritten"]["max_abs_error"] < 1e-5
        for size in ("batch1", "batch16"):
            assert row[size]["ratio"] > 1.1


def test_the_page_s_matrix_of_runtimes_is_what_was_measured():
    page = (ROOT / "docs" / "runtimes.md").read_text(encoding="utf-8")
    stated = {}
    for names, *answers in re.findall(r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \|$", page, re.MULTILINE):
        first, *others = names.split(", ")
        names = [first, *(f"{first.split()[0]} {version}" for version in others)]
        stated |= {name: [answer == "yes" for answer in answers] for name in names}
    found = result("runtimes")["by_runtime_and_opset"]
    assert stated == {name: [rows[opset]["runs"] for opset in ("17", "20", "23")] for name, rows in found.items()}


def test_batching_in_the_service_was_no_faster_than_requests_side_by_side_on_a_core_each():
    for by_clients in result("serving")["by_model"].values():
        for name in ("throughput", "latency", "cpu"):
            found = {clients: row["side_by_side"][name] for clients, row in by_clients.items()}
            assert found["1"]["high"] < 1.03
            assert found["4"]["ratio"] < 1
            assert found["16"]["low"] < 1.03


def test_readme_states_the_loader_s_measured_ratios():
    found = result("loader")
    for key in ("ratio_to_torchgeo", "ratio_to_lmdb"):
        assert f"{found[key]:.0f} ×" in README or f"{found[key]:.1f} ×" in README
        if values := found.get("by_round", {}).get(key):  # from the first run on that kept its rounds
            assert f"({min(values):.0f} to {max(values):.0f}" in README or f"({min(values):.1f} to" in README


def test_readme_states_the_synthetic_world_s_measured_scores():
    rows = {name: row["macro_ap"] for name, row in result("synthetic_world")["rows"].items()}
    stated = README[README.index("The synthetic world separates") :].split("\n\n")[0]
    for name in ("band means", "untrained network", "untrained encoder"):
        assert f"{rows[name]:.2f}" in stated
    for name in ("both", "s1", "s2"):
        assert f"{rows[f'trained network, {name}']:.2f}" in stated


def test_a_network_reads_more_in_the_synthetic_world_than_band_means_and_random_features_and_fused_most():
    rows = {name: row["macro_ap_interval"] for name, row in result("synthetic_world")["rows"].items()}
    both = rows["trained network, both"]
    for name in ("band means", "band means and deviations", "untrained encoder", "untrained network"):
        assert rows[name][1] < both[0] - 0.2
    for name in ("trained network, s1", "trained network, s2"):
        assert rows[name][1] < both[0]


def test_readme_states_the_measured_speed_of_scenes_and_of_onnxruntime():
    found = result("inference")
    stated = " ".join(README[README.index("## Map scenes") : README.index("## Prefect")].split())
    for row in (found, found["small"]):
        for name in ("scene_fraction", "scene_fraction_of_parts"):
            low, high = min(row["by_round"][name]), max(row["by_round"][name])
            wanted = rf"{row[name]:.0%} \({low:.0%} to {high:.0%}[:)]".replace("%", " %").replace(" % to", "( %)? to")
            assert re.search(wanted, stated), wanted
        assert re.search(rf"{_shown(row, 'ort_to_torch_batch1')} and {_shown(row, 'ort_to_torch_batch16')} ×", stated)


def test_a_speed_that_is_stated_is_the_median_of_its_rounds():
    for name in ("inference", "loader"):
        for row in (found for found in (result(name), result(name).get("small")) if found):
            for key, values in row.get("by_round", {}).items():
                assert row[key] == pytest.approx(statistics.median(values), abs=0.005)


def test_a_scene_of_20000_by_20000_pixels_stays_below_a_gigabyte_and_a_half():
    found = result("inference")
    assert found["scene_peak_px"] == [20_000, 20_000]
    assert 0 < found["scene_peak_rss_mb"] <= 1536


def test_readme_states_the_study_s_measured_scores():
    cells = result("study_gpu")["cells"]
    stated = README[README.index("## Does pretraining pay?") : README.index("## Map scenes")]

    def scores(variant, protocol):
        found = cells[f"{variant}-11"]["macro_ap"]
        return [f"{found[f'{protocol}/{share}/s1+s2']:.2f}" for share in ("0.01", "0.1", "1")]

    for variant, protocol in (("fusmae", "probe"), ("random", "probe"), ("contrastive", "probe")):
        assert ", ".join(scores(variant, protocol)) in " ".join(stated.split())
    for variant in ("fusmae", "random"):
        assert ", ".join(scores(variant, "finetune")) in " ".join(stated.split())


@pytest.mark.parametrize("name", ["study_quick", "study_options"])
def test_the_study_s_page_states_the_measured_scores_of_every_variant(name):
    found = result(name)
    assert set(found["scores"]) == set(found["study"]["run"])
    for variant, by_protocol in found["scores"].items():
        shares = [
            " ".join(_short(by_protocol[protocol][share]["score"]) for share in ("1 %", "10 %", "100 %"))
            for protocol in ("knn", "probe", "finetune", "segment")
        ]
        assert f"| `{variant}` | {' | '.join(shares)} |" in STUDY


@pytest.mark.parametrize(
    ("name", "until"), [("study_quick", "On the 60 real pairs"), ("study_options", "**Read-out**")]
)
def test_a_count_of_higher_scores_is_that_of_the_result(name, until):
    scores = result(name)["scores"]
    text = " ".join(STUDY[STUDY.index(f"({'../benchmarks/results/' + name}.json)") :].split(until)[0].split())
    claims = re.findall(r"`([\w-]+)`(?: with independent ones)?(?: is higher)? than `([\w-]+)` in (\d+) of (\d+)", text)
    assert len(claims) >= 7
    for higher, lower, stated, total in claims:
        pairs = [
            (scores[higher][protocol][share]["score"], scores[lower][protocol][share]["score"])
            for protocol in ("knn", "probe", "finetune", "segment")
            for share in ("1 %", "10 %", "100 %")
        ]
        assert (int(stated), int(total)) == (sum(one > other for one, other in pairs), len(pairs)), (higher, lower)
    assert len(re.findall(r"in \d+ of 12", text)) == len(claims)


def test_the_study_s_page_says_of_the_default_size_what_its_intervals_say():
    verdict = result("study_quick")["verdict"]

    def answered(key, answer):
        return _answers(verdict, key, answer)

    every = {f"{protocol} {share} %" for protocol in ("probe", "segment") for share in (1, 10, 100)}
    assert answered("random_init", "yes") == every | {"knn 10 %"}
    assert answered("from_scratch", "yes") == {"finetune 1 %", "finetune 100 %"}
    assert answered("better_single", "yes") == {"finetune 1 %", "finetune 10 %", "finetune 100 %", "segment 1 %"}
    maps = {"segment 1 %", "segment 10 %", "segment 100 %"}
    assert answered("joint_tokens", "yes") == {"finetune 10 %", "finetune 100 %"} | maps
    assert answered("joint_tokens", "worse") == {"probe 100 %"}
    assert len(answered("joint_tokens_in_focus", "no difference shown")) == 9
    assert answered("better_single_in_focus", "worse") == {"finetune 1 %"}


def test_the_study_s_page_says_of_the_other_read_out_what_its_intervals_say():
    verdict = result("study_spread")["verdict"]
    assert _answers(verdict, "random_init", "yes") == {
        f"{name} {share} %" for name in ("knn", "probe") for share in (1, 10, 100)
    }
    for key, better in (
        ("joint_tokens", {"knn 10 %", "knn 100 %"}),
        ("joint_tokens_in_focus", {"knn 10 %", "probe 1 %"}),
    ):
        assert _answers(verdict, key, "yes") == better
        assert _answers(verdict, key, "worse") == set()


def _answers(verdict, key, answer):
    return {
        f"{protocol} {share}"
        for protocol, by_share in verdict[key].items()
        for share, found in by_share.items()
        if found["answer"] == answer
    }


def _shown(row, name):
    """A ratio as README states it: with the range of its rounds, from the first run on that kept them."""
    values = row["by_round"].get(name)
    return f"{row[name]:.1f}" + (rf" \({min(values):.1f} to {max(values):.1f}\)" if values else "")


def _short(score):
    sign = "-" if score < 0 else ""
    return sign + f"{abs(score):.3f}".removeprefix("0")


def _range(interval):
    return " to ".join(map(_short, interval))


def test_the_page_on_embeddings_has_the_shares_that_were_measured():
    found = result("embedding_search")
    text = " ".join((ROOT / "docs" / "embeddings.md").read_text(encoding="utf-8").split())
    pretrained, random = found["rows"]["pretrained"], found["rows"]["random"]
    for what in (pretrained["share"], random["share"]):
        low, high = what["interval"]
        assert f"{what['mean']:.0%} ({low:.0%} to {high:.0%}".replace("%", " %").replace(" % to", " to") in text
    low, high = pretrained["above_chance"]["interval"]
    assert f"{100 * pretrained['above_chance']['mean']:.0f} points more ({100 * low:.0f} to {100 * high:.0f})" in text
    assert f"{found['chance']['mean']:.0%}".replace("%", " %") in text
    assert {row["num_seeds"] for row in found["rows"].values()} == {3}
    assert f"{found['num_test_pairs']} test pairs" in text


def test_the_page_on_labels_has_the_scores_with_both_sensors_and_with_one():
    found = result("dense_fusion")
    text = " ".join((ROOT / "docs" / "labels.md").read_text(encoding="utf-8").split())

    def cell(row):
        return f"{_short(row['mean'])} ({_range(row['interval'])})"

    for name, label in (("s1+s2", "S1 and S2"), ("s1", "S1"), ("s2", "S2")):
        row = found["rows"][name]
        assert len(row["seeds"]) == 3
        miou = statistics.fmean(seed["miou"] for seed in row["seeds"])
        assert f"| {label} | {cell(row['told_apart'])} | {cell(row['focus_iou'])} | {_short(miou)} |" in text
    for name, told, iou in (("s1", "than S1 alone by", "higher by"), ("s2", "than S2 alone by", "and by")):
        difference = found["both_minus"][name]
        assert difference["told_apart"]["interval"][0] > 0
        for words, metric in ((told, "told_apart"), (iou, "focus_iou")):
            row = difference[metric]
            assert f"{words} {_short(row['difference'])} ({_range(row['interval'])})" in text
    conditions = f"{found['steps']} steps on {found['num_train']} pairs, and scored on {found['num_test']} test pairs"
    assert f"{conditions} from {found['num_places']} places" in text


def test_classes_are_told_apart_by_chance_where_both_are_called_one_of_them():
    import numpy as np

    from benchmarks.dense_fusion import told_apart

    one, half = np.zeros((3, 3)), np.full((3, 3), 5.0)
    one[1, 1], one[2, 1], one[0, 1] = 30, 10, 1000
    for confusion, expected in ((one, 0.5), (half, 0.5), (np.diag([1.0, 2.0, 3.0]), 1.0)):
        assert told_apart(confusion, [1, 2]) == expected
