import numpy as np
import pytest
import torch

from fusmae.inference.session import Session
from fusmae.modalities import BandGroup, BandStatistics, Modality, modality_inputs
from fusmae.models.heads import Classifier, ClassifierHead, readout_dim
from fusmae.release.export import Deployable, export_onnx, save_onnx
from fusmae.training.build import build_encoder, build_preprocess, describe_architecture, describe_preprocessing

MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")), BandGroup(gsd_m=20, bands=("B05",)))),
}
SWITCHES = {"patch_px": 8, "dim": 16, "depth": 2, "num_heads": 2, "early_fusion": True}


class Exported:
    """A tiny classifier with preprocessing, in torch and as an ONNX file."""

    def __init__(self, folder):
        torch.manual_seed(0)
        self.inputs = modality_inputs(MODALITIES, 240)
        statistics = {
            "s1": {"VV": BandStatistics(mean=-12, std=5), "VH": BandStatistics(mean=-19, std=5)},
            "s2": {band: BandStatistics(mean=900, std=400) for band in ("B02", "B03", "B05")},
        }
        self.preprocess = build_preprocess(describe_preprocessing(self.inputs, statistics))
        encoder = build_encoder(describe_architecture(SWITCHES, self.inputs))
        self.classifier = Classifier(encoder, "mean", ClassifierHead(readout_dim(encoder, "mean"), 3)).eval()
        self.path = folder / "model.onnx"
        self.metadata = {
            "inputs": [item.model_dump(mode="json") for item in self.inputs],
            "modalities": ["s1", "s2"],
            "classes": ["a", "b", "c"],
        }
        model = Deployable(self.preprocess, self.classifier, self.inputs)
        self.reference = model.reference
        graph = export_onnx(model, self.inputs, 2, opset=20)
        save_onnx(graph, self.metadata, self.path)
        self.session = Session(self.path)

    def pixels(self, count, seed=0):
        random = np.random.default_rng(seed)
        return {
            item.name: (
                random.normal(-15, 5, (count, len(item.bands), item.side_px, item.side_px)).astype(np.float32)
                if item.units == "dB"
                else random.integers(0, 3000, (count, len(item.bands), item.side_px, item.side_px)).astype(np.uint16)
            )
            for item in self.inputs
        }


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    return Exported(tmp_path_factory.mktemp("exported"))
