"""Options that several commands have: each is written once."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fusmae.cli.scene_files import SceneFiles

# Files of the pipeline.
Raw = Annotated[Path, typer.Option(help="Folder of unpacked raw data, one folder per source.")]
Receipt = Annotated[Path, typer.Option(help="JSON that says what the raw data are.")]
Index = Annotated[Path, typer.Option(help="Parquet file of the index.")]
Shards = Annotated[Path, typer.Option(help="Folder of shards with its manifest.json.")]
Verdict = Annotated[Path, typer.Option(help="JSON that training waits for; `examine` writes it if nothing blocks.")]
Statistics = Annotated[Path, typer.Option(help="JSON of band statistics.")]
Weights = Annotated[Path, typer.Option(help="Checkpoint folder to start from.")]
Exported = Annotated[Path, typer.Option(help="Folder that `fusmae export` wrote.")]
Out = Annotated[Path, typer.Option(help="Where the result goes; written whole or not at all.")]
Runs = Annotated[Path, typer.Option(help="Folder of run files; results are added to their MLflow runs.")]
# Not --run: torchrun, if it stands before the stage, takes that for one of its own options.
RunFile = Annotated[Path, typer.Option("--run-file", help="JSON that gets the MLflow run's id.")]

# Registered models.
Model = Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or an ONNX file.")]
ModelName = Annotated[str, typer.Argument(help="Registered model, as `register_as.model_name` has it.")]
ModelVersion = Annotated[str, typer.Argument(help="A registered version: NAME@ALIAS or NAME/VERSION.")]

# Scenes. Texts: a path would lose one slash of https:// before anything can say what is wrong with it.
S1 = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Sentinel-1: a GeoTIFF, a folder or an archive (.zip, .tar) of them; may be given several times.",
    ),
]
S2 = Annotated[list[str] | None, typer.Option(metavar="PATH", help="Sentinel-2, likewise.")]
S1Bands = Annotated[str, typer.Option(help="Names of all S1 bands in file order: VV,VH.")]
S2Bands = Annotated[str, typer.Option(help="Names of all S2 bands in file order: B02,B03 and so on.")]
RefuseOddPixels = Annotated[
    bool, typer.Option("--check/--no-check", help="Refuse pixels that look like other units than the model's.")
]


class Units(StrEnum):
    """Units of S1 files."""

    DB = "dB"
    POWER = "power"
    AMPLITUDE = "amplitude"


S1Units = Annotated[Units, typer.Option(help="Units of the S1 files; power and amplitude are converted to dB.")]
S2Offset = Annotated[
    int | None, typer.Option(help="What to take off S2: 1000 from processing baseline 04.00 on, 0 for nothing.")
]


def scene_files(
    s1: Sequence[str] | None,
    s2: Sequence[str] | None,
    s1_bands: str,
    s2_bands: str,
    s1_units: Units,
    s2_offset: int | None,
) -> "SceneFiles":
    """The scenes that these options name."""
    from fusmae.cli.scene_files import SceneFiles

    return SceneFiles(tuple(s1 or ()), tuple(s2 or ()), s1_bands, s2_bands, s1_units.value, s2_offset)


# What is printed, and where a server listens.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Host = Annotated[str, typer.Option(help="Address to listen on; the server asks for no password.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]
