"""Options that several commands have: each is written once."""

from pathlib import Path
from typing import Annotated, Literal

import typer

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

Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option(help="Where the model runs; auto is a GPU if onnxruntime can use one."),
]

# Scenes; those that name them are in `scene_files`.
RefuseOddPixels = Annotated[
    bool, typer.Option("--check/--no-check", help="Refuse pixels that look like other units than the model's.")
]

# What is printed, and where a server listens.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
Host = Annotated[str, typer.Option(help="Address to listen on; the server asks for no password.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free one.")]
