"""The contrastive term: the two sensors' views of a place belong together (InfoNCE, van den Oord et al. 2018)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.models.initialise import initialise
from fusmae.models.masking import Mask

TEMPERATURE = 0.07


class Contrast(nn.Module):
    """InfoNCE between the pooled latents of modalities that are encoded each alone.

    Together in one encoder they would see one another, and matching them would be trivial.

    Args:
        modalities: names, two or more.
        dim: the encoder's width D; each modality has a projection D → D of its own, which training alone uses.
    """

    def __init__(self, modalities: Sequence[str], dim: int) -> None:
        super().__init__()
        self.projections = nn.ModuleDict({name: nn.Linear(dim, dim) for name in modalities})
        self.apply(initialise)

    def forward(
        self,
        encoder: Encoder,
        tiles: Mapping[str, Tensor],
        masks: Mapping[str, Mask],
        gather: Callable[[Tensor], Tensor] = lambda rows: rows,
    ) -> Tensor:
        """The mean loss over every two modalities, each matched with the other: a float32 scalar.

        Args:
            encoder: whose latents are compared.
            tiles: normalised `[B, C, H, W]`, two modalities or more.
            masks: what is removed, by modality.
            gather: rows `[B, D]` of this process to those of all, so that all are one another's negatives.
        """
        views = {}
        for name, tile in tiles.items():
            latents = encoder({name: tile}, {name: masks[name]})
            projected = self.projections[name](pool(latents, "mean", tuple(encoder.in_chans)))
            views[name] = gather(F.normalize(projected.float(), dim=1))
        return torch.stack([info_nce(views[one], views[other]) for one, other in combinations(views, 2)]).mean()


def info_nce(one: Tensor, other: Tensor) -> Tensor:
    """Cross-entropy of finding each row's counterpart among all rows, both ways.

    Args:
        one: `[B, D]` of length 1.
        other: `[B, D]` of length 1, counterparts in the same order.

    Returns:
        A float32 scalar, log(B) by chance.
    """
    with torch.autocast(one.device.type, enabled=False):
        similarity = one @ other.T / TEMPERATURE
    truth = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(similarity, truth) + F.cross_entropy(similarity.T, truth)) / 2
