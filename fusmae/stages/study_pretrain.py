"""Stage study_pretrain: make the weights of one variant and seed of a study, which are then measured."""

from dataclasses import replace
from pathlib import Path

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.study import VariantConfig
from fusmae.config.training import ModelConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.statistics import read_statistics
from fusmae.data.verdict import require_verdict
from fusmae.evaluation.evidence import pretraining_callbacks
from fusmae.files import write_json
from fusmae.models.preprocess import Preprocessing
from fusmae.runs.distributed import require_one_process
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.study.variants import model_modalities
from fusmae.training.checkpoint import part_of, save_checkpoint
from fusmae.training.reconstruction import start_pretraining
from fusmae.training.trainer import History, build_trainer, fit


def study_pretrain(
    chosen: VariantConfig,
    section: PretrainConfig,
    model: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    seed: int,
    experiment: str,
    *,
    variant: str,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Write the checkpoint folder `out`, with `history.json` in it; a rival's own weights are not read here."""
    require_one_process("study_pretrain")
    require_verdict(verdict, shards)
    names, num_patches = model_modalities(chosen, tiles), model.num_patches(tiles.tile_px)
    draws = Draws(seed, names, num_patches, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    reader, history = data.reader("train"), History()
    preprocessing = Preprocessing(
        inputs=tuple(item for item in reader.inputs if item.modality in tiles.modalities),
        statistics=read_statistics(statistics),
        is_stacked=chosen.is_stacked,
    )
    module, start = start_pretraining(model, preprocessing, section, seed)
    with stage_run(
        f"study-{variant}-{seed}",
        experiment=experiment,
        seed=seed,
        params={"variant": chosen.model_dump(), "model": model.model_dump(), "pretrain": section.model_dump()},
        code=stage_code("pretrain", Path("study/dvc.yaml")),
        inputs=[shards, statistics],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=reader.origin.described,
    ) as run:
        checkpoint = replace(start, provenance=run.facts)
        if chosen.start == "pretrained":
            callbacks = [*pretraining_callbacks(data, section), history]
            trainer = build_trainer(runtime, section.epochs, seed, run.resume_folder, run.logger, callbacks)
            trained = part_of(fit(trainer, module, data, run.resume_folder), "model.")
            checkpoint = replace(checkpoint, weights=trained)
        save_checkpoint(out, checkpoint)
        write_json(out / "history.json", history.state_dict() | {"run_id": run.run_id})
