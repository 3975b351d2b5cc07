"""One command per DVC stage; a stage's code is imported when it runs, for `--help` must answer at once."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import stage_params

app = typer.Typer()

Raw = Annotated[Path, typer.Option(help="Folder of unpacked raw data, a folder a source.")]
Shards = Annotated[Path, typer.Option(help="Folder of shards with its manifest.json.")]
Verdict = Annotated[Path, typer.Option(help="JSON that training waits for; `examine` writes it if nothing blocks.")]
Receipt = Annotated[Path, typer.Option(help="JSON that says what the raw data is.")]
Index = Annotated[Path, typer.Option(help="Parquet file of the index.")]
Statistics = Annotated[Path, typer.Option(help="JSON of band statistics.")]
Weights = Annotated[Path, typer.Option(help="Checkpoint folder to start from.")]
Exported = Annotated[Path, typer.Option(help="Folder that `fusmae export` wrote.")]
Out = Annotated[Path, typer.Option(help="Where the result goes; written whole or not at all.")]
# Not --run: torchrun, if it stands before the stage, takes that for one of its own options.
RunFile = Annotated[Path, typer.Option("--run-file", help="JSON that gets the MLflow run's id.")]


@app.command()
def fetch(
    downloads: Annotated[Path, typer.Option(help="Where archives are kept, or put by hand.")],
    raw: Raw,
    receipt: Receipt,
) -> None:
    """Get a source's archives, check and unpack them; killed, it goes on where it was.

    Example: fusmae fetch --downloads data/downloads --raw data/raw --receipt data/raw.json
    """
    config = stage_params()
    from fusmae.stages.fetch import fetch as run_stage

    run_stage(config.data.source, config.runtime, downloads=downloads, raw=raw, receipt=receipt)


@app.command()
def index(raw: Raw, out: Out) -> None:
    """Write the index: pairs with labels, split, place and date.

    Example: fusmae index --raw data/raw --out data/index.parquet
    """
    config = stage_params()
    from fusmae.stages.index import index as run_stage

    run_stage(config.data, raw=raw, out=out)


@app.command()
def shard(raw: Raw, receipt: Receipt, index: Index, out: Out, statistics: Statistics) -> None:
    """Pack tiles into shards, on every core or on a Dask cluster, and measure band statistics on train.

    Example: fusmae shard --raw data/raw --receipt data/raw.json --index data/index.parquet --out data/shards
    --statistics data/statistics.json
    """
    config = stage_params()
    from fusmae.stages.shard import shard as run_stage

    run_stage(config.data, config.runtime, raw=raw, receipt=receipt, index=index, out=out, statistics=statistics)


@app.command()
def examine(
    raw: Raw,
    index: Index,
    shards: Shards,
    out: Out,
    verdict: Verdict,
) -> None:
    """Check that the data is what it states: complete, in the right units, labelled right, splits apart.

    Example: fusmae examine --raw data/raw --index data/index.parquet --shards data/shards --out reports/examine
    --verdict data/verdict.json
    """
    config = stage_params()
    from fusmae.stages.examine import examine as run_stage

    run_stage(config.data, config.runtime, raw=raw, index=index, shards=shards, out=out, verdict=verdict)


@app.command()
def pretrain(
    shards: Shards,
    verdict: Verdict,
    statistics: Statistics,
    out: Out,
    pictures: Annotated[Path, typer.Option(help="Folder for reconstruction pictures.")],
    run: RunFile,
) -> None:
    """Pretrain by masked reconstruction; goes on from where a killed run stopped.

    Example: fusmae pretrain --shards data/shards --verdict data/verdict.json --statistics data/statistics.json
    --out models/pretrain --pictures reports/reconstructions --run-file reports/runs/pretrain.json
    """
    config = stage_params()
    from fusmae.stages.pretrain import pretrain as run_stage

    run_stage(
        config.pretrain,
        config.model,
        config.data,
        config.runtime,
        seed=config.seed,
        experiment=config.register_as.experiment,
        shards=shards,
        verdict=verdict,
        statistics=statistics,
        out=out,
        pictures=pictures,
        run_file=run,
    )


@app.command()
def probe(weights: Weights, shards: Shards, out: Out, run: RunFile) -> None:
    """Train linear heads on a frozen encoder.

    Example: fusmae probe --weights models/pretrain/pretrained --shards data/shards --out models/probe/pretrained
    --run-file reports/runs/probe-pretrained.json
    """
    config = stage_params()
    from fusmae.stages.probe import probe as run_stage

    run_stage(
        config.probe,
        config.model,
        config.data,
        config.runtime,
        seed=config.seed,
        experiment=config.register_as.experiment,
        weights=weights,
        shards=shards,
        out=out,
        run_file=run,
    )


@app.command()
def finetune(weights: Weights, shards: Shards, out: Out, run: RunFile) -> None:
    """Train encoder and head together.

    Example: fusmae finetune --weights models/pretrain/pretrained --shards data/shards --out models/finetune/pretrained
    --run-file reports/runs/finetune-pretrained.json
    """
    config = stage_params()
    from fusmae.stages.finetune import finetune as run_stage

    run_stage(
        config.finetune,
        config.model,
        config.data,
        config.runtime,
        seed=config.seed,
        experiment=config.register_as.experiment,
        weights=weights,
        shards=shards,
        out=out,
        run_file=run,
    )


@app.command()
def evaluate(
    models: Annotated[Path, typer.Option(help="Folder with probe/ and finetune/ checkpoints.")],
    shards: Shards,
    index: Index,
    out: Out,
    runs: Annotated[Path, typer.Option(help="Folder of run files; scores are added to their MLflow runs.")],
) -> None:
    """Score every model over the whole test set, with and without each modality.

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


@app.command()
def export(weights: Weights, shards: Shards, out: Out) -> None:
    """Export a finetuned model to ONNX and compare it with torch on every test pair.

    Example: fusmae export --weights models/finetune/pretrained --shards data/shards --out models/export
    """
    config = stage_params()
    from fusmae.stages.export import export as run_stage

    run_stage(config.export, tile_m=config.data.tile_m, weights=weights, shards=shards, out=out)


@app.command()
def variants(
    exported: Exported,
    shards: Shards,
    index: Index,
    out: Out,
    report: Annotated[Path, typer.Option(help="Folder for what was measured of every variant.")],
) -> None:
    """Make fp16 and int8 variants of the exported model; keep those that are neither worse nor slower.

    Example: fusmae variants --exported models/export --shards data/shards --index data/index.parquet
    --out models/variants --report reports/variants
    """
    config = stage_params()
    from fusmae.stages.variants import variants as run_stage

    run_stage(config.variants, seed=config.seed, exported=exported, shards=shards, index=index, out=out, report=report)


@app.command()
def reference(
    exported: Exported,
    shards: Shards,
    index: Index,
    out: Out,
) -> None:
    """Describe the training data in numbers that `fusmae drift` compares new scenes with.

    Example: fusmae reference --exported models/export --shards data/shards --index data/index.parquet
    --out models/reference.npz
    """
    config = stage_params()
    from fusmae.stages.reference import reference as run_stage

    run_stage(config.reference, seed=config.seed, exported=exported, shards=shards, index=index, out=out)


@app.command()
def register(
    exported: Exported,
    variants: Annotated[Path, typer.Option(help="Folder of variants that `fusmae variants` wrote.")],
    measured: Annotated[Path, typer.Option(help="Folder of its report.")],
    reference: Annotated[Path, typer.Option(help="File that `fusmae reference` wrote.")],
    scores: Annotated[Path, typer.Option(help="scores.json of `fusmae evaluate`.")],
    curves: Annotated[Path, typer.Option(help="Picture of its precision-recall curves.")],
    report: Annotated[Path, typer.Option(help="Folder of the examination's report.")],
    index: Index,
    receipt: Receipt,
    pictures: Annotated[Path, typer.Option(help="Folder of reconstruction pictures.")],
    run: Annotated[Path, typer.Option("--run-file", help="Run file of the training run.")],
    out: Out,
) -> None:
    """Register the exported model in MLflow as `challenger`, with its card, its lineage and its variants.

    Example: fusmae register --exported models/export --variants models/variants --measured reports/variants
    --reference models/reference.npz --scores reports/evaluate/scores.json --curves reports/evaluate/pr.png
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
        curves=curves,
        report=report,
        index=index,
        receipt=receipt,
        pictures=pictures,
        run_file=run,
        out=out,
    )
