"""A clone that git converts on checkout has the same bytes, which DVC and the resume key hash."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
IDENTITY = ("-c", "user.name=t", "-c", "user.email=t@example.org")


def git(folder, *arguments):
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True).stdout


def test_a_clone_with_autocrlf_has_the_same_bytes_in_every_file(tmp_path):
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").decode().split("\0")
    names = [name for name in listed if name and (ROOT / name).is_file()]
    for name in names:
        copy = tmp_path / "origin" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    git(tmp_path, "init", "-q", "origin")
    git(tmp_path / "origin", "add", "--all")
    git(tmp_path / "origin", *IDENTITY, "commit", "-q", "-m", "as it stands")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "-q", "-c", "core.autocrlf=true", "origin", "clone")
    different = [name for name in names if (tmp_path / "clone" / name).read_bytes() != (ROOT / name).read_bytes()]
    assert different == []
    assert git(tmp_path / "clone", "status", "--porcelain") == b""
