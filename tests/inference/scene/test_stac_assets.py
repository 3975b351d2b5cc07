"""The bands of a STAC item are read as its metadata state, from files and over the network."""

import numpy as np
import pytest
import rasterio

from fusmae.errors import InputError
from fusmae.inference.map.progress import work_key
from fusmae.inference.scene.checks import check_pixels
from fusmae.inference.scene.grid import lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Reading, open_scenes
from tests.inference.conftest import GSD_M, band, make_scenes, write_raster
from tests.stac import make_item, s2_files, serving, write_item

BASELINE = "s2:processing_baseline"
APPLIED = "earthsearch:boa_offset_applied"
REFLECTANCE = {"scale": 0.0001, "offset": -0.1}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def later(tmp_path):
    """A scene whose digital numbers hold the offset of 1000."""
    return s2_scene(tmp_path, added=1000)


def s2_scene(folder, added=0, dtype=np.uint16, factor=1, **options):
    scenes = make_scenes(folder)
    for path in scenes.s2.iterdir():
        name = path.stem[-3:]
        pixels = ((band(name, 720, 960) + np.float64(added)) * factor).astype(dtype)
        write_raster(path, pixels[None], gsd_m=GSD_M[name], **options)
    return scenes


def item_of(folder, assets, modality="s2", **properties):
    return write_item(folder / "item.json", make_item(assets, modality, "S2A_33UUP_20200607_0_L2A", **properties))


def described(scenes, **facts):
    """Assets with facts on each band, as STAC 1.0 has them."""
    return s2_files(scenes, **{"raster:bands": [facts]})


def pixels_of(model, given, modality="s2", bbox=None, **reading):
    """Pixels by input, after the checks, whose warnings come with them."""
    readings = {modality: Reading(**reading)} if reading else {}
    scenes = open_scenes(model.session.inputs, {modality: [given]}, readings, bbox)
    grid = lay_grid(scenes, model.session.inputs, None)
    with SceneReader(scenes, model.session.inputs, grid) as reader:
        warnings = check_pixels(reader, scenes)
        found = {item.name: reader.read(item, 0, 0, grid.height_m, grid.width_m) for item in reader.inputs}
    return found, warnings


def same(one, other, **tolerance):
    return all(np.allclose(one[name], other[name], equal_nan=True, **tolerance) for name in other)


@pytest.fixture
def right(model, tmp_path):
    """What the earlier scene's files hold: digital numbers without offset."""
    return pixels_of(model, make_scenes(tmp_path / "right").s2)[0]


def refusal(model, given, modality="s2", **reading):
    with pytest.raises(InputError) as error:
        pixels_of(model, given, modality, **reading)
    return str(error.value)


# ---- names


@pytest.mark.parametrize(
    "fields",
    [
        lambda key, name: {key: {"eo:bands": [{"name": key, "common_name": "x"}]}},
        lambda key, name: {key: {}},
        lambda key, name: {name: {"eo:bands": [{"name": name, "common_name": "rededge"}]}},
        lambda key, name: {f"{name}_10m": {"bands": [{"name": name, "eo:common_name": "rededge"}]}},
        lambda key, name: {key: {"bands": [{"name": "b1", "eo:common_name": key}]}},
        lambda key, name: {key[::-1]: {"eo:bands": [{"name": "b1", "description": name}]}},
    ],
    ids=["earth-search", "keys", "planetary-computer", "copernicus", "common-names", "rio-stac"],
)
def test_bands_are_found_by_their_names_in_any_catalogue(model, scenes, tmp_path, fields):
    assets = {}
    for key, asset in s2_files(scenes).items():
        asset.pop("eo:bands")
        for name, facts in fields(key, asset["href"][-7:-4]).items():
            assets[name] = asset | facts
    found, _ = pixels_of(model, item_of(tmp_path / "scenes", assets))
    assert same(found, pixels_of(model, scenes.s2)[0])


def test_a_file_of_all_bands_is_described_in_its_order(model, tmp_path):
    bands = [band(name, 720, 960) for name in ("B03", "B02")] + [band("B05", 720, 960).repeat(2, 0).repeat(2, 1)]
    path = write_raster(tmp_path / "all.tif", np.stack(bands))
    asset = {"path": path, "href": "all.tif", "bands": [{"name": name} for name in ("green", "blue", "rededge1")]}
    found, _ = pixels_of(model, item_of(tmp_path, {"data": asset}))
    assert (found["s2_10m"][0] == band("B02", 720, 960)).all()
    assert (found["s2_10m"][1] == band("B03", 720, 960)).all()


def test_bands_in_another_order_than_the_file_says_are_refused_with_both(model, scenes, tmp_path):
    bands = {name: band(name, 720, 960)[None] for name in ("B02", "B03")}
    write_raster(scenes.s2.parent / "two.tif", np.concatenate(list(bands.values())), names=tuple(bands))
    assets = {"rededge1": s2_files(scenes)["rededge1"]}
    assets["data"] = {"href": "two.tif", "bands": [{"name": "green"}, {"name": "blue"}]}
    assert "band 1 B02 in the file, B03 in the item" in refusal(model, item_of(tmp_path / "scenes", assets))


def test_pictures_and_metadata_are_no_bands(model, scenes, tmp_path):
    assets = s2_files(scenes)
    picture = assets["blue"] | {"href": "none.tif"}
    assets |= {
        "visual": picture,
        "blue_picture": picture | {"roles": ["overview"]},
        "xml": {"href": "blue.xml", "type": ""},
    }
    assert pixels_of(model, item_of(tmp_path / "scenes", assets))[0]


def test_of_a_band_in_several_formats_what_can_be_read_in_parts_is_taken(model, scenes, tmp_path):
    assets = s2_files(scenes)
    for key, asset in list(assets.items()):
        assets[f"{key}-jp2"] = asset | {"href": f"https://127.0.0.1/{key}.jp2", "type": "image/jp2"}
        assets[f"{key}-gs"] = asset | {"href": f"gs://bucket/{key}.tif"}
    assert pixels_of(model, item_of(tmp_path / "scenes", assets))[0]


def test_of_a_band_in_several_resolutions_the_models_is_taken(model, scenes, tmp_path):
    coarse = write_raster(tmp_path / "scenes" / "coarse.tif", band("B02", 720, 960)[None, ::6, ::6], gsd_m=60)
    assets = s2_files(scenes)
    assets = {"B02_60m": assets["blue"] | {"path": coarse, "href": "coarse.tif"}, **assets}
    assert same(pixels_of(model, item_of(tmp_path / "scenes", assets))[0], pixels_of(model, scenes.s2)[0])


def test_missing_bands_are_named_with_the_assets_that_exist(model, scenes, tmp_path):
    assets = s2_files(scenes)
    assets["scl"] = assets.pop("rededge1") | {"eo:bands": [{"name": "scl"}]}
    text = refusal(model, item_of(tmp_path / "scenes", assets))
    assert "The s2 item S2A_33UUP_20200607_0_L2A lacks band B05." in text
    assert "blue (B02), green (B03), scl (?)" in text


def test_an_item_without_rasters_says_so(model, scenes, tmp_path):
    item = make_item(s2_files(scenes)) | {"assets": {"metadata": {"href": "a.xml", "type": "application/xml"}}}
    assert "no asset that is a GeoTIFF" in refusal(model, write_item(tmp_path / "item.json", item))


# ---- scale, offset, nodata


@pytest.mark.parametrize(
    ("fields", "properties"),
    [
        ({"raster:bands": [REFLECTANCE]}, {}),
        ({"raster:bands": [{"offset": -1000}]}, {}),
        ({"bands": [{"raster:scale": 0.0001, "raster:offset": -0.1}]}, {}),
        ({"raster:scale": 0.0001, "raster:offset": -0.1}, {BASELINE: "05.10"}),
        ({"raster:bands": [REFLECTANCE]}, {BASELINE: "05.10", APPLIED: False}),
        ({"raster:bands": [{"scale": 0.0001}]}, {BASELINE: "05.10"}),
        ({"raster:bands": [{"scale": 1, "offset": 0}]}, {BASELINE: "04.00"}),
        ({}, {BASELINE: "05.10"}),
        ({}, {"processing:version": "05.11"}),
        ({}, {BASELINE: "05.10", APPLIED: False}),
        ({}, {"s2:product_uri": "S2A_MSIL2A_20220607T101031_N0400_R022_T33UUP_20220607T123456.SAFE"}),
    ],
)
def test_an_offset_that_the_item_states_is_taken_off(model, later, right, tmp_path, fields, properties):
    found, warnings = pixels_of(model, item_of(tmp_path, s2_files(later, **fields), **properties))
    assert same(found, right)
    assert warnings == []


@pytest.mark.parametrize(
    ("fields", "properties"),
    [
        ({}, {BASELINE: "02.14"}),
        ({}, {BASELINE: "05.10", APPLIED: True}),
        ({"raster:bands": [{"scale": 0.0001, "offset": 0}]}, {BASELINE: "05.10", APPLIED: True}),
        # An archive that takes the offset off and keeps the baseline.
        ({"raster:bands": [{"scale": 0.0001, "offset": 0}]}, {BASELINE: "05.10"}),
        ({"raster:bands": [{"scale": 0.0001, "offset": 0}]}, {}),
        ({}, {}),
    ],
)
def test_nothing_is_taken_off_where_the_item_says_so(model, scenes, tmp_path, fields, properties):
    found, warnings = pixels_of(model, item_of(tmp_path / "scenes", s2_files(scenes, **fields), **properties))
    assert same(found, pixels_of(model, scenes.s2)[0])
    assert warnings == []


@pytest.mark.parametrize(
    ("facts", "properties", "named"),
    [
        (REFLECTANCE, {BASELINE: "05.10", APPLIED: True}, "-1000 to add; earthsearch:boa_offset_applied in the item"),
        (REFLECTANCE, {BASELINE: "02.14"}, "-1000 to add; processing baseline 02.14"),
        ({"scale": 0.0001, "offset": 0}, {BASELINE: "05.10", APPLIED: False}, "0 to add; processing baseline 05.10"),
        ({"scale": 0.0001, "offset": -0.2}, {BASELINE: "05.10"}, "-2000 to add; processing baseline 05.10"),
    ],
)
def test_two_offsets_are_refused_with_both_and_an_option_decides(
    model, later, right, tmp_path, facts, properties, named
):
    path = item_of(tmp_path, described(later, **facts), **properties)
    text = refusal(model, path)
    assert "contradicts itself about its offset" in text
    assert named in text
    assert "--offset s2=1000" in text
    assert same(pixels_of(model, path, offset=1000)[0], right)


def test_bands_of_different_offsets_are_refused(model, later, tmp_path):
    assets = described(later, **REFLECTANCE)
    assets["green"].pop("raster:bands")
    text = refusal(model, item_of(tmp_path, assets))
    assert "of its bands: -1000 to add, nothing" in text


def test_an_item_that_is_wrong_about_its_pixels_is_refused_with_the_option_that_mends_it(model, scenes, tmp_path):
    path = item_of(tmp_path / "scenes", described(scenes, **REFLECTANCE))
    text = refusal(model, path)
    assert "does not hold an offset of 1000" in text
    assert "--offset s2=0 if the item is wrong" in text
    assert same(pixels_of(model, path, offset=0)[0], pixels_of(model, scenes.s2)[0])


def test_another_scale_than_ten_thousandths_is_applied(model, tmp_path, right):
    scenes = s2_scene(tmp_path, factor=10)
    found, _ = pixels_of(model, item_of(tmp_path, described(scenes, scale=0.00001, offset=0)))
    assert same(found, right)


@pytest.mark.parametrize(
    ("scale", "message"),
    [(0, "makes no pixels.*got: +0.0"), (-0.1, "makes no pixels"), ("nan", "makes no pixels"), (100, "can't have")],
)
def test_an_impossible_scale_is_refused_with_what_mends_the_item(model, scenes, tmp_path, scale, message):
    with pytest.raises(InputError, match=rf"(?s){message}.*save the item as a file, correct it"):
        pixels_of(model, item_of(tmp_path / "scenes", described(scenes, scale=scale)))


def test_what_the_file_states_too_is_applied_once(model, later, right, tmp_path):
    for path in later.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.0001,), (-0.1,)
    for properties in ({}, {BASELINE: "05.10"}):
        for assets in (s2_files(later), described(later, **REFLECTANCE)):
            assert same(pixels_of(model, item_of(tmp_path, assets, **properties))[0], right)


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"scale": 0.001, "offset": -0.1}, "scale 0.0001 in the file, 0.001 in the item"),
        ({"scale": 0.0001, "offset": 0}, "offset -0.1 in the file, 0 in the item"),
        ({"nodata": 7}, "nodata 0 in the file, 7 in the item"),
    ],
)
def test_a_file_that_contradicts_its_item_is_refused_with_both(model, tmp_path, facts, named):
    scenes = s2_scene(tmp_path, added=1000, nodata=0)
    for path in scenes.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            dataset.scales, dataset.offsets = (0.0001,), (-0.1,)
    text = refusal(model, item_of(tmp_path, described(scenes, **facts)))
    assert "Asset blue of S2A_33UUP_20200607_0_L2A contradicts its item." in text
    assert named in text


@pytest.mark.parametrize("nodata", [30, "30"])
def test_nodata_that_only_the_item_states_are_left_out(model, scenes, tmp_path, nodata):
    for path in scenes.s2.iterdir():
        with rasterio.open(path, "r+") as dataset:
            pixels = dataset.read()
            pixels[:, :10] = 30
            dataset.write(pixels)
    found, _ = pixels_of(model, item_of(tmp_path / "scenes", described(scenes, nodata=nodata)))
    assert np.isnan(found["s2_10m"][:, :10]).all()
    assert np.isfinite(found["s2_10m"][:, 10:]).mean() > 0.99


def test_an_item_that_describes_more_bands_than_a_file_has_is_refused(model, scenes, tmp_path):
    assets = s2_files(scenes, **{"raster:bands": [{}, {}]})
    assert "bands 1 in the file, 2 in the item" in refusal(model, item_of(tmp_path / "scenes", assets))


# ---- units of Sentinel-1


def s1_item(folder, scenes, power, **fields):
    with rasterio.open(scenes.s1) as dataset:
        linear = 10 ** (dataset.read() / power)
    paths = {}
    for index, name in enumerate(("vv", "vh")):
        write_raster(folder / f"{name}.tif", linear[index : index + 1])
        paths[name] = {"path": folder / f"{name}.tif", "href": f"{name}.tif", **fields}
    return item_of(folder, paths, "s1")


@pytest.mark.parametrize(
    ("power", "fields"),
    [
        (10, {"raster:bands": [{"unit": "power"}]}),
        (10, {"bands": [{"name": "x", "unit": "linear power"}]}),
        (20, {"unit": "amplitude"}),
        (20, {"raster:bands": [{"description": "sigma0 amplitude"}]}),
        (20, {"description": "Amplitude of signal with vertical polarization"}),
    ],
)
def test_units_that_the_item_states_are_converted_to_decibels(model, scenes, tmp_path, power, fields):
    found, warnings = pixels_of(model, s1_item(tmp_path, scenes, power, **fields), "s1")
    assert same(found, pixels_of(model, scenes.s1, "s1")[0], atol=1e-4)
    assert warnings == []


def test_words_for_units_of_radar_mean_nothing_beside_other_bands(model, scenes, tmp_path):
    assets = s2_files(scenes, description="blue light of low intensity")
    assert same(pixels_of(model, item_of(tmp_path / "scenes", assets))[0], pixels_of(model, scenes.s2)[0])


def test_units_that_the_item_does_not_state_are_asked_for(model, scenes, tmp_path):
    path = s1_item(tmp_path, scenes, 10)
    assert "--units s1=power" in refusal(model, path, "s1")
    assert same(pixels_of(model, path, "s1", units="power")[0], pixels_of(model, scenes.s1, "s1")[0], atol=1e-4)


def test_units_of_two_kinds_are_refused_with_both(model, scenes, tmp_path):
    path = s1_item(tmp_path, scenes, 10, unit="power")
    with rasterio.open(tmp_path / "vh.tif", "r+") as dataset:
        dataset.units = ("amplitude",)
    assert "amplitude in the file, power in the item" in refusal(model, path, "s1")
    assert pixels_of(model, path, "s1", units="power")[0]


# ---- the network


@pytest.fixture
def remote(scenes):
    """The scene's files on a web server, much larger than before and in blocks."""
    files = {}
    for name in ("B02", "B03", "B05"):
        pixels = np.tile(band(name, 720, 960), (16, 16))
        options = {"tiled": True, "blockxsize": 128, "blockysize": 128}
        path = write_raster(
            scenes.s2 / f"T33UUP_20200607T101031_{name}.tif", pixels[None], gsd_m=GSD_M[name], **options
        )
        files[f"/s2/{path.name}"] = path.read_bytes()
    with serving(files) as server:
        yield server


def test_over_the_network_only_what_a_window_needs_is_read(model, scenes, tmp_path, remote):
    assets = s2_files(scenes)
    for asset in assets.values():
        asset["href"] = f"{remote.address}{asset['href'][1:]}?sig=SECRET"
    path = item_of(tmp_path / "scenes", assets)
    with rasterio.open(scenes.s2 / "T33UUP_20200607T101031_B02.tif") as dataset:
        left, top = dataset.transform * (10, 10)
    bbox = rasterio.warp.transform_bounds("EPSG:32633", "EPSG:4326", left, top - 480, left + 480, top)
    found, _ = pixels_of(model, path, bbox=bbox)
    for file in scenes.s2.iterdir():
        asked = remote.hits[f"/s2/{file.name}"]
        assert all(ranges for method, _, ranges in asked if method == "GET")
        ends = [ranges.removeprefix("bytes=").split("-") for method, _, ranges in asked if method == "GET"]
        assert sum(int(end) - int(start) + 1 for start, end in ends) < len(remote.files[f"/s2/{file.name}"]) / 4
    for asset in assets.values():
        asset["href"] = str(asset["path"])
    assert same(found, pixels_of(model, item_of(tmp_path, assets), bbox=bbox)[0])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (403, "HTTP response code: 403"),
        (404, "HTTP response code: 404"),
        (b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>", "a whole GeoTIFF"),
        ("file:///etc/a.tif", "in redirect"),
    ],
)
def test_what_can_not_be_read_over_the_network_is_said_without_its_signature(
    model, scenes, tmp_path, caplog, answer, said
):
    caplog.set_level("INFO")
    with serving({f"/s2/{path.name}": answer for path in scenes.s2.iterdir()}) as server:
        assets = s2_files(scenes)
        for asset in assets.values():
            asset["href"] = f"{server.address}{asset['href'][1:]}?sig=SECRET"
        with pytest.raises(InputError) as error:
            pixels_of(model, item_of(tmp_path / "scenes", assets))
    text = str(error.value)
    assert text.startswith("Asset blue of S2A_33UUP_20200607_0_L2A can't be read.")
    assert said in text
    assert ("signature may have expired" in text) == (answer == 403)
    assert "SECRET" not in text + caplog.text
    assert error.value.__cause__ is None


def test_a_new_signature_is_the_same_work(model, scenes, tmp_path, remote):
    keys = []
    for signature in ("one", "two"):
        assets = s2_files(scenes)
        for asset in assets.values():
            asset["href"] = f"{remote.address}{asset['href'][1:]}?sig={signature}"
        opened = open_scenes(model.session.inputs, {"s2": [item_of(tmp_path / "scenes", assets)]}, {})
        keys.append(work_key("0" * 64, opened, lay_grid(opened, model.session.inputs, None)))
    assert keys[0] == keys[1]


def test_an_asset_that_is_a_vrt_is_not_opened_on_this_machine_either(model, scenes, tmp_path):
    (scenes.s2 / "T33UUP_20200607T101031_B02.tif").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'/>")
    assert "not recognized as being in a supported file format" in refusal(
        model, item_of(tmp_path / "scenes", s2_files(make_scenes(tmp_path / "other")))
    )


@pytest.fixture
def bucket(scenes, monkeypatch, tmp_path):
    """The scene's files behind an S3 endpoint; without credentials."""
    files = {f"/bucket/{path.name}": path.read_bytes() for path in scenes.s2.iterdir()}
    with serving(files) as server:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        settings = {"AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE", "AWS_EC2_METADATA_DISABLED": "true"}
        settings |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
        settings |= {"CPL_AWS_AUTODETECT_EC2": "NO", "AWS_S3_ENDPOINT": server.address.removeprefix("http://")}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        assets = s2_files(scenes)
        for asset in assets.values():
            asset["href"] = f"s3://bucket/{asset['path'].name}"
        yield item_of(tmp_path / "scenes", assets)


def test_objects_in_s3_are_read_with_the_credentials_of_the_environment(model, scenes, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert same(pixels_of(model, bucket)[0], pixels_of(model, scenes.s2)[0])


def test_without_credentials_for_s3_it_is_said_how_to_give_them(model, bucket):
    text = refusal(model, bucket)
    assert "s3://bucket/T33UUP_20200607T101031_B02.tif" in text
    assert "AWS_ACCESS_KEY_ID" in text
    assert "AWS_NO_SIGN_REQUEST=YES" in text
