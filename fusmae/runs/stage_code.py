"""The code that a stage's results depend on, as dvc.yaml lists it: DVC and resume keys compare the same files."""

from pathlib import Path

import yaml

from fusmae.files import file_sha256

PACKAGE = Path(__file__).parents[1]


def stage_code(stage: str, dvc_yaml: Path = Path("dvc.yaml"), *, source: str = "") -> dict[str, str]:
    """SHA-256 of each Python file that dvc.yaml names as a dependency of a stage, by path.

    Where there is no such file or stage, as a command may run without DVC, all files of the package count. `source` is
    the name of the raw data set, which replaces `${data.source.name}`.
    """
    stages = yaml.safe_load(dvc_yaml.read_text(encoding="utf-8"))["stages"] if dvc_yaml.exists() else {}
    listed = [path.removeprefix("../") for path in stages.get(stage, {}).get("deps", [])]
    rooms = [path.replace("${data.source.name}", source) for path in listed if path.startswith("fusmae/")]
    root = PACKAGE.parent
    paths = [root / room for room in rooms] or [PACKAGE]
    files = {file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))}
    return {file.relative_to(root).as_posix(): file_sha256(file) for file in sorted(files)}
