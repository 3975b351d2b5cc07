import json
import struct

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.io import MemoryFile
from rasterio.transform import Affine, from_origin

LEFT, TOP = 390_000.0, 5_348_400.0


def geotiff(bands, gsd_m=10, crs="EPSG:32633", left=LEFT, top=TOP, transform=None, **profile):
    """A GeoTIFF of named bands, as bytes."""
    stack = np.stack(list(bands.values()))
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=len(stack),
            height=stack.shape[1],
            width=stack.shape[2],
            dtype=stack.dtype,
            crs=crs,
            transform=transform or from_origin(left, top, gsd_m, gsd_m),
            **profile,
        ) as dataset:
            dataset.write(stack)
            dataset.descriptions = tuple(bands)
        return bytes(memory.getbuffer())


@pytest.fixture(scope="module")
def tile(exported):
    """One tile's arrays, by name."""
    return exported.pixels(1, seed=3)


@pytest.fixture(scope="module")
def s1(tile):
    return dict(zip(("VV", "VH"), tile["s1_10m"][0], strict=True))


@pytest.fixture(scope="module")
def s2_10m(tile):
    return dict(zip(("B02", "B03"), tile["s2_10m"][0], strict=True))


@pytest.fixture(scope="module")
def s2(tile, s2_10m):
    """All bands on one grid, as most people have them."""
    return s2_10m | {"B05": tile["s2_20m"][0, 0].repeat(2, 0).repeat(2, 1)}


def ask(client, *files):
    return client.post("/predict/geotiff", files=[(side, (f"{side}.tif", content)) for side, content in files])


def same(answer, wanted):
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["probabilities"], wanted["probabilities"], atol=1e-6)


def refused(answer, wanted, status=422):
    assert answer.status_code == status, answer.text
    assert wanted in answer.json()["text"]


def test_a_pair_is_answered_as_its_arrays_are(client, exported, tile, s1, s2):
    same(ask(client, ("s1", geotiff(s1)), ("s2", geotiff(s2))), exported.session.run(tile))


def test_files_may_have_a_grid_each_and_bands_any_order(client, exported, tile, s1, s2_10m):
    turned = {name: s2_10m[name] for name in ("B03", "B02")} | {"B09": s2_10m["B02"]}
    fine, coarse = geotiff(turned), geotiff({"B05": tile["s2_20m"][0, 0]}, gsd_m=20)
    same(ask(client, ("s2", coarse), ("s1", geotiff(s1)), ("s2", fine)), exported.session.run(tile))


def test_a_band_alone_in_its_file_is_known_by_the_files_name(client, exported, tile, s1):
    files = [("s1", (f"S1A_IW_33UUP_70_48_{name}.tif", geotiff({"": band}))) for name, band in s1.items()]
    answer = client.post("/predict/geotiff", files=files[::-1])
    same(answer, exported.session.run({"s1_10m": tile["s1_10m"]}))


def test_bands_are_known_by_other_names_of_theirs(client, exported, tile, s1, s2):
    names = {"VV": "Sigma0_VV_db", "VH": "vh", "B02": "blue", "B03": "B3", "B05": "rededge1"}
    renamed = [{names[name]: band for name, band in bands.items()} for bands in (s1, s2)]
    same(ask(client, ("s1", geotiff(renamed[0])), ("s2", geotiff(renamed[1]))), exported.session.run(tile))


def test_one_side_is_enough(client, exported, tile, s1):
    answer = ask(client, ("s1", geotiff(s1)))
    same(answer, exported.session.run({"s1_10m": tile["s1_10m"]}))
    assert answer.json()["modalities"] == ["s1"]


def test_packed_and_tiled_files_are_read(client, exported, tile, s1):
    packed = geotiff(s1, compress="deflate", predictor=3, tiled=True, blockxsize=256, blockysize=256)
    same(ask(client, ("s1", packed)), exported.session.run({"s1_10m": tile["s1_10m"]}))


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"crs": None}, "no projected CRS in metres"),
        ({"crs": "EPSG:4326", "transform": from_origin(13.5, 48.3, 1e-4, 1e-4)}, "no projected CRS in metres"),
        ({"crs": "EPSG:2263"}, "no projected CRS in metres"),
        ({"crs": "EPSG:32632"}, "don't cover the same ground"),
        ({"left": LEFT + 10}, "don't cover the same ground"),
        ({"gsd_m": 20}, "is not one tile"),
        ({"transform": Affine(9.8, 2, LEFT, 2, -9.8, TOP)}, "turned"),
    ],
)
def test_another_crs_or_grid_is_refused(client, s1, s2, changes, wanted):
    refused(ask(client, ("s2", geotiff(s2)), ("s1", geotiff(s1, **changes))), wanted)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda b: {"VV": b["VV"]}, "s1 lacks VH"),
        (lambda b: {"VV": b["VV"], "": b["VH"]}, "2 bands: VV, (unnamed)"),
        (lambda b: {name: band[:20, :20] for name, band in b.items()}, "is not one tile"),
        (lambda b: {name: 10 ** (band / 10) for name, band in b.items()}, "looks like linear power"),
        (lambda b: {name: np.where(band < -20, np.nan, band) for name, band in b.items()}, "The tile has no data"),
    ],
)
def test_other_bands_and_units_are_refused(client, s1, change, wanted):
    refused(ask(client, ("s1", geotiff(change(s1)))), wanted)


def test_a_band_in_two_files_is_refused(client, s1):
    refused(ask(client, ("s1", geotiff(s1)), ("s1", geotiff(s1))), "s1 has a band twice: VH, VV")


def test_a_grid_that_the_model_does_not_divide_is_refused(client, s1):
    coarse = {name: band[:8, :8] for name, band in s1.items()}
    refused(ask(client, ("s1", geotiff(coarse, gsd_m=30))), "Band VV is on another grid")


def filled(tile, name, empty):
    """A tile's arrays, of which one has its means where there is no data."""
    array = tile[name].astype(np.float32)
    array[0][:, empty] = array[0][:, ~empty].mean(axis=1, dtype=np.float64)[:, None]
    return tile | {name: array}


CORNER = np.zeros((24, 24), bool)
CORNER[:6, :8] = True


@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan, -99.0, 0.0])
def test_a_little_nodata_is_filled_with_the_tiles_means_as_in_a_map(client, exported, tile, s1, s2, value):
    holes = {name: np.where(CORNER, np.float32(value), band) for name, band in s1.items()}
    answer = ask(client, ("s1", geotiff(holes, nodata=-99)), ("s2", geotiff(s2)))
    same(answer, exported.session.run(filled(tile, "s1_10m", CORNER)))
    assert answer.json()["warnings"][0] == "s1: 8.3% of the pixels have no data: filled with the tile's means"


def test_a_modality_with_much_nodata_is_absent_as_in_a_map(client, exported, tile, s1, s2):
    holes = {name: np.where(band < -20, -np.inf, band).astype(np.float32) for name, band in s1.items()}
    answer = ask(client, ("s1", geotiff(holes)), ("s2", geotiff(s2)))
    same(answer, exported.session.run({name: tile[name] for name in ("s2_10m", "s2_20m")}))
    assert answer.json()["modalities"] == ["s2"]
    assert "the tile is answered without it" in answer.json()["warnings"][0]


@pytest.mark.parametrize(("nodata", "value"), [(None, 0), (0, 0), (65535, 65535)])
def test_nodata_of_s2_is_filled_and_zero_in_some_bands_is_a_value(client, exported, tile, s1, s2, nodata, value):
    tile = {name: array if name == "s1_10m" else np.maximum(array, 1) for name, array in tile.items()}
    s2 = {name: np.maximum(band, 1) for name, band in s2.items()}
    holes = {name: np.where(CORNER, np.uint16(value), band) for name, band in s2.items()}
    arrays = filled(filled(tile, "s2_10m", CORNER), "s2_20m", CORNER[::2, ::2])
    same(ask(client, ("s1", geotiff(s1)), ("s2", geotiff(holes, nodata=nodata))), exported.session.run(arrays))
    dark = s2 | {"B03": np.where(CORNER, np.uint16(0), s2["B03"])}
    arrays = {name: array.copy() for name, array in tile.items()}
    arrays["s2_10m"][0, 1, CORNER] = 0
    if nodata != 0:
        same(ask(client, ("s1", geotiff(s1)), ("s2", geotiff(dark, nodata=nodata))), exported.session.run(arrays))


def stating(content, tmp_path, **statements):
    """A file's bytes once it states something of itself: scales, offsets or colorinterp."""
    path = tmp_path / "stating.tif"
    path.write_bytes(content)
    with rasterio.open(path, "r+") as dataset:
        for name, value in statements.items():
            setattr(dataset, name, value)
    return path.read_bytes()


def test_a_stated_scale_is_applied(client, exported, tile, s1, s2, tmp_path):
    hundredths = {name: np.rint(band * 100).astype(np.int16) for name, band in s1.items()}
    shifted = {name: band + np.uint16(1000) for name, band in s2.items()}
    answer = ask(
        client,
        ("s1", stating(geotiff(hundredths, nodata=-32768), tmp_path, scales=(0.01,) * 2)),
        ("s2", stating(geotiff(shifted), tmp_path, scales=(0.0001,) * 3, offsets=(-0.1,) * 3)),
    )
    rounded = np.stack([band / np.float32(100) for band in hundredths.values()])[None].astype(np.float32)
    same(answer, exported.session.run(tile | {"s1_10m": rounded}))


def test_a_scale_of_numbers_that_have_none_is_refused(client, s1, tmp_path):
    refused(ask(client, ("s1", stating(geotiff(s1), tmp_path, scales=(0.01,) * 2))), "that its numbers can't have")


def test_a_tile_stored_south_up_is_read_as_the_same_one_north_up(client, exported, tile, s1, s2):
    turned = {name: band[::-1] for name, band in s1.items()}
    south_up = geotiff(turned, transform=Affine(10, 0, LEFT, 0, 10, TOP - 240))
    same(ask(client, ("s1", south_up), ("s2", geotiff(s2))), exported.session.run(tile))


@pytest.mark.parametrize("kind", ["mask", "alpha"])
def test_what_a_mask_or_an_alpha_band_hides_is_no_data(client, exported, tile, s1, s2, tmp_path, kind):
    rubbish = {name: np.where(CORNER, np.float32(-30), band) for name, band in s1.items()}
    path = tmp_path / "hidden.tif"
    if kind == "mask":
        path.write_bytes(geotiff(rubbish))
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
            dataset.write_mask(~CORNER)
        content = path.read_bytes()
    else:
        content = geotiff(rubbish | {"": np.where(CORNER, np.float32(0), np.float32(255))})
        kinds = tuple(ColorInterp[name] for name in ("gray", "undefined", "alpha"))
        content = stating(content, tmp_path, colorinterp=kinds)
    answer = ask(client, ("s1", content), ("s2", geotiff(s2)))
    same(answer, exported.session.run(filled(tile, "s1_10m", CORNER)))


def test_reflectance_is_refused(client, s2):
    refused(ask(client, ("s2", geotiff({n: (b / 1e4).astype(np.float32) for n, b in s2.items()}))), "reflectance")


def test_garbage_and_cut_files_are_refused(client, s1):
    whole = geotiff(s1)
    for content in (b"", b"garbage", whole[: len(whole) // 2]):
        refused(ask(client, ("s1", content)), "is no GeoTIFF that can be read")


def test_a_file_that_names_other_files_is_not_followed(client, s1, tmp_path):
    (tmp_path / "secret.tif").write_bytes(geotiff(s1))
    vrt = f"""<VRTDataset rasterXSize="24" rasterYSize="24"><VRTRasterBand dataType="Float32" band="1">
    <SimpleSource><SourceFilename>{tmp_path}/secret.tif</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
    refused(ask(client, ("s1", vrt.encode())), "is no GeoTIFF that can be read")


def test_a_small_file_that_states_a_huge_raster_is_not_unpacked(client):
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=1,
            height=60_000,
            width=60_000,
            dtype="uint8",
            crs="EPSG:32633",
            transform=from_origin(LEFT, TOP, 240 / 60_000, 240 / 60_000),
            sparse_ok=True,
            tiled=True,
            blockxsize=8192,
            blockysize=8192,
        ) as dataset:
            dataset.descriptions = ("VV",)
        content = bytes(memory.getbuffer())
    assert len(content) < 100_000
    refused(ask(client, ("s1", content)), "is larger than a tile")


@pytest.mark.parametrize(("num_bands", "dtype"), [(2, "float32"), (40, "uint8")])
def test_blocks_that_hold_all_bands_are_limited_by_their_bytes(client, num_bands, dtype):
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=num_bands,
            height=24,
            width=24,
            dtype=dtype,
            crs="EPSG:32633",
            transform=from_origin(LEFT, TOP, 10, 10),
            sparse_ok=True,
            tiled=True,
            blockxsize=4096,
            blockysize=4096,
            interleave="pixel",
        ) as dataset:
            dataset.descriptions = ("VV", "VH", *("" for _ in range(num_bands - 2)))
        content = bytes(memory.getbuffer())
    assert len(content) < 100_000
    refused(ask(client, ("s1", content)), "is larger than a tile")


def with_blocks(content, side):
    """A TIFF whose second directory, its mask, states blocks of that side."""
    data = bytearray(content)
    (first,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, first)
    (second,) = struct.unpack_from("<I", data, first + 2 + 12 * count)
    (count,) = struct.unpack_from("<H", data, second)
    # Strips become tiles: 273, 278 and 279 are 324, 322 and 325; 323 takes the place of the photometric tag.
    entries = [struct.unpack_from("<HHII", data, second + 2 + 12 * number) for number in range(count)]
    places = {entry[0]: entry for entry in entries}
    offset, size = places[273][3], places[279][3]
    kept = [entry for entry in entries if entry[0] not in (273, 278, 279, 262)]
    kept += [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, offset), (325, 4, 1, size)]
    for place, entry in enumerate(sorted(kept)):
        struct.pack_into("<HHII", data, second + 2 + 12 * place, *entry)
    return bytes(data)


def test_a_mask_whose_blocks_are_huge_is_not_unpacked(client, s1, tmp_path):
    path = tmp_path / "masked.tif"
    path.write_bytes(geotiff(s1))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((24, 24), bool))
    assert ask(client, ("s1", path.read_bytes())).status_code == 200
    refused(ask(client, ("s1", with_blocks(path.read_bytes(), 32768))), "a mask that is larger than a tile's")


@pytest.mark.parametrize("value", [-9999, -32768, np.finfo(np.float32).min])
def test_nodata_that_a_file_does_not_state_is_refused(client, s1, value):
    holes = {name: np.where(np.arange(24) < 7, np.float32(value), band) for name, band in s1.items()}
    for told, changes in (("no measurements", {}), ("The tile has no data", {"nodata": float(value)})):
        wanted = "NaN or infinite" if value < -1e6 and not changes else told
        refused(ask(client, ("s1", geotiff(holes, **changes))), wanted)


def test_complex_pixels_are_refused(client, s1):
    refused(ask(client, ("s1", geotiff({name: band.astype("complex64") for name, band in s1.items()}))), "complex")


def test_a_form_without_files_or_with_foreign_ones_is_refused(client, s1):
    refused(ask(client, ("s3", geotiff(s1))), "The model has no modality s3")
    refused(client.post("/predict/geotiff", files=[("s1", (None, "text"))]), "", 400)
    refused(client.post("/predict/geotiff", content=b"x"), "multipart/form-data", 415)
    many = [("s1", geotiff(s1))] * 17
    refused(ask(client, *many), "Too many files", 400)


def test_damaged_forms_are_refused(client):
    for body in (b"", b"--x\r\nContent-Disposition: form-data", b"garbage"):
        answer = client.post(
            "/predict/geotiff", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert answer.status_code in (400, 422), answer.text
        assert set(answer.json()) == {"error", "text"}
    answer = client.post("/predict/geotiff", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert answer.status_code in (400, 422)
    assert json.loads(answer.text)["text"]
