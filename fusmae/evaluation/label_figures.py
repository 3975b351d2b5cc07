"""Pictures of what a finetuned model predicts over test, by kind of labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import AutoLocator
from numpy.typing import NDArray
from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay

from fusmae.data.datamodule import Batch, PairDataModule
from fusmae.data.pixels import NO_CLASS
from fusmae.evaluation.figures import save_figure, tile_images
from fusmae.evaluation.scorers import MulticlassScorer, Scorer, SegmentationScorer
from fusmae.models.predictors import Predictor
from fusmae.models.preprocess import Preprocess
from fusmae.rasters.palette import class_colours

_NUM_MAPS = 4
_NUM_SCATTERED = 4000
_FEW_SCATTERED = 300
_LABEL_CHARS = 28


def draw_predictions(
    folder: Path, model: Predictor, preprocess: Preprocess, data: PairDataModule, scorer: Scorer, found: NDArray[Any]
) -> None:
    """Write the pictures of a kind to `folder`: a confusion matrix, predicted values over true ones, and maps.

    `found` has what the scorer takes of the model with every modality, `[N, …]`. There are none for `multilabel`.
    """
    warning = data.reader("test").origin.warning
    if isinstance(scorer, MulticlassScorer | SegmentationScorer):
        save_confusion(folder / "confusion.png", scorer.confusion(found), scorer.task.classes, warning)
    if model.task.is_dense:
        drawn = _predicted_maps(model, preprocess, data)
        save_maps(folder / "maps.png", model, data, drawn, warning)
        if model.scale is not None:
            true = np.concatenate([batch.maps.numpy().ravel() for batch, _ in drawn if batch.maps is not None])
            predicted = np.concatenate([values.ravel() for _, values in drawn])
            save_scatter(folder / "scatter.png", true, predicted, model, warning)
    elif model.scale is not None:
        save_scatter(folder / "scatter.png", scorer.labels[:, 0], found[:, 0], model, warning)


def save_confusion(path: Path, counts: NDArray[Any], classes: Sequence[str], warning: str = "") -> None:
    """Draw a confusion matrix `[K, K]`, each row as shares of its true class; classes that never occur are left out."""
    occurs = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
    shares = counts[np.ix_(occurs, occurs)] / np.maximum(1, counts[occurs].sum(axis=1))[:, None]
    side = 3.2 + 0.42 * len(occurs)
    figure = Figure(figsize=(side + 1.6, side), layout="constrained")
    axis = figure.subplots()
    names = [_short(classes[at]) for at in occurs.tolist()]
    shown = ConfusionMatrixDisplay(shares, display_labels=names)
    shown.plot(ax=axis, cmap="Blues", values_format=".2f", xticks_rotation=90, text_kw={"fontsize": 7}, colorbar=False)
    axis.set(title="share of each true class, whole test set", xlabel="predicted", ylabel="true")
    axis.tick_params(labelsize=8)
    figure.suptitle(warning, fontsize=9, color="firebrick")
    save_figure(figure, path)


def save_scatter(path: Path, truth: NDArray[Any], predicted: NDArray[Any], model: Predictor, warning: str = "") -> None:
    """Draw predicted values over true ones, both `[N]`; of many an evenly spaced part."""
    assert model.task.value is not None  # noqa: S101
    known = np.flatnonzero(np.isfinite(truth))
    rows = known[np.unique(np.linspace(0, len(known) - 1, min(len(known), _NUM_SCATTERED)).astype(int))]
    figure = Figure(figsize=(6, 6), layout="constrained")
    axis = figure.subplots()
    shown = PredictionErrorDisplay(y_true=truth[rows], y_pred=predicted[rows])
    style = {"alpha": 0.3, "s": 8} if len(rows) > _FEW_SCATTERED else {"alpha": 0.8, "s": 24}
    shown.plot(ax=axis, kind="actual_vs_predicted", scatter_kwargs=style)
    for side in (axis.xaxis, axis.yaxis):  # scikit-learn's ticks are no round numbers
        side.set_major_locator(AutoLocator())
    title = model.task.value.title
    axis.set(xlabel=f"predicted {title}", ylabel=f"true {title}", title=f"{len(rows):,} test {model.task.value.per}s")
    axis.grid(alpha=0.3)
    figure.suptitle(warning, fontsize=9, color="firebrick")
    save_figure(figure, path)


@torch.no_grad()
def _predicted_maps(model: Predictor, preprocess: Preprocess, data: PairDataModule) -> list[tuple[Batch, NDArray[Any]]]:
    """Some test pairs, evenly spread, one per batch, each with its predicted map `[h, w]`: class numbers or values."""
    device = next(model.parameters()).device
    found = []
    for batch in data.batches("test", data.reader("test").spread(_NUM_MAPS), 1):
        pixels = {name: array.to(device) for name, array in batch.only(data.draws.modalities).items()}
        answer = model.answer(model(preprocess(pixels)).float())[0]
        found.append((batch, (answer[0] if model.scale is not None else answer.argmax(dim=0)).cpu().numpy()))
    return found


def save_maps(
    path: Path, model: Predictor, data: PairDataModule, drawn: Sequence[tuple[Batch, NDArray[Any]]], warning: str = ""
) -> None:
    """Draw tiles of each modality beside the true and the predicted map, a row per pair."""
    reader, task = data.reader("test"), model.task
    keys = [reader.keys[int(batch.indices[0])] for batch, _ in drawn]
    images = [tile_images(batch, reader.inputs) for batch, _ in drawn]
    maps = [np.asarray(batch.maps)[0] for batch, _ in drawn if batch.maps is not None]
    columns = len(images[0]) + 2
    figure = Figure(figsize=(2.4 * columns + 1.5, 2.6 * len(drawn) + 0.8), layout="constrained")
    axes = figure.subplots(len(drawn), columns, squeeze=False)
    palette = ListedColormap([[part / 255 for part in colour] for colour in class_colours(task.classes)] or ["k"])
    values = np.concatenate([part[np.isfinite(part)] for part in maps]) if task.value is not None else np.zeros(1)
    low, high = np.percentile(values, [1, 99]).tolist()
    present: set[int] = set()
    shown = None
    for row, (key, tiles, true, (_, predicted)) in enumerate(zip(keys, images, maps, drawn, strict=True)):
        for axis, (name, image) in zip(axes[row], tiles.items(), strict=False):
            axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set_title("" if row else name, fontsize=9)
        for axis, (heading, numbers) in zip(axes[row, -2:], (("true", true), ("predicted", predicted)), strict=True):
            if task.value is not None:
                shown = axis.imshow(
                    numbers, cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), interpolation="nearest"
                )
            else:
                present |= {int(number) for number in np.unique(numbers) if number != NO_CLASS}
                masked = np.ma.masked_equal(numbers, NO_CLASS)
                axis.imshow(masked, cmap=palette, vmin=-0.5, vmax=len(task.classes) - 0.5, interpolation="nearest")
            axis.set_title("" if row else heading, fontsize=9)
        axes[row, 0].set_ylabel(_short(key), fontsize=6)
        for axis in axes[row]:
            axis.set(xticks=[], yticks=[])
    if shown is not None and task.value is not None:
        figure.colorbar(shown, ax=axes[:, -1], label=task.value.title, shrink=0.6)
    else:
        _legend(figure, task.classes, sorted(present))
    figure.suptitle(warning, fontsize=9, color="firebrick")
    save_figure(figure, path)


def _legend(figure: Any, classes: Sequence[str], present: Sequence[int]) -> None:
    from matplotlib.patches import Patch

    colours = class_colours(classes)
    edge: dict[str, Any] = {"edgecolor": "black", "linewidth": 0.4}
    patches = [
        Patch(facecolor="#{:02x}{:02x}{:02x}".format(*colours[at]), label=_short(classes[at]), **edge) for at in present
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=7, frameon=False)


def _short(name: str) -> str:
    return name if len(name) <= _LABEL_CHARS else f"{name[: _LABEL_CHARS - 1].rstrip(', ')}…"
