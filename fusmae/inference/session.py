"""An exported graph in onnxruntime: arrays in physical units in, probabilities out."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import ExportError, InputError
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

        Raises:
            InputError: no modality, an unknown one, a missing array, a wrong shape, or NaN pixels.
        """
        present = self.check(pixels, modalities)
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

    def check(self, pixels: Mapping[str, NDArray[Any]], modalities: Sequence[str] | None = None) -> tuple[str, ...]:
        """Refuse what `run` can't be given, without running it.

        Args:
            pixels: see `run`.
            modalities: see `run`.

        Returns:
            The modalities that are present, in the graph's order.

        Raises:
            InputError: see `run`.
        """
        known = self.metadata["modalities"]
        present = set(modalities) if modalities is not None else {i.modality for i in self.inputs if i.name in pixels}
        if not present or not present <= set(known):
            raise InputError(
                "A tile needs one modality at least, and known ones only.",
                got=f"modalities {sorted(present)} with arrays {sorted(pixels)}",
                expected=f"some of {known} with arrays {[item.name for item in self.inputs]}",
            )
        counts = {len(array) for array in pixels.values()}
        for item in self.inputs:
            if item.modality not in present:
                continue
            if item.name not in pixels:
                raise InputError(
                    f"Array {item.name} is missing.", got=sorted(pixels), expected=f"{item.name} {item.bands}"
                )
            shape = (len(item.bands), item.side_px, item.side_px)
            if pixels[item.name].shape[1:] != shape or len(counts) > 1:
                raise InputError(
                    f"Array {item.name} has a wrong shape.",
                    got={name: array.shape for name, array in pixels.items()},
                    expected=f"[B, {shape[0]}, {shape[1]}, {shape[2]}] with the same B in every array",
                )
            if not np.isfinite(pixels[item.name]).all():
                raise InputError(
                    f"Array {item.name} has NaN or infinite pixels.",
                    expected="finite pixels",
                    hint=f"fill them, or leave {item.modality} out",
                )
        return tuple(key for key in known if key in present)
