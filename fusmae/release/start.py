"""Finds the weights that a training starts from: in a checkpoint's folder, a file, or with a registered version."""

import shutil
from pathlib import Path

from fusmae.errors import CheckpointError
from fusmae.release.registry.model_file import REFERENCE, RESTORE, fetch_artifact, registered_version
from fusmae.runs.git import original_folder
from fusmae.training.checkpoint_card import CARD, WEIGHTS, card_of, read_card

_EXPECTED = f"a checkpoint's folder, NAME@ALIAS, NAME/VERSION, or {WEIGHTS} beside its {CARD}"


def copy_start(reference: str, out: Path) -> dict[str, str]:
    """Copy the two files of a checkpoint into the folder `out`.

    Args:
        reference: value of a parameter `start`: a checkpoint's folder, `models:/fusmae-encoder@champion`,
            `fusmae-encoder/3`, or a file of weights with its checkpoint.json beside it.
        out: folder for the files.

    Returns:
        The reference, what it meant now (an absolute path, or a version such as `fusmae-encoder/3`), and the SHA-256 of
        the weights.

    Raises:
        CheckpointError: there is no such folder or file, the version has no checkpoint, or the files are damaged.
        RegistryError: there is no such version or alias, or MLflow does not answer.
    """
    # In a checkout of `dvc exp run --temp`, files that are not tracked are in the original one.
    paths = [found for found in (Path(reference), original_folder() / reference) if found.exists()]
    if paths:
        origin = _copy(paths[0], out)
    elif REFERENCE.fullmatch(reference):
        origin = _download(reference, out)
    else:
        raise CheckpointError(
            f"There are no weights to start from at {reference}.",
            got=f"no such folder or file; relative paths count from {Path.cwd()}",
            expected=_EXPECTED,
            hint="mend the parameter `start` in params.yaml, then `dvc repro`",
        )
    card = read_card(out / WEIGHTS, hint=RESTORE)
    return {"reference": reference, "origin": origin, "sha256": card["sha256"]}


def _copy(path: Path, out: Path) -> str:
    weights = path / WEIGHTS if path.is_dir() else path
    if path.is_file() and path.suffix != ".safetensors":
        raise CheckpointError(
            f"{path} is no file of weights that a training can start from.",
            got=f"a file that ends in {path.suffix or 'nothing'}",
            expected=_EXPECTED,
            hint="name the folder of a checkpoint, such as models/pretrain/pretrained",
        )
    # Refused here, where the message names the files that the user knows.
    read_card(
        weights, hint=f"copy {weights.name} and its {card_of(weights).name} here once more, from where they were made"
    )
    shutil.copyfile(weights, out / WEIGHTS)
    shutil.copyfile(card_of(weights), out / CARD)
    return str(path.absolute())


def _download(reference: str, out: Path) -> str:
    version = registered_version(reference)
    for name in (WEIGHTS, CARD):
        found = fetch_artifact(version, name, out / "download")
        if found is None:
            raise CheckpointError(
                f"{version.label} was registered without its checkpoint, so no training can start from it.",
                got=f"no {name} beside its graph",
                expected="a version of the encoder that the pipeline registered with its checkpoint",
                hint="name another version, or the folder of the checkpoint: models/pretrain/pretrained",
            )
        found.replace(out / name)
    shutil.rmtree(out / "download")
    return version.label
