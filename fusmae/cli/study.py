"""A study's parameters, and one command per stage of study/dvc.yaml."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin, stage_params
from fusmae.cli.options import Index, Out, RunFile, Runs, Shards, Statistics, Verdict
from fusmae.cli.stages import training_stage
from fusmae.errors import ConfigError

if TYPE_CHECKING:
    from fusmae.config.params import Config

Variant = Annotated[str, typer.Option(help="Name in study.variants.")]
PretrainedBy = Annotated[Path, typer.Option(help="Checkpoint folder that `fusmae study-pretrain` wrote.")]
Cells = Annotated[Path, typer.Option(help="Folder with what `fusmae study-measure` wrote.")]
Seed = Annotated[int, typer.Option(help="Seed of weights, order, masks and label subsets.")]


def study(
    overrides: Annotated[list[str] | None, typer.Argument(help="Overrides, such as study_size=gpu.")] = None,
    out: Annotated[Path, typer.Option(help="Parameters that the stages of a study read.")] = Path("study/params.yaml"),
) -> None:
    """Write a study's parameters from conf/study.yaml.

    `dvc repro` in study/ then runs the study, as `make study` does.

    Example: fusmae study study_size=gpu 'study.seeds=[1,2,3]' pretrain.epochs=100
    """
    begin("study")
    from fusmae.files import file_sha256
    from fusmae.study.variants import study_of, variant_config

    overrides = overrides or []
    config = _composed(overrides, out)
    weights = {name: Path(found.weights) for name, found in study_of(config).variants.items() if found.weights}
    for name, path in weights.items():
        if not path.is_file():
            raise ConfigError(
                f"study.variants.{name}.weights names no file.",
                got=str(path),
                expected="a file of weights, or none for random ones",
            )
    hashes = [f"study.variants.{name}.weights_sha256={file_sha256(path)}" for name, path in weights.items()]
    if hashes:
        config = _composed([*overrides, *hashes], out)
    for name in study_of(config).run:
        variant_config(config, name, config.seed)


def _composed(overrides: list[str], out: Path) -> "Config":
    """Compose without `dvc exp run`, which leaves git without a branch if it is killed."""
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from fusmae.config.params import load_config

    try:
        compose_and_dump(out, str(Path("conf").absolute()), None, "study", "", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"The study can't be composed: {error}",
            got=" ".join(overrides),
            expected="values like study_size=gpu or pretrain.epochs=100",
        ) from error
    return load_config(out)


def study_pretrain(
    variant: Variant, seed: Seed, shards: Shards, verdict: Verdict, statistics: Statistics, out: Out, run: RunFile
) -> None:
    """Pretrain one variant of a study.

    A killed run continues where it stopped.

    Example: fusmae --params study/params.yaml study-pretrain --variant joint --seed 1 --shards study/data/shards
    --verdict study/data/verdict.json --statistics study/data/statistics.json --out study/models/joint-1
    --run-file study/runs/pretrain-joint-1.json
    """
    config = stage_params()
    from fusmae.stages.study_pretrain import study_pretrain as run_stage
    from fusmae.study.variants import variant_config, variant_of

    own = variant_config(config, variant, seed)
    run_stage(
        variant_of(config, variant),
        own.pretrain,
        training_stage(own),
        variant=variant,
        shards=shards,
        verdict=verdict,
        statistics=statistics,
        out=out,
        run_file=run,
    )


def study_measure(
    variant: Variant, seed: Seed, weights: PretrainedBy, shards: Shards, index: Index, out: Out, run: RunFile
) -> None:
    """Measure one variant of a study.

    It is measured by every protocol, label share and condition.

    Example: fusmae --params study/params.yaml study-measure --variant joint --seed 1 --weights study/models/joint-1
    --shards study/data/shards --index study/data/index.parquet --out study/cells/joint-1
    --run-file study/runs/measure-joint-1.json
    """
    config = stage_params()
    from fusmae.stages.study_measure import study_measure as run_stage
    from fusmae.study.variants import study_of, variant_config

    own = variant_config(config, variant, seed)
    run_stage(
        study_of(config),
        own.finetune,
        own.pretrain,
        training_stage(own),
        variant=variant,
        batch_size=own.evaluate.batch_size,
        weights=weights,
        shards=shards,
        index=index,
        out=out,
        run_file=run,
    )


def study_report(cells: Cells, shards: Shards, out: Out, runs: Runs) -> None:
    """Write the report of a study.

    One page shows tables and plots of all cells.

    Example: fusmae --params study/params.yaml study-report --cells study/cells --shards study/data/shards
    --out study/report --runs study/runs
    """
    config = stage_params()
    from fusmae.stages.study_report import study_report as run_stage
    from fusmae.study.variants import study_of

    run_stage(
        study_of(config), config.model, config.pretrain, config.finetune, cells=cells, shards=shards, out=out, runs=runs
    )
