"""One command per DVC stage, in `fusmae/stages/`, whose code is imported when it runs: `--help` must answer at once."""

import functools
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusmae.cli.call import stage_params
from fusmae.cli.options import Exported, Index, Out, Raw, Receipt, RunFile, Runs, Shards, Statistics, Verdict, Weights

if TYPE_CHECKING:
    from fusmae.config.params import Config
    from fusmae.training.stage import TrainingStage

Downloads = Annotated[Path, typer.Option(help="Folder of archives, downloaded or put there by hand.")]
Pictures = Annotated[Path, typer.Option(help="Folder for reconstruction pictures.")]
Models = Annotated[Path, typer.Option(help="Folder with probe/ and finetune/ checkpoints.")]
VariantReport = Annotated[Path, typer.Option(help="Folder for the measurements of all variants.")]

COMMANDS: list[Callable[..., None]] = []
"""The commands of this file, in the order of the pipeline."""


def training_stage(config: "Config") -> "TrainingStage":
    """What every training is given beside its own section."""
    from fusmae.training.stage import TrainingStage

    return TrainingStage(config.model, config.data, config.runtime, config.seed, config.register_as.experiment)


def _runs_stage(
    sections: Callable[["Config"], tuple[Any, ...]],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command that is only a signature and a docstring run the stage of its name.

    Args:
        sections: what the stage sees of the parameters; it is given these, and the command's options by name.
    """

    def running(declared: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(declared)
        def command(**options: Any) -> None:
            config, name = stage_params(), declared.__name__
            getattr(import_module(f"fusmae.stages.{name}"), name)(*sections(config), **options)

        COMMANDS.append(command)
        return command

    return running


@_runs_stage(lambda config: (config.data, config.runtime))
def fetch(downloads: Downloads, raw: Raw, receipt: Receipt) -> None:
    """Get a source's archives, check and unpack them.

    A killed stage continues where it stopped.

    Example: fusmae fetch --downloads data/downloads --raw data/raw --receipt data/raw.json
    """


@_runs_stage(lambda config: (config.data,))
def index(raw: Raw, out: Out) -> None:
    """Write the index: pairs with labels, split, place and date.

    Example: fusmae index --raw data/raw --out data/index.parquet
    """


@_runs_stage(lambda config: (config.data, config.runtime))
def shard(raw: Raw, receipt: Receipt, index: Index, out: Out, statistics: Statistics) -> None:
    """Pack tiles into shards, and measure band statistics.

    Tiles are packed on every core or on a Dask cluster; statistics are of the split train.

    Example: fusmae shard --raw data/raw --receipt data/raw.json --index data/index.parquet --out data/shards
    --statistics data/statistics.json
    """


@_runs_stage(lambda config: (config.data, config.runtime))
def examine(raw: Raw, index: Index, shards: Shards, out: Out, verdict: Verdict) -> None:
    """Check the data: completeness, units, labels, splits.

    Pairs must be complete, in the right units and labelled correctly; splits must not share places.

    Example: fusmae examine --raw data/raw --index data/index.parquet --shards data/shards --out reports/examine
    --verdict data/verdict.json
    """


@_runs_stage(lambda config: (config.pretrain, training_stage(config)))
def pretrain(
    shards: Shards, verdict: Verdict, statistics: Statistics, out: Out, pictures: Pictures, run_file: RunFile
) -> None:
    """Pretrain by masked reconstruction.

    A killed run continues where it stopped.

    Example: fusmae pretrain --shards data/shards --verdict data/verdict.json --statistics data/statistics.json
    --out models/pretrain --pictures reports/reconstructions --run-file reports/runs/pretrain.json
    """


@_runs_stage(lambda config: (config.probe, training_stage(config)))
def probe(weights: Weights, shards: Shards, out: Out, run_file: RunFile) -> None:
    """Fit logistic regressions on the features of a frozen encoder.

    Example: fusmae probe --weights models/pretrain/pretrained --shards data/shards --out models/probe/pretrained
    --run-file reports/runs/probe-pretrained.json
    """


@_runs_stage(lambda config: (config.finetune, training_stage(config)))
def finetune(weights: Weights, shards: Shards, out: Out, run_file: RunFile) -> None:
    """Train encoder and head together.

    Example: fusmae finetune --weights models/pretrain/pretrained --shards data/shards --out models/finetune/pretrained
    --run-file reports/runs/finetune-pretrained.json
    """


@_runs_stage(lambda config: (config.evaluate, config.data, config.runtime, config.seed))
def evaluate(models: Models, shards: Shards, index: Index, out: Out, runs: Runs) -> None:
    """Score every model over the whole test set.

    Frozen encoders are scored by kNN and by their probe; all models with and without each modality.

    Example: fusmae evaluate --models models --shards data/shards --index data/index.parquet --out reports/evaluate
    --runs reports/runs
    """


@_runs_stage(lambda config: (config.export, config.data.tile_m))
def export(weights: Weights, shards: Shards, out: Out) -> None:
    """Export a finetuned model to ONNX, compared with torch.

    They are compared on every test pair.

    Example: fusmae export --weights models/finetune/pretrained --shards data/shards --out models/export
    """


@_runs_stage(lambda config: (config.variants, config.seed))
def variants(exported: Exported, shards: Shards, index: Index, out: Out, report: VariantReport) -> None:
    """Make fp16 and int8 variants of the exported model.

    Those that are neither worse nor slower are kept.

    Example: fusmae variants --exported models/export --shards data/shards --index data/index.parquet
    --out models/variants --report reports/variants
    """


@_runs_stage(lambda config: (config.reference, config.seed))
def reference(exported: Exported, shards: Shards, index: Index, out: Out) -> None:
    """Describe the training data for `fusmae drift`.

    The command compares new scenes with these numbers.

    Example: fusmae reference --exported models/export --shards data/shards --index data/index.parquet
    --out models/reference.npz
    """


@_runs_stage(lambda config: (config.register_as,))
def register(
    exported: Exported,
    variants: Annotated[Path, typer.Option(help="Folder of variants that `fusmae variants` wrote.")],
    measured: Annotated[Path, typer.Option(help="Folder of the report that `fusmae variants` wrote.")],
    reference: Annotated[Path, typer.Option(help="File that `fusmae reference` wrote.")],
    scores: Annotated[Path, typer.Option(help="scores.json of `fusmae evaluate`.")],
    curves: Annotated[Path, typer.Option(help="Picture of precision-recall curves that `fusmae evaluate` made.")],
    report: Annotated[Path, typer.Option(help="Folder of the examination's report.")],
    index: Index,
    receipt: Receipt,
    pictures: Annotated[Path, typer.Option(help="Folder of reconstruction pictures.")],
    run_file: Annotated[Path, typer.Option(help="Run file of the training run.")],
    out: Out,
) -> None:
    """Register the exported model in MLflow as `challenger`.

    Its card, its lineage and its variants are registered with it.

    Example: fusmae register --exported models/export --variants models/variants --measured reports/variants
    --reference models/reference.npz --scores reports/evaluate/scores.json --curves reports/evaluate/pr.png
    --report reports/examine --index data/index.parquet --receipt data/raw.json --pictures reports/reconstructions
    --run-file reports/runs/finetune-pretrained.json --out reports/register
    """
