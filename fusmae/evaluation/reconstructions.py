"""Reconstruction pictures of a pretrained model: true, masked, predicted."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.evaluation.figures import Image, displayed, save_reconstruction
from fusmae.files import written_whole
from fusmae.modalities import BandStatistics, Modality
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint

_HIDDEN = 0.5
_NOTES = {
    True: "Visible patches are the truth. Each predicted patch has the truth's own mean and deviation: "
    "the model predicts what lies in between.",
    False: "Visible patches are the truth.",
}


@torch.no_grad()
def draw_reconstructions(
    folder: Path,
    checkpoint: Checkpoint,
    batch: Batch,
    keys: list[str],
    modalities: Mapping[str, Modality],
    warning: str = "",
) -> None:
    """Write one PNG per pair; S2 in natural colour, S1 as VV.

    Args:
        folder: folder to write, whole or not at all.
        checkpoint: checkpoint of a pretrained model that is no stack.
        batch: pairs to draw, on the CPU, not augmented.
        keys: keys of the pairs.
        modalities: modalities by key, for the order of their bands.
        warning: text that every picture must show, for example that the data are synthetic; "" for none.
    """
    model, statistics = checkpoint.autoencoder(), checkpoint.preprocessing.statistics
    model.decode_fraction, mask_ratio = 1.0, checkpoint.architecture.mask_ratio
    tiles = Preprocess(checkpoint.preprocessing)(batch.pixels)
    found = model(tiles, model.draw_masks(tiles, batch.noise))
    has_patch_term = any(model.runs.values())
    drawn = {key: model.pixels(key, found[key], tiles[key]) for key in found}
    with written_whole(folder) as partial:
        partial.mkdir()
        for row, name in enumerate(keys):
            rows: dict[str, tuple[Image, Image, Image]] = {}
            for key, modality in modalities.items():
                true = _image(tiles[key][row], modality, statistics[key])
                hidden = _hidden(found[key].mask[row], found[key].ids[row], model.patch_px, tiles[key].shape[-1])
                masked = true.copy()
                masked[hidden] = _HIDDEN
                rows[f"{key} ({modality.units})"] = (true, masked, _image(drawn[key][row], modality, statistics[key]))
            title = f"{name}; removed: {', '.join(f'{share:.0%} of {key}' for key, share in mask_ratio.items())}"
            note = f"{warning}\n{_NOTES[has_patch_term]}".strip()
            save_reconstruction(partial / f"{row:02d}_{name}.png", title, rows, note)


def _image(tile: Tensor, modality: Modality, statistics: Mapping[str, BandStatistics]) -> Image:
    known = [statistics[band] for band in modality.bands]
    pixels = [(channel * of.std + of.mean).numpy() for channel, of in zip(tile, known, strict=True)]
    return displayed(dict(zip(modality.bands, pixels, strict=True)), modality.unit)


def _hidden(mask: Tensor, ids: Tensor, patch_px: int, side_px: int) -> NDArray[np.bool_]:
    grid = torch.zeros(mask.shape[0]).scatter(0, ids, mask).reshape(side_px // patch_px, side_px // patch_px)
    return np.asarray(grid.repeat_interleave(patch_px, 0).repeat_interleave(patch_px, 1).bool())
