"""Who may become champion, and what is left of it whatever happens."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fusmae.commands.ledger import ledger
from fusmae.commands.promote import promote
from fusmae.commands.rollback import rollback
from fusmae.errors import LedgerError, PromotionError, RegistryError
from fusmae.files import file_sha256
from fusmae.mlflow_store import connect
from fusmae.release.ledger import Ledger
from fusmae.release.registry import champion_number

NAME = "tiny"


def promoted(config, version, **changes):
    settings = {"force": False, "reason": "", "dry_run": False} | changes
    return promote(
        config, name=NAME, version=version, shards=Path("data/shards"), reports=Path("reports/gate"), **settings
    )


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
    assert f"champion: {NAME}/1" in ledger(name=NAME)


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
    assert verdict["difference"] | {"difference": 0.0, "low": 0.0, "high": 0.0} == verdict["difference"]


def test_a_worse_version_is_refused_with_the_reason_and_nothing_moves(checkout, config):
    promoted(config, "1")
    before = phases()
    for dry_run in (True, False):
        with pytest.raises(PromotionError, match=r"tiny/3 FAILS \(against tiny/1\)\n  metric: -0\.\d+ \["):
            promoted(config, "3", dry_run=dry_run)
    assert (champion(), phases()) == ("1", before)
    assert json.loads((checkout / "reports/gate/tiny-3/verdict.json").read_text())["is_passed"] is False


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
    assert "against the gate: agreed with A. Person" in ledger(name=NAME)


def test_force_where_the_gate_says_yes_is_not_recorded_as_forced(checkout, config):
    promoted(config, "1", force=True, reason="in a hurry")
    assert not Ledger(NAME).entries()[-1].forced


def test_a_dirty_tree_is_refused(checkout, config):
    (checkout / ".gitignore").write_text("/mlruns/\n/.fusmae/\n/reports/\n/data\n# changed\n", encoding="utf-8")
    with pytest.raises(PromotionError, match="changes that no commit names"):
        promoted(config, "1")
    assert champion() == ""


def test_an_uncommitted_lock_is_refused(checkout, config):
    (checkout / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n", encoding="utf-8")
    with pytest.raises(PromotionError, match=r"dvc\.lock is not committed(.|\n)*git commit"):
        promoted(config, "1")
    assert champion() == ""


def test_no_checkout_is_refused(checkout, config, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / "nowhere"))
    with pytest.raises(PromotionError, match="git checkout"):
        promoted(config, "1")


def test_a_model_of_other_classes_cannot_be_judged(checkout, config, exported):
    from fusmae.release.registry import register_graph

    connect()
    register_graph(
        NAME,
        exported.path,
        inputs=exported.inputs,
        num_modalities=2,
        num_classes=3,
        extra_files=[],
        tags={},
        experiment="test",
        run_file=Path("none.json"),
    )
    with pytest.raises(PromotionError, match="its classes are others"):
        promoted(config, "4")


def test_rollbacks_go_back_through_the_champions_until_the_first(checkout, config):
    promoted(config, "1")
    promoted(config, "2")
    forced(config, "3")
    assert "rollback 3 → 2: maps are wrong" in rollback(name=NAME, to="", reason="maps are wrong")
    assert champion() == "2"
    rollback(name=NAME, to="", reason="")
    assert champion() == "1"
    with pytest.raises(PromotionError, match="no champion before"):
        rollback(name=NAME, to="", reason="")
    assert champion() == "1"
    assert len(phases()) == 10


def test_rollback_to_a_named_version_takes_earlier_champions_only(checkout, config):
    promoted(config, "1")
    promoted(config, "2")
    with pytest.raises(PromotionError, match="no champion 3"):
        rollback(name=NAME, to="3", reason="")
    rollback(name=NAME, to="1", reason="")
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
    assert client.get_model_version(NAME, "1").tags["fusmae.in_use"] == Ledger(NAME).entries()[0].sha256


RACE = """
import sys, time
from pathlib import Path
from fusmae.errors import FusmaeError
from fusmae.release import promotion
from fusmae.release.models import model_file

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
    promotion.move_champion("tiny", promotion.Change("promote", target), sys.argv[3])
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
    told = ("at the same time", "under way", "another than the one that was compared with", "went on with")
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
    assert "under way" in ledger(name=NAME)
    with pytest.raises(LedgerError, match="under way"):
        promoted(config, "2")
    monkeypatch.setattr("fusmae.release.ledger.STALE_S", 0.0)
    assert "was cut off: do it again" in ledger(name=NAME)
    promoted(config, "2")
    assert champion() == "2"


def test_a_crash_after_the_alias_is_written_down_by_the_next_change(checkout, config, monkeypatch):
    promoted(config, "1")
    died = start("2", "after the alias", seen="1")
    assert died.wait(120) == 9
    died.stderr.close()
    assert champion() == "2"
    monkeypatch.setattr("fusmae.release.ledger.STALE_S", 0.0)
    rollback(name=NAME, to="", reason="")
    assert champion() == "1"
    assert phases()[3:] == [
        ("promote", "done", "1", "2"),
        ("rollback", "begun", "2", "1"),
        ("rollback", "done", "2", "1"),
    ]


def test_a_registry_that_is_down_is_named(checkout, config, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        promoted(config, "1")
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:9 does not answer"):
        rollback(name=NAME, to="", reason="")
