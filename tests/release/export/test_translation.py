"""What the exporter makes of linear layers; that it is right is parity's to say (test_export.py)."""

import onnx
import pytest


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
