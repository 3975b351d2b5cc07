"""YAML that would run something is a mistake in params.yaml, nothing more."""

from pathlib import Path

import pytest

from fusmae.config.params import load_config
from fusmae.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{mark}']]",
        "!!python/object/new:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/tuple [1]",
    ],
)
def test_a_tag_that_names_python_is_refused_and_runs_nothing(tmp_path: Path, value):
    mark, params = tmp_path / "ran", tmp_path / "params.yaml"
    params.write_text((ROOT / "params.yaml").read_text(encoding="utf-8") + f"extra: {value.format(mark=mark)}\n")
    with pytest.raises(ConfigError, match=r"params\.yaml is not YAML: could not determine a constructor"):
        load_config(params)
    assert not mark.exists()
