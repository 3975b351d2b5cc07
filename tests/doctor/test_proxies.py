import subprocess

import pytest

from fusmae.doctor.machine import check_proxies
from fusmae.runs.environment import sent_to_proxy
from tests.doctor.conftest import only

NAMES = tuple(f"{scheme}_proxy" for scheme in ("http", "https", "all", "no"))


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_no_proxy_is_well():
    assert only(check_proxies(sent_to_proxy())).found == "none in the environment"


def test_a_proxy_before_this_machine_is_a_warning_that_its_command_mends(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "*.corp")
    found = only(check_proxies(sent_to_proxy()))
    assert found.status == "warning"
    assert "http by http://proxy:3128" in found.found
    printed = subprocess.run(f"{found.mend}; env", shell=True, check=True, capture_output=True, text=True).stdout
    for line in filter(lambda line: line.lower().startswith("no_proxy="), printed.splitlines()):
        monkeypatch.setenv(*line.split("=", 1))
    found = only(check_proxies(sent_to_proxy()))
    assert (found.status, found.found) == ("ok", "http by http://proxy:3128; not for this machine's own servers")


def test_a_socks_proxy_that_prefects_client_can_t_open_is_a_warning(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1080")
    monkeypatch.setenv("no_proxy", "*")
    by_socks, proxies = check_proxies(sent_to_proxy())
    assert (by_socks.status, proxies.status) == ("warning", "ok")
    assert by_socks.mend.startswith("unset all_proxy ALL_PROXY")
