import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from fusmae.config.params import load_config, parse_config
from fusmae.config.source import FolderConfig
from fusmae.config.task import KINDS, Task
from fusmae.errors import ConfigError
from fusmae.evaluation.scorers import metrics_of

REPOSITORY = Path(__file__).parents[2]
GROUPS = {
    name: sorted(file.stem for file in (REPOSITORY / "conf" / name).glob("*.yaml"))
    for name in ("data", "model", "schedule")
}
# Patches of 12 px, chosen for the quick start's 120 px, do not divide 256 px.
MISFITS = {("sen12ms", "tiny")}


def composed(*overrides: str) -> Any:
    """What `dvc exp run -S …` writes to params.yaml: DVC composes with Hydra, too."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base=None):
        return OmegaConf.to_container(compose("config", list(overrides)), resolve=True)


@pytest.fixture(scope="module")
def defaults() -> Any:
    return composed()


@pytest.fixture
def values(defaults: Any) -> Any:
    return copy.deepcopy(defaults)


def assign(values: Any, path: str, value: Any) -> Any:
    *parents, last = path.split(".")
    for name in parents:
        values = values[name]
    values[last] = value
    return values


def message(values: Any) -> str:
    with pytest.raises(ConfigError) as raised:
        parse_config(values, "params.yaml")
    return str(raised.value)


@pytest.mark.parametrize("schedule", GROUPS["schedule"])
@pytest.mark.parametrize(("data", "model"), sorted(set(itertools.product(GROUPS["data"], GROUPS["model"])) - MISFITS))
def test_every_combination_of_presets_is_valid(data, model, schedule):
    config = parse_config(composed(f"data={data}", f"model={model}", f"schedule={schedule}"), "composed")
    written = yaml.safe_load((REPOSITORY / "conf" / "data" / f"{data}.yaml").read_text(encoding="utf-8"))
    assert config.data.source.name == written.get("data", written)["source"]["name"]
    assert config.data.tile_px % config.model.patch_px == 0


@pytest.mark.parametrize(("data", "model"), sorted(MISFITS))
def test_presets_that_do_not_fit_say_which_patch_sides_would(data, model):
    overrides = (f"data={data}", f"model={model}")
    assert "use one of [8, 16]" in message(composed(*overrides))
    assert parse_config(composed(*overrides, "model.patch_px=16"), "composed").model.patch_px == 16


def test_there_are_presets_in_every_group():
    assert {name: len(found) >= 2 for name, found in GROUPS.items()} == dict.fromkeys(GROUPS, True)


def test_the_preset_for_shared_out_models_changes_nothing_but_the_strategy(defaults):
    shared = composed("model=large", "runtime=fsdp")
    assert parse_config(shared, "composed").runtime.strategy == "fsdp"
    assert shared["runtime"] == defaults["runtime"] | {"strategy": "fsdp"}


def test_params_yaml_is_the_composed_defaults(defaults):
    assert yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8")) == defaults


def test_params_yaml_is_valid():
    config = load_config(REPOSITORY / "params.yaml")
    assert config.data.tile_px == 120
    assert [item.side_px for item in config.data.inputs] == [120, 120, 60, 20]


def test_config_can_not_be_changed(values):
    config = parse_config(values, "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.pretrain.epochs = 1


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("pretrain.epoch", 3, "pretrain.epoch: unknown key (got 3; expected no such key; did you mean epochs?)"),
        ("evalute", {}, "did you mean evaluate?)"),
        ("data.source.nam", "x", "data.source.nam: unknown key (got 'x'; expected no such key; did you mean name?)"),
        (
            "data.modalities.s1.grups",
            [],
            "data.modalities.s1.grups: unknown key (got []; expected no such key; did you",
        ),
        ("gate.rounds_of_chess", 3, "unknown key (got 3; expected no such key)"),
        ("surprise", {"a": 1}, "surprise: unknown key (got {'a': 1}"),
        ("data.modalities.s1.polarisation", "VV", "data.modalities.s1.polarisation: unknown key"),
        ("pretrain.epochs", "3", "pretrain.epochs: got '3'; expected: Input should be a valid integer"),
        ("pretrain.epochs", 2.0, "pretrain.epochs: got 2.0; expected: Input should be a valid integer"),
        ("pretrain.augment.flip", 1, "pretrain.augment.flip: got 1; expected: Input should be a valid boolean"),
        ("pretrain.epochs", 0, "pretrain: got epochs 0 without start; expected 1 or more, or weights"),
        ("finetune.epochs", 0, "finetune.epochs: got 0; expected: Input should be greater than 0"),
        ("finetune.modality_drop", 1.5, "finetune.modality_drop: got 1.5; expected: Input should be less than"),
        ("model.mask_ratio.s1", 1.0, "model.mask_ratio.s1: got 1.0; expected: Input should be less than 1"),
        ("probe.epochs", 20, "probe: got epochs; expected batch_size and readout alone"),
        ("probe.learning_rates", [0.1], "Delete probe.learning_rates"),
        ("probe", {"epochs": 20, "learning_rates": [0.1]}, "Delete probe.epochs and probe.learning_rates"),
        ("evaluate.neighbours", 0, "evaluate.neighbours: got 0; expected: Input should be greater than 0"),
        ("model.masking", "random", "model.masking: got 'random'; expected: Input should be 'independent' or"),
        ("model", None, "model: got None; expected"),
        ("data.modalities.s1.units", "linear", "data.modalities.s1.units: got 'linear'; expected"),
        ("data.modalities.s2.groups.0", {"gsd_m": 10}, "data.modalities.s2.groups.0.bands: missing"),
    ],
)
def test_a_wrong_value_is_named_with_path_got_and_expected(values, path, value, expected):
    if path == "data.modalities.s2.groups.0":
        values["data"]["modalities"]["s2"]["groups"][0] = value
    else:
        assign(values, path, value)
    text = message(values)
    assert expected in text
    assert text.startswith("params.yaml is wrong:\n")


@pytest.mark.parametrize("path", ["seed", "model.dim", "pretrain.augment.min_crop", "data.modalities.s1.units"])
def test_a_missing_key_is_named(values, path):
    *parents, last = path.split(".")
    section = values
    for name in parents:
        section = section[name]
    del section[last]
    assert f"{path}: missing (got nothing; expected a value)" in message(values)


def test_every_mistake_is_named_at_once(values):
    assign(values, "pretrain.epochs", "many")
    assign(values, "model.depht", 3)
    text = message(values)
    assert "pretrain.epochs" in text
    assert "model.depht" in text


def test_a_rate_that_yaml_reads_as_text_is_explained(values):
    assign(values, "pretrain.base_lr", yaml.safe_load("1e-4"))
    text = message(values)
    assert "pretrain.base_lr: got '1e-4'" in text
    assert "write 1.0e-4" in text


def test_the_hint_on_rates_stands_only_where_a_number_is_wanted(values):
    assign(values, "data.source.name", "bigearth")
    text = message(values)
    assert "data.source: got {'name': 'bigearth'}; expected: Input tag 'bigearth'" in text
    assert "'sample', 'bigearthnet', 'sen12ms', 'synthetic', 'folder'" in text
    assert "1.0e-4" not in text


def test_a_whole_number_is_accepted_where_a_float_is_wanted(values):
    assign(values, "pretrain.weight_decay", 0)
    assert parse_config(values, "params.yaml").pretrain.weight_decay == 0.0


def test_a_patch_side_that_does_not_divide_names_those_that_do(values):
    assign(values, "model.patch_px", 16)
    text = message(values)
    assert "model.patch_px: 16 does not divide a tile of 120 px" in text
    sides = yaml.safe_load(text.partition("use one of ")[2].splitlines()[0])
    assert {8, 10, 12, 15, 20, 24} <= set(sides)
    for side in sides:
        assign(values, "model.patch_px", side)
        parse_config(values, "params.yaml")


def test_a_tile_that_its_resolutions_do_not_divide_is_refused(values):
    assign(values, "data.tile_m", 1210)
    assert "data: s2: 20 m pixels do not divide a tile of 1210 m" in message(values)


@pytest.mark.parametrize("data", ["sample", "bigearthnet", "synthetic", "sen12ms"])
@pytest.mark.parametrize(
    ("at", "band", "hint"),
    [
        ("s1.groups.0", "VX", "did you mean VV or VH? It has VV, VH"),
        ("s1.groups.0", "vv", "did you mean VV? It has VV, VH"),
        ("s2.groups.0", "B2", "did you mean B02? It has B01, B02"),
        ("s2.groups.0", "red", "It has B01, B02"),
    ],
)
def test_a_band_that_the_dataset_lacks_is_refused_before_anything_is_fetched(data, at, band, hint):
    values = composed(f"data={data}", *(["model.patch_px=16"] if data == "sen12ms" else []))
    parents = at.split(".")
    values["data"]["modalities"][parents[0]]["groups"][0]["bands"][0] = band
    text = message(values)
    assert f"data: modalities.{parents[0]}: {data} has no band {band}; " in text
    known = sorted(text.partition("It has ")[2].split("\n")[0].split(", "))
    assert hint.partition("It has")[0] in text
    assert {"VV", "VH"} <= set(known) or {"B01", "B02", "B8A"} <= set(known)


def test_a_dataset_s_bands_are_asked_for_at_their_own_resolution_and_units(values):
    assign(values, "data.modalities.s2.groups", [{"gsd_m": 10, "bands": ["B02", "B05"]}])
    assert "data: modalities.s2: sample has band B05 at 20 m; got 10 m" in message(values)
    assign(values, "data.modalities.s2.groups", [{"gsd_m": 10, "bands": ["B02"]}])
    assign(values, "data.modalities.s1.units", "DN")
    assert "data: modalities.s1.units: got DN; sample has s1 in dB" in message(values)


def test_a_modality_that_the_dataset_lacks_is_refused(values):
    values["data"]["modalities"]["dem"] = {"units": "DN", "groups": [{"gsd_m": 10, "bands": ["elevation"]}]}
    assert "data: modalities.dem: sample has no such modality; expected s1, s2" in message(values)


def test_a_folder_s_bands_are_what_its_files_name():
    values = composed("data=folder")
    assign(values, "data.modalities.s1.groups", [{"gsd_m": 10, "bands": ["HH", "HV"]}])
    assert parse_config(values, "params.yaml").data.modalities["s1"].bands == ("HH", "HV")


@pytest.mark.parametrize("ratios", [{"s1": 0.75}, {"s1": 0.75, "s2": 0.75, "s3": 0.75}, {"s1": 0.5, "S2": 0.5}])
def test_mask_ratio_names_exactly_the_modalities(values, ratios):
    assign(values, "model.mask_ratio", ratios)
    assert f"model.mask_ratio: got {sorted(ratios)}; expected the modalities ['s1', 's2']" in message(values)


@pytest.mark.parametrize(("path", "dim"), [("model.dim", 90), ("model.decoder_dim", 62), ("model.dim", 98)])
def test_a_width_that_heads_do_not_divide_is_refused(values, path, dim):
    assign(values, path, dim)
    assert f"width {dim} must be a multiple of 4 and of its 4 heads" in message(values)


@pytest.mark.parametrize("switch", ["early_fusion", "feature_fusion"])
def test_fusion_of_one_modality_is_refused_here_and_not_first_by_the_model(values, switch):
    del values["data"]["modalities"]["s1"], values["model"]["mask_ratio"]["s1"]
    values["model"].update(early_fusion=False, feature_fusion=False)
    assert list(parse_config(values, "params.yaml").data.modalities) == ["s2"]
    values["model"][switch] = True
    assert f"model.{switch}: got true with one modality (s2); expected false" in message(values)


def test_an_absent_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml is not there"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [1", "is not YAML"), ("", "(whole file)"), ("- 1\n- 2\n", "(whole file)")],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text, expected):
    file = tmp_path / "params.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        load_config(file)
    assert expected in str(raised.value)
    assert str(file) in str(raised.value)


def test_warm_up_longer_than_the_run_is_refused_with_both_values():
    text = message(composed("pretrain.epochs=2"))
    assert "pretrain: got warmup_epochs 2; expected fewer than epochs, 2" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"reconstruction_weight": 0.0},
            "pretrain: got reconstruction_weight 0 and contrastive_weight 0; expected one above 0",
        ),
        (
            {"reconstruction_weight": 0.0, "contrastive_weight": 1.0, "modality_drop": 0.2},
            "pretrain: got modality_drop 0.2 with reconstruction_weight 0; expected modality_drop 0: "
            "the contrastive term needs two modalities",
        ),
        (
            {"patience": 3, "evidence_pairs": 0},
            "pretrain: got patience 3 with evidence_pairs 0; expected evidence_pairs above 0",
        ),
        ({"contrastive_weight": -0.1}, "pretrain.contrastive_weight: got -0.1; expected: Input should be greater"),
        ({"ema_decay": 1.0}, "pretrain.ema_decay: got 1.0; expected: Input should be less than 1"),
        ({"evidence_pairs": -1}, "pretrain.evidence_pairs: got -1; expected: Input should be greater"),
    ],
)
def test_pretraining_by_nothing_or_watched_by_nothing_is_refused(values, changes, expected):
    values["pretrain"] |= changes
    assert expected in message(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"reconstruction_weight": 0.0, "contrastive_weight": 1.0, "modality_drop": 0.0},
        {"contrastive_weight": 0.1, "modality_drop": 0.2},
        {"patience": 3, "evidence_pairs": 100},
        {"evidence_pairs": 0, "ema_decay": 0.99},
    ],
)
def test_either_term_alone_and_every_watcher_that_has_what_it_needs_are_accepted(values, changes):
    values["pretrain"] |= changes
    assert parse_config(values, "params.yaml").pretrain.model_dump(include=changes.keys()) == changes


def test_the_contrastive_term_of_one_modality_is_refused(values):
    del values["data"]["modalities"]["s1"], values["model"]["mask_ratio"]["s1"]
    values["model"].update(early_fusion=False, feature_fusion=False)
    values["pretrain"]["contrastive_weight"] = 0.1
    assert "pretrain.contrastive_weight: got one modality; expected two, or 0" in message(values)


@pytest.mark.parametrize("name", ["contrastive_weight", "ema_decay"])
def test_what_a_shared_out_model_cannot_do_is_refused(values, name):
    values["pretrain"][name] = 0.5
    values["runtime"]["strategy"] = "fsdp"
    assert f"pretrain.{name}: got 0.5 with fsdp; expected 0, or ddp" in message(values)
    values["runtime"]["strategy"] = "ddp"
    assert parse_config(values, "params.yaml").runtime.strategy == "ddp"


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_parameters_of_before_there_was_a_start_are_accepted_and_mean_none(values, section):
    del values[section]["start"]
    assert getattr(parse_config(values, "params.yaml"), section).start == ""


def test_no_epoch_is_accepted_where_there_are_weights_to_start_from(values):
    values["pretrain"] |= {"start": "fusmae-encoder@champion", "epochs": 0}
    assert parse_config(values, "params.yaml").pretrain.epochs == 0


@pytest.mark.parametrize("section", ["pretrain", "finetune"])
def test_a_study_refuses_weights_to_start_from(values, section):
    values |= {"study": {"title": "any"}}
    assert parse_config(values, "params.yaml").study
    values[section]["start"] = "mine"
    assert f"{section}.start: got mine with a study" in message(values)


def test_a_warm_up_may_end_within_an_epoch(values):
    values["finetune"]["warmup_epochs"] = 0.5
    assert parse_config(values, "params.yaml").finetune.warmup_epochs == 0.5


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            {"name": "bigearthnet", "version": 3, "countries": [], "snow_and_clouds": False},
            "data.source.version: got 3",
        ),
        ({"name": "bigearthnet", "version": 2, "snow_and_clouds": False}, "data.source.countries: missing"),
        (
            {"name": "sen12ms", "seasons": ["autumn"], "validation_share": 0.1},
            "data.source.seasons.0",
        ),
        ({"name": "synthetic", "num_pairs": 10, "seed": 0}, "data.source.num_pairs: got 10"),
        # Another source's key is no help.
        ({"name": "sample", "seed": 0}, "data.source.seed: unknown key (got 0; expected no such key)"),
        ("sample", "data.source: got 'sample'"),
    ],
)
def test_a_wrong_setting_of_a_source_is_named_without_the_source_in_its_path(values, source, expected):
    values["data"]["source"] = source
    assert expected in message(values)


def test_the_settings_of_a_source_are_all_but_its_name():
    config = parse_config(composed("data=synthetic", "data.source.num_pairs=500"), "composed")
    assert config.data.source.settings == {"num_pairs": 500, "seed": 0, "value_per": "pixel"}


def test_the_schedule_s_old_name_is_the_same_recipe():
    assert composed("schedule=paper") == composed("schedule=mae")


@pytest.mark.parametrize("classes", [["Gewässer", "Gewa\u0308sser"], ["a;b"], ["a|b"], [" "], ["a", "a"]])
def test_class_names_that_a_table_can_t_tell_apart_are_refused(classes):
    with pytest.raises(ValidationError, match="differ from one another, without"):
        FolderConfig(name="folder", classes=classes, s2_offset=0)


def test_params_that_are_not_utf8_name_the_line(tmp_path):
    (tmp_path / "params.yaml").write_bytes("seed: 0\n# Größe\n".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"params.yaml, line 2: not UTF-8"):
        load_config(tmp_path / "params.yaml")


@pytest.mark.parametrize(("labels", "kind"), [("single", "multiclass"), ("multi", "multilabel")])
def test_the_key_that_said_how_many_labels_a_tile_of_sen12ms_has_is_now_the_kind(labels, kind):
    values = composed("data=sen12ms", "model=small")
    values["data"]["source"]["labels"] = labels
    expected = f"data.source: got labels {labels}; expected no such key: delete it, and write data.kind: {kind}"
    assert expected in message(values)
    del values["data"]["source"]["labels"]  # what the error advises
    values["data"]["kind"] = kind
    assert parse_config(values, where="params.yaml").data.kind == kind


OFFERED = {
    "sample": ["multilabel"],
    "bigearthnet": ["multilabel", "segmentation"],
    "sen12ms": ["multilabel", "multiclass", "segmentation"],
    "synthetic": ["multilabel", "multiclass", "segmentation", "regression"],
    "folder": ["multilabel", "multiclass", "segmentation"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("data", OFFERED)
def test_a_kind_that_the_source_does_not_offer_is_refused_before_anything_is_fetched(data, kind):
    values = composed(f"data={data}", "model=small", f"data.kind={kind}")
    if kind in OFFERED[data]:
        assert parse_config(values, "params.yaml").data.kind == kind
        return
    text = message(values)
    assert f"kind: got {kind}; expected {' or '.join(OFFERED[data])}, which {data} offers with these settings" in text
    assert ("a regression needs data.source.value and no classes" in text) == (data == "folder")


def test_bigearthnet_v1_has_no_maps_to_segment():
    values = composed("data=bigearthnet", "data.source.version=1", "data.kind=segmentation")
    assert "kind: got segmentation; expected multilabel, which bigearthnet offers with these settings" in message(
        values
    )


def of_folder(kind: str, **source: Any) -> Any:
    values = composed("data=folder", f"data.kind={kind}")
    values["data"]["source"] |= source
    return values


VALUE = {"name": "biomass", "unit": "t/ha", "min": 0, "max": 400, "per": "pixel"}


def test_a_folder_has_a_value_or_classes():
    found = parse_config(of_folder("regression", classes=[], value=VALUE), "params.yaml").data.source.value
    assert (found.title, found.range, found.per) == ("biomass (t/ha)", "at least 0 and at most 400", "pixel")
    assert "got value biomass and classes ['water', 'land']; expected one" in message(
        of_folder("regression", value=VALUE)
    )
    for kind in ("multilabel", "multiclass", "segmentation"):
        assert f"got {kind}; expected regression" in message(of_folder(kind, classes=[], value=VALUE))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min": 400, "max": 0}, "got min 400 and max 0; expected min below max"),
        ({"per": "field"}, "data.source.value.per: got 'field'"),
        ({"name": ""}, "data.source.value.name"),
        ({"units": "t/ha"}, "data.source.value.units: unknown key"),
    ],
)
def test_a_quantity_that_can_t_be_is_refused(changes, said):
    assert said in message(of_folder("regression", classes=[], value=VALUE | changes))


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("multiclass", {"classes": ["water"]}, "got multiclass with 1 source.classes; expected 2 to 255"),
        ("segmentation", {"classes": ["water"]}, "got segmentation with 1 source.classes; expected 2 to 255"),
        ("segmentation", {"classes": []}, "got segmentation with 0 source.classes; expected 2 to 255"),
        ("segmentation", {"class_values": [1]}, "got class_values [1]; expected a number of its own for each of"),
        ("segmentation", {"class_values": [1, 1]}, "got class_values [1, 1]; expected a number of its own for each"),
        ("segmentation", {"class_values": [1, 255]}, "got [255] as ignore_values and as numbers of classes"),
        ("segmentation", {"ignore_values": [0, 9]}, "got [0] as ignore_values and as numbers of classes"),
    ],
)
def test_classes_that_maps_can_t_have_are_refused(kind, source, said):
    assert said in message(of_folder(kind, **source))


def test_pairs_without_any_class_may_be_of_one_class_per_pair_for_pretraining():
    assert parse_config(of_folder("multiclass", classes=[]), "params.yaml").data.kind == "multiclass"


def test_a_modality_that_is_named_like_the_folder_of_maps_is_refused():
    values = of_folder("multilabel")
    values["data"]["modalities"]["maps"] = values["data"]["modalities"]["s1"]
    values["model"]["mask_ratio"] |= {"maps": 0.5}
    assert "modalities.maps: got a modality named maps; expected another name" in message(values)


@pytest.mark.parametrize(
    ("loss", "kind", "fitting"),
    [
        ("focal", "multilabel", "multiclass or segmentation"),
        ("focal", "regression", "multiclass or segmentation"),
        ("dice", "multilabel", "segmentation"),
        ("dice", "multiclass", "segmentation"),
    ],
)
def test_a_loss_that_does_not_fit_the_kind_is_refused(loss, kind, fitting):
    values = composed("data=synthetic", "model=small", f"data.kind={kind}", f"finetune.loss={loss}")
    expected = f"finetune.loss: got {loss} with data.kind {kind}; expected cross_entropy, or kind {fitting}"
    with pytest.raises(ConfigError, match=expected):
        parse_config(values, where="params.yaml")
    values["data"]["kind"] = fitting.split()[-1]  # what the error advises
    parse_config(values, where="params.yaml")


@pytest.mark.parametrize(
    ("gate", "kind", "metric", "expected"),
    [
        ("gate", "multilabel", "miou", "primary, or micro_ap or macro_ap"),
        ("gate", "multiclass", "micro_ap", "primary, or accuracy or balanced_accuracy"),
        ("gate", "segmentation", "accuracy", "primary, or miou or pixel_accuracy"),
        ("gate", "regression", "miou", "primary, or r2"),
        ("encoder_gate", "segmentation", "miou", "primary, or micro_ap or macro_ap"),
    ],
)
def test_a_gate_compares_by_a_score_of_the_kind(gate, kind, metric, expected):
    values = composed("data=synthetic", "model=small", f"data.kind={kind}")
    values[gate]["metric"] = metric
    with pytest.raises(ConfigError, match=f"{gate}.metric: got {metric} with data.kind {kind}; expected {expected}"):
        parse_config(values, where="params.yaml")
    values[gate]["metric"] = expected.split()[-1]  # what the error advises
    parse_config(values, where="params.yaml")


def test_the_metrics_that_a_gate_may_name_are_those_of_the_scorers():
    classes = ("a", "b")
    for kind in ("multilabel", "multiclass", "segmentation"):
        for metric in metrics_of(Task(kind=kind, classes=classes)):
            values = composed("data=synthetic", "model=small", f"data.kind={kind}")
            values["gate"]["metric"] = metric
            parse_config(values, where="params.yaml")
