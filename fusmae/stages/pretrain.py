"""Stage pretrain: masked reconstruction; also keeps the random initial weights, for comparison."""

from dataclasses import replace
from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import ModelConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.statistics import read_statistics
from fusmae.data.verdict import require_verdict
from fusmae.evaluation.evidence import pretraining_callbacks
from fusmae.evaluation.reconstructions import draw_reconstructions
from fusmae.models.preprocess import Preprocessing
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.training.checkpoint import part_of, save_checkpoint
from fusmae.training.reconstruction import start_pretraining
from fusmae.training.trainer import build_trainer, fit


def pretrain(
    section: PretrainConfig,
    model: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    seed: int,
    experiment: str,
    *,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    pictures: Path,
    run_file: Path,
) -> None:
    """Train on `shards` with an examination's `verdict`; write `out/pretrained`, `out/random` and `pictures`."""
    require_verdict(verdict, shards)
    num_patches = model.num_patches(tiles.tile_px)
    draws = Draws(seed, tuple(tiles.modalities), num_patches, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    reader = data.reader("train")
    preprocessing = Preprocessing(inputs=reader.inputs, statistics=read_statistics(statistics))
    module, initial = start_pretraining(model, preprocessing, section, seed)
    with stage_run(
        "pretrain",
        experiment=experiment,
        seed=seed,
        params={"model": model.model_dump(), "pretrain": section.model_dump()},
        code=stage_code("pretrain"),
        inputs=[shards, statistics],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=reader.origin.described,
    ) as run:
        callbacks = pretraining_callbacks(data, section)
        trainer = build_trainer(runtime, section.epochs, seed, run.resume_folder, run.logger, callbacks)
        trained = part_of(fit(trainer, module, data, run.resume_folder), "model.")
        if not run.is_first:
            return
        random = replace(initial, provenance=run.facts)
        pretrained = replace(random, weights=trained)
        save_checkpoint(out / "pretrained", pretrained)
        save_checkpoint(out / "random", random)
        keys = data.reader("validation").keys[: section.num_pictures]
        batch = data.first("validation", len(keys))
        # Not the trained module: one process alone can't use a model that is split among processes.
        draw_reconstructions(pictures, pretrained, batch, keys, tiles.modalities, reader.origin.warning)
        run.log_folder(pictures)
