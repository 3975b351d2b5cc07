"""Tiny models and tiles: 4 × 4 patches of 4 px, width 16."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fusmae.models.architecture import Architecture
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from tests.sections import model_section

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


def make_architecture(**changes: Any) -> Architecture:
    """The architecture over these tiles; any of its values may be given."""
    sizes: dict[str, Any] = {"patch_px": PATCH_PX, "tile_px": TILE_PX, "groups": GROUPS}
    return Architecture(**(model_section().model_dump() | sizes | changes))


@pytest.fixture
def make_encoder() -> Callable[..., Encoder]:
    def make(drop_path: float = 0.0, **changes: Any) -> Encoder:
        return Encoder(make_architecture(**changes), drop_path=drop_path)

    return make


@pytest.fixture
def make_fusmae() -> Callable[..., FusMAE]:
    def make(**changes: Any) -> FusMAE:
        return FusMAE(make_architecture(**changes))

    return make
