"""What the exporter makes of attention and linear layers; that it is right is parity's to say (test_export.py)."""

from collections import Counter

import onnx
import pytest

from fusmae.release.translation import translations


@pytest.fixture(scope="module")
def graph(exported):
    return onnx.load(exported.path).graph


def test_only_standard_operators_are_used(graph):
    assert {node.domain for node in graph.node} == {""}


def test_every_linear_layer_is_one_product_with_its_weight_and_no_sum_with_its_bias(graph):
    weights = {item.name for item in graph.initializer if item.name.endswith(".weight") and len(item.dims) == 2}
    products = [node for node in graph.node if node.op_type == "Gemm"]
    assert weights == {node.input[1] for node in products}
    sums = [name for node in graph.node if node.op_type == "Add" for name in node.input]
    assert not [name for name in sums if name.endswith(".bias")]


def test_attention_has_no_guard_against_rows_of_nan(graph):
    counts = Counter(node.op_type for node in graph.node)
    assert counts["Softmax"] == 3  # two cross-attentions and one joint block
    assert counts["IsNaN"] == 0


@pytest.mark.parametrize("option", [{"dropout_p": 0.1}, {"is_causal": True}, {"scale": 1.0}, {"enable_gqa": True}])
def test_an_option_of_attention_that_is_not_translated_stops_the_export(option):
    attention = next(found for operator, found in translations().items() if "attention" in str(operator))
    with pytest.raises(NotImplementedError):
        attention(None, None, None, **option)
