"""README from top to bottom, each command as printed, after its pipeline command; what can't be run here says why."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.xdist_group("copies of the pipeline"), pytest.mark.timeout(1500)]
ROOT = Path(__file__).parents[2]
NOT_RUN = {
    "make pipeline": "the fixture `finished` has run it",
    "make test": "the tests beside these; .ci/run runs it",
    "make test-all": "runs these tests, too; .ci/run runs it",
    "make study": "50 minutes; tests/pipeline/test_study.py runs a small one",
    ". .venv/bin/activate": "stands before each command here",
    "dvc exp run -S model=small": "hours on a CPU; tests/config/test_composition.py composes it",
    "fusmae reproduce fusmae@champion": "tests/pipeline/test_reproduce.py runs it",
    "python -m flows.pipeline": "tests/pipeline/test_flows.py runs it",
    "python -m flows.deploy": "needs a server; tests/team runs it",
    "FUSMAE_WORKSPACE=$PWD prefect worker start --pool cpu": "needs a server; tests/team starts workers",
    "prefect deployment run pipeline/pipeline -p overrides='[\"pretrain.epochs=3\"]'": "tests/team runs it",
    "dvc exp run -S data=bigearthnet -S 'data.source.countries=[Austria]' examine": "110 GB",
    "dvc exp run -S data=synthetic -S data.kind=segmentation -S data.source.num_pairs=200": (
        "trains for half an hour; tests/pipeline/test_kinds.py trains a smaller one"
    ),
    "dvc exp run -S data=sen12ms -S data.kind=multiclass -S model.patch_px=16": (
        "hundreds of GB; tests/pipeline/test_kinds.py trains on a few tiles in its layout"
    ),
    "fusmae tile --s1 s1.tif --s2 s2_folder --labels fields.gpkg --class-column crop": "tests/cli/test_tile.py runs it",
    "fusmae predict --model fusmae@champion --s2 item.json --bbox 13.3,48.1,13.5,48.3 --out map.tif": (
        "needs an item of a scene there; tests/cli/test_stac.py runs the command"
    ),
    "dvc repro": "trains on the 200 synthetic pairs before it for half an hour",
    "dvc remote add --default storage s3://bucket/fusmae": "needs a bucket; tests/pipeline/test_remote.py has one",
    "dvc remote modify storage verify true": "as above",
    "dvc push": "as above",
}
# Where a command is to end otherwise than with 0: its exit codes, and what it then says.
ENDS_OTHERWISE = {
    'fusmae rollback fusmae --reason "coast is wrong"': ((1,), "was the first champion"),
    # 3: unlike the training data, which one scene may or may not be.
    "fusmae drift --model fusmae@champion --s2 s2_folder --out reports/drift": ((0, 3), ""),
}


def blocks():
    """(language, text) of README's blocks."""
    return re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def commands(text):
    """A block's lines without what they say of themselves."""
    lines = (re.sub(r"(^|\s+)# .*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]


PRINTED = [line for language, text in blocks() if language == "sh" for line in commands(text)]


def test_what_is_not_run_is_printed_in_readme():
    assert NOT_RUN.keys() | ENDS_OTHERWISE.keys() <= set(PRINTED)


@pytest.fixture(scope="module")
def copy(new_workspace, untouched, tmp_path_factory):
    """The finished workspace once more, with a person's name and a scene."""
    workspace = new_workspace(tmp_path_factory.mktemp("readme") / "fusmae", untouched)
    folder = workspace.folder

    def run(command):
        return workspace.run("bash", "-c", f". .venv/bin/activate && {command}", check=False)

    run("git config user.name t && git config user.email t@example.org")
    patches = folder / "data/raw/sample/v1_geotiff"
    s2 = next(path for path in sorted((patches / "BigEarthNet-S2-Example").iterdir()) if path.is_dir())
    s1 = next(path for path in sorted((patches / "BigEarthNet-S1-Example").iterdir()) if path.is_dir())
    shutil.copytree(s2, folder / "s2_folder")
    write_s1(s1, folder / "s1.tif", next((folder / "s2_folder").glob("*B02.tif")))
    return SimpleNamespace(folder=folder, run=run)


def write_s1(patch, path, grid):
    """Both polarisations in one file; laid over the S2 scene, as the example's patches are of several places."""
    import rasterio

    with rasterio.open(grid) as where:
        profile = {key: where.profile[key] for key in ("crs", "transform", "width", "height")}
    with rasterio.open(path, "w", driver="GTiff", count=2, dtype="float32", **profile) as out:
        for number, band in enumerate(("VV", "VH"), start=1):
            with rasterio.open(next(patch.glob(f"*_{band}.tif"))) as read:
                out.write(read.read(1), number)
            out.set_band_description(number, band)


def steps():
    """What README has to run, with the command that runs it."""
    for language, text in blocks():
        if language == "python":
            yield text, f"python - <<'END'\n{text}\nEND"
        else:
            yield from ((command, command) for command in commands(text) if command not in NOT_RUN)


@pytest.fixture(scope="module")
def walked(copy):
    """What each step of README ended with, up to the first that does not do what it says."""
    ended = {}
    for step, command in steps():
        ended[step] = copy.run(command)
        codes, said = ENDS_OTHERWISE.get(step, ((0,), ""))
        if ended[step].returncode not in codes or said not in ended[step].stdout:
            break
    return ended


def test_every_command_of_readme_does_what_it_says_in_the_order_in_which_it_stands(walked):
    for step, done in walked.items():
        codes, said = ENDS_OTHERWISE.get(step, ((0,), ""))
        assert done.returncode in codes, f"{step} ended with {done.returncode}:\n{done.stdout[-4000:]}"
        assert said in done.stdout, f"{step}:\n{done.stdout[-4000:]}"
    assert list(walked) == [step for step, _ in steps()]


def test_readme_s_synthetic_world_is_examined_and_called_so(copy, walked):
    assert "dvc exp run -S data=synthetic -S data.source.num_pairs=200 examine" in walked
    report = (copy.folder / "reports" / "examine" / "report.html").read_text(encoding="utf-8")
    assert "synthetic" in report.lower()
    manifest = json.loads((copy.folder / "data" / "shards" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["origin"]["is_synthetic"] is True
    assert sum(shard["count"] for split in manifest["splits"].values() for shard in split) == 200
    assert json.loads((copy.folder / "data" / "raw.json").read_text())["source"]["num_pairs"] == 200
