"""The options that name scenes, of any modality; the commands that have them get one `SceneFiles`."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fusmae.errors import InputError

if TYPE_CHECKING:
    from fusmae.inference.scene.scene import Reading
    from fusmae.inference.scene.stac_item import SceneItem
    from fusmae.inference.scene.stac_search import Search
    from fusmae.modalities import ModalityInput
    from fusmae.rasters.geometry import Box

T = TypeVar("T")


class Units(StrEnum):
    """Units of files with backscatter."""

    DB = "dB"
    POWER = "power"
    AMPLITUDE = "amplitude"


@dataclass(frozen=True)
class SceneFiles:
    """Scenes as a command line names them: files, folders, archives and STAC items by modality, and how to read them.

    `readings` lacks the modalities that no option says anything about.
    """

    paths: Mapping[str, tuple["str | Path | SceneItem", ...]] = field(default_factory=dict)
    readings: Mapping[str, "Reading"] = field(default_factory=dict)
    bbox: "Box | None" = None  # left, bottom, right and top in degrees of what is wanted of the scenes
    search: "Search | None" = None  # search for the items of modalities that `paths` lacks

    @property
    def is_empty(self) -> bool:
        """Whether there is no scene, and no search for one."""
        return not self.paths and self.search is None

    def with_found(self, inputs: "Sequence[ModalityInput]") -> "SceneFiles":
        """The same scenes with those that the search finds for a model's inputs, which are printed to standard error.

        Raises:
            InputError: the search finds none, or has nothing to find.
        """
        from fusmae.inference.scene.stac_search import search_items

        if self.search is None:
            return self
        wanted = [name for name in dict.fromkeys(item.modality for item in inputs) if name not in self.paths]
        if not wanted:
            raise InputError(
                "--search has nothing to find: a scene is given of every modality.", hint="leave out one of the two"
            )
        found, sentences = search_items(self.search, wanted)
        for sentence in sentences:
            typer.echo(f"search: {sentence}", err=True)
        return replace(self, paths={**self.paths, **{name: (item,) for name, item in found.items()}}, search=None)


def takes_scenes(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of scenes in place of its parameter `files`, which gets what they name."""

    @functools.wraps(command)
    def called(**values: Any) -> None:
        options = {name: values.pop(name) for name in inspect.signature(_scene_files).parameters}
        command(files=_scene_files(**options), **values)

    own = inspect.signature(command).parameters.values()
    options = inspect.signature(_scene_files).parameters.values()
    parameters = [one for parameter in own for one in (options if parameter.name == "files" else [parameter])]
    called.__dict__["__signature__"] = inspect.Signature(parameters)
    return called


# Paths are texts: a `Path` would lose one slash of https:// before anything can say what is wrong with it.
def _scene_files(
    s1: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Sentinel-1: a GeoTIFF, a folder or an archive (.zip, .tar) of them, which may be given several "
            "times; or a STAC item, as a file or an address.",
        ),
    ] = None,
    s2: Annotated[list[str] | None, typer.Option(metavar="PATH", help="Sentinel-2, likewise.")] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(metavar="MODALITY=PATH", help="Any modality of the model: dem=dem.tif; once per modality."),
    ] = None,
    s1_bands: Annotated[str, typer.Option(help="Names of all S1 bands in file order: VV,VH.")] = "",
    s2_bands: Annotated[str, typer.Option(help="Names of all S2 bands in file order: B02,B03 and so on.")] = "",
    bands: Annotated[
        list[str] | None, typer.Option(metavar="MODALITY=NAMES", help="The same for any modality: dem=height,slope.")
    ] = None,
    s1_units: Annotated[
        Units | None,
        typer.Option(
            help="Units of S1; power and amplitude are converted to dB. Where absent: what a STAC item states, else dB."
        ),
    ] = None,
    units: Annotated[
        list[str] | None, typer.Option(metavar="MODALITY=UNITS", help="The same for any modality: s1=power.")
    ] = None,
    s2_offset: Annotated[
        int | None,
        typer.Option(
            help="What to take off S2: 1000 from processing baseline 04.00 on, 0 for nothing. Where absent: what a "
            "STAC item states."
        ),
    ] = None,
    offset: Annotated[
        list[str] | None, typer.Option(metavar="MODALITY=NUMBER", help="The same for any modality: s2=1000.")
    ] = None,
    bbox: Annotated[
        str, typer.Option(metavar="W,S,E,N", help="Only this part of the scenes: west, south, east, north in degrees.")
    ] = "",
    search: Annotated[
        str,
        typer.Option(
            metavar="URL", help="A STAC API to look in for scenes not given: the least cloudy that cover --bbox."
        ),
    ] = "",
    datetime: Annotated[
        str, typer.Option(metavar="FROM/TO", help="When scenes of --search were taken: 2024-06-01/2024-06-30.")
    ] = "",
    collection: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A collection that --search looks in; once per modality. All where absent."),
    ] = None,
) -> SceneFiles:
    from fusmae.inference.scene.scene import Reading

    paths = _by_modality("scene", scene, {"s1": tuple(s1 or ()), "s2": tuple(s2 or ())}, lambda path: (path,))
    names = _by_modality("bands", bands, {"s1": _names(s1_bands), "s2": _names(s2_bands)}, _names)
    kinds = _by_modality("units", units, {} if s1_units is None else {"s1": Units(s1_units)}, Units)
    offsets = _by_modality("offset", offset, {} if s2_offset is None else {"s2": s2_offset}, int)
    readings = {
        modality: Reading(
            names.get(modality), kinds[modality].value if modality in kinds else None, offsets.get(modality)
        )
        for modality in {**names, **kinds, **offsets}
    }
    box = _box(bbox) if bbox else None
    return SceneFiles(paths, readings, box, _search(search, box, datetime, tuple(collection or ())))


def _box(text: str) -> "Box":
    try:
        west, south, east, north = (float(side) for side in text.split(","))
    except ValueError:
        west = south = east = north = nan
    if -180 <= west < east <= 180 and -90 <= south < north <= 90:
        return west, south, east, north
    raise InputError(
        "--bbox can't be used.",
        got=text,
        expected="west, south, east and north in degrees, such as 13.3,48.1,13.5,48.3; none beyond the 180th meridian",
    )


def _search(address: str, bbox: "Box | None", datetime: str, collections: tuple[str, ...]) -> "Search | None":
    from fusmae.inference.scene.stac_search import Search

    if not address:
        if datetime or collections:
            raise InputError("--datetime and --collection are of a search.", expected="--search ADDRESS beside them")
        return None
    if bbox is None:
        raise InputError("--search looks for scenes of a place.", expected="--bbox W,S,E,N beside it")
    return Search(address, bbox, datetime or None, collections)


def _by_modality(
    option: str, texts: Sequence[str] | None, short: Mapping[str, T], parse: Callable[[str], T]
) -> dict[str, T]:
    """Values by modality, from texts such as `s1=PATH` and from the short options of some modalities; () is none.

    Raises:
        InputError: a text names no modality, a value can't be used, or a modality has two.
    """
    found = {modality: value for modality, value in short.items() if value != ()}
    for text in texts or ():
        modality, _, written = text.partition("=")
        try:
            value = parse(written) if modality and written else None
        except ValueError:
            value = None
        if value is None:
            raise InputError(f"--{option} can't be used.", got=text, expected=_EXPECTED[option])
        if modality in found:
            raise InputError(
                f"--{option} and its short forms name {modality} twice.",
                got=text,
                expected="each modality once",
                hint=f"give one folder that holds all files of {modality}" if option == "scene" else "leave one out",
            )
        found[modality] = value
    return found


_EXPECTED = {
    "scene": "MODALITY=PATH, such as s1=scenes/s1.tif",
    "bands": "MODALITY=NAMES, such as s1=VV,VH",
    "units": f"MODALITY=UNITS, such as s1=power; units are {', '.join(Units)}",
    "offset": "MODALITY=NUMBER, such as s2=1000",
}


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()
