"""Not a module's mirror: preprocess and classifier must go through torch.onnx.export together."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from fusmae.config.task import Task
from fusmae.config.training import Readout
from fusmae.modalities import BandGroup, BandStatistics, Modality, modality_inputs
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ClassifierHead, ProbeHead, readout_dim
from fusmae.models.predictors import TilePredictor
from tests.sections import architecture_of, preprocess_of

MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02",)), BandGroup(gsd_m=20, bands=("B05", "B11")))),
}
INPUTS = modality_inputs(MODALITIES, tile_m=160)


STATISTICS = {
    name: {band: BandStatistics(mean=1.0, std=2.0) for band in modality.bands} for name, modality in MODALITIES.items()
}


class _Served(nn.Module):
    def __init__(self, early_fusion: bool, readout: Readout, head: type[nn.Module]) -> None:
        super().__init__()
        self.preprocess = preprocess_of(INPUTS, STATISTICS)
        changes = {"patch_px": 4, "dim": 32, "early_fusion": early_fusion}
        encoder = Encoder(architecture_of(self.preprocess.preprocessing, **changes))
        self.classifier = TilePredictor(Task(), encoder, readout, head(readout_dim(encoder, readout), 5))

    def forward(self, s1_10m: Tensor, s2_10m: Tensor, s2_20m: Tensor, presence: Tensor) -> Tensor:
        tiles = self.preprocess({"s1_10m": s1_10m, "s2_10m": s2_10m, "s2_20m": s2_20m})
        return self.classifier(tiles, presence)


def _served(early_fusion: bool, readout: Readout, head: type[nn.Module]) -> _Served:
    return _Served(early_fusion, readout, head).eval()


def _inputs(batch: int) -> dict[str, Tensor]:
    arrays = {item.name: torch.randn(batch, len(item.bands), item.side_px, item.side_px) for item in INPUTS}
    choices = torch.tensor([[True, True], [False, True], [True, False]])
    presence = choices[torch.arange(batch) % 3]
    arrays["s1_10m"][~presence[:, 0]] = torch.nan
    arrays["s2_20m"][~presence[:, 1]] = torch.inf
    return arrays | {"presence": presence}


@pytest.mark.parametrize(
    ("early_fusion", "readout", "head"),
    [(True, "mean", ClassifierHead), (False, "concat", ProbeHead), (True, "spread", ProbeHead)],
)
def test_exported_graph_agrees_with_torch_at_any_batch_size(
    tmp_path: Path, early_fusion: bool, readout: Readout, head: type[nn.Module]
) -> None:
    served, path = _served(early_fusion, readout, head), tmp_path / "model.onnx"
    example, batch = _inputs(2), torch.export.Dim("batch")
    torch.onnx.export(
        served,
        kwargs=example,
        f=path,
        dynamo=True,
        dynamic_shapes={name: {0: batch} for name in example},
        output_names=["logits"],
        verbose=False,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {item.name: item.shape[0] for item in session.get_inputs()} == dict.fromkeys(example, "batch")
    for size in (1, 3, 8):
        inputs = _inputs(size)
        with torch.inference_mode():
            expected = served(**inputs).numpy()
        (logits,) = session.run(None, {name: array.numpy() for name, array in inputs.items()})
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(logits, expected, atol=1e-4)
