"""SEN12MS's layout with generated tiles: real names, types, bands and georeference, made-up pixels."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import Affine

REPOSITORY = Path(__file__).parents[3]
SHARED = REPOSITORY.parent / "shared" / "data" / "sen12ms"

CHANNELS = {"s1": 2, "s2": 13, "lc": 4}
DTYPES = {"s1": "float32", "s2": "uint16", "lc": "uint8"}

WriteTile = Callable[..., Path]


def write_tile(raw: Path, name: str, kind: str, *, side_px: int = 256, igbp: int = 1, **changes) -> Path:
    """One file of a triplet, named after its S2 file; `changes` go into rasterio's profile, or are `pixels`."""
    folder, scene = name.rsplit("_s2_")[0], name.split("_")[3]
    path = raw / folder / f"{kind}_{scene}" / name.replace("_s2_", f"_{kind}_")
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"count": CHANNELS[kind], "dtype": DTYPES[kind], "crs": "EPSG:32631"}
    profile |= {"transform": Affine(10, 0, 712354.29, 0, -10, 1288830.13), "width": side_px, "height": side_px}
    profile |= {key: value for key, value in changes.items() if key != "pixels"}
    random = np.random.default_rng(list(path.name.encode()))
    shape = (profile["count"], profile["height"], profile["width"])
    made = {"s1": random.normal(-14, 3, shape), "s2": random.integers(0, 9000, shape), "lc": np.full(shape, igbp)}
    with rasterio.open(path, "w", driver="GTiff", **profile) as dataset:
        dataset.write(changes.get("pixels", made[kind]).astype(profile["dtype"]))
    return path


def write_lists(raw: Path, *, train: list[str], test: list[str]) -> None:
    raw.mkdir(parents=True, exist_ok=True)
    for name, lines in (("train_list.txt", train), ("test_list.txt", test)):
        (raw / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


TRAIN = [
    f"{folder}_s2_{scene}_p{patch}.tif"
    for folder in ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
    for scene in range(10)
    for patch in (30, 31, 100)
]
TEST = [f"{folder}_s2_{scene}_p7.tif" for folder in ("ROIs1158_spring", "ROIs2017_winter") for scene in (63, 146)]


@pytest.fixture(scope="session")
def raw_lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both lists, of ten scenes a season; without tiles."""
    raw = tmp_path_factory.mktemp("sen12ms-lists")
    write_lists(raw, train=TRAIN, test=TEST)
    return raw


@pytest.fixture(scope="session")
def raw_land_cover(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with land-cover tiles of 8 px; the scene's number plus one is the IGBP class of all pixels."""
    raw = tmp_path_factory.mktemp("sen12ms-land-cover")
    write_lists(raw, train=TRAIN, test=TEST)
    for name in [*TRAIN, *TEST]:
        write_tile(raw, name, "lc", side_px=8, igbp=int(name.split("_")[3]) % 17 + 1)
    return raw


@pytest.fixture(scope="session")
def shared_sen12ms() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the real SEN12MS tiles are not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def tile_writer() -> WriteTile:
    return write_tile


@pytest.fixture(scope="session")
def list_writer() -> Callable[..., None]:
    return write_lists
