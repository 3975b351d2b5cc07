"""The code that a stage's results depend on: what dvc.yaml lists, so that DVC and a cut-off run judge by the same."""

from collections.abc import Sequence
from pathlib import Path

import yaml

PACKAGE = Path(__file__).parents[1]


def stage_code(stage: str, dvc_yaml: Path = Path("dvc.yaml"), *, source: str = "") -> list[Path]:
    """Folders and files of this package that dvc.yaml names as dependencies of a stage.

    Args:
        stage: name in dvc.yaml.
        dvc_yaml: the file.
        source: name of the raw data set, which stands for `${data.source.name}`.

    Returns:
        The whole package where the file has no such stage: a command may be run without DVC.
    """
    try:
        stages = yaml.safe_load(dvc_yaml.read_text(encoding="utf-8"))["stages"]
    except FileNotFoundError:
        stages = {}
    listed = [path.removeprefix("../") for path in stages.get(stage, {}).get("deps", [])]
    code = [path.replace("${data.source.name}", source) for path in listed if path.startswith(f"{PACKAGE.name}/")]
    return [PACKAGE.parent / path for path in code] or [PACKAGE]


def python_files(code: Sequence[Path]) -> list[Path]:
    """The Python files among files and in folders, in order."""
    return sorted({file for path in code for file in ([path] if path.is_file() else path.rglob("*.py"))})
