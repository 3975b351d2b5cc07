"""Rivals differ in their cue and in nothing else that a mean or a single sensor could show."""

import numpy as np
import pytest

from fusmae.sources.synthetic.landscape import COVERS, Surface, build
from fusmae.sources.synthetic.materials import MATERIAL_IDS, backscatter_db, reflectance

SHAPE = (100, 100)
NUM_REGIONS = 60

MOORS, SHRUB = "Moors, heathland and sclerophyllous vegetation", "Transitional woodland, shrub"
BROAD, CONIFEROUS = "Broad-leaved forest", "Coniferous forest"
AGROFORESTRY = "Agro-forestry areas"
NATURE = "Land principally occupied by agriculture, with significant areas of natural vegetation"
RIVALS = [
    (MOORS, SHRUB),
    (BROAD, CONIFEROUS),
    (AGROFORESTRY, NATURE),
    ("Arable land", "Permanent crops"),
    ("Urban fabric", "Industrial or commercial units"),
    ("Inland wetlands", "Coastal wetlands"),
    ("Inland wetlands", "Inland waters"),
]


def regions(name: str) -> list[Surface]:
    return [build(name, np.random.default_rng([COVERS[name].corine, number]), SHAPE) for number in range(NUM_REGIONS)]


def optical(surface: Surface) -> np.ndarray:
    return reflectance(surface.material, surface.state, surface.gain, 0.8)


def radar(surface: Surface) -> np.ndarray:
    return backscatter_db(surface.scatterer, surface.rough, np.zeros(SHAPE, dtype=np.float32))


def distance(first: list[np.ndarray], second: list[np.ndarray]) -> float:
    """Largest difference of a band's mean over regions, in standard errors."""
    means = [np.array([image.mean(axis=(1, 2)) for image in images]) for images in (first, second)]
    errors = np.sqrt(sum(found.var(axis=0) / len(found) for found in means))
    return float((np.abs(means[0].mean(axis=0) - means[1].mean(axis=0)) / errors).max())


@pytest.mark.parametrize(("first", "second"), RIVALS)
def test_rivals_have_equal_mean_backscatter(first, second):
    assert distance(*([radar(surface) for surface in regions(name)] for name in (first, second))) < 4


@pytest.mark.parametrize(("first", "second"), [pair for pair in RIVALS if BROAD not in pair])
def test_rivals_have_equal_mean_reflectance(first, second):
    assert distance(*([optical(surface) for surface in regions(name)] for name in (first, second))) < 4


def test_forests_differ_in_spectrum_by_more_than_brightness():
    ratios = []
    for name in (BROAD, CONIFEROUS):
        means = np.array([optical(surface).mean(axis=(1, 2)) for surface in regions(name)])
        ratios.append(means[:, -4] / means.mean(axis=1))
    assert abs(ratios[0].mean() - ratios[1].mean()) > 2 * max(found.std() for found in ratios)


def test_forests_of_one_draw_are_the_same_to_radar():
    first, second = (build(name, np.random.default_rng(1), SHAPE) for name in (BROAD, CONIFEROUS))
    np.testing.assert_array_equal(radar(first), radar(second))


def test_moors_and_shrub_look_alike_to_s2_and_not_to_s1():
    def roughness_in_rows(surface: Surface) -> tuple[float, float]:
        """How much more the pattern changes across than along its own direction, optical and radar."""
        return anisotropy(surface.state), anisotropy(surface.rough)

    moors, shrub = (np.array([roughness_in_rows(surface) for surface in regions(name)]) for name in (MOORS, SHRUB))
    assert abs(moors[:, 0].mean() - shrub[:, 0].mean()) < 4 * moors[:, 0].std() / np.sqrt(NUM_REGIONS)
    assert moors[:, 1].min() > shrub[:, 1].max()


def anisotropy(image: np.ndarray) -> float:
    """Ratio of the structure tensor's two eigenvalues."""
    down, right = np.gradient(image)
    tensor = np.array([[np.mean(down**2), np.mean(down * right)], [np.mean(down * right), np.mean(right**2)]])
    small, large = np.linalg.eigvalsh(tensor)
    return float(large / small)


def test_agreement_is_seen_by_both_sensors_together_only():
    for name, sign in ((AGROFORESTRY, 1), (NATURE, -1)):
        correlations = [np.corrcoef(surface.state.ravel(), surface.rough.ravel())[0, 1] for surface in regions(name)]
        assert np.all(sign * np.array(correlations) > 0.7)


@pytest.mark.parametrize("part", ["state", "rough"])
def test_each_sensor_alone_sees_the_same_plots_in_both_classes_of_the_agreement(part):
    values = [
        np.sort(np.concatenate([getattr(item, part).ravel() for item in regions(name)]))
        for name in (AGROFORESTRY, NATURE)
    ]
    assert np.abs(values[0] - values[1]).mean() < 0.03


def test_reeds_lie_at_the_water_in_inland_wetlands_and_apart_in_coastal_ones():
    from scipy.ndimage import binary_dilation

    touching = {}
    for name in ("Inland wetlands", "Coastal wetlands"):
        shares = []
        for surface in regions(name):
            near_water = binary_dilation(surface.material == MATERIAL_IDS["water"], iterations=2)
            shares.append(near_water[surface.material == MATERIAL_IDS["reed"]].mean())
        touching[name] = np.mean(shares)
    assert touching["Inland wetlands"] > 0.5
    assert touching["Coastal wetlands"] < 0.1
