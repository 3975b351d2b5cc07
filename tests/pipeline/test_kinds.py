"""Each kind of labels goes the whole way: from files to shards, a registered champion, a map and an answer.

Several classes per tile go it in `test_own_scenes.py`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pipeline import kinds

# About a minute per case: the pipeline's stages in one process on a few dozen tiles, then DVC, MLflow and the gate.
pytestmark = [pytest.mark.xdist_group("kinds"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def walked(new_workspace: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What came of a case, which runs when it is first asked for."""
    known: dict[str, Any] = {}

    def walk(case: str) -> Any:
        if case not in known:
            workspace = new_workspace(tmp_path_factory.mktemp(case) / "fusmae")
            workspace.run("git", "config", "user.name", "t")
            workspace.run("git", "config", "user.email", "t@example.org")
            path = f"{workspace.folder}:{Path(kinds.__file__).parents[2]}"
            environment = {"PYTHONPATH": path, "PATH": f"{workspace.folder}/.venv/bin:/usr/bin:/bin"}
            done = workspace.run(".venv/bin/python", "-m", "tests.pipeline.kinds", case, **environment)
            known[case] = json.loads(done.stdout.splitlines()[-1])
        return known[case]

    return walk


def primary(found: Any, protocol: str = "finetune") -> tuple[str, float]:
    name = found["scores"]["metrics"][protocol]["compared"][0]
    rows = found["scores"]["rows"][protocol]["pretrained"]
    return name, rows[max(rows, key=lambda setting: setting.count("+"))][name]


@pytest.mark.parametrize(
    ("case", "metric", "floor"),
    [
        ("multiclass", "accuracy", 0.9),
        ("segmentation", "miou", 0.6),
        ("regression", "r2", 0.6),
        ("field", "r2", 0.6),
    ],
)
def test_a_folder_of_each_kind_is_learned_registered_and_promoted(walked, case, metric, floor):
    found = walked(case)
    name, value = primary(found)
    assert name == metric
    assert value > floor


def test_the_service_answers_in_the_form_of_the_kind(walked):
    found = walked("multiclass")
    chances = np.array(found["answer"]["probabilities"])
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-4)
    assert chances.argmax(axis=1).tolist() == np.array(found["labels"]).argmax(axis=1).tolist()
    maps, true = np.array(walked("segmentation")["answer"]["map"]), np.array(walked("segmentation")["maps"])
    assert maps.shape == true.shape == (2, 24, 24)
    assert (maps == true)[true != 255].mean() > 0.8
    values = walked("regression")
    assert values["answer"]["value"] == {"name": "biomass", "unit": "t/ha"}
    assert np.ravel(values["answer"]["values"]) == pytest.approx(np.ravel(values["labels"]), abs=40)
    assert np.array(walked("field")["answer"]["values"]).shape == (2, 24, 24)


def test_maps_have_ten_metre_pixels_where_labels_have(walked):
    made = walked("segmentation")["map"]
    pixels = np.array(made["pixels"])
    assert made["gsd_m"] == 10
    # Columns of three covers, 24 px each, number 1 to 3; borders may be a pixel off.
    inside = np.concatenate([np.arange(24 * cover + 3, 24 * cover + 21) for cover in range(3)])
    assert (pixels[:, inside] == inside // 24 + 1).mean() > 0.8
    field = walked("field")["map"]
    values = np.array(field["pixels"], float)
    assert (field["gsd_m"], field["units"]) == (10, ["t/ha"])
    assert np.nanmin(values) >= 0
    water, grass, wood = (np.nanmean(values[:, 24 * cover + 3 : 24 * cover + 21]) for cover in range(3))
    assert water < grass < wood


def test_the_card_speaks_of_the_kind(walked):
    assert "for each pixel of 10 m" in walked("segmentation")["card"]
    assert "Single-label classification" in walked("multiclass")["card"]
    assert "t/ha" in walked("regression")["card"]
    assert {"confusion.png", "maps.png"} <= set(walked("segmentation")["figures"])
    assert {"scatter.png", "maps.png"} <= set(walked("field")["figures"])


def test_sen12ms_goes_from_its_own_layout_to_a_registered_model_of_one_class_per_tile(walked):
    name, value = primary(walked("sen12ms"))
    assert name == "accuracy"
    assert value > 0.5


def test_bigearthnet_v2_goes_from_its_own_layout_to_a_registered_segmentation(walked):
    found = walked("bigearthnet")
    assert primary(found)[0] == "miou"
    assert np.array(found["answer"]["map"]).shape == (2, 120, 120)
