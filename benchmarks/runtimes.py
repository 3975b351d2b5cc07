"""Which runtimes run the exported graph at which ONNX operator set, and how far their logits are from torch's.

The quick start's finetuned model is exported for operator sets 17, 20 and 23, which stand for all (operator_sets.py).
Each runtime is installed in a folder of its own and runs each graph in a process of its own, on a batch with every
modality setting. It `runs` a graph if no logit differs from torch's by more than 1e-4. All ran on the CPU: the CUDA
provider was not measured.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from benchmarks import command_line as cli
from benchmarks.inference import noise, save_graph, trained
from fusmae.files import write_json
from fusmae.inference.session import PRESENCE, Session

OPSETS = (17, 20, 23)
MAX_ABS_ERROR = 1e-4
_SETTINGS = np.array([[1, 1], [1, 0], [0, 1]], np.float32)
# The first patch releases of a version may lack wheels; 1.17 and 1.18 need an older numpy.
RUNTIMES = {
    **{f"onnxruntime {version}": [f"onnxruntime=={version}", "numpy<2"] for version in ("1.17.3", "1.18.1")},
    **{
        f"onnxruntime {version}": [f"onnxruntime=={version}"]
        for version in ("1.19.2", "1.20.1", "1.21.1", "1.22.1", "1.23.2", "1.24.4", "1.26.0", "1.28.0", "1.31.1")
    },
    "OpenVINO 2026.4.1": ["openvino==2026.4.1"],
    "ONNX's reference evaluator 1.23.2": ["onnx==1.23.2"],
}
# Runs graphs in the runtime of one folder, and prints the largest difference of a logit, or why there is none.
_RUN = """
import json, sys
sys.path.insert(0, sys.argv[1])
import numpy
feeds = dict(numpy.load(sys.argv[2]))
expected = feeds.pop("expected")
package = {"onnxruntime": "onnxruntime", "OpenVINO": "openvino"}.get(RUNTIME, "onnx")
print(json.dumps(__import__(package).__version__))
for path in sys.argv[3:]:
    try:
        if RUNTIME == "onnxruntime":
            import onnxruntime
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            logits = session.run(["logits"], feeds)[0]
        elif RUNTIME == "OpenVINO":
            import openvino
            options = {"INFERENCE_PRECISION_HINT": "f32"}
            logits = openvino.Core().compile_model(path, "CPU", options)(feeds)["logits"]
        else:
            from onnx.reference import ReferenceEvaluator
            logits = ReferenceEvaluator(path).run(["logits"], feeds)[0]
        print(json.dumps(float(numpy.abs(logits - expected).max())))
    except Exception as error:
        print(json.dumps(" ".join(str(error).split())[:160]))
"""


def main(
    model: cli.Graph = cli.GRAPH,
    weights: cli.Weights = cli.WEIGHTS,
    folder: cli.Folder = cli.MADE / "runtimes",
    out: cli.Out = cli.RESULTS / "runtimes.json",
) -> None:
    """Try each runtime; those that the folder lacks are installed there from the package index.

    Example: python -m benchmarks.runtimes
    """
    session, eager = Session(model, 1), trained(weights)
    folder.mkdir(parents=True, exist_ok=True)
    graphs = [folder / f"{opset}.onnx" for opset in OPSETS]
    for opset, path in zip(OPSETS, graphs, strict=True):
        save_graph(eager, session, path, opset)
    pixels = noise(session, len(_SETTINGS))
    with torch.inference_mode():
        arrays = [*pixels.values(), _SETTINGS]
        expected = eager(*(torch.from_numpy(np.asarray(array, np.float32)) for array in arrays))[0].numpy()
    np.savez(folder / "feeds.npz", **pixels, **{PRESENCE: _SETTINGS}, expected=expected)
    result = {}
    for name, packages in RUNTIMES.items():
        result[name] = _tried(name, packages, folder, graphs)
        typer.echo(f"{name}: {result[name]}")
    write_json(out, {"by_runtime_and_opset": result, "max_abs_error_allowed": MAX_ABS_ERROR, **cli.measured_on()})


def _tried(name: str, packages: list[str], folder: Path, graphs: list[Path]) -> dict[str, Any]:
    """What a runtime does with each graph, by operator set."""
    (runtime, _, version), site = name.rpartition(" "), folder / name.replace(" ", "-")
    if not site.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", site, *packages], check=True)
    command = [sys.executable, "-c", f"RUNTIME = {runtime!r}\n{_RUN}", site, folder / "feeds.npz", *graphs]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    if not json.loads(printed.pop(0)).startswith(version):
        raise RuntimeError(f"{site} does not hold {name}")
    rows = {}
    for opset, line in zip(OPSETS, printed, strict=True):
        found = json.loads(line)
        is_number = isinstance(found, float)
        rows[str(opset)] = {
            "runs": is_number and found <= MAX_ABS_ERROR,
            **({"max_abs_error": found} if is_number else {"refused": found}),
        }
    return rows


if __name__ == "__main__":
    cli.run_main(main)
