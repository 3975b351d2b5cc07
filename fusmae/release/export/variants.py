"""Writes variants of an exported graph at lower precision, with the same inputs, outputs and metadata."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from fusmae.data.randomness import Purpose, generator
from fusmae.data.shards import ShardReader
from fusmae.errors import ExportError
from fusmae.files import file_sha256
from fusmae.inference.session import PRESENCE, Session
from fusmae.release.export.onnx_file import save_onnx

Precision = Literal["fp32", "fp16", "int8"]
Feeds = Mapping[str, NDArray[np.float32]]

CALIBRATION = (
    "MinMax over activations of real pairs of train, each in every modality setting; activations uint8 per tensor, "
    "weights int8 per channel, 7 bits of it; patch embedding, attention products, norms and head fp32"
)
HALVES = (
    "weights and activations fp16; pixels up to the patch embedding, norms, attention products, pooling and head fp32"
)

# Operators with sums over many values or exponentials, in which half floats lose digits or overflow (65,504).
_FULL_PRECISION = ("LayerNormalization", "Attention", "MatMul", "Softmax", "ReduceSum", "Sigmoid", "Conv")


def make_variants(
    source: Path, train: ShardReader, folder: Path, *, num_pairs: int, seed: int
) -> dict[Precision, Path]:
    """Write each variant of the graph `source` to a folder: the same inputs, outputs and metadata, other precision.

    At most `num_pairs` pairs of train, drawn by the seed, calibrate.

    Returns:
        Paths of the files by precision; the same arguments give the same bytes.

    Raises:
        ExportError: the graph is not from this project's exporter.
    """
    import onnx

    session, origin = Session(source), {"onnx_sha256": file_sha256(source)}
    drawn = generator(seed, Purpose.ORDER, 0).permutation(len(train))[:num_pairs].tolist()
    calibrated = {"method": CALIBRATION, "calibration_pairs": sorted(train.keys[index] for index in drawn)}
    made: dict[Precision, tuple[Any, dict[str, Any]]] = {
        "fp16": (_half_precision(onnx.load(source)), {"method": HALVES}),
        "int8": (_quantised(onnx.load(source), _calibration(session, train, drawn)), calibrated),
    }
    for precision, (graph, how) in made.items():
        metadata = {**session.metadata, "precision": precision, "variant_of": origin | how}
        save_onnx(graph, metadata, folder / f"{precision}.onnx")
    return {precision: folder / f"{precision}.onnx" for precision in made}


def _calibration(session: Session, train: ShardReader, indices: Sequence[int]) -> Iterator[Feeds]:
    """Yield each pair once in every modality setting: activations depend on the modalities that are present."""
    known = session.metadata["modalities"]
    presence = np.array([[name in setting for name in known] for setting in session.settings], np.float32)
    for index in track(indices, description="calibration pairs", console=Console(stderr=True)):
        pixels = train.read([index])
        feeds = {name: np.repeat(array.astype(np.float32), len(presence), axis=0) for name, array in pixels.items()}
        yield {**feeds, PRESENCE: presence}


def _half_precision(graph: Any) -> Any:
    """The `onnx.ModelProto` with weights and activations as half floats; its inputs and outputs stay float32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST
    from onnxruntime.transformers.onnx_model import OnnxModel

    nodes = graph.graph.node
    masks = {node.input[3] for node in nodes if node.op_type == "Attention" and len(node.input) > 3}
    kept = [
        # A half float has 11 significant bits: a DN of 10,001 would become 10,000, and one of 65,535 infinite.
        *_nodes_up_to(graph, _linear_layers(graph, r"\.embed\.")),
        # The converter can't cast a mask that several nodes use.
        *_nodes_up_to(graph, [node for node in nodes if masks & set(node.output)]),
        *_score_nodes(graph),
        *(node.name for node in _linear_layers(graph, r"\.head\.")),
    ]
    _give_own_constants(graph, kept)
    with _quiet():
        model = OnnxModel(graph)
        model.convert_float_to_float16(
            use_symbolic_shape_infer=False,  # the exporter has written every shape
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *_FULL_PRECISION],
            node_block_list=kept,
        )
        # The converter casts a value again for each node that takes it in full precision, by the same name.
        nodes = list({tuple(node.output): node for node in model.model.graph.node}.values())
        del model.model.graph.node[:]
        model.model.graph.node.extend(nodes)
        model.topological_sort()
    # The converter leaves types of values that it has removed.
    del model.model.graph.value_info[:]
    return model.model


def _give_own_constants(graph: Any, names: Iterable[str]) -> None:
    """Copy constants of the named nodes that other nodes share: the converter would cast a shared one twice."""
    constants, chosen = {item.name: item for item in graph.graph.initializer}, set(names)
    # The exporter lists constants' types among those of activations, and the converter takes them for activations.
    activations = [item for item in graph.graph.value_info if item.name not in constants]
    del graph.graph.value_info[:]
    graph.graph.value_info.extend(activations)
    shared = {name for node in graph.graph.node if node.name not in chosen for name in node.input if name in constants}
    for node in graph.graph.node:
        for at, name in enumerate(node.input):
            if node.name in chosen and name in shared:
                own = graph.graph.initializer.add()
                own.CopyFrom(constants[name])
                own.name = node.input[at] = f"{name}_of_{node.name}"


def _quantised(graph: Any, feeds: Iterator[Feeds]) -> Any:
    """The `onnx.ModelProto` with the encoder's linear layers in 8-bit integers, calibrated on one item per call."""
    import onnx
    from onnxruntime import quantization as ort

    class Reader(ort.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> Feeds | None:
            return next(feeds, None)

    # The patch embedding stays fp32: standardised pixels have long tails (a cloud is 20 standard deviations from a
    # field), and one scale for all would leave few steps for a field. The head stays fp32, too: its few products decide
    # the result and take hardly any time.
    chosen = [node.name for node in _linear_layers(graph, r"^classifier\.encoder\.(?!embed\.)")]
    with TemporaryDirectory(prefix="fusmae-") as folder, _quiet():
        path = Path(folder) / "model.onnx"
        ort.quantize_static(
            graph,
            path,
            Reader(),
            quant_format=ort.QuantFormat.QDQ,
            op_types_to_quantize=["Gemm"],
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            # With 8 bits, CPUs without VNNI add products in 16 bits and saturate: results would depend on the machine.
            reduce_range=True,
            # MinMax stores two numbers per tensor; histograms would store every activation of every pair.
            calibrate_method=ort.CalibrationMethod.MinMax,
            # Residuals are summed over all blocks; if each were rounded, the errors would add up.
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )
        return onnx.load(path)


def _linear_layers(graph: Any, pattern: str) -> list[Any]:
    """Nodes that multiply by a weight whose name has this pattern."""
    weights = {item.name for item in graph.graph.initializer if re.search(pattern, item.name)}
    found = [node for node in graph.graph.node if node.op_type == "Gemm" and node.input[1] in weights]
    if not found:
        raise ExportError(
            "The graph is not by this version's exporter: its layers have other names.",
            expected=f"Gemms with weights whose names have the pattern {pattern}",
            hint="dvc repro export",
        )
    return found


def _score_nodes(graph: Any) -> list[str]:
    """Names of the nodes after the product up to softmax, in attention of plain products: halves can overflow there."""
    maker = {name: node for node in graph.graph.node for name in node.output}
    answers = {item.name for item in graph.graph.output}
    found = []
    for node in graph.graph.node:
        if node.op_type == "Softmax" and not answers & set(node.output):
            while node.op_type != "MatMul":
                found.append(node.name)
                node = maker[node.input[0]]
    return found


def _nodes_up_to(graph: Any, waiting: list[Any]) -> list[str]:
    """Names of these nodes and of all that they depend on."""
    maker = {name: node for node in graph.graph.node for name in node.output}
    found: dict[str, None] = {}  # keeps the order; a set's order changes from process to process
    while waiting:
        node = waiting.pop()
        found[node.name] = None
        waiting += [maker[name] for name in node.input if name in maker and maker[name].name not in found]
    return list(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the tools' messages: they advise to infer shapes and fold constants, which the exporter has done."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.root.setLevel(before)
