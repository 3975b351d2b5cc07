"""An encoder becomes champion of its own name, by what its embeddings tell of the labels."""

import json
from pathlib import Path

import pytest

from fusmae.config.params import load_config
from fusmae.errors import PromotionError
from fusmae.files import write_json
from fusmae.release.promotion.ledger import checked_ledger
from fusmae.release.registry.versions import champion_number, register_graph
from tests.release.conftest import ENCODER, NAME, git, promoted_version

ROWS = [f"{protocol} {setting}" for protocol in ("knn", "probe") for setting in ("s1+s2", "s1", "s2")]


def promoted(config, version):
    return promoted_version(config, ENCODER, version)


def verdict_of(checkout, version):
    return json.loads((checkout / f"reports/gate/{ENCODER}-{version}/verdict.json").read_text(encoding="utf-8"))


def test_an_encoder_that_passes_becomes_champion_of_its_own_name(checkout, config):
    assert f"gate: {ENCODER}/1 passes (no champion yet)" in promoted(config, "1")
    assert (champion_number(ENCODER), champion_number(NAME)) == ("1", "")
    assert f"champion: {ENCODER}/1" in checked_ledger(ENCODER)
    (model,) = verdict_of(checkout, 1)["facts"]["models"]
    assert sorted(model["scores"]["macro_ap"]) == sorted(ROWS)
    assert model["calibration_error"] is None
    page = (checkout / f"reports/gate/{ENCODER}-1/verdict.html").read_text(encoding="utf-8")
    assert "macro AP, probe s1" in page
    assert "calibration" not in page.split("<h2>Facts</h2>")[0]


def test_an_encoder_that_sees_nothing_loses_in_both_protocols_paired_over_places(checkout, config):
    promoted(config, "1")
    with pytest.raises(PromotionError, match=rf"{ENCODER}/2 FAILS \(against {ENCODER}/1\)"):
        promoted(config, "2")
    found = verdict_of(checkout, 2)
    assert set(found["differences"]) == {"knn s1+s2", "probe s1+s2"}
    assert {difference["num_places"] for difference in found["differences"].values()} == {6}
    assert {check["name"] for check in found["checks"] if check["status"] == "failed"} == {"metric knn", "metric probe"}


def test_a_floor_of_one_modality_refuses_an_encoder(checkout, config):
    text = Path("params.yaml").read_text(encoding="utf-8")
    gate = text.index("encoder_gate:")
    changed = text[:gate] + text[gate:].replace("s1+s2: 0.0", "s1+s2: 0.0\n    s2: 1.0", 1)
    Path("params.yaml").write_text(changed, encoding="utf-8")
    git("commit", "-q", "-a", "-m", "floor", cwd=checkout)
    with pytest.raises(PromotionError, match=r"modalities knn s2: 0\.\d+; asked for: micro_ap of at least 1"):
        promoted(load_config(Path("params.yaml")), "1")


def test_a_classifier_that_is_champion_of_the_name_can_not_be_compared_and_the_reason_is_said(
    checkout, config, graph_of_version
):
    write_json(Path("reports/parity.json"), {"checks": [{"max_abs_error": 1e-6}]})
    register_graph(
        ENCODER,
        graph_of_version[1],
        extra_files=[Path("reports/parity.json")],
        tags={},
        experiment="test",
        run_file=Path("none.json"),
    )
    promoted(config, "3")
    with pytest.raises(PromotionError, match=rf"metric knn: champion {ENCODER}/3 is a finetuned model"):
        promoted(config, "1")
