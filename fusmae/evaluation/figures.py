"""Figures: reconstructions, tiles and precision-recall curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from fusmae.data.datamodule import Batch
from fusmae.files import written_whole
from fusmae.modalities import BandStatistics, Modality, ModalityInput, by_modality
from fusmae.models.preprocess import Preprocess
from fusmae.training.checkpoint import Checkpoint
from fusmae.units import Unit

Image = NDArray[np.float32]
NATURAL_COLOUR = ("B04", "B03", "B02")

_HIDDEN = 0.5
_NOTES = {
    True: "Visible patches are the truth. Each predicted patch has the truth's own mean and deviation: "
    "the model predicts what lies in between.",
    False: "Visible patches are the truth.",
}


def displayed(bands: Mapping[str, NDArray[Any]], unit: Unit) -> Image:
    """Turn bands `[H, W]` into an image in 0..1: `[H, W, 3]` in natural colour, or else `[H, W]` of VV or one band.

    The unit states which values are shown as black and as white.
    """
    low, high = unit.shown
    if all(name in bands for name in NATURAL_COLOUR):
        shown = np.stack([bands[name] for name in NATURAL_COLOUR], axis=-1)
    else:
        shown = bands["VV"] if "VV" in bands else next(iter(bands.values()))
    return np.clip((shown - low) / (high - low), 0, 1).astype(np.float32)


def tile_images(batch: Batch, inputs: Sequence[ModalityInput]) -> dict[str, Image]:
    """The first tile of a batch as an image per modality, from the bands of its finest resolution."""
    images = {}
    for modality, items in by_modality(inputs).items():
        finest = min(items, key=lambda item: item.gsd_m)
        pixels = batch.pixels[finest.name][0].numpy()
        images[modality] = displayed(dict(zip(finest.bands, pixels, strict=True)), finest.unit)
    return images


@torch.no_grad()
def draw_reconstructions(
    folder: Path, checkpoint: Checkpoint, batch: Batch, keys: list[str], modalities: Mapping[str, Modality], note: str
) -> None:
    """Write one PNG per pair to `folder`, whole or not at all; S2 in natural colour, S1 as VV.

    The checkpoint is of a pretrained model that is no stack, the batch on the CPU and not augmented; `keys` name its
    pairs. Every picture shows the note, for example that the data are synthetic.
    """
    model, statistics = checkpoint.autoencoder(), checkpoint.preprocessing.statistics
    shares = ", ".join(f"{share:.0%} of {key}" for key, share in checkpoint.architecture.mask_ratio.items())
    tiles = Preprocess(checkpoint.preprocessing)(batch.pixels)
    found = model(tiles, model.draw_masks(tiles, batch.noise), decode_fraction=1.0)
    note = f"{note}\n{_NOTES[any(model.runs.values())]}".strip()
    drawn = {key: model.pixels(key, found[key], tiles[key]) for key in found}
    with written_whole(folder) as partial:
        partial.mkdir()
        for row, name in enumerate(keys):
            rows: dict[str, dict[str, Image]] = {}
            for key, modality in modalities.items():
                true, predicted = (_image(of[key][row], modality, statistics[key]) for of in (tiles, drawn))
                masked = true.copy()
                masked[_hidden(found[key].mask[row], found[key].ids[row], model.patch_px, len(true))] = _HIDDEN
                rows[f"{key} ({modality.units})"] = {"true": true, "masked": masked, "predicted": predicted}
            title = f"{name}; removed: {shares}"
            save_images(partial / f"{row:02d}_{name}.png", title, rows, note, (9, 3.1 * len(rows) + 0.5), 10)


def _image(tile: Tensor, modality: Modality, statistics: Mapping[str, BandStatistics]) -> Image:
    known = [statistics[band] for band in modality.bands]
    pixels = [(channel * of.std + of.mean).numpy() for channel, of in zip(tile, known, strict=True)]
    return displayed(dict(zip(modality.bands, pixels, strict=True)), modality.unit)


def _hidden(mask: Tensor, ids: Tensor, patch_px: int, side_px: int) -> NDArray[np.bool_]:
    grid = torch.zeros(mask.shape[0]).scatter(0, ids, mask).reshape(side_px // patch_px, side_px // patch_px)
    return np.asarray(grid.repeat_interleave(patch_px, 0).repeat_interleave(patch_px, 1).bool())


def save_images(
    path: Path,
    title: str,
    rows: Mapping[str, Mapping[str, Image]],
    note: str,
    inches: tuple[float, float],
    title_size: int,
) -> None:
    """Draw images (from `displayed`, by row label and heading) as a PNG, with a title above and a note below."""
    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.subplots(len(rows), len(next(iter(rows.values()))), squeeze=False)
    figure.suptitle(title, fontsize=title_size)
    figure.supxlabel(note, fontsize=8)
    for row, (label, images) in enumerate(rows.items()):
        axes[row][0].set_ylabel(label)
        for axis, (heading, image) in zip(axes[row], images.items(), strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[], title="" if row else heading)
    save_figure(figure, path)


def save_precision_recall(path: Path, curves: Mapping[str, Sequence[Mapping[str, float]]], warning: str = "") -> None:
    """Draw micro-averaged precision-recall curves as a PNG, one per row of the metrics table.

    Points have `recall` and `precision`; the warning stands above the curves.
    """
    figure = Figure(figsize=(7, 5), layout="constrained")
    axis = figure.subplots()
    for name, points in curves.items():
        style = "--" if "random" in name else "-"
        axis.step([p["recall"] for p in points], [p["precision"] for p in points], style, where="post", label=name)
    axis.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="micro-averaged, whole test set")
    axis.legend(fontsize=7)
    figure.suptitle(warning, fontsize=9, color="firebrick")
    axis.grid(alpha=0.3)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure of matplotlib as a PNG, whole or not at all."""
    with written_whole(path) as partial:
        figure.savefig(partial, dpi=110, format="png")
