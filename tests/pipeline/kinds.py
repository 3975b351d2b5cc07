"""Small data of every kind of labels, in the layouts in which people have them, and the whole way with it.

It runs as a script in a workspace: all stages of dvc.yaml in one process, which saves a minute of imports per kind,
then `dvc commit`, promotion, a map and an answer of the service. It prints what came of it as JSON.
"""

import hashlib
import io
import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

UTM, TILE_M = "EPSG:32633", 240
COVERS = ("water", "field", "forest")
# Typical numbers of each cover: S1 in dB, S2 in digital numbers by band.
DB = {"VV": (-20.0, -11.0, -9.0), "VH": (-27.0, -18.0, -14.0)}
DN = {"B02": (450, 900, 350), "B03": (500, 1000, 400), "B08": (300, 3000, 3600), "B05": (300, 1800, 1500)}
GSD_M = {"B05": 20}
PLACES, PER_PLACE = 12, 3
NUM_SEN12MS_SCENES = 6


def write(path: Path, bands: dict[str, np.ndarray], gsd_m: int, left: float, top: float, **options: object) -> None:
    """One GeoTIFF with a band per name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.stack(list(bands.values()))
    profile = {"driver": "GTiff", "crs": UTM, "transform": from_origin(left, top, gsd_m, gsd_m), **options}
    count, height, width = pixels.shape
    with rasterio.open(path, "w", count=count, height=height, width=width, dtype=pixels.dtype, **profile) as out:
        out.write(pixels)
        out.descriptions = tuple(bands)


def cover_map(random: np.random.Generator, side: int) -> np.ndarray:
    """Two covers with a straight border, `[side, side]`."""
    one, other = random.permutation(len(COVERS))[:2]
    rows, columns = np.mgrid[:side, :side]
    angle = random.uniform(0, np.pi)
    along = (columns - side / 2) * np.cos(angle) + (rows - side / 2) * np.sin(angle)
    return np.where(along < random.uniform(-side / 5, side / 5), one, other).astype(np.uint8)


def write_scene(folder: Path, name: str, cover: np.ndarray, left: float, top: float, random) -> None:
    """The files of both sensors over a map of covers at 10 m, in the layout of a folder of pairs."""
    s1 = {
        band: (np.array(levels)[cover] + random.normal(0, 1, cover.shape)).astype(np.float32)
        for band, levels in DB.items()
    }
    write(folder / "s1" / f"{name}.tif", s1, 10, left, top)
    for end, gsd_m in (("", 10), ("_20m", 20)):
        step = gsd_m // 10
        bands = {
            band: (np.array(levels)[cover[::step, ::step]] * random.normal(1, 0.05, cover[::step, ::step].shape))
            for band, levels in DN.items()
            if GSD_M.get(band, 10) == gsd_m
        }
        numbers = {band: pixels.clip(30).astype(np.uint16) for band, pixels in bands.items()}
        write(folder / "s2" / f"{name}{end}.tif", numbers, gsd_m, left, top)


def write_folder(raw: Path, kind: str) -> None:
    """Pairs of 240 m in twelve places, with labels of a kind: `regression` per tile, `field` per pixel."""
    side, lines = TILE_M // 10, ["key,labels,split,place" if kind != "regression" else "key,value,split,place"]
    for place in range(PLACES):
        split = ("train", "train", "validation", "test")[place % 4]
        for number in range(PER_PLACE):
            random = np.random.default_rng([place, number])
            name, left, top = f"p{place}_{number}", 400_000.0 + 30_000 * place + TILE_M * number, 5_340_000.0
            cover = cover_map(random, side)
            if kind == "multiclass":
                cover = np.full_like(cover, cover[0, 0])
            write_scene(raw, name, cover, left, top, random)
            mass = (np.array([0.0, 40.0, 180.0])[cover] * random.uniform(0.9, 1.1)).astype(np.float32)
            names = ";".join(COVERS[at] for at in np.unique(cover))
            labels = {"regression": f"{mass.mean():.3f}", "segmentation": "", "field": ""}.get(kind, names)
            if kind == "segmentation":
                cover[0, 0] = 255
                write(raw / "maps" / f"{name}.tif", {"cover": cover}, 10, left, top, nodata=255)
            if kind == "field":
                mass[0, 0] = np.nan
                write(raw / "maps" / f"{name}.tif", {"mass": mass}, 10, left, top, nodata=np.nan)
            lines.append(f"{name},{labels},{split},place {place}")
    (raw / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_sen12ms(raw: Path) -> None:
    """Six scenes of six tiles in SEN12MS's layout: S1 and S2 L1C of 256 px, land cover of four channels."""
    from fusmae.sources.sen12ms import source

    side, names = 256, []
    igbp = np.array([17, 12, 1], np.uint8)  # water, croplands, evergreen forest
    for scene in range(1, NUM_SEN12MS_SCENES + 1):
        for patch in range(6):
            random = np.random.default_rng([scene, patch])
            left, top = 400_000.0 + 40_000 * scene + 1280 * patch, 5_340_000.0
            cover = cover_map(random, side)
            name = f"ROIs1868_summer_{{}}_{scene}_p{patch}.tif"
            folder = raw / "ROIs1868_summer"
            s1 = {
                band: (np.array(levels)[cover] + random.normal(0, 1, cover.shape)).astype(np.float32)
                for band, levels in DB.items()
            }
            write(folder / f"s1_{scene}" / name.format("s1"), s1, 10, left, top)
            s2 = {
                f"B{band}": np.array([250, 900, 420])[cover] * random.normal(1, 0.05, cover.shape) + 10 * band
                for band in range(13)
            }
            numbers = {band: pixels.clip(30).astype(np.uint16) for band, pixels in s2.items()}
            write(folder / f"s2_{scene}" / name.format("s2"), numbers, 10, left, top)
            lc = {f"c{channel}": igbp[cover] for channel in range(4)}
            write(folder / f"lc_{scene}" / name.format("lc"), lc, 10, left, top)
            names.append((scene, name.format("s2")))
    for file, scenes in (("train_list.txt", range(1, 5)), ("test_list.txt", range(5, 7))):
        (raw / file).write_text("\n".join(name for scene, name in names if scene in scenes) + "\n", encoding="utf-8")
    # The authors' lists name hundreds of GB; those made here have sums of their own.
    sums = {
        file.name: hashlib.md5((raw / file.name).read_bytes(), usedforsecurity=False).hexdigest()
        for file in source.LISTS
    }
    source.LISTS = tuple(replace(file, md5=sums[file.name]) for file in source.LISTS)


def write_bigearthnet(raw: Path) -> None:
    """A few dozen made-up patches in BigEarthNet v2's layout, with reference maps."""
    from fusmae.sources.synthetic.plan import World
    from fusmae.sources.synthetic.source import generate

    generate(World(50, 3), raw)


SMALL = [
    "model.dim=32", "model.depth=2", "model.num_heads=2", "model.decoder_dim=32", "model.decoder_depth=1",
    "model.decoder_num_heads=2", "pretrain.epochs=2", "pretrain.warmup_epochs=0.5", "pretrain.num_pictures=1",
    "finetune.epochs=30", "finetune.batch_size=6", "finetune.warmup_epochs=2", "variants.rounds=2",
    "variants.bootstrap_resamples=20", "evaluate.bootstrap_resamples=20", "gate.bootstrap_resamples=20",
    "encoder_gate.bootstrap_resamples=20", "gate.max_calibration_error=0.6", "variants.calibration_pairs=4",
    "data.shard_pairs=20",
]  # fmt: skip
BANDS = (
    "data.modalities.s2.groups=[{gsd_m: 10, bands: [B02, B03, B08]}, {gsd_m: 20, bands: [B05]}]".replace(" ", ""),
    "data.tile_m=240",
    "model.patch_px=8",
)
FOLDER = ["data=folder", *BANDS]
VALUE = "data.source.value={name:biomass,unit:t/ha,min:0,per:%s}"
CASES = {
    "multiclass": (write_folder, [*FOLDER, "data.source.classes=[water,field,forest]", "data.kind=multiclass"]),
    "segmentation": (
        write_folder,
        [*FOLDER, "data.source.classes=[water,field,forest]", "data.kind=segmentation", "finetune.loss=dice"],
    ),
    "regression": (
        write_folder,
        [*FOLDER, "data.source.classes=[]", f"+{VALUE % 'tile'}", "data.kind=regression"],
    ),
    "field": (write_folder, [*FOLDER, "data.source.classes=[]", f"+{VALUE % 'pixel'}", "data.kind=regression"]),
    "sen12ms": (
        write_sen12ms,
        ["data=sen12ms", "data.source.seasons=[summer]", "data.source.validation_share=0.34", "data.kind=multiclass",
         "model.patch_px=32", "finetune.epochs=16", "pretrain.epochs=1", "+data.tolerated.counts=1000000"],
    ),
    "bigearthnet": (
        write_bigearthnet,
        ["data=bigearthnet", "data.source.countries=[Synthetic]", "data.source.snow_and_clouds=true",
         "data.kind=segmentation", "model.patch_px=12", "finetune.epochs=1",
         "finetune.warmup_epochs=0.5", "pretrain.epochs=1"],
    ),
}  # fmt: skip


def run(*arguments: str) -> None:
    """One command of fusmae in this process."""
    from fusmae.cli import app

    app(list(arguments), standalone_mode=False)


def run_stages() -> None:
    """Every stage of dvc.yaml, in an order in which each comes after what it depends on.

    DVC records the stages before a version is registered, whose lineage names their hashes.
    """
    import networkx
    from dvc.repo import Repo

    repo = Repo()
    stages = list(reversed(list(networkx.topological_sort(repo.index.graph))))
    repo.close()
    for registers in (False, True):
        chosen = [stage for stage in stages if stage.addressing.startswith("register") == registers]
        for stage in chosen:
            words = shlex.split(stage.cmd)
            for out in stage.outs:
                Path(out.fs_path).parent.mkdir(parents=True, exist_ok=True)
            run(*words[words.index("fusmae") + 1 :])
        subprocess.run(["dvc", "commit", "--force", "--quiet", *(stage.addressing for stage in chosen)], check=True)


def serve(model: str, pixels: dict[str, np.ndarray]) -> dict[str, object]:
    """The answer of `/predict` for arrays."""
    from fastapi.testclient import TestClient

    from fusmae.serving.app import make_app
    from fusmae.serving.limits import Limits
    from fusmae.serving.loaded import find_model

    content = io.BytesIO()
    np.savez(content, **pixels)
    limits = Limits(max_batch=4, max_requests=4, max_body_mb=16, max_answer_mb=16, poll_s=60, stop_s=5)
    with TestClient(make_app(model, find_model(model), limits)) as client:
        found = client.post("/predict", content=content.getvalue(), headers={"content-type": "application/x-npz"})
    assert found.status_code == 200, found.text
    return found.json()


def main(case: str) -> None:
    """The whole way of one case; prints a JSON object on the last line."""
    from fusmae.config.composition import compose
    from fusmae.data.shards import ShardReader

    make, overrides = CASES[case]
    compose(Path.cwd(), [one for one in overrides if one.startswith("data=")])
    compose(Path.cwd(), [*SMALL, *(one for one in overrides if not one.startswith("data="))])
    name = overrides[0].partition("=")[2]
    make(Path("data/raw") / name, *([case] if make is write_folder else []))
    subprocess.run(shlex.split("git commit -q -a -m chosen"), check=True)
    run_stages()
    subprocess.run(shlex.split("git commit -q -a -m trained"), check=True)
    is_promoted = make is write_folder  # the others are trained too briefly for the gate
    for model in ("fusmae", "fusmae-encoder") if is_promoted else ():
        run("promote", model)
    reader = ShardReader(Path("data/shards"), "test")
    answer = serve(f"fusmae@{'champion' if is_promoted else 'challenger'}", reader.read([0, 1]))
    found: dict[str, object] = {
        "answer": answer,
        "keys": reader.keys[:2],
        "labels": reader.labels[:2].tolist(),
        "scores": json.loads(Path("reports/evaluate/scores.json").read_text(encoding="utf-8")),
        "figures": sorted(path.name for path in Path("reports/evaluate/figures").iterdir()),
        "card": Path("reports/register/card.md").read_text(encoding="utf-8"),
    }
    if reader.has_maps:
        found["maps"] = reader.read_maps([0, 1]).tolist()
    if is_promoted:
        random = np.random.default_rng(99)
        cover = np.repeat(np.arange(3, dtype=np.uint8), 24)[None].repeat(60, axis=0)
        write_scene(Path("scene"), "scene", cover, 700_003.7, 5_400_001.2, random)
        scene = ["--s1", "scene/s1/scene.tif", "--s2", "scene/s2/scene.tif", "--s2", "scene/s2/scene_20m.tif"]
        run("predict", "--model", "fusmae@champion", *scene, "--out", "scene/map.tif")
        run("predict", "--model", "fusmae@champion", *scene[:2], "--out", "scene/s1_only.tif")
        with rasterio.open("scene/map.tif") as made:
            found["map"] = {"pixels": made.read(1).tolist(), "gsd_m": made.res[0], "units": list(made.units)}
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    main(sys.argv[1])
