"""One command per DVC stage; a stage's code is imported when it runs, for `--help` must answer at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fusmae.cli.call import stage_params
from fusmae.cli.options import Exported, Index, Out, Raw, Receipt, RunFile, Runs, Shards, Statistics, Verdict, Weights

if TYPE_CHECKING:
    from fusmae.config.params import Config
    from fusmae.training.stage import TrainingStage

Downloads = Annotated[Path, typer.Option(help="Folder of archives, downloaded or put there by hand.")]
Pictures = Annotated[Path, typer.Option(help="Folder for reconstruction pictures.")]
Models = Annotated[Path, typer.Option(help="Folder with probe/ and finetune/ checkpoints.")]
Initial = Annotated[Path, typer.Option(help="Checkpoint folder of the weights before pretraining.")]
Reference = Annotated[Path, typer.Option(help="File that `fusmae reference` wrote.")]
Scores = Annotated[Path, typer.Option(help="scores.json that `fusmae evaluate` or `measure-encoder` wrote.")]
Examined = Annotated[Path, typer.Option(help="Folder of the examination's report.")]
TrainingRun = Annotated[Path, typer.Option("--run-file", help="Run file of the training run.")]
Start = Annotated[
    Path | None, typer.Option(help="Folder that `fusmae start` wrote, where the parameter `start` is set.")
]
VariantReport = Annotated[Path, typer.Option(help="Folder for the measurements of all variants.")]


def fetch(downloads: Downloads, raw: Raw, receipt: Receipt) -> None:
    """Get a source's archives, check and unpack them.

    A killed stage continues where it stopped.

    Example: fusmae fetch --downloads data/downloads --raw data/raw --receipt data/raw.json
    """
    config = stage_params()
    from fusmae.stages.fetch import fetch as run_stage

    run_stage(config.data, config.runtime, downloads=downloads, raw=raw, receipt=receipt)


def index(raw: Raw, out: Out) -> None:
    """Write the index: pairs with labels, split, place and date.

    Example: fusmae index --raw data/raw --out data/index.parquet
    """
    config = stage_params()
    from fusmae.stages.index import index as run_stage

    run_stage(config.data, raw=raw, out=out)


def shard(raw: Raw, receipt: Receipt, index: Index, out: Out, statistics: Statistics) -> None:
    """Pack tiles into shards, and measure band statistics.

    Tiles are packed on every core or on a Dask cluster; statistics are of the split train.

    Example: fusmae shard --raw data/raw --receipt data/raw.json --index data/index.parquet --out data/shards
    --statistics data/statistics.json
    """
    config = stage_params()
    from fusmae.stages.shard import shard as run_stage

    run_stage(config.data, config.runtime, raw=raw, receipt=receipt, index=index, out=out, statistics=statistics)


def examine(raw: Raw, index: Index, shards: Shards, out: Out, verdict: Verdict) -> None:
    """Check the data: completeness, units, labels, splits.

    Pairs must be complete, in the right units and labelled correctly; splits must not share places.

    Example: fusmae examine --raw data/raw --index data/index.parquet --shards data/shards --out reports/examine
    --verdict data/verdict.json
    """
    config = stage_params()
    from fusmae.stages.examine import examine as run_stage

    run_stage(config.data, config.runtime, raw=raw, index=index, shards=shards, out=out, verdict=verdict)


def training_stage(config: "Config") -> "TrainingStage":
    """What every training is given beside its own section."""
    from fusmae.training.stage import TrainingStage

    return TrainingStage(config.model, config.data, config.runtime, config.seed, config.register_as.experiment)


def start(
    stage: Annotated[Literal["pretrain", "finetune"], typer.Option(help="Stage whose parameter `start` counts.")],
    out: Out,
) -> None:
    """Bring the weights that a training starts from.

    The parameter names a checkpoint's folder, a registered version, or nothing; then only start.json is written.

    Example: fusmae start --stage pretrain --out models/start/pretrain
    """
    config = stage_params()
    from fusmae.stages.start import start as run_stage

    run_stage(config.pretrain.start if stage == "pretrain" else config.finetune.start, out=out)


def pretrain(
    shards: Shards,
    verdict: Verdict,
    statistics: Statistics,
    out: Out,
    pictures: Pictures,
    run: RunFile,
    start: Start = None,
) -> None:
    """Pretrain by masked reconstruction.

    A killed run continues where it stopped.

    Example: fusmae pretrain --shards data/shards --verdict data/verdict.json --statistics data/statistics.json
    --start models/start/pretrain --out models/pretrain --pictures reports/reconstructions
    --run-file reports/runs/pretrain.json
    """
    config = stage_params()
    from fusmae.stages.pretrain import pretrain as run_stage

    run_stage(
        config.pretrain,
        training_stage(config),
        shards=shards,
        verdict=verdict,
        statistics=statistics,
        out=out,
        pictures=pictures,
        run_file=run,
        start=start,
    )


def probe(weights: Weights, shards: Shards, out: Out, run: RunFile) -> None:
    """Fit logistic regressions on frozen features.

    Example: fusmae probe --weights models/pretrain/pretrained --shards data/shards --out models/probe/pretrained
    --run-file reports/runs/probe-pretrained.json
    """
    config = stage_params()
    from fusmae.stages.probe import probe as run_stage

    run_stage(config.probe, training_stage(config), weights=weights, shards=shards, out=out, run_file=run)


def finetune(weights: Weights, shards: Shards, out: Out, run: RunFile, start: Start = None) -> None:
    """Train encoder and head together.

    Example: fusmae finetune --weights models/pretrain/pretrained --shards data/shards --start models/start/finetune
    --out models/finetune/pretrained --run-file reports/runs/finetune-pretrained.json
    """
    config = stage_params()
    from fusmae.stages.finetune import finetune as run_stage

    run_stage(
        config.finetune, training_stage(config), weights=weights, shards=shards, out=out, run_file=run, start=start
    )


def evaluate(models: Models, shards: Shards, index: Index, out: Out, runs: Runs) -> None:
    """Score every model over the whole test set.

    Frozen encoders are scored by kNN and by their probe, on labels of tiles; all models with and without each modality.

    Example: fusmae evaluate --models models --shards data/shards --index data/index.parquet --out reports/evaluate
    --runs reports/runs
    """
    config = stage_params()
    from fusmae.stages.evaluate import evaluate as run_stage

    run_stage(
        config.evaluate,
        config.data,
        config.runtime,
        seed=config.seed,
        models=models,
        shards=shards,
        index=index,
        out=out,
        runs=runs,
    )


def export(weights: Weights, shards: Shards, out: Out) -> None:
    """Export a model to ONNX, compared with torch.

    They are compared on every test pair. A finetuned checkpoint is exported with its head, a pretrained one as an
    encoder.

    Example: fusmae export --weights models/finetune/pretrained --shards data/shards --out models/export
    """
    config = stage_params()
    from fusmae.stages.export import export as run_stage

    run_stage(config.export, tile_m=config.data.tile_m, weights=weights, shards=shards, out=out)


def measure_encoder(exported: Exported, initial: Initial, shards: Shards, index: Index, out: Out) -> None:
    """Score the exported encoder by kNN and a probe.

    They learn from labels of train; the weights before pretraining are scored likewise.

    Example: fusmae measure-encoder --exported models/encoder/export --initial models/pretrain/random
    --shards data/shards --index data/index.parquet --out reports/encoder
    """
    config = stage_params()
    from fusmae.stages.measure_encoder import measure_encoder as run_stage

    run_stage(
        config.evaluate,
        config.runtime,
        seed=config.seed,
        exported=exported,
        initial=initial,
        shards=shards,
        index=index,
        out=out,
    )


def variants(exported: Exported, shards: Shards, index: Index, out: Out, report: VariantReport) -> None:
    """Make fp16 and int8 variants of the exported model.

    Those that are neither worse nor slower are kept.

    Example: fusmae variants --exported models/export --shards data/shards --index data/index.parquet
    --out models/variants --report reports/variants
    """
    config = stage_params()
    from fusmae.stages.variants import variants as run_stage

    run_stage(config.variants, seed=config.seed, exported=exported, shards=shards, index=index, out=out, report=report)


def reference(exported: Exported, shards: Shards, index: Index, out: Out) -> None:
    """Describe the training data for `fusmae drift`.

    The command compares new scenes with these numbers.

    Example: fusmae reference --exported models/export --shards data/shards --index data/index.parquet
    --out models/reference.npz
    """
    config = stage_params()
    from fusmae.stages.reference import reference as run_stage

    run_stage(config.reference, seed=config.seed, exported=exported, shards=shards, index=index, out=out)


def register(
    exported: Exported,
    variants: Annotated[Path, typer.Option(help="Folder of variants that `fusmae variants` wrote.")],
    measured: Annotated[Path, typer.Option(help="Folder of the report that `fusmae variants` wrote.")],
    reference: Reference,
    scores: Scores,
    figures: Annotated[Path, typer.Option(help="Folder of the pictures that `fusmae evaluate` made.")],
    report: Examined,
    index: Index,
    receipt: Receipt,
    pictures: Pictures,
    run: TrainingRun,
    out: Out,
) -> None:
    """Register the exported model in MLflow as `challenger`.

    Its card, its lineage and its variants are registered with it.

    Example: fusmae register --exported models/export --variants models/variants --measured reports/variants
    --reference models/reference.npz --scores reports/evaluate/scores.json --figures reports/evaluate/figures
    --report reports/examine --index data/index.parquet --receipt data/raw.json --pictures reports/reconstructions
    --run-file reports/runs/finetune-pretrained.json --out reports/register
    """
    config = stage_params()
    from fusmae.stages.register import register as run_stage

    run_stage(
        config.register_as,
        exported=exported,
        variants=variants,
        measured=measured,
        reference=reference,
        scores=scores,
        figures=figures,
        report=report,
        index=index,
        receipt=receipt,
        pictures=pictures,
        run_file=run,
        out=out,
    )


def register_encoder(
    weights: Weights,
    exported: Exported,
    reference: Reference,
    scores: Scores,
    report: Examined,
    index: Index,
    receipt: Receipt,
    pictures: Pictures,
    run: TrainingRun,
    out: Out,
) -> None:
    """Register the exported encoder in MLflow as `challenger`.

    Its card, its lineage and its checkpoint are registered with it; no label is needed.

    Example: fusmae register-encoder --weights models/pretrain/pretrained --exported models/encoder/export
    --reference models/encoder/reference.npz --scores reports/encoder/scores.json --report reports/examine
    --index data/index.parquet --receipt data/raw.json --pictures reports/reconstructions
    --run-file reports/runs/pretrain.json --out reports/register-encoder
    """
    config = stage_params()
    from fusmae.stages.register_encoder import register_encoder as run_stage

    run_stage(
        config.register_as,
        weights=weights,
        exported=exported,
        reference=reference,
        scores=scores,
        report=report,
        index=index,
        receipt=receipt,
        pictures=pictures,
        run_file=run,
        out=out,
    )


COMMANDS = (
    *(fetch, index, shard, examine, start, pretrain, probe, finetune, evaluate),
    *(export, measure_encoder, variants, reference, register, register_encoder),
)
"""The commands of this file, in the order of the pipeline."""
