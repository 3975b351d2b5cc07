"""Who may become champion, and what is left of it whatever happens."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from mlflow import MlflowClient

from fusmae.config.task import Task
from fusmae.data.index import write_index
from fusmae.data.shard_writer import write_shards
from fusmae.errors import LedgerError, LineageError, PromotionError, RegistryError
from fusmae.files import file_sha256, write_json
from fusmae.release.lineage.trace import lineage_text, trace
from fusmae.release.promotion.champion import move_champion, roll_back
from fusmae.release.promotion.ledger import Ledger, checked_ledger
from fusmae.release.registry.model_file import model_file
from fusmae.release.registry.versions import champion_number
from fusmae.runs.dvc_lock import dvc_md5
from fusmae.runs.exit_code import TEMPORARY
from fusmae.runs.mlflow_store import connect
from tests.release.conftest import git, lock, promoted_version

NAME = "tiny"


def promoted(config, version, **changes):
    return promoted_version(config, NAME, version, **changes)


def forced(config, version):
    """Version 3 has every sign wrong: only by force does it, or what follows it, come past the gate."""
    return promoted(config, version, force=True, reason="agreed with A. Person")


def champion():
    return champion_number(NAME)


def phases():
    return [(entry.action, entry.phase, entry.before, entry.after) for entry in Ledger(NAME).entries()]


def test_the_first_version_that_passes_becomes_champion_and_leaves_a_trace(checkout, config):
    printed = promoted(config, "1")
    assert "gate: tiny/1 passes (no champion yet)" in printed
    assert champion() == "1"
    assert phases() == [("promote", "begun", "", "1"), ("promote", "done", "", "1")]
    entry = Ledger(NAME).entries()[-1]
    assert entry.who == "a.person@example.org"
    assert not entry.forced
    assert f"champion: {NAME}/1" in checked_ledger(NAME)


def test_the_verdict_is_kept_with_the_version_and_named_in_the_ledger(checkout, config):
    from mlflow.artifacts import download_artifacts

    promoted(config, "1")
    kept = Path(download_artifacts("models:/tiny/1/verdicts", dst_path=str(checkout / "kept")))
    assert file_sha256(checkout / "reports/gate/tiny-1/verdict.json") == Ledger(NAME).entries()[-1].verdict
    # Tests share the template's artifacts: some of the verdicts are theirs.
    (own,) = [file for file in kept.rglob("verdict.json") if file_sha256(file) == Ledger(NAME).entries()[-1].verdict]
    assert "It may become champion." in (own.parent / "verdict.html").read_text(encoding="utf-8")


def test_the_same_weights_in_another_file_lose_nothing_and_pass(checkout, config):
    promoted(config, "1")
    assert "+0.000 [+0.000, +0.000]" not in promoted(config, "2")  # what passes is counted, not listed
    assert champion() == "2"
    verdict = json.loads((checkout / "reports/gate/tiny-2/verdict.json").read_text())
    (found,) = verdict["differences"].values()
    assert found | {"difference": 0.0, "low": 0.0, "high": 0.0} == found


def test_a_worse_version_is_refused_with_the_reason_and_nothing_moves(checkout, config):
    promoted(config, "1")
    before = phases()
    for dry_run in (True, False):
        with pytest.raises(PromotionError, match=r"tiny/3 FAILS \(against tiny/1\)\n  metric: -0\.\d+ \["):
            promoted(config, "3", dry_run=dry_run)
    with pytest.raises(PromotionError, match=r"tiny/\d FAILS"):
        promoted(config, "3", dry_run=True, force=True, reason="only to see")
    assert (champion(), phases()) == ("1", before)
    assert json.loads((checkout / "reports/gate/tiny-3/verdict.json").read_text())["is_passed"] is False


def test_a_no_is_kept_with_the_version_too_but_not_that_of_a_dry_run(checkout, config):
    from mlflow.artifacts import list_artifacts

    def kept():
        try:
            return len(list_artifacts(artifact_uri="models:/tiny/3/verdicts"))
        except Exception:  # none yet
            return 0

    promoted(config, "1")
    before = kept()
    with pytest.raises(PromotionError):
        promoted(config, "3", dry_run=True)
    assert kept() == before
    with pytest.raises(PromotionError):
        promoted(config, "3")
    assert kept() == before + 1


def test_a_dry_run_that_passes_changes_nothing(checkout, config):
    assert "nothing was changed" in promoted(config, "1", dry_run=True)
    assert (champion(), phases()) == ("", [])


def test_force_needs_a_reason_and_the_ledger_keeps_it(checkout, config):
    promoted(config, "1")
    with pytest.raises(PromotionError, match="needs a reason"):
        promoted(config, "3", force=True, reason="  ")
    assert champion() == "1"
    forced(config, "3")
    last = Ledger(NAME).entries()[-1]
    assert (champion(), last.forced, last.reason) == ("3", True, "agreed with A. Person")
    assert "against the gate: agreed with A. Person" in checked_ledger(NAME)


def test_force_where_the_gate_says_yes_is_not_recorded_as_forced(checkout, config):
    promoted(config, "1", force=True, reason="in a hurry")
    assert not Ledger(NAME).entries()[-1].forced


def test_a_dirty_tree_is_refused(checkout, config):
    (checkout / ".gitignore").write_text("/mlruns/\n/.fusmae/\n/reports/\n/data\n# changed\n", encoding="utf-8")
    with pytest.raises(PromotionError, match="has uncommitted changes"):
        promoted(config, "1")
    assert champion() == ""


def test_an_uncommitted_lock_is_refused(checkout, config):
    text = (checkout / "dvc.lock").read_text(encoding="utf-8")
    (checkout / "dvc.lock").write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(PromotionError, match=r"dvc\.lock is not committed(.|\n)*promote tiny --experiment workspace"):
        promoted(config, "1")
    assert champion() == ""


def test_thresholds_that_no_commit_names_are_refused(checkout, config):
    lenient = checkout / "reports" / "lenient.yaml"
    lenient.parent.mkdir()
    lenient.write_text((checkout / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(
        PromotionError, match=r"differ from those of the commit(.|\n)*lenient\.yaml(.|\n)*without --params"
    ):
        promoted(config, "1", params=lenient)
    assert champion() == ""


@pytest.mark.parametrize("name", ["index.parquet", "verdict.json"])
def test_another_index_or_verdict_than_dvc_lock_names_is_refused(checkout, config, name):
    path = checkout / "data" / name
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(
        PromotionError, match=rf"data/{name} is not what dvc\.lock names(.|\n)*dvc checkout data/{name}"
    ):
        promoted(config, "1")


def test_shards_that_dvc_lock_does_not_name_are_refused(checkout, config, pairs, read_pair, inputs, classes):
    easy = [replace(pair, labels=("water",)) for pair in pairs]
    write_shards(easy, read_pair, checkout / "data/easy", inputs=inputs, task=Task(classes=classes), shard_pairs=7)
    with pytest.raises(PromotionError, match=r"data/easy are not the shards that dvc\.lock names"):
        promoted(config, "1", shards=Path("data/easy"))


def registered(exported_as, record=None, **changes):
    """One more version: the first one's graph with another note, and a lineage that says what is given."""
    from onnx import load

    from fusmae.release.export.onnx_file import write_graph
    from fusmae.release.registry.model_file import model_file
    from fusmae.release.registry.versions import register_graph

    first = model_file(f"{NAME}/1")
    graph = load(first.path)
    graph.doc_string = exported_as
    for change in changes.get("graph", ()):
        change(graph)
    folder = Path("reports") / exported_as
    folder.mkdir(parents=True)
    write_graph(graph, folder / "model.onnx")
    files = [folder / "parity.json"]
    write_json(files[0], changes.get("parity", {"checks": [{"max_abs_error": 1e-6}]}))
    if record is not None:
        files.append(folder / "lineage.json")
        git = {"commit": "c0ffee", "is_dirty": changes.get("is_dirty", False)}
        text = record | {"name": NAME, "onnx_sha256": file_sha256(folder / "model.onnx"), "git": git, "exported": git}
        write_json(files[-1], text)
    return register_graph(
        NAME,
        folder / "model.onnx",
        extra_files=files,
        tags={},
        experiment="test",
        run_file=Path("none.json"),
    ).number


def lineage_of(shards_md5, code=None, params=None):
    outs = {"data/shards": shards_md5, "models/export": "0" * 32 + ".dir"}
    stage = {"name": "export", "code": code or {}, "inputs": {}, "outs": outs, "params": params or {}}
    return {"graph": "models/export/model.onnx", "stages": [stage], "params": params or {}}


def lock_the_export(checkout):
    text = yaml.safe_load(Path("dvc.lock").read_text())
    text["stages"]["export"] = {"cmd": "", "outs": [{"path": "models/export", "md5": "0" * 32 + ".dir"}]}
    Path("dvc.lock").write_text(yaml.safe_dump(text))
    git("commit", "-qam", "lock the export", cwd=checkout)


def answers(number):
    verdict = json.loads(Path(f"reports/gate/tiny-{number}/verdict.json").read_text())
    return {check["name"]: check["status"] for check in verdict["checks"]}


def test_a_version_that_dvc_lock_does_not_lead_to_or_that_was_trained_on_other_shards_fails(checkout, config):
    own = registered("own", lineage_of(dvc_md5(Path("data/shards"))))
    other = registered("other", lineage_of("1" * 32 + ".dir"))
    for number, expected in ((own, ("failed", "passed")), (other, ("failed", "failed"))):
        with pytest.raises(PromotionError, match=r"nothing was measured(.|\n)*no commit and no experiment"):
            promoted(config, number)
        assert not Path(f"reports/gate/tiny-{number}").exists()
        with pytest.raises(PromotionError, match=r"tiny/\d FAILS"):  # a dry run with --force asks every question
            promoted(config, number, dry_run=True, force=True, reason="only to see")
        assert (answers(number)["lock"], answers(number)["test set"]) == expected
    lock_the_export(checkout)
    assert "passes" in promoted(config, own)


def test_what_was_made_before_it_was_committed_passes_if_the_commit_has_it_all(checkout, config):
    Path("fusmae").mkdir()
    Path("fusmae/code.py").write_text("1\n", encoding="utf-8")
    git("add", "fusmae", cwd=checkout)
    lock_the_export(checkout)
    code, shards = {"fusmae/code.py": dvc_md5(Path("fusmae/code.py"))}, dvc_md5(Path("data/shards"))
    made = registered("made", lineage_of(shards, code, {"model.dim": config.model.dim}), is_dirty=True)
    assert "passes" in promoted(config, made)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert trace(f"{NAME}/{made}").commit == commit
    assert f"promoted   {commit}" in lineage_text(trace(f"{NAME}/{made}"))


@pytest.mark.parametrize(
    ("code", "params", "said"),
    [({"fusmae/gone.py": "0" * 32}, {}, r"fusmae/gone\.py"), ({}, {"model.dim": 7, "seed": 0}, r"here: model\.dim")],
)
def test_what_the_commit_has_otherwise_is_named_before_anything_is_measured(
    checkout, config, monkeypatch, code, params, said
):
    lock_the_export(checkout)
    made = registered("made", lineage_of(dvc_md5(Path("data/shards")), code, params), is_dirty=True)
    monkeypatch.setattr("fusmae.cli.promote_version.score_models", None)
    with pytest.raises(PromotionError, match=rf"{said}(.|\n)*`dvc repro` makes what this commit names"):
        promoted(config, made)
    assert champion() == ""


def test_a_version_of_another_commit_or_experiment_is_answered_with_the_way_there(checkout, config):
    made = registered("made", lineage_of(dvc_md5(Path("data/shards"))))
    git("switch", "-q", "-c", "another", cwd=checkout)
    lock_the_export(checkout)
    git("switch", "-q", "-", cwd=checkout)
    with pytest.raises(
        PromotionError, match=rf"git switch --detach \w+ && dvc checkout && fusmae promote tiny --version {made}"
    ):
        promoted(config, made)
    baseline = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    git("update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/longer", "another", cwd=checkout)
    with pytest.raises(PromotionError, match="fusmae promote tiny --experiment longer"):
        promoted(config, made)


def test_a_run_s_changes_are_answered_with_the_command_that_commits_them(checkout, config):
    params = checkout / "params.yaml"
    params.write_text(params.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    with pytest.raises(PromotionError, match=r"got:      params\.yaml(.|\n)*promote tiny --experiment workspace"):
        promoted(config, "1")


def test_a_version_without_lineage_is_judged_and_that_is_said(checkout, config):
    promoted(config, "1")
    assert (answers("1")["lock"], answers("1")["test set"]) == ("skipped", "skipped")


def test_a_lineage_that_can_not_be_read_ends_promotion_with_a_paragraph_and_no_rollback(checkout, config):
    broken = registered("broken", {"stages": "none"})
    with pytest.raises(LineageError, match=r"lineage.json of tiny/\d can't be read"):
        promoted(config, broken)
    assert phases() == []
    move_champion("promote", model_file(f"{NAME}/{broken}"), "")
    promoted(config, "2")
    roll_back(NAME, to="", reason="")
    assert champion() == broken


def nan_probabilities(graph):
    """Let the model's weights be NaN."""
    for item in graph.graph.initializer:
        if item.data_type == onnx.TensorProto.FLOAT and len(item.dims) > 1:
            item.CopyFrom(onnx.numpy_helper.from_array(np.full(item.dims, np.nan, np.float32), item.name))


def test_a_model_that_answers_nan_fails_by_that(checkout, config):
    number = registered("nan", graph=[nan_probabilities])
    with pytest.raises(PromotionError, match=r"finite: \d+ are not, and count as wrong"):
        promoted(config, number)


def test_a_graph_without_commit_and_a_parity_report_without_checks_fail_by_that(checkout, config):
    def without_commit(graph):
        (item,) = [item for item in graph.metadata_props if item.key == "fusmae"]
        item.value = json.dumps({key: value for key, value in json.loads(item.value).items() if key != "git"})

    number = registered("bare", graph=[without_commit], parity={})
    with pytest.raises(PromotionError, match=r"source: no commit is recorded(.|\n)*dvc repro -f -s export"):
        promoted(config, number)
    with pytest.raises(PromotionError, match=r"source: no commit is recorded(.|\n)*parity: not measured"):
        promoted(config, number, dry_run=True, force=True, reason="only to see")


def test_a_champion_of_other_classes_can_be_followed_by_force_only(checkout, config, exported):
    from fusmae.release.registry.versions import register_graph

    connect()
    options = {"extra_files": [], "tags": {}, "experiment": "test", "run_file": Path("none.json")}
    old = register_graph(NAME, exported.path, **options).number
    move_champion("promote", model_file(f"{NAME}/{old}"), "")
    with pytest.raises(PromotionError, match=r"metric: champion tiny/4 can't be judged on this test set"):
        promoted(config, "1")
    forced(config, "1")
    assert champion() == "1"


def test_an_alias_that_was_moved_by_hand_stops_promotions_until_it_is_taken_back_and_stays_told(checkout, config):
    promoted(config, "1")
    MlflowClient().set_registered_model_alias(NAME, "champion", "3")
    with pytest.raises(LedgerError, match=r"moved without an entry in the ledger(.|\n)*rollback tiny --to 1"):
        promoted(config, "2")
    roll_back(NAME, to="1", reason="somebody moved it")
    promoted(config, "2")
    assert "(before this, the alias was moved from 1 to 3 by hand)" in checked_ledger(NAME)


def test_a_move_that_comes_after_others_went_on_is_taken_back(checkout, config, monkeypatch):
    from fusmae.release.promotion import champion as promotion

    promoted(config, "1")
    move = promotion.move_alias
    held_up = iter([True])

    def move_late(name, number):
        if next(held_up, False):  # until others take it for cut off, and have moved the alias themselves
            monkeypatch.setattr("fusmae.release.promotion.ledger.STALE_S", 0.0)
            forced(config, "3")
        move(name, number)

    monkeypatch.setattr(promotion, "move_alias", move_late)
    with pytest.raises(LedgerError, match="Another command"):
        promoted(config, "2")
    assert champion() == "3"
    assert checked_ledger(NAME).endswith("champion: tiny/3")


def test_pairs_of_one_place_are_drawn_together(checkout, config, pairs):
    promoted(config, "1")
    with pytest.raises(PromotionError, match="paired draws of 6 places"):
        promoted(config, "3")
    moved = [replace(pair, place=f"{pair.split}-{number % 2}") for number, pair in enumerate(pairs)]
    write_index(moved, Path("data/index.parquet"))
    made = (Path("data/verdict.json"), Path("data/index.parquet"), Path("data/shards"))
    Path("dvc.lock").write_text(lock(*made), encoding="utf-8")
    git("commit", "-qam", "places", cwd=checkout)
    with pytest.raises(PromotionError, match="2 places are too few for a 95% interval, which needs 6"):
        promoted(config, "2")
    forced(config, "2")
    assert champion() == "2"


def test_no_checkout_is_refused(checkout, config, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    with pytest.raises(PromotionError, match="git checkout"):
        promoted(config, "1")


def test_a_model_of_other_classes_cannot_be_judged(checkout, config, exported):
    from fusmae.release.registry.versions import register_graph

    connect()
    register_graph(
        NAME,
        exported.path,
        extra_files=[],
        tags={},
        experiment="test",
        run_file=Path("none.json"),
    )
    with pytest.raises(PromotionError, match="its classes are others"):
        promoted(config, "4", force=True, reason="only to see")


def test_rollbacks_go_back_through_the_champions_until_the_first(checkout, config):
    promoted(config, "1")
    promoted(config, "2")
    forced(config, "3")
    assert "rollback 3 → 2: maps are wrong" in roll_back(NAME, to="", reason="maps are wrong")
    assert champion() == "2"
    roll_back(NAME, to="", reason="")
    assert champion() == "1"
    with pytest.raises(PromotionError, match=r"tiny/1 was the first champion(.|\n)*promote tiny --version 2 "):
        roll_back(NAME, to="", reason="")
    with pytest.raises(PromotionError, match=r"tiny/3 came after the present champion(.|\n)*promote tiny --version 3 "):
        roll_back(NAME, to="3", reason="")
    assert champion() == "1"
    assert len(phases()) == 10


def test_rollback_to_a_named_version_takes_earlier_champions_only(checkout, config):
    promoted(config, "1")
    promoted(config, "2")
    with pytest.raises(PromotionError, match=r"tiny/3 was never champion(.|\n)*were champion: 1\n"):
        roll_back(NAME, to="3", reason="")
    roll_back(NAME, to="1", reason="")
    assert champion() == "1"


def test_the_run_and_version_in_use_are_marked_and_the_run_comes_out_of_the_bin(checkout, config):
    connect()
    client = MlflowClient()
    run_id = client.get_model_version(NAME, "1").run_id
    client.delete_run(run_id)
    promoted(config, "1")
    run = client.get_run(run_id)
    assert run.info.lifecycle_stage == "active"
    assert run.data.tags["fusmae.in_use"] == "tiny/1"
    begun, done = Ledger(NAME).entries()
    tags = client.get_model_version(NAME, "1").tags
    assert (tags["fusmae.in_use"], tags["fusmae.crowned"]) == (begun.sha256, done.sha256)


def test_runs_behind_a_version_in_use_are_marked_and_come_out_of_the_bin(checkout, config):
    connect()
    client = MlflowClient()
    ancestor = client.create_run("0").info.run_id
    client.set_terminated(ancestor)
    client.delete_run(ancestor)
    run = {"stage": "pretrain", "experiment": "test", "run_id": ancestor}
    number = registered("descended", lineage_of("") | {"stages": [], "runs": [run, run | {"run_id": "f" * 32}]})
    forced(config, number)
    found = client.get_run(ancestor)
    assert found.info.lifecycle_stage == "active"
    assert found.data.tags["fusmae.in_use"] == f"{NAME}/{number}"


def test_an_account_without_a_name_is_known_by_its_number(checkout, config, monkeypatch):
    def nameless():
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr("fusmae.release.promotion.champion.git_email", lambda: "")
    monkeypatch.setattr("fusmae.release.promotion.champion.getpass.getuser", nameless)
    promoted(config, "1")
    assert Ledger(NAME).entries()[-1].who.startswith(f"user {os.getuid()}@")


RACE = """
import sys, time
from pathlib import Path
from fusmae.errors import FusmaeError
from fusmae.release.promotion import champion as promotion
from fusmae.release.registry.model_file import model_file

target, died = model_file(f"tiny/{sys.argv[1]}"), sys.argv[2]
if died == "before the alias":
    promotion.move_alias = lambda *_: sys.exit(9)
if died == "after the alias":
    move = promotion.move_alias
    def move_and_die(*arguments):
        move(*arguments)
        sys.exit(9)
    promotion.move_alias = move_and_die
Path(f"ready-{sys.argv[1]}").touch()
while died == "never" and not Path("go").exists():
    time.sleep(0.001)
try:
    promotion.move_champion("promote", target, sys.argv[3])
except FusmaeError as error:
    sys.exit(str(error))
"""


def start(version, died="never", seen=""):
    arguments = [sys.executable, "-c", RACE, version, died, seen]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=dict(os.environ))


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(checkout):
    both = {version: start(version) for version in ("1", "2")}
    deadline = time.monotonic() + 120
    while not all(Path(f"ready-{version}").exists() for version in both) and time.monotonic() < deadline:
        time.sleep(0.01)
    Path("go").touch()
    said = {version: process.communicate(timeout=120)[1] for version, process in both.items()}
    (winner,) = [version for version, process in both.items() if process.returncode == 0]
    (loser,) = set(both) - {winner}
    told = ("at the same time", "in progress", "has changed since the comparison", "went on with")
    assert any(words in said[loser] for words in told), said[loser]
    assert "Traceback" not in said[loser]
    assert champion() == winner
    assert phases() == [("promote", "begun", "", winner), ("promote", "done", "", winner)]


def test_a_crash_before_the_alias_leaves_the_old_champion_and_holds_others_off_for_a_while(
    checkout, config, monkeypatch
):
    promoted(config, "1")
    died = start("2", "before the alias", seen="1")
    assert died.wait(120) == 9
    died.stderr.close()
    assert champion() == "1"
    assert "in progress" in checked_ledger(NAME)
    with pytest.raises(LedgerError, match="in progress"):
        promoted(config, "2")
    monkeypatch.setattr("fusmae.release.promotion.ledger.STALE_S", 0.0)
    assert "was interrupted: repeat it" in checked_ledger(NAME)
    promoted(config, "2")
    assert champion() == "2"


def test_a_crash_after_the_alias_is_written_down_by_the_next_change(checkout, config, monkeypatch):
    promoted(config, "1")
    died = start("2", "after the alias", seen="1")
    assert died.wait(120) == 9
    died.stderr.close()
    assert champion() == "2"
    monkeypatch.setattr("fusmae.release.promotion.ledger.STALE_S", 0.0)
    roll_back(NAME, to="", reason="")
    assert champion() == "1"
    assert phases()[3:] == [
        ("promote", "done", "1", "2"),
        ("rollback", "begun", "2", "1"),
        ("rollback", "done", "2", "1"),
    ]


def test_a_registry_that_is_down_is_named(checkout, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.rmtree(checkout / "mlruns")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        promoted(config, "1")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        roll_back(NAME, to="", reason="")
    assert not (checkout / "mlruns").exists()


def test_a_command_does_not_wait_for_minutes_for_a_registry_that_is_down(checkout):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    environment |= {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "PYTHONPATH": str(Path(__file__).parents[3])}
    predict = ["predict", "--model", f"{NAME}@champion", "--s2", "s2", "--out", "map.tif"]
    running = [
        subprocess.Popen([sys.executable, "-m", "fusmae", *command], stderr=subprocess.PIPE, text=True, env=environment)
        for command in (["promote", NAME], ["rollback", NAME], ["ledger", NAME], predict)
    ]
    for process in running:
        said = process.communicate(timeout=90)[1]  # MLflow's own patience is 250 s
        assert process.returncode == TEMPORARY
        assert "127.0.0.1:9 does not answer" in said
        assert "Traceback" not in said
