"""Attention for export: what it gives is what the model gives, and the model stays as it was."""

from collections import Counter

import pytest
import torch
from timm.layers import Attention

from fusmae.models.attention import LAYER_NORM
from fusmae.release.export.graph import DeployablePredictor, export_onnx
from fusmae.release.export.operators import with_onnx_attention


@pytest.fixture
def model(exported):
    return DeployablePredictor(exported.preprocess, exported.classifier).eval()


def arrays(exported, presence):
    pixels = exported.pixels(len(presence))
    return [*(torch.from_numpy(pixels[item.name]) for item in exported.inputs), torch.tensor(presence)]


@pytest.mark.parametrize("opset", [17, 23])
def test_a_model_with_attention_for_export_answers_as_the_model_in_every_setting(exported, model, opset):
    given = arrays(exported, [[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    with torch.no_grad():
        for own, other in zip(model(*given), with_onnx_attention(model, opset)(*given), strict=True):
            torch.testing.assert_close(other, own, rtol=1e-5, atol=1e-5)


def test_the_model_itself_and_its_weights_stay(model):
    before = [type(module) for module in model.modules()]
    fused = with_onnx_attention(model, 23)
    assert [type(module) for module in model.modules()] == before
    own = dict(model.named_parameters())
    assert dict(fused.named_parameters()).keys() == own.keys()
    assert all(parameter is own[name] for name, parameter in fused.named_parameters())


def test_attention_is_one_operator_a_block(exported, model):
    graph = export_onnx(model, opset=23)
    counts = Counter(node.op_type for node in graph.graph.node)
    assert counts["Attention"] == 3  # two cross-attentions and one joint block
    assert counts["Softmax"] == counts["IsNaN"] == 0


def test_where_the_operator_set_lacks_it_attention_is_two_products_and_a_softmax(exported, model):
    graph = export_onnx(model, opset=22)
    counts = Counter(node.op_type for node in graph.graph.node)
    assert (counts["Attention"], counts["Softmax"], counts["MatMul"]) == (0, 3, 6)
    assert counts["IsNaN"] == 0


def test_attention_with_options_of_other_models_is_refused():
    other = torch.nn.Sequential(Attention(8, num_heads=2, qk_norm=True, norm_layer=LAYER_NORM))
    with pytest.raises(NotImplementedError, match="attention with norms"):
        with_onnx_attention(other, 17)
