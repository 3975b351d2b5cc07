"""Rivals with random weights on a batch of two small tiles."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from fusmae.modalities import modality_inputs
from fusmae.rivals.backbones import RIVALS, Rival
from tests.rivals.tiles import BIGEARTHNET, TILE_M, draw, make, statistics_of


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums on several threads may round differently: features of a whole module, too, are made on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shallow() -> Iterator[None]:
    """torchgeo's base models with few blocks, which is all that what goes in and comes out needs."""
    import torchgeo.models

    few = {"embed_dim": 768, "depth": 1, "num_heads": 12}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torchgeo.models, "croma_base", partial(torchgeo.models.CROMA, encoder_depth=2))
        patch.setattr(torchgeo.models, "dofa_base_patch16_224", partial(torchgeo.models.DOFA, **few))
        patch.setattr(torchgeo.models, "copernicusfm_base", partial(torchgeo.models.CopernicusFM, **few))
        yield


@pytest.fixture(scope="module", params=RIVALS)
def rival(shallow: None, request: pytest.FixtureRequest) -> Rival:
    return make(request.param)


@pytest.fixture(scope="module")
def pixels() -> dict[str, Tensor]:
    inputs = modality_inputs(BIGEARTHNET, TILE_M)
    return draw(inputs, statistics_of(inputs))


@pytest.fixture(scope="module")
def features(rival: Rival, pixels: dict[str, Tensor]) -> dict[tuple[str, ...], Tensor]:
    """By setting."""
    return {setting: rival.features(pixels, setting) for setting in (("s1", "s2"), ("s1",), ("s2",))}
