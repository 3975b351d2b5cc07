"""Every way of changing the ledger afterwards shows."""

import json

import pytest
from mlflow import MlflowClient

from fusmae.errors import LedgerError
from fusmae.release.promotion.champion import move_champion
from fusmae.release.promotion.ledger import ENTRY_TAG, Entry, Ledger, champions, checked_ledger
from fusmae.release.registry.model_file import model_file
from fusmae.runs.mlflow_store import connect

NAME = "tiny"


def moved(version, before):
    move_champion("promote", model_file(f"{NAME}/{version}"), before)


@pytest.fixture
def two_champions(checkout):
    """1, then 2: four entries."""
    moved("1", "")
    moved("2", "1")
    return MlflowClient()


def test_an_untouched_ledger_is_shown_whole(two_champions):
    lines = checked_ledger(NAME).splitlines()
    assert len(lines) == 6
    assert "done promote 1 → 2" in lines[3]
    assert lines[4:] == [f"last entry: {Ledger(NAME).entries()[-1].sha256}", "champion: tiny/2"]


def test_a_changed_entry_shows(two_champions):
    content = json.loads(two_champions.get_model_version(f"{NAME}-ledger", "2").tags[ENTRY_TAG])
    content["who"] = "somebody.else@example.org"
    two_champions.set_model_version_tag(f"{NAME}-ledger", "2", ENTRY_TAG, json.dumps(content))
    with pytest.raises(LedgerError, match=r"changed at entry 2(.|\n)*its content does not match its hash"):
        checked_ledger(NAME)


def rewritten(client, number, **changes):
    """Change an entry together with its hash, as somebody with write access can."""
    name = f"{NAME}-ledger"
    entry = Entry.model_validate_json(client.get_model_version(name, number).tags[ENTRY_TAG])
    other = entry.model_copy(update=changes)
    client.set_model_version_tag(name, number, ENTRY_TAG, other.model_dump_json())
    client.set_model_version_tag(name, number, "fusmae.hash", other.sha256)


def test_an_entry_that_was_changed_together_with_its_hash_shows_in_the_next(two_champions):
    rewritten(two_champions, "3", who="somebody.else@example.org")
    with pytest.raises(LedgerError, match=r"changed at entry 4(.|\n)*which is not there"):
        checked_ledger(NAME)


@pytest.mark.parametrize(
    "changes", [{"who": "mallory"}, {"reason": "all fine"}, {"verdict": "0" * 64}, {"forced": True}, {"before": "3"}]
)
def test_a_last_entry_that_says_another_thing_than_was_begun_shows(two_champions, changes):
    rewritten(two_champions, "4", **changes)
    with pytest.raises(LedgerError, match=r"changed at entry 4(.|\n)*for another change than the one begun"):
        checked_ledger(NAME)


@pytest.mark.parametrize("changes", [{"previous": "0" * 64}, {"when": "2020-01-01T00:00:00+00:00"}])
def test_a_last_entry_that_was_put_elsewhere_shows_on_its_version(two_champions, changes):
    rewritten(two_champions, "4", **changes)
    with pytest.raises(LedgerError, match="tiny/2 was made champion by an entry that is not in the ledger"):
        checked_ledger(NAME)


def test_a_removed_last_entry_shows_on_its_version(two_champions):
    two_champions.delete_model_version(f"{NAME}-ledger", "4")
    with pytest.raises(LedgerError, match="tiny/2 was made champion by an entry that is not in the ledger"):
        checked_ledger(NAME)


def test_a_removed_entry_shows(two_champions):
    two_champions.delete_model_version(f"{NAME}-ledger", "2")
    with pytest.raises(LedgerError, match="entry 3 where 2 belongs"):
        checked_ledger(NAME)


def test_a_removed_end_shows(two_champions):
    for number in ("3", "4"):
        two_champions.delete_model_version(f"{NAME}-ledger", number)
    with pytest.raises(LedgerError, match="tiny/2 was made champion by an entry that is not in the ledger"):
        checked_ledger(NAME)


def test_an_alias_that_was_moved_by_hand_shows(two_champions):
    two_champions.set_registered_model_alias(NAME, "champion", "3")
    with pytest.raises(LedgerError, match=r"moved without an entry in the ledger(.|\n)*champion 3(.|\n)*champion 2"):
        checked_ledger(NAME)


def test_a_deleted_champion_shows(two_champions):
    two_champions.delete_model_version(NAME, "1")
    with pytest.raises(LedgerError, match=r"was champion was deleted(.|\n)*tiny/1"):
        checked_ledger(NAME)


def test_something_that_is_no_entry_shows(two_champions):
    version = two_champions.get_model_version(NAME, "1")
    two_champions.create_model_version(f"{NAME}-ledger", version.source, tags={ENTRY_TAG: "{}"})
    with pytest.raises(LedgerError, match=r"changed at entry 5(.|\n)*no entry"):
        checked_ledger(NAME)


def entry(action, after, phase="done"):
    return Entry(
        action=action, phase=phase, who="", when="", before="", after=after, verdict="", forced=False, reason=""
    )


def test_of_two_entries_that_follow_the_same_one_the_first_counts(checkout):
    connect()
    found = Ledger(NAME)
    found.append(entry("promote", "1", "begun"), [])
    with pytest.raises(LedgerError, match=r"Another command(.|\n)*promote none → 1"):
        found.append(entry("promote", "2", "begun"), [])
    assert [written.after for written in found.entries()] == ["1"]
    found.append(entry("promote", "3", "begun"), found.entries())
    assert [written.after for written in found.entries()] == ["1", "3"]


def test_champions_are_a_stack_that_rollbacks_unwind():
    entries = [entry("promote", "1"), entry("promote", "2"), entry("promote", "3"), entry("rollback", "2")]
    assert champions(entries) == ["1", "2"]
    assert champions([*entries, entry("promote", "4")]) == ["1", "2", "4"]
    assert champions([*entries, entry("promote", "4", "begun")]) == ["1", "2"]
    assert champions([*entries, entry("rollback", "1")]) == ["1"]
    again = [entry("promote", "1"), entry("promote", "2"), entry("promote", "1"), entry("promote", "3")]
    assert champions([*again, entry("rollback", "1")]) == ["1", "2", "1"], "2 can still be gone back to"
