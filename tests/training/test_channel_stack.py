"""A rival by switches alone: one modality with all bands stacked is the plain MAE of He et al. 2022."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from torch import Tensor

from fusmae.modalities import Statistics
from fusmae.models.architecture import Architecture
from fusmae.models.fusmae import FusMAE, reconstruction_loss
from fusmae.models.preprocess import Preprocessing
from fusmae.training.reconstruction import start_pretraining
from tests.sections import model_section, pretrain_section

PATCH_PX, SIDE, BANDS = 8, 3, 7
SECTION = model_section(
    patch_px=PATCH_PX,
    depth=3,
    decoder_dim=12,
    decoder_depth=2,
    decoder_num_heads=3,
    early_fusion=False,
    feature_fusion=False,
    mask_ratio={"stack": 0.75},
)
ARCHITECTURE = Architecture(**SECTION.model_dump(), tile_px=PATCH_PX * SIDE, groups={"stack": (2, 4, 1)})
Weights = dict[str, Tensor]


def positions(dim: int) -> Tensor:
    """Sin-cos positions as MAE's `get_2d_sincos_pos_embed` makes them: column half first."""
    rows = []
    for row in range(SIDE):
        for column in range(SIDE):
            values = []
            for place in (column, row):
                angles = [place / 10_000 ** (k / (dim // 4)) for k in range(dim // 4)]
                values += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            rows.append(values)
    return torch.tensor(rows)


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def layer_norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def block(weights: Weights, name: str, x: Tensor, num_heads: int) -> Tensor:
    """One pair's tokens `[L, D]` through a pre-norm transformer block, head by head."""
    width = x.shape[-1]
    query, key, value = linear(weights, f"{name}.attn.qkv", layer_norm(weights, f"{name}.norm1", x)).split(width, -1)
    heads = []
    for head in range(num_heads):
        part = slice(head * width // num_heads, (head + 1) * width // num_heads)
        scores = query[:, part] @ key[:, part].T / math.sqrt(width // num_heads)
        attention = torch.exp(scores - scores.amax(-1, keepdim=True))
        heads.append(attention / attention.sum(-1, keepdim=True) @ value[:, part])
    x = x + linear(weights, f"{name}.attn.proj", torch.cat(heads, -1))
    hidden = linear(weights, f"{name}.mlp.fc1", layer_norm(weights, f"{name}.norm2", x))
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return x + linear(weights, f"{name}.mlp.fc2", hidden)


def reference_loss(weights: Weights, tiles: Tensor, noise: Tensor, name: str = "stack") -> float:
    """The MAE's loss, pair by pair, without timm and without any of the project's code."""
    errors = []
    for tile, draw in zip(tiles, noise, strict=True):
        patches = torch.stack(
            [
                tile[:, PATCH_PX * row : PATCH_PX * (row + 1), PATCH_PX * column : PATCH_PX * (column + 1)].flatten()
                for row in range(SIDE)
                for column in range(SIDE)
            ]
        )
        order = np.argsort(draw.numpy(), kind="stable").tolist()
        visible, removed = order[:2], order[2:]  # 9 patches less round(9 · 0.75) = 7
        tokens = linear(weights, f"encoder.embed.{name}.proj", patches[visible]) + positions(16)[visible]
        tokens = block(weights, "encoder.first_block", tokens, 2)
        tokens = torch.cat([weights["encoder.cls_token"][0], tokens])
        for at in range(2):
            tokens = block(weights, f"encoder.blocks.{at}", tokens, 2)
        latent = layer_norm(weights, "encoder.norm", tokens)[1:]
        decoded = weights[f"decoders.{name}.mask_token"][0].repeat(SIDE * SIDE, 1)
        decoded[visible] = linear(weights, f"decoders.{name}.embed", latent)
        decoded = decoded + positions(12)
        for at in range(2):
            decoded = block(weights, f"decoders.{name}.blocks.{at}", decoded, 3)
        pred = linear(weights, f"decoders.{name}.head", layer_norm(weights, f"decoders.{name}.norm", decoded))
        mean, variance = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True, correction=1)
        target = (patches - mean) / torch.sqrt(variance + 1e-6)
        errors += [((pred[at] - target[at]) ** 2).mean().item() for at in removed]
    return float(np.mean(errors))


def reference_tile(pixels: dict[str, Tensor], row: int, statistics: Statistics) -> Tensor:
    """One pair's bands on the 10 m grid, each standardised, s1's before s2's and fine ones before coarse ones."""
    bands = []
    for modality, arrays in (("s1", ("s1_10m",)), ("s2", ("s2_10m", "s2_20m", "s2_60m"))):
        moments = list(statistics[modality].values())
        native = [band for name in arrays for band in pixels[name][row].numpy().astype(np.float64)]
        for band, known in zip(native, moments, strict=True):
            standard = (band - known.mean) / known.std
            bands.append(zoom(standard, 24 / len(band), order=1, mode="nearest", grid_mode=True))
    return torch.tensor(np.stack(bands), dtype=torch.float32)


def shifted(model: torch.nn.Module) -> Weights:
    """Weights as after training: with biases of zero and norms of one, a part left out might not show."""
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return {name: tensor.detach() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("seed", [0, 1])
def test_channel_stack_equals_a_plain_mae_written_apart(seed):
    torch.manual_seed(seed)
    model = FusMAE(ARCHITECTURE)
    weights = shifted(model)
    tiles, noise = torch.randn(3, BANDS, 24, 24) * 2 + 1, torch.rand(3, 9)
    masks = model.draw_masks({"stack": tiles}, {"stack": noise})
    found = reconstruction_loss(model({"stack": tiles}, masks)["stack"]).item()
    assert found == pytest.approx(reference_loss(weights, tiles, noise), rel=1e-5)
    moved = weights | {"encoder.blocks.1.mlp.fc2.weight": weights["encoder.blocks.1.mlp.fc2.weight"] * 3}
    assert found != pytest.approx(reference_loss(moved, tiles, noise), rel=1e-5)


def test_stacked_pixels_of_two_modalities_cost_what_a_plain_mae_written_apart_says(inputs, statistics, make_data):
    """From shards as stored to the loss that is trained on: upsampling and all."""
    section = SECTION.model_copy(update={"mask_ratio": {"s1": 0.75, "s2": 0.5}})
    preprocessing = Preprocessing(inputs=inputs, statistics=statistics, is_stacked=True)
    module, start = start_pretraining(section, preprocessing, pretrain_section(), seed=0)
    weights = shifted(module.model)
    batch = make_data(modalities=tuple(start.architecture.groups)).first("train", 4)
    found = module.training_step(batch, 0).item()
    tiles = torch.stack([reference_tile(batch.pixels, row, statistics) for row in range(4)])
    assert found == pytest.approx(reference_loss(weights, tiles, batch.noise["s1+s2"], "s1+s2"), rel=1e-4)
    turned = tiles[:, [1, 0, 2, 3, 4, 5, 6]]
    assert found != pytest.approx(reference_loss(weights, turned, batch.noise["s1+s2"], "s1+s2"), rel=1e-3)
