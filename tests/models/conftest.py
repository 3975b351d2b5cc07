"""Tiny models and tiles: 4 × 4 patches of 4 px, width 16."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE

IN_CHANS = {"s1": 2, "s2": 5}
GROUPS = {"s1": (2,), "s2": (2, 3)}
TILE_PX, PATCH_PX, NUM_PATCHES = 16, 4, 16


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def tiles() -> dict[str, Tensor]:
    """A batch of three tiles of both modalities."""
    return {name: torch.randn(3, bands, TILE_PX, TILE_PX) for name, bands in IN_CHANS.items()}


@pytest.fixture
def noise() -> dict[str, Tensor]:
    return {name: torch.rand(3, NUM_PATCHES) for name in IN_CHANS}


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    def make(**changes: Any) -> Encoder:
        settings: dict[str, Any] = {
            "in_chans": IN_CHANS,
            "tile_px": TILE_PX,
            "patch_px": PATCH_PX,
            "dim": 16,
            "depth": 2,
            "num_heads": 2,
            "early_fusion": True,
        }
        return Encoder(**(settings | changes))

    return make


@pytest.fixture
def make_fusmae() -> Callable[..., FusMAE]:
    def make(**changes: Any) -> FusMAE:
        settings: dict[str, Any] = {
            "groups": GROUPS,
            "tile_px": TILE_PX,
            "patch_px": PATCH_PX,
            "dim": 16,
            "depth": 2,
            "num_heads": 2,
            "decoder_dim": 16,
            "decoder_depth": 1,
            "decoder_num_heads": 2,
            "early_fusion": True,
            "feature_fusion": True,
            "masking": "independent",
            "mask_ratio": {"s1": 0.75, "s2": 0.75},
            "target_norm": "patch",
            "decode_fraction": 1.0,
        }
        return FusMAE(**(settings | changes))

    return make
