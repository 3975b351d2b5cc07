from importlib import util

import pytest

from fusmae.cli import call
from fusmae.cli.call import require_packages
from fusmae.errors import ConfigError


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("predict", "matplotlib"),
        ("predict", "pystac"),
        ("embed", "pyarrow"),
        ("drift", "rasterio"),
        ("serve", "fastapi"),
    ],
)
def test_a_missing_package_is_named_before_the_command_starts(monkeypatch, command, absent):
    monkeypatch.setattr(call, "find_spec", lambda name: None if name == absent else util.find_spec(name))
    with pytest.raises(ConfigError, match=rf"(?s)fusmae {command}.*got: +no {absent}\n.*requirements-serve\.lock"):
        require_packages(command)


@pytest.mark.parametrize("command", ["predict", "embed", "drift", "serve", "doctor", "promote"])
def test_with_every_extra_nothing_is_refused(command):
    require_packages(command)
