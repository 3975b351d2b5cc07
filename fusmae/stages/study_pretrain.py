"""Stage study_pretrain: make the weights of one variant and seed of a study, which are then measured."""

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
from fusmae.runs.distributed import require_one_process
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.study.variants import model_modalities
from fusmae.training.build import part_of
from fusmae.training.checkpoint import Checkpoint, save_checkpoint
from fusmae.training.history import History
from fusmae.training.pretraining import build_pretraining
from fusmae.training.reconstruction import PretrainRecipe
from fusmae.training.trainer import Machine, build_trainer, fit


def study_pretrain(
    chosen: VariantConfig,
    section: PretrainConfig,
    architecture: ModelConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    *,
    variant: str,
    seed: int,
    experiment: str,
    shards: Path,
    verdict: Path,
    statistics: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Write the checkpoint folder `out`, with `history.json` in it; a rival's own weights are not read here."""
    require_one_process("study_pretrain")
    require_verdict(verdict, shards)
    names, num_patches = model_modalities(chosen, tiles), architecture.num_patches(tiles.tile_px)
    draws = Draws(seed, names, num_patches, section.modality_drop, section.augment.model_dump())
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    reader, history = data.reader("train"), History()
    inputs = [item for item in reader.inputs if item.modality in tiles.modalities]
    known, recipe = read_statistics(statistics), PretrainRecipe(**section.recipe)
    start = build_pretraining(architecture.model_dump(), recipe, inputs, known, seed, is_stacked=chosen.is_stacked)
    with stage_run(
        f"study-{variant}-{seed}",
        experiment=experiment,
        seed=seed,
        params={"variant": chosen.model_dump(), "model": architecture.model_dump(), "pretrain": section.model_dump()},
        code=stage_code("pretrain", Path("study/dvc.yaml")),
        inputs=[shards, statistics],
        run_file=run_file,
        accelerator=runtime.accelerator,
        data=reader.origin.described,
    ) as run:
        weights = start.initial
        if chosen.start == "pretrained":
            machine, callbacks = Machine(**runtime.machine), pretraining_callbacks(data, **section.watch)
            trainer = build_trainer(machine, section.epochs, seed, run.scratch, run.logger, [*callbacks, history])
            weights = part_of(fit(trainer, start.module, data, run.scratch), "model.")
        save_checkpoint(out, Checkpoint(start.architecture, start.preprocessing, (), run.facts, weights))
        write_json(out / "history.json", history.state_dict() | {"run_id": run.run_id})
