"""How a scene is cut into pairs, and whether that agrees with the pairs that are there and with the scenes given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from fusmae.config.task import Kind, Value
from fusmae.errors import InputError
from fusmae.inference.pairs.folder import Content
from fusmae.inference.pairs.label_file import LabelFile
from fusmae.inference.scene.tiles import MAX_EMPTY_SHARE
from fusmae.modalities import MAP_GSD_M, Modality, ModalityInput, modality_inputs

DEFAULT_SHARES = (0.7, 0.15, 0.15)
DEFAULT_MIN_SHARE = 0.05


@dataclass(frozen=True)
class CutSettings:
    """How to cut a scene."""

    name: str  # name that the keys of the pairs begin with; "" for that of the scene's files
    modalities: Mapping[str, Modality]  # bands to cut, by modality; those that the folder has, where it has pairs
    tile_m: int  # side of a tile
    seed: int  # random seed that shifts which blocks belong to which split
    block_m: int | None = (
        None  # side of the blocks of ground that belong to one split; None for one that fits the scene
    )
    gap_m: int | None = None  # least distance of tiles of two splits; None for a tile's side
    shares: tuple[float, ...] = DEFAULT_SHARES  # shares of the blocks by split
    max_nodata: float = MAX_EMPTY_SHARE  # largest share of a modality's pixels in a tile that may have no data
    min_share: float = DEFAULT_MIN_SHARE  # least share of a tile that a class covers if it is a label
    labels: LabelFile | None = None  # labels; None for pairs without any
    kind: Kind | None = None  # kind of the labels; None for that of the pairs that are there, or several per pair
    value: Value | None = None  # quantity of a regression; None for that of the pairs that are there, or for classes
    keeps_unlabelled: bool = False  # whether tiles without a label are pairs, too, where there are labels
    taken: datetime | None = None  # date of the scene; None to find it in file names
    appends: bool = False  # whether the folder may have pairs of other scenes
    is_checked: bool = True  # whether to refuse pixels that look like other units


def with_those_of(before: Content | None, settings: CutSettings, out: Path) -> CutSettings:
    """The settings, with those of the pairs that are there: only equal tiles can be learned from together.

    Raises:
        InputError: the folder has pairs, and the settings don't say that it may, or say other ones than these have.
    """
    if before is None:
        return settings
    if not settings.appends:
        raise InputError(
            f"{out} holds {len(before.rows):,} pairs already.",
            got=", ".join(scene.name for scene in before.tiles.scenes),
            expected="a new folder, or --append to add this scene to it",
            hint="--append; or --out NEW_FOLDER; or remove the folder to cut it anew",
        )
    tiles = before.tiles
    for option, asked, there in (
        ("--block", settings.block_m, tiles.block_m),
        ("--gap", settings.gap_m, tiles.gap_m),
    ):
        if asked not in (None, there):
            raise InputError(
                f"{option} differs from that of the pairs in {out}.",
                got=f"{asked} m",
                expected=f"{there} m, or the same ground could be in two splits",
                hint=f"leave out {option}; or cut all scenes into a new folder",
            )
    known = before.task.value
    if settings.kind not in (None, before.task.kind):
        raise _other_labels("--kind", str(settings.kind), before.task.kind, out)
    if settings.value is not None and known is not None:
        # No option states limits: they are those of folder.yaml.
        given = settings.value.model_copy(update={"min": known.min, "max": known.max})
        if given != known:
            got, expected = (f"{value.title} per {value.per}" for value in (given, known))
            raise _other_labels("--value, --unit or --per", got, expected, out)
    return replace(
        settings,
        kind=before.task.kind,
        value=before.task.value,
        tile_m=tiles.tile_m,
        modalities=before.modalities,
        block_m=tiles.block_m,
        gap_m=tiles.gap_m,
        seed=tiles.seed,
        shares=tuple(tiles.shares),
    )


def _other_labels(options: str, got: str, expected: str, out: Path) -> InputError:
    return InputError(
        f"{options} differs from that of the pairs in {out}.",
        got=got,
        expected=expected,
        hint=f"leave out {options.replace(' or ', ' and ')}; or cut the scene into a new folder",
    )


def require_labels_fit(settings: CutSettings) -> None:
    """Raise InputError if there are no labels of a kind that needs some, or options that it has no use for."""
    kind = settings.kind or "multilabel"
    if kind != "multilabel" and settings.labels is None:
        raise InputError(
            f"Pairs of kind {kind} need labels.",
            expected="--labels PATH",
            hint="pairs to pretrain on are cut without --kind, or into a new folder",
        )
    if kind != "multilabel" and settings.keeps_unlabelled:
        raise InputError(
            f"--keep-unlabelled keeps pairs that {kind} has no use for: each pair needs a label.",
            hint="leave it out; pairs to pretrain on are cut without --kind, into a folder of their own",
        )
    if kind == "regression" and settings.value is None:
        raise InputError(
            "A regression needs a quantity.",
            expected="its name and unit",
            hint="--value biomass --unit t/ha --per pixel",
        )
    if kind != "regression" and settings.value is not None:
        raise InputError(
            "--value, --unit and --per describe the quantity of a regression.",
            got=f"--kind {kind}",
            hint="--kind regression; or leave them out",
        )
    is_dense = kind == "segmentation" or (settings.value is not None and settings.value.per == "pixel")
    if is_dense and settings.tile_m % MAP_GSD_M:
        raise InputError(
            f"Tiles of {settings.tile_m} m have no whole number of pixels of {MAP_GSD_M} m, which maps have.",
            expected=f"a multiple of {MAP_GSD_M} m",
            hint=f"--side {round(settings.tile_m / MAP_GSD_M) * MAP_GSD_M}",
        )


def require_new(before: Content | None, name: str, out: Path) -> None:
    """Raise InputError if the folder has pairs of a scene of this name."""
    names = [scene.name for scene in before.tiles.scenes] if before else []
    if name in names:
        raise InputError(
            f"{out} holds pairs of {name} already.",
            got=", ".join(names),
            expected="another name for another scene or date",
            hint="--name NEW_NAME; or remove the folder to cut this scene anew",
        )


def taken_modalities(
    known: Mapping[str, Modality], paths: Mapping[str, Sequence[object]], before: Content | None
) -> dict[str, Modality]:
    """The modalities, of those that are known, of which scenes are given.

    Raises:
        InputError: a scene's modality is not known, or the pairs that are there have a modality without a scene.
    """
    given = [key for key, files in paths.items() if files]
    if unknown := [key for key in given if key not in known]:
        raise InputError(
            f"No bands of {unknown[0]} are known.",
            got=", ".join(given),
            expected=f"some of {', '.join(known)}, which "
            + ("the pairs have that are there" if before else "data.modalities in params.yaml has"),
            hint=f"add {unknown[0]} to data.modalities: CONTRIBUTING.md, Add a modality"
            if not before
            else "cut all scenes into a new folder, with all of these modalities",
        )
    if before and (missing := [key for key in known if key not in given]):
        raise InputError(
            f"The pairs that are there have {missing[0]}, too.",
            got=", ".join(given) or None,
            expected=", ".join(known),
            hint=f"add --scene {missing[0]}=PATH",
        )
    return {key: modality for key, modality in known.items() if key in given}


def inputs_of(modalities: Mapping[str, Modality], tile_m: int) -> tuple[ModalityInput, ...]:
    """The arrays of a tile; raises InputError if there are none, or if pixels don't divide the tile."""
    if not modalities:
        raise InputError("There is no scene.", expected="--scene MODALITY=PATH for each modality, or --s1 and --s2")
    try:
        return modality_inputs(modalities, tile_m)
    except ValueError as error:
        step_m = int(np.lcm.reduce([group.gsd_m for modality in modalities.values() for group in modality.groups]))
        raise InputError(
            f"Tiles of {tile_m} m can't be cut: {error}.",
            expected=f"a multiple of {step_m} m",
            hint=f"--side {max(1, round(tile_m / step_m)) * step_m}",
        ) from error
