import numpy as np

from fusmae.sources.synthetic.landscape import PATCH_PX, relief
from fusmae.sources.synthetic.materials import ENL, MATERIAL_IDS, S2_BANDS, reflectance, with_speckle
from fusmae.sources.synthetic.plan import World, blocks_of
from fusmae.sources.synthetic.scene import Weather, make_scene, seen_from_above, summer_of, weather


def test_speckle_is_multiplicative_with_the_stated_looks():
    for level in (-20.0, -5.0):
        power = 10 ** (with_speckle(np.random.default_rng(0), np.full((2, 300, 300), level, np.float32)) / 10)
        assert np.isclose(power.mean(), 10 ** (level / 10), rtol=0.01)
        assert np.isclose(power.var() / power.mean() ** 2, 1 / ENL, rtol=0.03)


def test_speckle_of_the_two_polarisations_is_independent(large_scene):
    fine = [np.diff(large_scene.bands[band].astype(np.float64))[::, ::2].ravel() for band in ("VV", "VH")]
    speckle = with_speckle(np.random.default_rng(0), np.zeros((2, 300, 300), np.float32)).reshape(2, -1)
    assert abs(np.corrcoef(speckle)[0, 1]) < 0.02
    assert all(part.std() > 2 for part in fine)


def test_neighbouring_patches_fit_together_at_their_edge(large_scene, large_block):
    patches = {(patch.down, patch.right): patch for patch in large_block.patches}
    left, right, far = (large_scene.cut(patches[at]) for at in ((1, 0), (1, 1), (1, 3)))
    for band in ("B02", "B08", "B11", "VV"):
        step = np.abs(left[band][:, -1].astype(float) - right[band][:, 0]).mean()
        within = np.abs(np.diff(left[band].astype(float), axis=1)).mean()
        elsewhere = np.abs(left[band][:, -1].astype(float) - far[band][:, 0]).mean()
        assert step < 1.6 * within
        assert step < elsewhere


def test_regions_cross_the_edges_of_patches(large_scene, large_block):
    patches = {(patch.down, patch.right): patch for patch in large_block.patches}
    upper, lower = (patches[at].cut(large_scene.corine) for at in ((0, 2), (1, 2)))
    assert (upper[-1] == lower[0]).mean() > 0.9


def test_coarse_bands_see_the_same_ground(large_scene):
    red_edge = large_scene.bands["B8A"].astype(float)
    fine = large_scene.bands["B08"].astype(float)
    coarse = fine.reshape(red_edge.shape[0], 2, -1, 2).mean(axis=(1, 3))
    assert np.corrcoef(red_edge.ravel(), coarse.ravel())[0, 1] > 0.99


def test_clouds_are_bright_and_shadows_dark_and_radar_sees_neither():
    scene, sky = next(
        (scene, scene.weather)
        for block in blocks_of(World(50, 0))
        if (scene := make_scene(0, block)).weather.cloud.max() == 1
    )
    clear = (sky.cloud == 0) & (sky.shadow == 0) & (sky.snow == 0)
    blue, radar = scene.bands["B02"].astype(float), scene.bands["VV"]
    assert blue[sky.cloud == 1].mean() > 3 * blue[clear].mean()
    assert scene.bands["B08"][(sky.shadow == 1) & (sky.cloud == 0)].mean() < 0.8 * scene.bands["B08"][clear].mean()
    assert abs(radar[sky.cloud == 1].mean() - radar[clear].mean()) < 3


def test_a_share_of_pairs_is_under_cloud_and_a_share_under_snow():
    # The flags alone, over many blocks, without their pixels.
    found = [
        weather(0, block.number, block.s2_date, relief(0, block.number, (60, 60))[0])
        for block in blocks_of(World(6400, 0))
    ]
    assert 0.1 < np.mean([sky.cloud.max() > 0.5 for sky in found]) < 0.2
    assert 0.05 < np.mean([sky.snow.max() > 0.4 for sky in found]) < 0.2


def test_leaves_fall_in_winter_and_needles_stay():
    def nir_over_red(name: str, summer: float) -> float:
        seen = reflectance(
            np.full((2, 2), MATERIAL_IDS[name], np.uint8),
            np.full((2, 2), 0.8, np.float32),
            np.ones((2, 2), np.float32),
            summer,
        )
        return float(seen[S2_BANDS.index("B08")].mean() / seen[S2_BANDS.index("B04")].mean())

    assert nir_over_red("broad_leaved", 1) > 2.5 * nir_over_red("broad_leaved", 0)
    assert nir_over_red("coniferous", 1) < 1.5 * nir_over_red("coniferous", 0)


def test_summer_is_in_july():
    blocks = blocks_of(World(4000, 0))
    by_month = {}
    for block in blocks:
        by_month.setdefault(block.s2_date.month, []).append(summer_of(block.s2_date))
    assert max(by_month, key=lambda month: np.mean(by_month[month])) == 7
    assert min(by_month, key=lambda month: np.mean(by_month[month])) == 1


def test_ground_that_faces_the_morning_sun_in_the_south_east_is_brighter():
    shape, level = (8, 8), np.full((len(S2_BANDS), 8, 8), 0.2, np.float32)
    none, rise = np.zeros(shape, np.float32), np.full(shape, 0.2, np.float32)
    clear = Weather(none, none, none)

    def brightness(south, east):
        return float(seen_from_above(0, 0, level, clear, (south, east), 0.5).mean())

    flat = brightness(none, none)
    # Ground that rises to the north or the west falls to the south or the east, and faces there.
    assert brightness(-rise, none) > flat > brightness(rise, none)
    assert brightness(none, -rise) > flat > brightness(none, rise)


def test_slopes_towards_the_radar_are_brighter():
    """S1 looks to its right: westwards on its way south in the morning, eastwards on its way north in the evening."""
    found = {"morning": [], "evening": []}
    for block in blocks_of(World(60, 1)):
        rise_to_east = relief(1, block.number, (block.side * PATCH_PX,) * 2)[2]
        slope = np.corrcoef(make_scene(1, block).bands["VV"].ravel(), rise_to_east.ravel())[0, 1]
        found["morning" if block.s1_date.hour < 12 else "evening"].append(slope)
    assert np.mean(found["morning"]) < -0.05
    assert np.mean(found["evening"]) > 0.05
