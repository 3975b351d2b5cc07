"""Shards and models travel through an S3 remote; what was changed there is refused."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest
import yaml

pytestmark = [pytest.mark.xdist_group("pipeline"), pytest.mark.timeout(900)]

KEYS = {"AWS_ACCESS_KEY_ID": "fusmae", "AWS_SECRET_ACCESS_KEY": "fusmae-secret", "AWS_DEFAULT_REGION": "eu-central-1"}
BUCKET = "team"
PULLED = ("data/shards", "data/verdict.json", "data/statistics.json", "models/pretrain/pretrained", "models/export")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    """A server that speaks S3, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log
        )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def bucket(endpoint):
    s3 = boto3.resource(
        "s3",
        endpoint_url=endpoint,
        region_name=KEYS["AWS_DEFAULT_REGION"],
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
    )
    return s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": KEYS["AWS_DEFAULT_REGION"]})


def dvc(folder: Path, workspace, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(workspace.folder / ".venv" / "bin" / "dvc"), *arguments],
        cwd=folder,
        env={**workspace.environment, **KEYS, "NO_PROXY": "127.0.0.1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, done.stdout[-4000:]
    return done


def add_remote(folder: Path, workspace, endpoint: str) -> None:
    """README's commands, kept out of the shared configuration."""
    dvc(folder, workspace, "remote", "add", "--local", "--default", "storage", f"s3://{BUCKET}/fusmae")
    dvc(folder, workspace, "remote", "modify", "--local", "storage", "verify", "true")
    dvc(folder, workspace, "remote", "modify", "--local", "storage", "endpointurl", endpoint)


@pytest.fixture(scope="module")
def pushed(finished, endpoint, bucket):
    add_remote(finished.folder, finished, endpoint)
    dvc(finished.folder, finished, "push")
    return bucket


@pytest.fixture
def clone(finished, endpoint, pushed, tmp_path):
    """A second checkout of the same commit and dvc.lock, with nothing but git's files."""
    folder = tmp_path / "clone"
    finished.run("git", "clone", "-q", str(finished.folder), str(folder))
    (folder / "dvc.lock").write_bytes((finished.folder / "dvc.lock").read_bytes())
    add_remote(folder, finished, endpoint)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def object_of(pushed, finished, path: str):
    """The remote's object that holds a file of the workspace."""
    import hashlib

    md5 = hashlib.md5((finished.folder / path).read_bytes()).hexdigest()
    (found,) = [item for item in pushed.objects.all() if item.key.endswith(f"{md5[:2]}/{md5[2:]}")]
    return found.Object()


def test_a_second_clone_pulls_the_same_shards_and_models(finished, clone):
    dvc(clone, finished, "pull")
    for path in PULLED:
        own, pulled = finished.folder / path, clone / path
        if own.is_dir():
            assert files_of(pulled) == files_of(own) != {}
        else:
            assert pulled.read_bytes() == own.read_bytes()
    assert not (clone / "data" / "raw").exists()
    assert "up to date" in dvc(clone, finished, "status").stdout


def test_no_single_patch_is_in_the_remote(finished, pushed):
    lock = yaml.safe_load((finished.folder / "dvc.lock").read_text())
    outs = [out["path"] for stage in lock["stages"].values() for out in stage["outs"]]
    assert "data/raw.json" in outs
    assert "data/raw" not in outs
    assert sum(1 for _ in pushed.objects.all()) < 200


@pytest.fixture(params=["data/shards/train/00000/pixels.npy", "models/export/model.onnx"])
def corrupted(request, finished, pushed):
    """One object whose content was changed in the remote; put right afterwards."""
    found = object_of(pushed, finished, request.param)
    content = found.get()["Body"].read()
    found.put(Body=content[:-1] + bytes([content[-1] ^ 1]))
    yield request.param
    found.put(Body=content)


def test_a_corrupted_object_is_refused_by_pull(finished, clone, corrupted):
    out = "data/shards" if corrupted.startswith("data") else "models/export"
    done = dvc(clone, finished, "pull", out, check=False)
    assert done.returncode != 0
    assert not (clone / corrupted).exists()
    assert Path(corrupted).name in done.stdout or "failed to" in done.stdout.lower(), done.stdout


def test_a_corrupted_shard_that_was_pulled_unverified_is_refused_by_its_reader(finished, clone, pushed):
    path = "data/shards/train/00000/pixels.npy"
    found = object_of(pushed, finished, path)
    content = found.get()["Body"].read()
    found.put(Body=content[:-1] + bytes([content[-1] ^ 1]))
    try:
        dvc(clone, finished, "remote", "modify", "--local", "storage", "verify", "false")
        dvc(clone, finished, "pull", "data/shards")
        script = "import sys; from pathlib import Path; from fusmae.data.shards import ShardReader; "
        script += "ShardReader(Path(sys.argv[1]), 'train')"
        done = finished.run(".venv/bin/python", "-c", script, str(clone / "data" / "shards"), check=False)
        assert done.returncode != 0
        assert f"The checksum of {clone / path} is wrong: the shard is damaged." in done.stdout
    finally:
        found.put(Body=content)
