"""How far new scenes are from what a model learned from."""

import tempfile
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from fusmae.cli.scene_files import SceneFiles
from fusmae.config.params import Config
from fusmae.errors import InputError
from fusmae.inference.devices import Device
from fusmae.inference.drift.distance import judge_scene
from fusmae.inference.drift.reference import REFERENCE, Reference, load_reference
from fusmae.inference.drift.tiles import describe_tiles, spread_units
from fusmae.inference.scene.checks import check_pixels, print_warnings
from fusmae.inference.scene.grid import Grid, lay_grid
from fusmae.inference.scene.reader import SceneReader
from fusmae.inference.scene.scene import Scene, open_scenes
from fusmae.inference.session import Session
from fusmae.modalities import tile_side_m
from fusmae.release.registry.model_file import ModelFile, fetch_artifact, model_file
from fusmae.reports.drift import Findings, as_text, write_drift_report


def compare_scenes(
    config: Config,
    *,
    model: str,
    files: SceneFiles,
    out: Path,
    reference: Path | None,
    is_checked: bool,
    device: Device = "cpu",
) -> tuple[bool, str]:
    """Compare scenes with the reference that travels with a model; see the options of `fusmae drift`.

    The result is whether they drift, and a summary for people.

    Raises:
        RegistryError: there is no such model.
        ConfigError: the device can't be used.
        ExportError: its graph gives no embedding.
        InputError: scenes that can't be used, or no reference.
        StorageError: the disk is full.
    """
    version = model_file(model)
    session = Session(version.path, device=device)
    session.require_embedding(version.label)
    compared = _reference(version, session, reference)
    files = files.with_found(session.inputs)
    scenes = open_scenes(session.inputs, files.paths, files.readings, files.bbox, session.groups)
    grid = _side_by_side(scenes, session)
    units = spread_units(grid, config.drift.max_tiles)
    with SceneReader(scenes, session.inputs, grid) as reader:
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("comparing", total=len(units))
            tiles = describe_tiles(session, reader, units, lambda: progress.advance(task))
        faults = _unit_faults(reader, scenes) if is_checked else ""
        nodata = reader.nodata_sentences()
    facts = {
        "model": version.label,
        "model_sha256": version.sha256,
        "sources": sorted({path.name for scene in scenes.values() for path in scene.files}),
        "crs": grid.crs.to_string(),
        "thresholds": config.drift.model_dump(),
    }
    drift = judge_scene(compared, tiles, config.drift, config.seed)
    findings = Findings(drift, faults, compared, tiles, facts, (grid.left, grid.top))
    write_drift_report(out, findings)
    return findings.is_drift, "\n".join([as_text(findings), *nodata, f"report: {out / 'drift.html'}"])


def _reference(model: ModelFile, session: Session, path: Path | None) -> Reference:
    if path is not None:
        return load_reference(path, model.sha256, session.inputs)
    if not model.name:
        raise InputError(
            f"{model.path} is a plain file: its training data are not known.",
            expected="a registered version, or --reference",
            hint="--reference models/reference.npz, which `dvc repro reference` writes",
        )
    with tempfile.TemporaryDirectory() as folder:
        fetched = fetch_artifact(model, REFERENCE, Path(folder))
        if fetched is None:
            raise InputError(
                f"{model.label} was registered without a reference.",
                expected=f"{REFERENCE} among its files",
                hint="dvc repro reference, then --reference models/reference.npz (of an encoder "
                "models/encoder/reference.npz); or register a new version",
            )
        return load_reference(fetched, model.sha256, session.inputs)


def _side_by_side(scenes: dict[str, Scene], session: Session) -> Grid:
    """Whole tiles from the top left: a tile that ends with the scene would count ground of its neighbours again."""
    tile_m = tile_side_m(session.inputs)
    grid = lay_grid(scenes, session.inputs, tile_m, has_cells=False)
    return replace(grid, width_m=grid.width_m // tile_m * tile_m, height_m=grid.height_m // tile_m * tile_m)


def _unit_faults(reader: SceneReader, scenes: dict[str, Scene]) -> str:
    """What `fusmae predict` would refuse, in its words."""
    try:
        print_warnings(check_pixels(reader, scenes))
    except InputError as error:
        if error.__cause__ is not None:  # a file that can't be read is no drift
            raise
        return str(error)
    return ""
