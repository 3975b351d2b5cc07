"""Known vulnerabilities of the locked versions: found where their data can be reached, said to be unknown elsewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = [*sorted(ROOT.glob("requirements*.lock")), *sorted(ROOT.glob("deploy/*.lock"))]
ONE_PACKAGE = re.compile(r"^urllib3==\S+ \\\n(?:    --hash=\S+(?: \\)?\n)+", re.MULTILINE)
# By id, each with the reason why it does not concern this project, and until when that holds.
ACCEPTED: dict[str, str] = {}


class UnreachableError(Exception):
    """The data on vulnerabilities did not answer."""


def findings(printed: str, said: str) -> list[str]:
    """What pip-audit found, from its JSON and what it said beside it.

    Raises:
        UnreachableError: it printed no result, or had no answer for any package.
    """
    try:
        packages = json.loads(printed)["dependencies"]
    except ValueError as error:
        raise UnreachableError((said.strip().splitlines() or ["no answer"])[-1]) from error
    answered = [item for item in packages if "skip_reason" not in item]
    if not answered:
        raise UnreachableError(f"no answer for any of {len(packages)} packages")
    return [
        f"{item['name']} {item['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for item in answered
        for found in item["vulns"]
        if not ACCEPTED.keys() & {found["id"], *found["aliases"]}
    ]


def audit(requirements: Path, seconds: int) -> list[str]:
    """Ask for every package of a file with hashes.

    Raises:
        UnreachableError: see `findings`; or it took too long.
    """
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--disable-pip", "--no-deps"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "5"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"no answer in {seconds} s") from error
    return findings(done.stdout, done.stderr)


def test_no_locked_version_has_a_known_vulnerability(tmp_path: Path):
    assert len(LOCKS) >= 2
    # One package first: where it gets no answer in a few seconds, hundreds would wait for theirs.
    one = ONE_PACKAGE.search(LOCKS[0].read_text(encoding="utf-8"))
    assert one
    (tmp_path / "one.txt").write_text(one[0], encoding="utf-8")
    try:
        audit(tmp_path / "one.txt", seconds=20)
        found = {lock.name: audit(lock, seconds=600) for lock in LOCKS}
    except UnreachableError as error:
        pytest.skip(f"the data on known vulnerabilities can't be reached: {error}")
    assert {name: lines for name, lines in found.items() if lines} == {}


VULNERABLE = {
    "name": "some",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"], "description": "bad"}],
}
SOUND = {"name": "other", "version": "2.0", "vulns": []}
UNANSWERED = {"name": "third", "skip_reason": "not found"}


def as_printed(*packages: object) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerability_is_found_even_where_other_packages_got_no_answer():
    expected = ["some 1.0: PYSEC-1, mended in 1.1"]
    assert findings(as_printed(VULNERABLE, SOUND), "Found 1 known vulnerability") == expected
    assert findings(as_printed(UNANSWERED, VULNERABLE), "Found 1 known vulnerability") == expected
    assert findings(as_printed(SOUND, UNANSWERED), "No known vulnerabilities found") == []


@pytest.mark.parametrize("known_as", ["PYSEC-1", "CVE-1"])
def test_an_accepted_one_is_passed_over_by_any_of_its_names(monkeypatch, known_as):
    monkeypatch.setitem(ACCEPTED, known_as, "a reason")
    assert findings(as_printed(VULNERABLE), "") == []


@pytest.mark.parametrize(
    ("printed", "said", "reason"),
    [
        (as_printed(UNANSWERED), "No known vulnerabilities found", "no answer for any of 1 packages"),
        ("", "ERROR: connection refused\nERROR: try another service\n", "ERROR: try another service"),
        ("", "", "no answer"),
    ],
)
def test_no_answer_is_not_taken_for_no_vulnerability(printed, said, reason):
    with pytest.raises(UnreachableError, match=reason):
        findings(printed, said)
