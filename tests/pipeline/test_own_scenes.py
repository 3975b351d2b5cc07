"""From raw scenes and a GeoPackage to a map, in one go: cut, pretrained from an encoder, finetuned, promoted."""

import json
from types import SimpleNamespace

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

# A pretraining of two epochs and two finetunings of 40, on 28 tiles of 600 m: two minutes.
pytestmark = [pytest.mark.xdist_group("copies of the pipeline"), pytest.mark.timeout(1500)]
UTM, TOP, SIDE_M, STRIPE_M = "EPSG:32633", 5_340_000, 6000, 2000
LEFTS = {"a": 400_000, "b": 440_000}
COVERS = ("water", "field", "forest")
# Typical numbers of each cover: S1 in dB, S2 in digital numbers by band.
DB = {"VV": (-20.0, -11.0, -9.0), "VH": (-27.0, -18.0, -14.0)}
DN = {
    **dict.fromkeys(("B01", "B02", "B03", "B04"), (450, 900, 350)),
    **dict.fromkeys(("B05", "B06", "B07", "B08", "B8A", "B09"), (300, 2600, 3300)),
    **dict.fromkeys(("B11", "B12"), (200, 2400, 1200)),
}
GSD_M = {**dict.fromkeys(("B02", "B03", "B04", "B08"), 10), "B01": 60, "B09": 60}


def write(path, values, gsd_m, left, *names):
    """A raster of stripes from west to east, one per cover, with noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = SIDE_M // gsd_m
    stripes = np.arange(side) * gsd_m // STRIPE_M
    random = np.random.default_rng([left, *path.stem.encode()])
    pixels = np.stack([np.broadcast_to(np.array(one, float)[stripes], (side, side)) for one in values])
    if len(names) == 2:
        pixels = (pixels + random.normal(0, 1.5, pixels.shape)).astype(np.float32)
    else:
        pixels = (pixels * random.normal(1, 0.08, pixels.shape)).clip(30).astype(np.uint16)
    profile = {"driver": "GTiff", "crs": UTM, "transform": from_origin(left, TOP, gsd_m, gsd_m)}
    with rasterio.open(path, "w", count=len(pixels), height=side, width=side, dtype=pixels.dtype, **profile) as out:
        out.write(pixels)
        out.descriptions = names


def write_scenes(folder):
    shapes, covers = [], []
    for name, left in LEFTS.items():
        write(folder / name / "s1.tif", DB.values(), 10, left, *DB)
        for band, values in DN.items():
            gsd_m = GSD_M.get(band, 20)
            write(folder / name / "s2" / f"T33UUP_20200607T101031_{band}.tif", [values], gsd_m, left, band)
        for number, cover in enumerate(COVERS):
            west = left + number * STRIPE_M
            shapes.append(shapely.box(west, TOP - SIDE_M, west + STRIPE_M, TOP))
            covers.append(cover)
    labels, kinds = shapely.to_wkb(np.array(shapes, object)), np.array(covers, object)
    pyogrio.raw.write(folder / "cover.gpkg", labels, [kinds], ["cover"], crs=UTM, geometry_type="Polygon")


@pytest.fixture(scope="module")
def walked(new_workspace, untouched, tmp_path_factory):
    """What each command printed, in a copy of the finished quick start."""
    workspace = new_workspace(tmp_path_factory.mktemp("own") / "fusmae", untouched)
    write_scenes(workspace.folder / "scenes")

    def run(command):
        return workspace.run("bash", "-c", f". .venv/bin/activate && {command}").stdout

    run("git config user.name t && git config user.email t@example.org && git commit -q -a -m locked")
    tile = "--labels scenes/cover.gpkg --class-column cover --side 600 --block 1200"
    printed = {
        "tile": run(f"fusmae tile --s1 scenes/a/s1.tif --s2 scenes/a/s2 {tile} --name a"),
        "append": run(f"fusmae tile --s1 scenes/b/s1.tif --s2 scenes/b/s2 {tile} --name b --append"),
        "run": run(
            "dvc exp run -S data=folder -S pretrain.start=fusmae-encoder@challenger -S pretrain.epochs=2 "
            "-S pretrain.warmup_epochs=1 -S finetune.epochs=40"
        ),
        "promote": run("fusmae promote fusmae --experiment workspace"),
        "encoder": run("fusmae promote fusmae-encoder --experiment workspace"),
        "map": run(
            "fusmae predict --model fusmae@champion --s1 scenes/b/s1.tif --s2 scenes/b/s2 --out map.tif --stride 300"
        ),
    }
    return SimpleNamespace(folder=workspace.folder, printed=printed)


def test_scenes_become_pairs_of_both_places_in_all_splits(walked):
    assert "next: dvc exp run -S data=folder examine" in walked.printed["tile"]
    tiles = json.loads((walked.folder / "data/raw/folder/tiles.json").read_text(encoding="utf-8"))
    assert [scene["name"] for scene in tiles["scenes"]] == ["a", "b"]
    for name in LEFTS:
        assert (walked.folder / f"data/raw/folder/tiles_{name}.png").stat().st_size > 10_000


def test_pretraining_starts_from_the_sample_s_encoder_of_another_tile_side(walked):
    card = json.loads((walked.folder / "models/pretrain/pretrained/checkpoint.json").read_text(encoding="utf-8"))
    start = card["provenance"]["start"]
    assert start["origin"] == "fusmae-encoder/1"
    assert "encoder.blocks.0.attn.qkv.weight" in start["taken"]
    assert start["initialised"] == []
    assert card["architecture"]["tile_px"] == 60


def test_both_models_pass_their_gates(walked):
    assert "passes (no champion yet)" in walked.printed["promote"]
    assert "passes (no champion yet)" in walked.printed["encoder"]


def test_the_map_shows_what_the_polygons_say(walked):
    with rasterio.open(walked.folder / "map_classes.tif") as dataset:
        classes = dataset.read(1)
    thirds = np.array_split(classes, len(COVERS), axis=1)
    middles = [third[:, third.shape[1] // 4 : -third.shape[1] // 4] for third in thirds]
    names = json.loads((walked.folder / "models/export/preprocessing.json").read_text(encoding="utf-8"))["classes"]
    for cover, middle in zip(COVERS, middles, strict=True):
        assert (middle == names.index(cover) + 1).mean() > 0.9, cover  # 0 stands for no data
