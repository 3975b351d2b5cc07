"""Graphs of every kind, made by hand over the tiny model's inputs: what they answer follows from VV and VH alone."""

from onnx import TensorProto, helper

from fusmae.config.task import Task, Value
from fusmae.release.export.onnx_file import save_onnx

CLASSES = ("vv", "vh", "neither")
BIOMASS = {"name": "biomass", "unit": "t/ha", "min": 0.0}
SIDE_PX = 24

TASKS = {
    "multiclass": Task(kind="multiclass", classes=CLASSES),
    "segmentation": Task(kind="segmentation", classes=CLASSES),
    "value_map": Task(kind="regression", value=Value(per="pixel", **BIOMASS)),
    "value": Task(kind="regression", value=Value(**BIOMASS)),
}
# Each answer by operator, its input and its name. `pixels` are VV, VH and -12 dB of each pixel, `[B, 3, h, w]`, and
# `tile` their means; `value_of_pixels` is VV + 40, and `value_of_tile` its mean.
_ANSWERS = {
    "multiclass": [("Identity", "tile", "logits"), ("Softmax", "tile", "probabilities")],
    "segmentation": [("Softmax", "pixels", "map")],
    "value_map": [("Identity", "value_of_pixels", "value")],
    "value": [("Identity", "value_of_tile", "value")],
}
_SHAPES = {"map": (3, SIDE_PX, SIDE_PX), "logits": (3,), "probabilities": (3,), "embedding": (2,)}


def save_graph(kind, inputs, path):
    """Write a graph of a kind."""
    task = TASKS[kind]

    def array(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])

    def constant(name, values, data_type=TensorProto.FLOAT):
        return helper.make_tensor(name, data_type, [len(values)], values)

    axes = {"axes": [2, 3], "keepdims": 0}
    nodes = [
        helper.make_node("Split", ["s1_10m"], ["vv", "vh"], axis=1),
        helper.make_node("Mul", ["vv", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "dark"], ["neither"]),
        helper.make_node("Concat", ["vv", "vh", "neither"], ["pixels"], axis=1),
        helper.make_node("ReduceMean", ["pixels"], ["tile"], **axes),
        helper.make_node("Add", ["vv", "forty"], ["value_of_pixels"]),
        helper.make_node("ReduceMean", ["value_of_pixels"], ["value_of_tile"], **axes),
        helper.make_node("ReduceMean", ["s1_10m"], ["embedding"], **axes),
    ]
    nodes += [
        helper.make_node(operator, [source], [name], **({"axis": 1} if operator == "Softmax" else {}))
        for operator, source, name in _ANSWERS[kind]
    ]
    names = [*(name for _, _, name in _ANSWERS[kind]), "embedding"]
    shapes = _SHAPES | {"value": (1, SIDE_PX, SIDE_PX) if task.is_dense else (1,)}
    graph = helper.make_graph(
        nodes,
        kind,
        [*(array(i.name, (len(i.bands), i.side_px, i.side_px)) for i in inputs), array("presence", (2,))],
        [array(name, shapes[name]) for name in names],
        [constant("zero", [0.0]), constant("dark", [-12.0]), constant("forty", [40.0])],
    )
    metadata = {
        "inputs": [item.model_dump(mode="json") for item in inputs],
        "modalities": ["s1", "s2"],
        "classes": list(task.classes),
        "task": task.model_dump(mode="json"),
    }
    save_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), metadata, path)
    return path
