"""The contrastive term: it brings the modalities' latents of one pair together (InfoNCE, van den Oord et al. 2018)."""

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
    """InfoNCE between the pooled latents of modalities, each of which is encoded alone.

    If the modalities were encoded together, they would attend to one another, and matching them would be trivial.

    Args:
        modalities: names of the modalities, two or more.
        dim: width D of the encoder. Each modality has its own projection D → D, which is used in pretraining only.
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
        """The mean loss over all couples of modalities: a float32 scalar.

        Args:
            encoder: encoder whose latents are compared.
            tiles: normalised tiles `[B, C, H, W]` by modality, two modalities or more.
            masks: masks by modality.
            gather: function that turns the rows `[B, D]` of this process into those of all processes, so that each
                row has the rows of all processes as negatives.
        """
        views = {}
        for name, tile in tiles.items():
            latents = encoder({name: tile}, {name: masks[name]})
            projected = self.projections[name](pool(latents, "mean", tuple(encoder.in_chans)))
            views[name] = gather(F.normalize(projected.float(), dim=1))
        return torch.stack([info_nce(views[one], views[other]) for one, other in combinations(views, 2)]).mean()


def info_nce(one: Tensor, other: Tensor) -> Tensor:
    """Cross-entropy of finding each row's counterpart among all rows, averaged over both directions.

    Args:
        one: rows `[B, D]`, each a vector of length 1.
        other: counterparts `[B, D]` in the same order, each a vector of length 1.

    Returns:
        A float32 scalar; guessing by chance gives log(B).
    """
    with torch.autocast(one.device.type, enabled=False):
        similarity = one @ other.T / TEMPERATURE
    truth = torch.arange(len(one), device=one.device)
    return (F.cross_entropy(similarity, truth) + F.cross_entropy(similarity.T, truth)) / 2
