"""The Dockerfile: clean by its linter, locks before source, no root, the versions that the tests run on."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("servers")

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HEADER, *PARTS = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)
TARGETS = {re.match(r"FROM \S+ AS (\w+)", part)[1]: part for part in PARTS}
LOCKS = {"train": "requirements.lock", "servers": "deploy/requirements.lock", "serve": "requirements-serve.lock"}


def pins(path):
    return set(re.findall(r"^([^ =#]+==[^ ]+)", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))


def instructions(target, name):
    return re.findall(rf"^{name} (.*)$", TARGETS[target], re.MULTILINE)


def test_hadolint_finds_nothing():
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_hadolint_is_told_to_overlook_one_rule_only():
    assert set(re.findall(r"hadolint ignore=(.*)", DOCKERFILE)) == {"DL3008"}
    assert not list(ROOT.glob(".hadolint*"))


def test_bases_have_a_version_and_can_be_given_by_digest():
    bases = dict(re.findall(r"^ARG (\w+)=(\S+)$", HEADER, re.MULTILINE))
    assert {re.match(r"FROM \$\{(\w+)\} AS", part)[1] for part in PARTS} == set(bases)
    assert all(re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", base) for base in bases.values())


@pytest.mark.parametrize("target", ["train", "servers", "objects", "serve"])
def test_no_image_runs_as_root(target):
    assert instructions(target, "USER")[-1] == "1000"


@pytest.mark.parametrize(("target", "lock"), LOCKS.items())
def test_packages_are_those_of_a_lock_and_come_before_the_source(target, lock):
    part = TARGETS[target]
    installed = part.index(f"pip install --no-cache-dir --require-hashes --requirement {lock}")
    assert part.index(f"COPY {lock} ") < installed
    source = [part.index(f"COPY {copied}") for copied in instructions(target, "COPY") if not copied.startswith(lock)]
    assert source
    assert min(source) > installed


def test_the_servers_lock_pins_what_the_tests_run_on():
    locked = pins("deploy/requirements.lock")
    assert locked < pins("requirements.lock")
    names = {pin.partition("==")[0] for pin in locked}
    assert {"mlflow", "flask-wtf", "psycopg2-binary", "prefect", "asyncpg", "boto3"} <= names
    assert not names & {"torch", "lightning", "moto", "dvc"}


def test_what_images_copy_is_let_in():
    let_in = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    for target in TARGETS:
        for copied in instructions(target, "COPY"):
            for source in copied.split()[:-1]:
                assert (ROOT / source).exists()
                assert {source, source.split("/")[0]} & let_in, source
