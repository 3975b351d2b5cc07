"""The tile that README and docs/serving.md show is one that both the graph and `/predict` take."""

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fusmae.config.params import load_config
from fusmae.serving.arrays import read_npz

ROOT = Path(__file__).parents[2]
CONFIG = load_config(ROOT / "params.yaml")
EXPECTED = {item.name: (1, len(item.bands), item.side_px, item.side_px) for item in CONFIG.data.inputs}


def pair_of(document):
    """`pair`, by the lines that a person copies."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (lines,) = re.findall(r"^pair = \{\n.*?^\}\n", text, re.DOTALL | re.MULTILINE)
    names = {"np": np}
    exec(lines, names)
    return names["pair"]


@pytest.mark.parametrize("document", ["README.md", "docs/serving.md"])
def test_predict_takes_it_and_it_holds_the_arrays_of_the_quick_start_s_model(document):
    pair, body = pair_of(document), io.BytesIO()
    assert {name: array.shape for name, array in pair.items()} == EXPECTED
    np.savez(body, **pair)
    assert read_npz(body.getvalue(), CONFIG.data.inputs, 1).keys() == EXPECTED.keys()


def test_readme_s_python_gives_the_graph_every_input(monkeypatch):
    given = {}

    class Session:
        def __init__(self, path):
            assert path == "models/export/model.onnx"

        def run(self, outputs, feeds):
            given.update(feeds)
            return [outputs]

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=Session))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "onnxruntime" in code)
    exec(block, {})
    assert {name: array.shape for name, array in given.items()} == {**EXPECTED, "presence": (1, 2)}
