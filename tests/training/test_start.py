"""Weights that a training starts from: what fits is taken bit for bit, what is new stays as it was initialised."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fusmae.config.task import Task
from fusmae.errors import CheckpointError, ConfigError
from fusmae.files import write_json
from fusmae.modalities import BandGroup, BandStatistics, Modality, modality_inputs
from fusmae.models.preprocess import Preprocessing
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fusmae.training.checkpoint_card import CARD, START, read_card
from fusmae.training.reconstruction import initial_autoencoder
from fusmae.training.start import Start, encoder_alone, read_start, take_weights
from tests.sections import model_section

S1, S2 = ("VV", "VH"), ("B02", "B03", "B04")
BOTH = {"s1": S1, "s2": S2}
EARLIER = Path(__file__).parents[1] / "fixtures" / "earlier_models"


def autoencoder(seed=0, bands=BOTH, *, tile_m=240, is_stacked=False, mean=0.0, **changes) -> Checkpoint:
    """An autoencoder whose weights were shaken as training would."""
    groups = {
        key: Modality(units="dB" if key == "s1" else "DN", groups=(BandGroup(gsd_m=10, bands=names),))
        for key, names in bands.items()
    }
    statistics = {
        key: {name: BandStatistics(mean=mean, std=1 + number) for number, name in enumerate(names)}
        for key, names in bands.items()
    }
    preprocessing = Preprocessing(inputs=modality_inputs(groups, tile_m), statistics=statistics, is_stacked=is_stacked)
    ratios = dict.fromkeys(bands, 0.75)
    _, made = initial_autoencoder(model_section(mask_ratio=ratios, **changes), preprocessing, seed)
    torch.manual_seed(seed + 100)
    return replace(made, weights={name: tensor + torch.rand_like(tensor) for name, tensor in made.weights.items()})


def finetuned(seed=0, **changes) -> Checkpoint:
    made = encoder_alone(autoencoder(seed, **changes))
    head = {"head.linear.weight": torch.rand(3, 16), "head.linear.bias": torch.rand(3)}
    return made.with_head("mean", Task(classes=("a", "b", "c")), {}, {**made.weights, **head})


def started(checkpoint: Checkpoint) -> Start:
    return Start(checkpoint, {"reference": "mine", "origin": "/there/mine", "sha256": "0" * 64})


def take(start: Checkpoint, initial: Checkpoint):
    """What is taken, after a check that all tensors of the model are there, in their order and shape."""
    found = take_weights(started(start), initial)
    assert {name: tensor.shape for name, tensor in found.weights.items()} == {
        name: tensor.shape for name, tensor in initial.weights.items()
    }
    for name in found.initialised:
        if "[" not in name:
            assert torch.equal(found.weights[name], initial.weights[name]), name
    for name in found.taken:
        if "[" not in name and ".proj.weight" not in name and ".head." not in name:
            assert torch.equal(found.weights[name], start.weights[name]), name
    return found


def columns(checkpoint_weights, modality, num_bands):
    """The patch projection's columns by band: `[D, C, P·P]`."""
    return checkpoint_weights[f"encoder.embed.{modality}.proj.weight"].unflatten(1, (num_bands, -1))


def rows(checkpoint_weights, modality, num_bands, part="weight"):
    """The rows of a decoder's last layer by band: `[C, P·P, …]`."""
    return checkpoint_weights[f"decoders.{modality}.head.{part}"].unflatten(0, (num_bands, -1))


def test_the_same_architecture_takes_every_tensor_bit_for_bit():
    start, initial = autoencoder(1), autoencoder(2)
    found = take(start, initial)
    assert set(found.taken) == set(initial.weights)
    assert found.initialised == found.unused == ()
    for name, tensor in start.weights.items():
        assert torch.equal(found.weights[name], tensor), name


@pytest.mark.parametrize("changes", [{"tile_m": 480}, {"mean": 9.0}, {"target_norm": "band", "masking": "consistent"}])
def test_another_tile_side_other_statistics_and_switches_without_weights_take_every_tensor(changes):
    start, initial = autoencoder(1), autoencoder(2, **changes)
    found = take(start, initial)
    assert found.initialised == found.unused == ()
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in start.weights.items())


def test_fewer_bands_in_another_order_take_their_own_columns_and_rows():
    start, initial = autoencoder(1), autoencoder(2, {"s1": ("VH", "VV"), "s2": ("B04", "B02")})
    found = take(start, initial)
    assert torch.equal(columns(found.weights, "s1", 2), columns(start.weights, "s1", 2)[:, [1, 0]])
    assert torch.equal(columns(found.weights, "s2", 2), columns(start.weights, "s2", 3)[:, [2, 0]])
    for part in ("weight", "bias"):
        assert torch.equal(rows(found.weights, "s2", 2, part), rows(start.weights, "s2", 3, part)[[2, 0]])
    assert found.initialised == ()
    assert found.unused == (
        "encoder.embed.s2.proj.weight [B03]",
        "decoders.s2.head.weight [B03]",
        "decoders.s2.head.bias [B03]",
    )
    assert "encoder.embed.s1.proj.weight" in found.taken
    assert "encoder.embed.s2.proj.weight [B04, B02]" in found.taken


def test_a_new_band_keeps_its_initial_columns_and_rows_beside_those_that_are_taken():
    start, initial = autoencoder(1), autoencoder(2, {"s1": S1, "s2": ("B01", *S2)})
    found = take(start, initial)
    merged, mine = columns(found.weights, "s2", 4), columns(initial.weights, "s2", 4)
    assert torch.equal(merged[:, 0], mine[:, 0])
    assert torch.equal(merged[:, 1:], columns(start.weights, "s2", 3))
    assert torch.equal(rows(found.weights, "s2", 4)[0], rows(initial.weights, "s2", 4)[0])
    assert torch.equal(rows(found.weights, "s2", 4)[1:], rows(start.weights, "s2", 3))
    assert found.initialised == (
        "encoder.embed.s2.proj.weight [B01]",
        "decoders.s2.head.weight [B01]",
        "decoders.s2.head.bias [B01]",
    )
    assert found.unused == ()


def test_a_modality_more_is_initialised_and_all_else_taken():
    start, initial = autoencoder(1), autoencoder(2, {**BOTH, "dem": ("height",)})
    found = take(start, initial)
    assert {name for name in initial.weights if ".dem." in name} == set(found.initialised)
    assert found.unused == ()
    assert set(found.taken) == set(start.weights)


def test_a_modality_less_is_left_unused():
    start, initial = autoencoder(1, {**BOTH, "dem": ("height",)}), autoencoder(2)
    found = take(start, initial)
    assert found.initialised == ()
    assert {name for name in start.weights if ".dem." in name} == set(found.unused)


def test_a_modality_without_a_band_in_common_is_initialised():
    found = take(autoencoder(1, {"s1": S1, "s2": ("B11",)}), autoencoder(2))
    assert found.initialised == (
        "encoder.embed.s2.proj.weight",
        "decoders.s2.head.weight",
        "decoders.s2.head.bias",
    )
    assert set(found.initialised) == set(found.unused)


def test_another_patch_side_initialises_what_has_a_part_per_pixel_even_where_the_shape_is_the_same():
    start = autoencoder(1, {"s1": ("VV", "VH", "HH", "HV"), "s2": S2}, tile_m=480)
    initial = autoencoder(2, {"s1": ("VV",), "s2": S2}, tile_m=480, patch_px=16)
    name = "encoder.embed.s1.proj.weight"
    assert start.weights[name].shape == initial.weights[name].shape
    found = take(start, initial)
    expected = {f"encoder.embed.{key}.proj.weight" for key in BOTH}
    expected |= {f"decoders.{key}.head.{part}" for key in BOTH for part in ("weight", "bias")}
    assert set(found.initialised) == expected == set(found.unused)


@pytest.mark.parametrize("is_on", [True, False])
def test_early_and_feature_fusion_that_one_side_lacks_are_initialised_or_unused(is_on):
    start = autoencoder(1, early_fusion=is_on, feature_fusion=is_on)
    initial = autoencoder(2, early_fusion=not is_on, feature_fusion=not is_on)
    found = take(start, initial)
    parts = ("encoder.first_block.", "latent_fusion.")
    assert found.initialised
    assert found.unused
    assert all(name.startswith(parts) for name in (*found.initialised, *found.unused))
    assert {name for name in initial.weights if not name.startswith(parts)} <= set(found.taken)


def test_a_stack_and_separate_modalities_share_the_trunk():
    start = autoencoder(1, is_stacked=True, early_fusion=False, feature_fusion=False)
    found = take(start, autoencoder(2, early_fusion=False, feature_fusion=False))
    assert {name.split(".")[1] for name in found.initialised} == {"embed", "s1", "s2"}
    assert "encoder.blocks.0.attn.qkv.weight" in found.taken


def test_pretraining_takes_the_encoder_of_a_classifier_and_no_head():
    start, initial = finetuned(1), autoencoder(2)
    found = take(start, initial)
    assert set(found.taken) == {name for name in initial.weights if name.startswith("encoder.")}
    assert set(found.initialised) == set(initial.weights) - set(found.taken)
    assert found.unused == ("head.linear.weight", "head.linear.bias")


def test_finetuning_takes_an_encoder_alone():
    start, initial = autoencoder(1), encoder_alone(autoencoder(2))
    found = take(start, initial)
    assert found.initialised == ()
    assert set(found.taken) == set(initial.weights) == {name for name in start.weights if name.startswith("encoder.")}
    assert set(found.unused) == set(start.weights) - set(found.taken)


def test_weights_of_half_precision_become_single_ones():
    start = autoencoder(1)
    half = replace(start, weights={name: tensor.half() for name, tensor in start.weights.items()})
    found = take_weights(started(half), autoencoder(2))
    assert {tensor.dtype for tensor in found.weights.values()} == {torch.float32}


@pytest.mark.parametrize("name", ["pretrained", "finetuned", "probed"])
def test_checkpoints_of_an_earlier_build_are_taken(name):
    start = load_checkpoint(EARLIER / name)
    architecture = start.architecture
    section = model_section(**{key: getattr(architecture, key) for key in type(model_section()).model_fields})
    _, initial = initial_autoencoder(section, start.preprocessing, 5)
    found = take(start, initial)
    assert {name for name in initial.weights if name.startswith("encoder.")} <= set(found.taken)


def test_facts_and_summary_tell_what_was_taken():
    found = take(autoencoder(1), autoencoder(2, {"s1": S1, "s2": ("B01", *S2)}))
    assert found.facts["origin"] == "/there/mine"
    assert found.facts["initialised"] == list(found.initialised)
    assert json.loads(json.dumps(found.facts)) == found.facts
    first, second, third = found.summary.splitlines()
    assert first == f"starts from /there/mine: {len(found.taken)} tensors taken"
    assert second.startswith("  3 initialised: encoder.embed.s2.proj.weight [B01], ")
    assert third == "  0 left unused"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dim", 32),
        ("depth", 3),
        ("num_heads", 4),
        ("decoder_dim", 32),
        ("decoder_depth", 2),
        ("decoder_num_heads", 4),
    ],
)
def test_another_width_depth_or_number_of_heads_is_refused_with_both_values(name, value):
    start, initial = autoencoder(1, **{name: value}), autoencoder(2)
    with pytest.raises(CheckpointError, match=r"/there/mine are of a model of another size") as refused:
        take_weights(started(start), initial)
    text = str(refused.value)
    assert f"got:      {{'model.{name}': {value}}}" in text
    assert f"expected: {{'model.{name}': {getattr(initial.architecture, name)}}}" in text
    assert f"-S model.{name}={value}" in text


def test_a_decoders_size_does_not_matter_where_no_decoder_is_taken():
    changes = {"decoder_dim": 32, "decoder_depth": 2, "decoder_num_heads": 4}
    assert take(finetuned(1, **changes), autoencoder(2)).taken
    assert take(autoencoder(1, **changes), encoder_alone(autoencoder(2))).taken


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(number):
    start = autoencoder(1)
    start.weights["encoder.norm.bias"][3] = number
    with pytest.raises(CheckpointError, match=r"/there/mine have numbers that are NaN or infinite(.|\n)*encoder\.norm"):
        take_weights(started(start), autoencoder(2))


def test_what_is_not_taken_may_be_anything():
    start = finetuned(1)
    start.weights["head.linear.bias"][0] = float("nan")
    assert take(start, autoencoder(2)).taken


def test_weights_that_are_not_those_of_their_own_architecture_are_refused():
    start = autoencoder(1)
    broken = replace(
        start, weights={name: item for name, item in start.weights.items() if "blocks.0.norm1" not in name}
    )
    with pytest.raises(CheckpointError, match="do not fit the model"):
        take_weights(started(broken), autoencoder(2))


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "start", autoencoder(1))
    sha256 = read_card(tmp_path / "start" / "model.safetensors")["sha256"]
    write_json(tmp_path / "start" / START, {"reference": "mine", "origin": "/there/mine", "sha256": sha256})
    return tmp_path / "start"


def test_a_start_is_read_with_its_origin_and_none_without_a_reference(folder):
    found = read_start(folder, "mine")
    assert found.facts["origin"] == "/there/mine"
    assert found.checkpoint.weights.keys() == autoencoder(1).weights.keys()
    assert read_start(folder, "") is None
    assert read_start(None, "") is None


def test_a_command_without_the_folder_that_the_parameters_ask_for_is_refused():
    with pytest.raises(ConfigError, match=r"start from mine, but the command names no folder(.|\n)*--start"):
        read_start(None, "mine")


def test_a_folder_of_another_start_is_refused(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"got:      mine\n(.|\n)*expected: fusmae/3(.|\n)*fusmae start"):
        read_start(folder, "fusmae/3")
    with pytest.raises(CheckpointError, match=r"got:      none"):
        read_start(tmp_path / "nothing", "mine")


def test_a_checkpoint_of_another_architecture_is_refused_with_advice_that_helps(folder):
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    write_json(folder / CARD, {**card, "architecture": {"layers": 12}})
    with pytest.raises(CheckpointError, match=r"not describe a model that this build knows(.|\n)*set `start`"):
        read_start(folder, "mine")
