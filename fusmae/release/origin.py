"""Whether a promotion rests on what the commit names: thresholds, test set, and the version itself."""

from collections.abc import Sequence
from pathlib import Path

from fusmae.data.verdict import require_verdict
from fusmae.errors import ExaminationError, PromotionError
from fusmae.provenance import is_committed
from fusmae.release.artifacts import read_artifact
from fusmae.release.gate import Check
from fusmae.release.lineage import LINEAGE
from fusmae.release.locked import dvc_md5, read_lock
from fusmae.release.models import ModelFile
from fusmae.release.traced import read_lineage

_LOCK = Path("dvc.lock")


def require_committed(params: Path) -> None:
    """Refuse thresholds that no commit names.

    Raises:
        PromotionError: the file is none of the checkout's, or was changed.
    """
    if not is_committed(params):
        raise PromotionError(
            "The thresholds are not those of the commit.",
            got=f"{params}, which the commit does not have like this",
            expected="`gate` in the committed params.yaml",
            hint="git commit params.yaml, and promote without --params",
        )


def require_locked(files: Sequence[Path], shards: Path, verdict: Path) -> None:
    """Refuse a test set other than the one that dvc.lock names.

    Shards are known by their manifest, which the examination's verdict names and dvc.lock the verdict: a whole data set
    is not read for it.

    Args:
        files: that are read beside the shards.
        shards: the data set.
        verdict: the examination's.

    Raises:
        PromotionError: a file is another, or there are other shards.
    """
    known = _outs()
    for path in (*files, verdict):
        if not path.is_file() or known.get(path.as_posix()) != dvc_md5(path):
            raise PromotionError(
                f"{path} is not what dvc.lock names.",
                got=dvc_md5(path) if path.is_file() else "no such file",
                expected=known.get(path.as_posix(), "a path that a stage made"),
                hint=f"dvc checkout {path}",
            )
    try:
        require_verdict(verdict, shards)
    except ExaminationError as error:
        raise PromotionError(
            f"{shards} are not the shards that dvc.lock names: {error}", hint=f"dvc checkout {shards}"
        ) from error


def check_origin(challenger: ModelFile, shards: Path) -> tuple[Check, ...]:
    """Whether dvc.lock leads to this very version, and whether it was trained beside this test set.

    Args:
        challenger: a registered version.
        shards: that it is judged on, as a path that dvc.lock knows.

    Raises:
        RegistryError: MLflow does not answer.
        LineageError: its lineage is damaged.
    """
    asked = ("in the commit's dvc.lock", "trained beside this test set, so that no test pair was in its training")
    text = read_artifact(challenger, LINEAGE)
    if text is None:
        told = "registered without lineage"
        return Check("lock", "skipped", told, asked[0]), Check("test set", "skipped", told, asked[1])
    lineage, known = read_lineage(text, challenger), _outs()
    folder, data = Path(lineage.graph).parent.as_posix(), shards.as_posix()
    return (
        _same("lock", folder, lineage.outs.get(folder), known.get(folder), asked[0]),
        _same("test set", data, lineage.outs.get(data), known.get(data), asked[1]),
    )


def _same(name: str, path: str, got: str | None, locked: str | None, expected: str) -> Check:
    if got is not None and got == locked:
        return Check(name, "passed", f"{path} {got[:12]}", expected)
    found = f"{path} {got[:12] if got else 'unknown'}, dvc.lock names {locked[:12] if locked else 'none'}"
    return Check(name, "failed", found, f"{expected}: check out the commit that it was trained at")


def _outs() -> dict[str, str]:
    stages = read_lock(_LOCK.read_text(encoding="utf-8"))
    return {path: md5 for stage in stages.values() for path, md5 in stage.outs.items()}
