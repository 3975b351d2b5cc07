"""The examination stands between a user's data and training."""

import json

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("examine"), pytest.mark.timeout(900)]

BANDS = {
    "s1/{key}.tif": ("VV", "VH"),
    "s2/{key}.tif": ("B02", "B03", "B04", "B08"),
    "s2/{key}_20m.tif": ("B05", "B06", "B07", "B8A", "B11", "B12"),
    "s2/{key}_60m.tif": ("B01", "B09"),
}
SIDE_PX = {"_20m": 60, "_60m": 20}


def write_raster(path, bands, pixels, column):
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    side = pixels.shape[-1]
    transform = from_origin(500_000 + 50_000 * column, 5_000_000, 1200 / side, 1200 / side)
    profile = {"driver": "GTiff", "count": len(bands), "height": side, "width": side, "dtype": pixels.dtype}
    with rasterio.open(path, "w", crs="EPSG:32633", transform=transform, **profile) as dataset:
        dataset.write(pixels)
        dataset.descriptions = bands


def write_pairs(raw, constant=()):
    """Nine pairs far from one another; S2 of some is one value throughout."""
    random = np.random.default_rng(0)
    rows = ["key,labels,split,place,date,country"]
    for number in range(9):
        key, split = f"p{number}", ("train", "validation", "test")[number % 3]
        rows.append(f"{key},{'water' if number % 2 else 'land'},{split},place{number},2017-06-13,")
        for name, bands in BANDS.items():
            side = next((px for ending, px in SIDE_PX.items() if ending in name), 120)
            shape = (len(bands), side, side)
            if name.startswith("s1"):
                pixels = random.normal(-14, 3, shape).astype(np.float32)
            elif key in constant:
                pixels = np.full(shape, 700, np.uint16)
            else:
                pixels = random.integers(100, 3000, shape).astype(np.uint16)
            write_raster(raw / name.format(key=key), bands, pixels, number)
    (raw / "pairs.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def workspace(new_workspace, tmp_path_factory):
    made = new_workspace(tmp_path_factory.mktemp("examine") / "fusmae")
    write_pairs(made.folder / "data" / "raw" / "folder", constant=("p4", "p7"))
    params = yaml.safe_load((made.folder / "params.yaml").read_text())
    params["data"]["source"] = {"name": "folder", "classes": ["water", "land"], "s2_offset": 0}
    params["data"]["tolerated"] = {}
    (made.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return made


def repro(workspace, *targets, check=True):
    return workspace.run(".venv/bin/dvc", "repro", *targets, check=check)


def tolerate(workspace, tolerated):
    path = workspace.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["data"]["tolerated"] = tolerated
    path.write_text(yaml.safe_dump(params, sort_keys=False))


@pytest.fixture(scope="module")
def blocked(workspace):
    return repro(workspace, "pretrain", check=False)


def test_a_finding_ends_repro_before_training_and_says_what_to_do(workspace, blocked):
    assert blocked.returncode != 0
    assert "constant" in blocked.stdout
    assert "p4" in blocked.stdout
    assert "reports/examine/report.html" in blocked.stdout
    assert "Running stage 'pretrain'" not in blocked.stdout
    assert not (workspace.folder / "data" / "verdict.json").exists()
    report = json.loads((workspace.folder / "reports" / "examine" / "report.json").read_text())
    assert {check["name"]: check["found"] for check in report["checks"]}["constant"] == 2
    assert "p4" in (workspace.folder / "reports" / "examine" / "report.html").read_text()


def test_a_finding_that_was_agreed_to_lets_training_start_and_shards_nothing_anew(workspace, blocked):
    pixels = workspace.folder / "data" / "shards" / "train" / "00000" / "pixels.npy"
    before = pixels.stat().st_mtime_ns
    tolerate(workspace, {"constant": 2})
    printed = repro(workspace, "examine").stdout
    assert "Running stage 'examine'" in printed
    assert "Running stage 'shard'" not in printed
    assert pixels.stat().st_mtime_ns == before
    assert json.loads((workspace.folder / "data" / "verdict.json").read_text())["is_fit"] is True


def test_an_unreadable_pair_ends_shard_until_it_is_mended_and_the_receipt_names_the_mended_one(workspace, blocked):
    raw = workspace.folder / "data" / "raw" / "folder"
    path = raw / "s2" / "p0_20m.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    repro(workspace, "-f", "-s", "fetch")
    done = repro(workspace, "examine", check=False)
    assert done.returncode != 0
    assert "can't be taken into the shards" in done.stdout
    assert "p0_20m.tif" in done.stdout
    assert json.loads((workspace.folder / "data" / "left_out.json").read_text())[0]["key"] == "p0"
    mend(path, whole)
    done = repro(workspace, "examine", check=False)
    assert done.returncode != 0
    assert "is not what data/raw.json names" in done.stdout
    assert "next:     fusmae update" in done.stdout
    repro(workspace, "-f", "-s", "fetch")
    repro(workspace, "examine")
    assert not (workspace.folder / "data" / "left_out.json").exists()
    assert list((workspace.folder / "data").glob(".shards-*")) == []


def mend(path, whole):
    """Write the whole file, with a tag: byte for byte as it was, DVC would have its shards in the cache."""
    import rasterio

    path.write_bytes(whole)
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(MENDED="yes")


def test_new_pairs_are_found_by_a_flow_without_being_told_of(workspace, blocked):
    raw = workspace.folder / "data" / "raw" / "folder"
    rows = (raw / "pairs.csv").read_text().splitlines()
    for number, split in enumerate(("train", "validation", "test"), start=9):
        for side in ("s1", "s2"):
            for path in (raw / side).glob("p0*.tif"):
                moved_copy(path, path.with_name(path.name.replace("p0", f"p{number}")), number)
        rows.append(f"p{number},water,{split},place{number},2017-06-13,")
    (raw / "pairs.csv").write_text("\n".join(rows) + "\n")
    tolerate(workspace, {"constant": 2})
    printed = workspace.run(".venv/bin/python", "-m", "flows.pipeline", "preprocess").stdout
    assert "raw files have changed" in printed
    indexed = "import pyarrow.parquet as p; print(*sorted(p.read_table('data/index.parquet')['key'].to_pylist()))"
    assert workspace.python(indexed).split() == sorted(f"p{number}" for number in range(12))
    assert "Data and pipelines are up to date" in repro(workspace, "examine").stdout


def moved_copy(path, to, column):
    """A raster again, elsewhere and with other pixels."""
    import rasterio

    with rasterio.open(path) as dataset:
        pixels, names = dataset.read(), dataset.descriptions
    write_raster(to, names, np.roll(pixels[:, ::-1], 7 * column, axis=-1), column)
