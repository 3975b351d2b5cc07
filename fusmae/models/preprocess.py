"""From physical pixels to normalised tiles: a part of the model, so that the exported graph contains it."""

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fusmae.modalities import ModalityInput, Statistics, by_modality


class Preprocessing(BaseModel):
    """What `Preprocess` is built from, and what a checkpoint stores."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[ModalityInput, ...]  # descriptions of the model's input arrays, in channel order
    statistics: Statistics  # mean and standard deviation of each band, in physical units
    # Whether all modalities are stacked into one, named like `s1+s2`, with their bands in order (SatViT's channel
    # stack).
    is_stacked: bool = False
    # Whether a tile may lack resolution groups of a modality: the model learned from tiles without some of them.
    # It is stored only where it is true, so that earlier checkpoints are saved again as the same bytes.
    may_lack_groups: bool = Field(default=False, exclude_if=lambda may_lack: not may_lack)

    @property
    def tile_px(self) -> int:
        """Side of a tile on the finest grid, in pixels."""
        return max(item.side_px for item in self.inputs)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that are read, in order."""
        return tuple(by_modality(self.inputs))

    @property
    def bands(self) -> dict[str, tuple[str, ...]]:
        """Names of a tile's bands in their order, by modality; a stack is one modality."""
        bands = {
            name: tuple(band for item in items for band in item.bands)
            for name, items in by_modality(self.inputs).items()
        }
        return {"+".join(bands): sum(bands.values(), ())} if self.is_stacked else bands

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Number of bands in each band group of a tile, by modality; a stack is one modality."""
        groups = {name: tuple(len(item.bands) for item in items) for name, items in by_modality(self.inputs).items()}
        return {"+".join(groups): sum(groups.values(), ())} if self.is_stacked else groups


class Preprocess(nn.Module):
    """Standardise each band at its native resolution, then resample all bands to the finest grid."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        self.inputs, self.tile_px = preprocessing.inputs, preprocessing.tile_px
        for item in self.inputs:
            bands = [preprocessing.statistics[item.modality][band] for band in item.bands]
            means, stds = [band.mean for band in bands], [band.std for band in bands]
            scale = 1 / torch.tensor(stds, dtype=torch.float64)
            shift = -torch.tensor(means, dtype=torch.float64) * scale
            # Not persistent: a checkpoint stores statistics as named numbers, not as weights.
            for part, values in (("scale", scale), ("shift", shift)):
                self.register_buffer(f"{item.name}_{part}", values.float()[:, None, None], persistent=False)

    def forward(self, pixels: dict[str, Tensor]) -> dict[str, Tensor]:
        """Normalise the modalities in `pixels`.

        Args:
            pixels: arrays `[B, C_g, h, w]` of any number type in physical units, by input name (`s2_10m`).

        Returns:
            Tiles `[B, C, H, W]`, float32, by modality. A modality without arrays is left out; in a stack it is
            zeros, which stand for each band's mean. So are arrays that are missing, if a tile may lack some.

        Raises:
            ValueError: an array is unknown or has another shape, or a modality has only some of its arrays and needs
                all.
        """
        unknown = set(pixels) - {item.name for item in self.inputs}
        if unknown:
            raise ValueError(f"unknown arrays {sorted(unknown)}, expected {[item.name for item in self.inputs]}")
        tiles = {}
        for modality, items in by_modality(self.inputs).items():
            absent = [item.name for item in items if item.name not in pixels]
            if len(absent) == len(items):
                continue
            if absent and not self.preprocessing.may_lack_groups:
                raise ValueError(f"{modality} lacks {absent}: give all of its arrays, or none")
            given = next(pixels[item.name] for item in items if item.name in pixels)
            parts = [
                self._standardise(item, pixels[item.name]) if item.name in pixels else self._nothing(item, given)
                for item in items
            ]
            tiles[modality] = torch.cat(parts, dim=1)
        return self._stacked(tiles) if self.preprocessing.is_stacked else tiles

    def hide(self, tiles: dict[str, Tensor], present: Tensor) -> dict[str, Tensor]:
        """Tiles in which the bands of absent arrays are zeros, which stand for each band's mean.

        Args:
            tiles: normalised tiles `[B, C, H, W]` by modality; a hidden band's pixels never matter, not even NaN.
            present: `[B, G]` or `[1, G]` bool, a column for each of `inputs`.
        """
        columns = zip(self.inputs, present.unbind(1), strict=True)
        of_bands = torch.cat([column[:, None].expand(-1, len(item.bands)) for item, column in columns], dim=1)
        sizes = {name: sum(groups) for name, groups in self.preprocessing.groups.items()}
        flags = dict(zip(sizes, torch.split(of_bands, list(sizes.values()), dim=1), strict=True))
        return {name: torch.where(flags[name][..., None, None], tile, 0.0) for name, tile in tiles.items()}

    def _nothing(self, item: ModalityInput, given: Tensor) -> Tensor:
        """Zeros `[B, C_g, H, W]`, as many rows as `given`, in place of an array that is missing."""
        scale = self.get_buffer(f"{item.name}_scale")
        return scale.new_zeros(len(given), len(item.bands), self.tile_px, self.tile_px)

    def _stacked(self, tiles: dict[str, Tensor]) -> dict[str, Tensor]:
        """Stack tiles `[B, C, H, W]` by modality into one tile of all bands; a missing modality's bands are zeros."""
        given = next(iter(tiles.values()))
        bands = {name: sum(len(item.bands) for item in items) for name, items in by_modality(self.inputs).items()}
        parts = [
            tiles[name] if name in tiles else given.new_zeros(len(given), count, *given.shape[2:])
            for name, count in bands.items()
        ]
        return {"+".join(bands): torch.cat(parts, dim=1)}

    def _standardise(self, item: ModalityInput, array: Tensor) -> Tensor:
        """Bring an array `[B, C_g, h, w]` to zero mean and unit deviation on the finest grid: `[B, C_g, H, W]`."""
        expected = (len(item.bands), item.side_px, item.side_px)
        if tuple(array.shape[1:]) != expected:
            raise ValueError(f"{item.name} has shape {tuple(array.shape[1:])} (bands, height, width), not {expected}")
        scale, shift = self.get_buffer(f"{item.name}_scale"), self.get_buffer(f"{item.name}_shift")
        # Not addcmul: with one number per band it is four times slower.
        standard = (array.float() * scale).add_(shift)
        if item.side_px == self.tile_px:
            return standard
        return F.interpolate(standard, size=(self.tile_px, self.tile_px), mode="bilinear", align_corners=False)
