"""An encoder as a function from pixels to features: of a checkpoint, a registered version or an ONNX file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from fusmae.errors import CheckpointError, ConfigError, ExportError, InputError
from fusmae.inference.session import EMBEDDING, Session, check_arrays
from fusmae.modalities import ModalityInput, by_modality
from fusmae.release.registry.model_file import REFERENCE, model_file

if TYPE_CHECKING:
    from fusmae.training.checkpoint import Checkpoint

Array = Any
"""A numpy array or a torch tensor."""
Given = Array | Mapping[int, Array]
"""A modality's pixels: all bands in one array, or an array per ground sampling distance in metres."""


def load(reference: str | Path, *, device: str = "cpu") -> "Embedder":
    """Open an encoder.

    Args:
        reference: folder of a checkpoint (`models/pretrain/pretrained`), registered version or alias
            (`models:/fusmae@champion`, `fusmae/3`), or path of an ONNX file.
        device: `cpu`, `cuda`, or `auto` for a GPU where one can be used; a checkpoint takes any name that torch knows.

    Raises:
        CheckpointError: there is no such folder, or it has no checkpoint, or a damaged one.
        ConfigError: the device is not there, or can't be used.
        RegistryError: there is no such file, version or alias, or the registry does not answer.
        ExportError: the ONNX file is not from this project, was changed, or gives no embedding.
    """
    if Path(reference).is_dir():
        from fusmae.training.checkpoint import load_checkpoint

        return CheckpointEmbedder(load_checkpoint(Path(reference)), device)
    if not (str(reference).endswith(".onnx") or REFERENCE.fullmatch(str(reference))):
        raise CheckpointError(
            f"There is no folder {reference}.",
            expected="the folder of a checkpoint, NAME@ALIAS, NAME/VERSION, or a file that ends in .onnx",
            hint="dvc repro pretrain",
        )
    found = model_file(str(reference))
    return GraphEmbedder(Session(found.path, device=device), found.label)


class Embedder(ABC):
    """Features of tiles."""

    label: str  # name of the model: a checkpoint's folder, `fusmae/3`, or a file
    inputs: tuple[ModalityInput, ...]  # arrays that the model takes: bands, units, ground sampling distance, side
    dim: int  # number of features D of a tile
    may_lack_groups: bool  # whether some of a modality's resolutions are enough

    @property
    def modalities(self) -> dict[str, tuple[str, ...]]:
        """Bands by modality, in the order in which `embed` takes them."""
        items = by_modality(self.inputs)
        return {name: sum((item.bands for item in of_name), ()) for name, of_name in items.items()}

    @overload
    def embed(self, *, tokens: Literal[False] = False, **modalities: Given) -> Array: ...
    @overload
    def embed(self, *, tokens: Literal[True], **modalities: Given) -> tuple[Array, dict[str, Array]]: ...

    def embed(self, *, tokens: bool = False, **modalities: Given) -> Array | tuple[Array, dict[str, Array]]:
        """Features of one tile, or of a batch of tiles.

        Args:
            tokens: whether to return the features of each patch, too.
            modalities: pixels by modality, as in `embed(s1=…, s2=…)`, in physical units; a modality that is missing is
                left out. An array is `[C, H, W]` or `[B, C, H, W]`, with all bands of `modalities` on the finest grid;
                coarser bands are averaged to their own grid. To give bands on their own grids, pass a mapping from the
                ground sampling distance in metres to an array: `s2={10: …, 20: …, 60: …}`. Some of them may be missing
                if the model learned from such tiles (`may_lack_groups`).

        Returns:
            Features `[D]` of one tile or `[B, D]`, float32: numpy arrays for numpy arrays, tensors for tensors. With
            `tokens` also, by modality, those of the grid of patches: `[h, w, D']` or `[B, h, w, D']`.

        Raises:
            InputError: there is no modality, one is unknown, or an array has a wrong shape or no finite pixels.
            ExportError: `tokens` of a graph, which gives none.
        """
        arrays, is_single = self._arrays(modalities)
        vectors, by_modality = self._run(arrays, tokens)
        like = next(iter(arrays.values()))
        made = {name: _like(like, found) for name, found in {"": vectors, **by_modality}.items()}
        made = {name: found[0] if is_single else found for name, found in made.items()}
        vector = made.pop("")
        return (vector, made) if tokens else vector

    @abstractmethod
    def _run(self, arrays: dict[str, Array], tokens: bool) -> tuple[Array, dict[str, Array]]:
        """Features `[B, D]`, and tokens `[B, h, w, D']` by modality, of float32 arrays `[B, C, h, w]` by input name."""

    def _arrays(self, given: Mapping[str, Given]) -> tuple[dict[str, Array], bool]:
        """Arrays `[B, C, h, w]` by input name, and whether one tile was given without the dimension of a batch."""
        if not given or not set(given) <= set(self.modalities):
            raise InputError(
                f"{self.label} takes one modality or more of those that it was trained on.",
                got=list(given) or "none",
                expected=f"some of {list(self.modalities)}",
            )
        arrays: dict[str, Array] = {}
        for modality, value in given.items():
            items = by_modality(self.inputs)[modality]
            if isinstance(value, Mapping):
                arrays |= _by_gsd(items, value, may_lack_groups=self.may_lack_groups)
            else:
                arrays |= _from_finest(items, value)
        return _as_batch(arrays)


class CheckpointEmbedder(Embedder):
    """The encoder of a checkpoint, in torch.

    Features are pooled as the checkpoint's head takes them; without a head, they are the mean over all tokens.
    """

    def __init__(self, checkpoint: "Checkpoint", device: str) -> None:
        import torch

        from fusmae.evaluation.features import CheckpointEncoder
        from fusmae.models.heads import readout_dim
        from fusmae.models.tokens import grid_side
        from fusmae.runs.device import device_of

        try:
            self._device = torch.empty(0, device=device_of(device) if device == "auto" else device).device
        except (RuntimeError, AssertionError) as error:  # AssertionError where torch was built without CUDA
            raise ConfigError(
                f"torch can't use the device {device!r}.",
                got=str(error).splitlines()[0],
                expected="auto, cpu, or a device of this machine",
                hint="fusmae doctor shows the GPUs that torch sees",
            ) from error
        architecture = checkpoint.architecture
        self.label, self.inputs = checkpoint.where, checkpoint.preprocessing.inputs
        self.may_lack_groups = checkpoint.preprocessing.may_lack_groups
        self._model = CheckpointEncoder(checkpoint, architecture.readout or "mean").to(self._device)
        self._grid = (grid_side(architecture.tile_px, architecture.patch_px),) * 2
        self.dim = readout_dim(architecture, self._model.readout)

    def _run(self, arrays: dict[str, Array], tokens: bool) -> tuple[Array, dict[str, Array]]:
        import torch

        check_arrays(self.inputs, arrays, may_lack_groups=self.may_lack_groups)
        latents = self._model.latents(
            {name: torch.as_tensor(array, device=self._device) for name, array in arrays.items()}
        )
        found = {name: own.float().reshape(len(own), *self._grid, -1) for name, own in latents.tokens.items()}
        return self._model.pooled(latents), found if tokens else {}


class GraphEmbedder(Embedder):
    """An exported graph, in onnxruntime."""

    def __init__(self, session: Session, label: str) -> None:
        session.require_embedding(label)
        self.label, self.inputs, self.dim, self._session = label, session.inputs, session.embedding_dim, session
        self.may_lack_groups = bool(session.groups)

    def _run(self, arrays: dict[str, Array], tokens: bool) -> tuple[Array, dict[str, Array]]:
        if tokens and not self._session.tokens:
            raise ExportError(
                f"{self.label} is the graph of a finetuned model, which gives no tokens.",
                expected="an encoder: its graph, or the folder of a checkpoint",
                hint='fusmae.load("fusmae-encoder@challenger"), or fusmae.load("models/finetune/pretrained")',
            )
        present = {item.modality for item in self.inputs if item.name in arrays}
        outputs = {name: output for name, output in self._session.tokens.items() if tokens and name in present}
        pixels = {name: _as_numpy(array) for name, array in arrays.items()}
        found = self._session.run(pixels, outputs=[EMBEDDING, *outputs.values()])
        return found[EMBEDDING], {name: found[output] for name, output in outputs.items()}


def _by_gsd(items: Sequence[ModalityInput], value: Mapping[int, Array], *, may_lack_groups: bool) -> dict[str, Array]:
    known = {item.gsd_m for item in items}
    if not value or not set(value) <= known or (set(value) != known and not may_lack_groups):
        raise InputError(
            f"{items[0].modality} has other ground sampling distances.",
            got=sorted(value),
            expected={item.gsd_m: list(item.bands) for item in items},
        )
    return {item.name: _as_float(value[item.gsd_m]) for item in items if item.gsd_m in value}


def _from_finest(items: Sequence[ModalityInput], value: Array) -> dict[str, Array]:
    """Cut an array of all bands on the finest grid into one per resolution; coarse pixels are means of fine ones."""
    array, side = _as_float(value), max(item.side_px for item in items)
    expected = (sum(len(item.bands) for item in items), side, side)
    if tuple(array.shape[-3:]) != expected:
        bands = ", ".join(band for item in items for band in item.bands)
        raise InputError(
            f"The array of {items[0].modality} has a wrong shape.",
            got=tuple(array.shape),
            expected=f"{list(expected)} or [B, {', '.join(map(str, expected))}]: {bands}",
        )
    arrays, start = {}, 0
    for item in items:
        bands, fine = array[..., start : start + len(item.bands), :, :], side // item.side_px
        start += len(item.bands)
        blocks = bands.reshape(*bands.shape[:-2], item.side_px, fine, item.side_px, fine)
        arrays[item.name] = blocks.mean((-3, -1)) if fine > 1 else bands
    return arrays


def _as_batch(arrays: dict[str, Array]) -> tuple[dict[str, Array], bool]:
    """Arrays with the dimension of a batch, and whether all of them lacked it."""
    is_single = all(array.ndim == 3 for array in arrays.values())
    return {name: array[None] if is_single else array for name, array in arrays.items()}, is_single


def _as_float(array: Array) -> Array:
    """Float32, as a tensor if it is one."""
    return array.float() if hasattr(array, "float") else np.asarray(array, np.float32)


def _as_numpy(array: Array) -> Array:
    return array.numpy(force=True) if hasattr(array, "numpy") else array


def _like(given: Array, found: Array) -> Array:
    """Results in the kind of array that was given, and on its device."""
    if not hasattr(given, "device") or isinstance(given, np.ndarray):
        return _as_numpy(found)
    import torch

    return torch.as_tensor(found, device=given.device)
