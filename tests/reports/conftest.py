"""What the pages show, made up without a data set."""

import numpy as np
import pytest

from fusmae.examination.observe import Band
from fusmae.inference.drift.distance import MIXTURE, NOVELTY, Drift, Measure
from fusmae.inference.drift.reference import TILE_SHARES, TRAIN_SHARES, Reference
from fusmae.inference.drift.tiles import SceneTiles
from fusmae.reports.drift import Findings

BANDS = (Band("s1", "VV", "dB"), Band("s2", "B02", "DN"))


def measure(name, modality, value, limit=1.0):
    return Measure(name, modality, value, usual=limit / 2, limit=limit)


@pytest.fixture(scope="session")
def alike():
    """Four tiles, of which one lacks S2; nothing beyond its limit."""
    embedding = np.zeros((4, 2), np.float32)
    reference = Reference(
        graph_sha256="0" * 64,
        bands=BANDS,
        train_quantiles=np.stack([-15 + 10 * TRAIN_SHARES, 200 + 3000 * TRAIN_SHARES]).astype(np.float32),
        train_std=np.array([2.5, 850], np.float32),
        train_embeddings={"s1+s2": embedding},
        validation_quantiles=np.zeros((4, 2, 32), np.float32),
        validation_embeddings={"s1+s2": embedding},
        validation_scenes=np.arange(4, dtype=np.int32),
        facts={"num_train": 1500, "num_train_kept": 1200, "tiles_per_scene": 4, "data": "made", "warning": ""},
    )
    quantiles = np.stack([-14 + 8 * TILE_SHARES, 400 + 2000 * TILE_SHARES]).astype(np.float32)[None].repeat(4, axis=0)
    quantiles[3, 1] = np.nan
    corners = np.array([[0, 0], [240, 0], [0, 240], [240, 240]])
    measures = (
        measure("VV", "s1", 0.2),
        measure("B02", "s2", 0.3),
        measure(MIXTURE, "", 0.1),
        measure(NOVELTY, "", 0.9),
    )
    novelty = np.array([0.8, 1.5, 1.1, np.nan])
    return Findings(
        Drift(measures, "s1+s2", 4, 3, 4, 1.0, 0.01, novelty),
        "",
        reference,
        SceneTiles(quantiles, embedding, ("s1+s2",) * 3 + ("s1",), corners),
        {"model": "fusmae/3", "crs": "EPSG:32633", "sources": ["s1.tif"]},
        (400_000.0, 5_300_000.0),
    )
