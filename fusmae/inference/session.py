"""An exported graph in onnxruntime: arrays in physical units in, probabilities out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import ExportError
from fusmae.modalities import ModalityInput

PRESENCE = "presence"
METADATA_KEY = "fusmae"


class Session:
    """Runs one ONNX file; the file's own metadata says what it takes.

    Attributes:
        metadata: modalities, inputs (bands, units, gsd), tile side, classes, commit.
        inputs: the pixel arrays it takes.
    """

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        found = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if found is None:
            raise ExportError(f"{path} carries no fusmae metadata.", hint="dvc repro export")
        self.metadata: dict[str, Any] = json.loads(found)
        self.inputs = tuple(ModalityInput.model_validate(item) for item in self.metadata["inputs"])

    def run(
        self, pixels: Mapping[str, NDArray[Any]], modalities: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run a batch.

        Args:
            pixels: `[B, C, h, w]` by input name, in physical units; a missing modality's arrays may be left out.
            modalities: which are present; None for those whose arrays are given.

        Returns:
            `logits` and `probabilities`, both `[B, K]`.
        """
        present = set(modalities) if modalities is not None else {i.modality for i in self.inputs if i.name in pixels}
        batch = len(next(iter(pixels.values())))
        feeds = {
            item.name: np.asarray(pixels[item.name], np.float32)
            if item.modality in present
            else np.zeros((batch, len(item.bands), item.side_px, item.side_px), np.float32)
            for item in self.inputs
        }
        row = [float(key in present) for key in self.metadata["modalities"]]
        feeds[PRESENCE] = np.tile(np.array(row, np.float32), (batch, 1))
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, feeds), strict=True))
