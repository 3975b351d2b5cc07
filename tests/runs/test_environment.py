"""What libraries read from the environment: proxies, and how threads wait."""

import os
import subprocess
import sys
import urllib.request
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import requests

from fusmae.runs.environment import THIS_MACHINE, exclude_this_machine, installed_version, sent_to_proxy
from tests.doctor.conftest import answering, nobody  # noqa: F401

ROOT = Path(__file__).parents[2]
PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
EXCLUSIONS = ("no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch):
    for name in (*PROXIES, *EXCLUSIONS):
        # Set first: what the code sets is then taken back, too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


CLIENTS = {
    "requests": lambda url: requests.get(url, timeout=5).text,
    "httpx": lambda url: httpx.get(url, timeout=5).text,
    # An opener of its own: `urlopen` keeps the proxies of its first call in a process.
    "urllib": lambda url: urllib.request.build_opener().open(url, timeout=5).read().decode(),
}


# urllib has no variable for all schemes.
READ = [(client, name) for client in CLIENTS for name in PROXIES if name.lower() != "https_proxy"]
READ = [(client, name) for client, name in READ if client != "urllib" or name.lower() != "all_proxy"]


@pytest.mark.parametrize(("client", "variable"), READ)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_servers_of_this_machine_are_asked_past_a_proxy(client, variable, host, nobody, monkeypatch):  # noqa: F811
    monkeypatch.setenv(variable, f"http://{nobody}")
    with answering({"/": "here"}) as url:
        url = url.replace("127.0.0.1", host)
        with pytest.raises(OSError if client != "httpx" else httpx.HTTPError):
            CLIENTS[client](url)
        exclude_this_machine()
        assert CLIENTS[client](url) == "here"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, dict.fromkeys(EXCLUSIONS, "localhost,127.0.0.1,::1")),
        ({"NO_PROXY": "corp, .intra"}, dict.fromkeys(EXCLUSIONS, "corp,.intra,localhost,127.0.0.1,::1")),
        ({"no_proxy": "127.0.0.1,corp"}, dict.fromkeys(EXCLUSIONS, "127.0.0.1,corp,localhost,::1")),
        (
            {"no_proxy": "one", "NO_PROXY": "two"},
            {"no_proxy": "one,localhost,127.0.0.1,::1", "NO_PROXY": "two,localhost,127.0.0.1,::1"},
        ),
        ({"no_proxy": "*"}, dict.fromkeys(EXCLUSIONS, "*")),
    ],
)
def test_what_the_user_excludes_stays_excluded(given, wanted, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    exclude_this_machine()
    exclude_this_machine()
    assert {name: os.environ[name] for name in EXCLUSIONS} == wanted
    assert sent_to_proxy() == ()


def test_without_a_proxy_no_variable_is_set():
    exclude_this_machine()
    assert not set(EXCLUSIONS) & set(os.environ)
    assert sent_to_proxy() == ()


def test_names_that_go_to_the_proxy_are_told(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    assert sent_to_proxy() == THIS_MACHINE
    monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
    assert sent_to_proxy() == ("::1",)


def environment_after(program, **given):
    kept = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program += "\nimport os, sys\nprint('policy:', os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=kept | given, cwd=ROOT, capture_output=True, text=True, check=True)
    return next(line for line in done.stdout.splitlines() if line.startswith("policy:"))


COMMAND = "from fusmae.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"


@pytest.mark.parametrize("program", [COMMAND, "import flows"])
def test_threads_are_told_to_sleep_before_torch_is_imported(program):
    assert environment_after(program) == "policy: passive False"
    assert environment_after(program, OMP_WAIT_POLICY="active") == "policy: active False"


def test_the_version_of_onnxruntime_is_found_under_its_name_for_gpus(monkeypatch):
    versions = {"onnxruntime-gpu": "1.31.0", "numpy": "2.0"}

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    assert [installed_version(name) for name in ("onnxruntime", "numpy")] == ["1.31.0", "2.0"]
    with pytest.raises(metadata.PackageNotFoundError, match="torch"):
        installed_version("torch")
