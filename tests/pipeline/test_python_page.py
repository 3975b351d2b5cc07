"""The examples of docs/python.md, in the order in which they stand, in the finished workspace."""

import re
from pathlib import Path

import pytest

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(600)]
PAGE = Path(__file__).parents[2] / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
SHOWN = """
assert features.shape == (8, 96), features.shape
assert (rows, columns, width) == (10, 10, 96)
print("all examples ran with", fusmae.__all__)
"""


def test_every_example_of_the_page_runs(finished):
    assert len(EXAMPLES) == 9
    printed = finished.python("\n".join([*EXAMPLES, SHOWN]))
    assert "s2 20 DN ('B05', 'B06', 'B07', 'B8A', 'B11', 'B12') 60" in printed
    assert "ONNX [('s1_10m', ['VV', 'VH'])," in printed
    assert "all examples ran with" in printed


@pytest.mark.parametrize(
    "reference", ["models:/fusmae@challenger", "models/export/model.onnx", "models/finetune/pretrained"]
)
def test_every_kind_of_reference_is_loaded(finished, reference):
    script = "import sys, fusmae; print(fusmae.load(sys.argv[1]).dim)"
    assert finished.python(script, reference).split()[-1] == "96"
