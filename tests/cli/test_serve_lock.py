"""Maps, embeddings and drift in an environment that has nothing but `requirements-serve.lock`."""

import json
import os
import subprocess
import sys
import venv

import pyarrow.parquet as pq
import pytest
import rasterio

from tests.cli.conftest import HEIGHT_M, ROOT, WIDTH_M
from tests.inference.conftest import make_scenes

LOCK = ROOT / "requirements-serve.lock"


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of a new environment with the locked packages, checked by their hashes."""
    folder = tmp_path_factory.mktemp("serve") / "environment"
    venv.create(folder)
    found = folder / "bin" / "python"
    # This environment's pip: bringing one of its own takes some seconds more.
    pip = [sys.executable, "-m", "pip", "--python", found, "install", "--quiet", "--no-compile", "--no-deps"]
    done = subprocess.run([*pip, "--require-hashes", "-r", LOCK], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    return make_scenes(folder, HEIGHT_M, WIDTH_M)


@pytest.fixture(scope="module")
def run(python, exported, made):
    """A command on the scenes with the tiny model; what it printed."""

    def run(command, *options):
        given = ["--model", exported.path, "--s1", made.s1, "--s2", made.s2, *options]
        # Neither this process's packages nor the project's own environment.
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "TMPDIR", "LANG")}
        done = subprocess.run(
            [python, "-m", "fusmae", command, *map(str, given)],
            env={**kept, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=ROOT,  # drift reads its thresholds in params.yaml
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_environment_has_no_training(python):
    asked = "import importlib.util as u; print([n for n in ('torch', 'onnx', 'scipy', 'pandas') if u.find_spec(n)])"
    assert subprocess.run([python, "-c", asked], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_map_is_made_to_its_picture(run, tmp_path):
    run("predict", "--out", tmp_path / "map.tif")
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert dataset.count == 4  # three classes and the confidence
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")


def test_embeddings_are_written_with_their_places(run, tmp_path):
    run("embed", "--out", tmp_path / "tiles.parquet")
    table = pq.read_table(tmp_path / "tiles.parquet")
    assert table.num_rows == 12
    crs = json.loads(table.schema.metadata[b"geo"])["columns"]["geometry"]["crs"]
    assert crs["id"] == {"authority": "EPSG", "code": 32633}


def test_drift_is_judged(run, world, tmp_path):
    said = run("drift", "--reference", world.reference, "--out", tmp_path / "out")
    assert said.startswith("alike: ")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["drift.html", "drift.json"]
