"""What holds for every rival."""

import pytest
import torch

from fusmae.errors import ConfigError
from fusmae.files import file_sha256
from fusmae.modalities import BandGroup, Modality, modality_inputs
from fusmae.rivals.backbones import RIVALS
from tests.rivals.tiles import BIGEARTHNET, S1, SEN12MS, THIRTEEN, TILE_M, draw, make, statistics_of

BOTH = ("s1", "s2")


def weights_of(rival):
    return torch.cat([tensor.flatten() for tensor in rival.backbone.parameters()])


def test_features_are_a_vector_a_tile_in_every_setting(rival, features):
    for found in features.values():
        assert found.shape == (2, 768)
        assert found.isfinite().all()
        assert not torch.equal(found[0], found[1])


def test_settings_differ(features):
    first, *others = features.values()
    assert not any(torch.allclose(first, other) for other in others)


def test_it_is_frozen_and_stays_in_eval_mode(rival, features):
    rival.train()
    assert not any(module.training for module in rival.modules())
    assert not any(parameter.requires_grad for parameter in rival.parameters())
    assert not features[BOTH].requires_grad


def test_without_a_file_it_says_that_weights_are_random(rival):
    assert rival.origin == "random initial weights (no file was given)"


def test_random_weights_depend_on_the_seed_only(rival):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = make(rival.name)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights_of(again), weights_of(rival))
    assert not torch.equal(weights_of(make(rival.name, seed=1)), weights_of(rival))


def test_order_of_bands_does_not_matter(rival, features):
    turned = {
        "s2": Modality(
            units="DN",
            groups=tuple(BandGroup(gsd_m=g.gsd_m, bands=g.bands[::-1]) for g in BIGEARTHNET["s2"].groups[::-1]),
        ),
        "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VH", "VV")),)),
    }
    inputs = modality_inputs(turned, TILE_M)
    found = make(rival.name, turned).features(draw(inputs, statistics_of(inputs)), BOTH)
    assert torch.equal(found, features[BOTH])


@pytest.mark.parametrize(("given", "other"), [("s1", "s2"), ("s2", "s1")])
def test_one_modality_does_not_depend_on_the_other(rival, pixels, features, given, other):
    spoiled = {name: array if name.startswith(given) else array * torch.nan for name, array in pixels.items()}
    assert torch.equal(rival.features(spoiled, (given,)), features[given,])
    absent = {name: array for name, array in pixels.items() if not name.startswith(other)}
    assert torch.equal(rival.features(absent, (given,)), features[given,])


def test_both_depend_on_each(rival, pixels, features):
    for name in ("s1_10m", "s2_60m"):
        changed = rival.features(pixels | {name: pixels[name].flip(-1) * 1.2}, BOTH)
        assert not torch.allclose(changed, features[BOTH], atol=1e-5)


def test_thirteen_bands_of_a_larger_tile_work(rival):
    large = make(rival.name, SEN12MS, tile_m=2560)
    assert large.chosen["s2"] == tuple(band for band in THIRTEEN if band != "B10" or rival.name != "croma_base")
    inputs = modality_inputs(SEN12MS, 2560)
    assert large.features(draw(inputs, statistics_of(inputs)), BOTH).isfinite().all()


def test_a_saved_state_dict_gives_the_same_features(rival, pixels, features, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(rival.backbone.state_dict(), path)
    loaded = make(rival.name, weights=path, seed=1)
    assert loaded.origin == f"weights of weights.pth, sha256 {file_sha256(path)}"
    path.unlink()  # pytest would keep a hundred megabytes
    assert torch.equal(loaded.features(pixels, BOTH), features[BOTH])


def test_a_setting_that_there_is_not_is_refused(rival, pixels):
    for setting in ((), ("s3",)):
        with pytest.raises(ValueError, match="unknown setting"):
            rival.features(pixels, setting)


def test_absent_arrays_are_named(rival, pixels):
    with pytest.raises(ValueError, match=r"arrays \['s2_10m', 's2_20m', 's2_60m'\] are absent"):
        rival.features({"s1_10m": pixels["s1_10m"]}, BOTH)


def test_a_name_that_is_no_rival_is_refused():
    with pytest.raises(ConfigError, match="croma_base, dofa_base, copernicusfm_base"):
        make("resnet")


def test_croma_says_which_bands_it_lacks():
    few = {"s1": S1, "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")),))}
    with pytest.raises(ConfigError, match=r"croma_base needs B01, B04, .*B12 of s2(.|\n)*got: +B02, B03"):
        make("croma_base", few)


@pytest.mark.parametrize("name", [name for name in RIVALS if name != "croma_base"])
def test_a_band_of_unknown_wavelength_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} knows no HH of s1"):
        make(name, {"s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "HH")),))})


@pytest.mark.parametrize("name", RIVALS)
def test_a_modality_that_it_does_not_know_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} has no modality dem"):
        make(name, {"dem": S1})
