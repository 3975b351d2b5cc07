"""What a study's page says of the study itself."""

import dataclasses

import pytest

from fusmae.reports.study import study_about
from fusmae.study.variants import study_of


@pytest.fixture
def about(tiny, tiny_config, cells):
    def facts(*overrides, cells=cells):
        config = tiny_config(*overrides)
        return study_about(study_of(config), config.model, config.pretrain, config.finetune, tiny.shards, cells)

    return facts


def test_data_is_described_with_its_terms_its_warning_and_its_size(about):
    told = about()["Data"]
    for part in (
        "made up: none.",
        "SYNTHETIC",
        "17 train, 5 validation, 6 test",
        "4 classes",
        "multi-label classification",
    ):
        assert part in told
    assert ".." not in told


def test_the_model_is_described_as_it_is(about):
    told = about("model.mask_ratio.s2=0.5")["Model"]
    for part in ("width 16", "2 blocks", "patches of 8 px", "tiles of 24 px", "decoders 16 × 1", "s1 0.75, s2 0.5"):
        assert part in told


def test_lengths_and_protocols_are_the_studys(about):
    told = about("study.protocols=[knn, finetune]", "study.neighbours=7", "study.seeds=[1, 2]")
    assert told["Protocols"].startswith("knn, finetune.")
    for part in ("k = 7", "6 steps of 4 pairs"):
        assert part in told["Protocols"]
    assert told["Pretraining"].startswith("2 epochs of all training pairs in batches of 8")
    assert told["Seeds"].startswith("1, 2:")
    assert "20 resamples" in told["Intervals"]


def test_read_outs_are_said_in_words(about):
    told = about("study.readout=spread", "finetune.readout=cls")["Protocols"]
    assert "kNN and probe read an encoder out as each sensor's mean and deviation over its tokens" in told
    assert "finetune as the CLS token" in told


def test_classes_in_focus_are_named(about):
    assert "In focus" not in about()
    told = about("study.focus={about: wet ones, classes: [water, ice]}")["In focus"]
    assert told.startswith("wet ones: water; ice.")


def test_small_shares_of_labels_are_not_rounded_away(about):
    assert about("study.shares=[0.001, 0.005, 0.07, 1.0]")["Labels"].startswith("0.1%, 0.5%, 7%, 100% of train")


def test_conditions_are_described_by_their_numbers(about):
    told = about("study.clouded_share=0.4", "finetune.modality_drop=0.25")["Conditions"]
    assert "25% of batches without one modality" in told
    assert "40% of each s2 tile" in told


def test_minutes_of_all_cells_are_added_up_and_each_machine_named_once(about, cells):
    slower = dataclasses.replace(cells[0].cell, origin={**cells[0].cell.origin, "device": "A slow one"})
    found = [*cells, dataclasses.replace(cells[0], cell=slower)]
    told = about(cells=found)
    minutes = sum(cell.cell.cost["pretrain_seconds"] for cell in found) / 60
    assert f"{minutes:.0f} minutes for all cells together" in told["Pretraining"]
    assert told["Machine"] == "A slow one; NVIDIA H100"
