"""A registered version is traced and made again, on a reduced pipeline; what was tampered with is noticed."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("reproduce"), pytest.mark.timeout(1200)]

# The threads that it is made again with are the recorded ones, not those of the environment.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
REDUCED = {
    "model": {"patch_px": 24, "dim": 32, "depth": 2, "num_heads": 2, "decoder_dim": 32, "decoder_depth": 1}
    | {"decoder_num_heads": 2},
    "pretrain": {"start": "mine", "epochs": 2, "warmup_epochs": 0, "num_pictures": 1},
    "finetune": {"epochs": 2, "warmup_epochs": 0},
    "evaluate": {"bootstrap_resamples": 10},
    "variants": {"rounds": 3, "bootstrap_resamples": 10, "calibration_pairs": 16},
}
CHECKOUT = Path(".fusmae/reproduce/fusmae-1")
STAGES = {
    "fetch",
    "index",
    "shard",
    "examine",
    "pretrain",
    "evaluate",
    "export@classifier",
    "start@pretrain",
    "start@finetune",
} | {f"{stage}@{weights}" for stage in ("probe", "finetune") for weights in ("pretrained", "random")}
# Weights to start from, of a model of another tile side that lacks bands of the sample; they are gone afterwards.
MINE = """
from pathlib import Path
from fusmae.runs.environment import keep_caches_inside
keep_caches_inside(Path.cwd())
from fusmae.config.params import load_config
from fusmae.modalities import BandGroup, Modality, modality_inputs, BandStatistics
from fusmae.models.preprocess import Preprocessing
from fusmae.training.checkpoint import save_checkpoint
from fusmae.training.reconstruction import initial_autoencoder
bands = {"s1": ("VV", "VH"), "s2": ("B04", "B03", "B02")}
modalities = {
    key: Modality(units="dB" if key == "s1" else "DN", groups=(BandGroup(gsd_m=10, bands=names),))
    for key, names in bands.items()
}
statistics = {key: {name: BandStatistics(mean=0, std=1) for name in names} for key, names in bands.items()}
preprocessing = Preprocessing(inputs=modality_inputs(modalities, 480), statistics=statistics)
_, made = initial_autoencoder(load_config(Path("params.yaml")).model, preprocessing, seed=5)
save_checkpoint(Path("mine"), made)
"""


@pytest.fixture(scope="module")
def made(new_workspace, examined, tmp_path_factory):
    """A workspace in which one version is registered; its parameters were changed and not committed."""
    workspace = new_workspace(tmp_path_factory.mktemp("made") / "fusmae", examined)
    path = workspace.folder / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for section, values in REDUCED.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    workspace.python(MINE)
    workspace.run(".venv/bin/dvc", "repro", "register", **ONE_THREAD, FUSMAE_FLOW_RUN_ID="flow-7")
    shutil.rmtree(workspace.folder / "mine")
    return workspace


def fusmae(workspace, *arguments, check=True):
    return workspace.run(".venv/bin/python", "-m", "fusmae", *arguments, check=check)


def registered_file(workspace, name):
    (found,) = (workspace.folder / "mlruns").rglob(f"extra_files/{name}")
    return found


def registry(workspace):
    script = (
        "import mlflow, json; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db'); c = mlflow.MlflowClient();"
        "versions = [v.version for v in c.search_model_versions(\"name = 'fusmae'\")];"
        "runs = c.search_runs([e.experiment_id for e in c.search_experiments()]);"
        "print(json.dumps([versions, sorted(run.info.run_id for run in runs)]))"
    )
    return json.loads(workspace.python(script).splitlines()[-1])


def test_lineage_reaches_back_to_the_wheels_and_names_every_run_and_the_flow(made):
    printed = fusmae(made, "lineage", "fusmae@challenger", "--json").stdout
    found = json.loads(printed[printed.index("{") :])  # behind what the command says while it looks
    assert found["gaps"] == []
    assert {stage["name"] for stage in found["stages"]} == STAGES
    lock = yaml.safe_load((made.folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    for stage in found["stages"]:
        assert stage["outs"] == {out["path"]: out["md5"] for out in lock[stage["name"]]["outs"]}
    assert {run["stage"] for run in found["runs"]} == {
        "pretrain",
        *(f"{stage}-{weights}" for stage in ("probe", "finetune") for weights in ("pretrained", "random")),
    }
    assert {run["flow_run"] for run in found["runs"]} == {"flow-7"} == {found["flow_run"]}
    assert {run["num_threads"] for run in found["runs"]} == {1}
    assert all(found["receipt"]["files"].values())
    assert found["params"]["pretrain"]["epochs"] == 2
    assert found["git"] == {"commit": made.run("git", "rev-parse", "HEAD").stdout.strip(), "is_dirty": True}


def test_lineage_names_the_weights_that_pretraining_started_from(made):
    printed = fusmae(made, "lineage", "fusmae@challenger").stdout
    sha256 = json.loads((made.folder / "models/start/pretrain/checkpoint.json").read_text(encoding="utf-8"))["sha256"]
    assert f"sha256:{sha256}  {made.folder / 'mine'}, as mine, copied to models/start/pretrain" in printed
    card = json.loads((made.folder / "models/pretrain/pretrained/checkpoint.json").read_text(encoding="utf-8"))
    stated = card["provenance"]["start"]
    assert stated["sha256"] == sha256
    assert "encoder.embed.s2.proj.weight [B02, B03, B04]" in stated["taken"]
    assert stated["unused"] == []


def test_every_picture_that_the_card_links_lies_beside_it_in_the_registry(made):
    card = registered_file(made, "card.md")
    links = re.findall(r"!\[.*?\]\((.*?)\)", card.read_text(encoding="utf-8"))
    assert len(links) == 2
    assert all((card.parent / link).stat().st_size > 1000 for link in links)


def test_the_graph_names_no_folder_of_this_machine(made):
    assert str(made.folder).encode() not in (made.folder / "models/export/model.onnx").read_bytes()


def test_code_that_was_tampered_with_is_refused_before_anything_runs(made):
    lineage = registered_file(made, "lineage.json")
    text = lineage.read_text(encoding="utf-8")
    found = json.loads(text)
    found["stages"][-1]["code"]["fusmae/errors.py"] = "0" * 32
    lineage.write_text(json.dumps(found), encoding="utf-8")
    try:
        done = fusmae(made, "reproduce", "fusmae@challenger", check=False)
    finally:
        lineage.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert "fusmae/errors.py" in done.stdout
    assert "Running stage" not in done.stdout


@pytest.fixture(scope="module")
def cut_off(made):
    """Where a reproduction was told to end while it trained."""
    started = subprocess.Popen(
        [".venv/bin/python", "-m", "fusmae", "reproduce", "fusmae@challenger"],
        cwd=made.folder,
        env=made.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    ends = time.monotonic() + 300
    while not (training := processes_in(made.folder / CHECKOUT, "pretrain")):
        assert started.poll() is None, started.communicate()[0]
        assert time.monotonic() < ends
        time.sleep(0.1)
    started.send_signal(signal.SIGTERM)
    printed = started.communicate(timeout=60)[0]
    assert started.returncode not in (0, 1)
    assert not any(psutil.pid_exists(pid) for pid in training)
    return printed


def processes_in(folder, stage):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if stage in command and "fusmae" in command:
            try:
                if process.cwd() == str(folder):
                    found.append(process.pid)
            except psutil.Error:
                continue
    return found


def test_what_was_cut_off_is_kept_and_its_processes_end(made, cut_off):
    assert f"kept in {CHECKOUT}" in cut_off
    assert (made.folder / CHECKOUT / "data/shards/manifest.json").exists()


@pytest.fixture(scope="module")
def made_again(made, cut_off):
    before = registry(made)
    done = fusmae(made, "reproduce", "fusmae@challenger", "--keep")
    assert registry(made) == before, "neither registry nor runs may change"
    return done.stdout


def test_a_version_is_made_again_bit_for_bit_from_where_it_was_cut_off(made, made_again):
    ran = set(re.findall(r"Running stage '(.*?)'", made_again))
    assert "pretrain" in ran
    assert "fetch" not in ran, "what was done before is not done again"
    assert "start@pretrain" not in ran, "weights from outside come from the cache: they are gone from where they were"
    assert "fusmae/1: reproduced" in made_again
    assert "required: the same bits" in made_again
    for path in (
        "data/shards",
        "models/start/pretrain",
        "models/pretrain/pretrained",
        "models/finetune/pretrained",
        "models/export",
    ):
        assert re.search(rf"│ {path} +│ (\w+) +│ \1 +│ same", made_again), path


def test_a_kept_checkout_stays_and_the_next_one_starts_anew(made, made_again):
    assert (made.folder / CHECKOUT / "models/export/model.onnx").exists()
    assert not (made.folder / CHECKOUT / ".fusmae/worktree.txt").exists()


def compared_again(made, *options):
    """Compares once more without computing anything: as after a kill just before the comparison."""
    commit = made.run("git", "rev-parse", "HEAD").stdout.strip()
    sha256 = json.loads(registered_file(made, "lineage.json").read_text(encoding="utf-8"))["onnx_sha256"]
    (made.folder / CHECKOUT / ".fusmae/worktree.txt").write_text(f"{commit} {sha256}\n", encoding="utf-8")
    done = fusmae(made, "reproduce", "fusmae@challenger", *options, check=False)
    assert "Running stage" not in done.stdout
    return done


def test_a_score_or_a_hash_that_was_tampered_with_is_no_reproduction(made, made_again):
    scores, lineage = (registered_file(made, name) for name in ("scores.json", "lineage.json"))
    texts = {path: path.read_text(encoding="utf-8") for path in (scores, lineage)}
    changed = {path: json.loads(text) for path, text in texts.items()}
    changed[scores]["rows"]["finetune"]["pretrained"]["s1"]["micro_ap"] += 0.001
    (shard,) = [stage for stage in changed[lineage]["stages"] if stage["name"] == "shard"]
    shard["outs"]["data/shards"] = "0" * 32 + ".dir"
    try:
        for path, content in changed.items():
            path.write_text(json.dumps(content), encoding="utf-8")
        done = compared_again(made, "--keep")
    finally:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
    assert done.returncode == 1
    assert re.search(r"rows/finetune/pretrained/s1: micro_ap +│ 0\.\d+ +│ 0\.\d+ +│ OTHER", done.stdout)
    assert re.search(r"data/shards +│ 0+ +│ \w+ +│ OTHER", done.stdout)
    assert "fusmae/1 is not reproduced: 2 of" in done.stdout


def test_a_finished_reproduction_leaves_nothing_behind(made, made_again):
    assert compared_again(made).returncode == 0
    assert not (made.folder / CHECKOUT).exists()
    assert len(made.run("git", "worktree", "list").stdout.splitlines()) == 1
    assert sorted(path.name for path in made.home.iterdir()) == []
    assert list(made.scratch.iterdir()) == []
