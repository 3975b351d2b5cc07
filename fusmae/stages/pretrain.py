"""Stage pretrain: masked reconstruction; also keeps the random initial weights, for comparison."""

from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import ModelConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.statistics import read_statistics
from fusmae.data.verdict import require_verdict
from fusmae.evaluation.evidence import pretraining_callbacks
from fusmae.evaluation.reconstructions import draw_reconstructions
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.build import build_fusmae, build_preprocess, part_of
from fusmae.training.checkpoint import Checkpoint, load_weights, save_checkpoint
from fusmae.training.pretraining import build_pretraining
from fusmae.training.reconstruction import PretrainRecipe, Reconstructor
from fusmae.training.trainer import Machine, build_trainer, fit


def pretrain(
    section: PretrainConfig,
    architecture: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    *,
    seed: int,
    experiment: str,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    pictures: Path,
    run_file: Path,
) -> None:
    """Train on `shards` with an examination's `verdict`; write `out/pretrained`, `out/random` and `pictures`."""
    require_verdict(verdict, shards)
    modalities = tuple(tiles.modalities)
    num_patches = architecture.num_patches(tiles.tile_px)
    draws = Draws(seed, modalities, num_patches, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    known, recipe = read_statistics(statistics), PretrainRecipe(**section.recipe)
    start = build_pretraining(architecture.model_dump(), recipe, data.reader("train").inputs, known, seed)
    params = {"model": architecture.model_dump(), "pretrain": section.model_dump()}
    with stage_run(
        "pretrain",
        experiment=experiment,
        seed=seed,
        params=params,
        code=stage_code("pretrain"),
        inputs=[shards, statistics],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        machine, callbacks = Machine(**runtime.machine), pretraining_callbacks(data, **section.watch)
        trainer = build_trainer(machine, section.epochs, seed, run.scratch, run.logger, callbacks)
        trained = part_of(fit(trainer, start.module, data, run.scratch), "model.")
        if not run.is_first:
            return
        for name, weights in (("pretrained", trained), ("random", start.initial)):
            checkpoint = Checkpoint(start.architecture, start.preprocessing, (), run.facts, weights)
            save_checkpoint(out / name, checkpoint)
        keys = data.reader("validation").keys[: section.num_pictures]
        batch = data.first("validation", len(keys))
        warning = data.reader("train").origin.warning
        # Not the trained module: one process alone can't use a model that is split among processes.
        load_weights(whole := build_fusmae(start.architecture), trained, out / "pretrained")
        whole_module = Reconstructor(whole, build_preprocess(start.preprocessing), recipe)
        draw_reconstructions(pictures, whole_module, batch, keys, tiles.modalities, known, warning)
        run.log_folder(pictures)
