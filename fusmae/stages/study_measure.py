"""Stage study_measure: measure one variant and seed of a study in every way that the study asks for."""

from pathlib import Path

import torch

from fusmae.config.study import StudyConfig
from fusmae.config.training import FinetuneConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import read_index
from fusmae.evaluation.diagnostics import retrieval
from fusmae.runs.distributed import require_one_process
from fusmae.runs.provenance import stage_code
from fusmae.study.measure.cell import write_measured
from fusmae.study.measure.measurement import Measurement, open_variant
from fusmae.study.variants import model_modalities
from fusmae.training.stage import TrainingStage


def study_measure(
    study: StudyConfig,
    section: FinetuneConfig,
    trained: PretrainConfig,
    stage: TrainingStage,
    *,
    variant: str,
    batch_size: int,
    weights: Path,
    shards: Path,
    index: Path,
    out: Path,
    run_file: Path,
) -> None:
    """Write the cell `out` of the variant whose checkpoint is in `weights`; all sections but `study` are its own."""
    require_one_process("study_measure")
    chosen, seed, tiles = study.variants[variant], stage.seed, stage.tiles
    draws = Draws(seed, model_modalities(chosen, tiles), stage.model.num_patches(tiles.tile_px))
    data = PairDataModule(shards, batch_size=batch_size, draws=draws)
    pairs = {pair.key: pair for pair in read_index(index)}
    opened = open_variant(chosen, trained, study.readout, weights, seed)
    torch.manual_seed(seed)
    params = {"variant": chosen.model_dump(), "study": study.model_dump(exclude={"variants", "run", "seeds"})}
    code = stage_code("measure", Path("study/dvc.yaml"))
    with stage.run(f"study-measure-{variant}-{seed}", params, code, [weights, shards], run_file, data) as run:
        measurement = Measurement(
            study, section, stage.runtime, opened, seed=seed, data=data, pairs=pairs, resume_folder=run.resume_folder
        )
        features = measurement.features()
        measurement.add_heads(features)
        measurement.add_trained()
        found = retrieval(features["test"], opened.encoder.modalities)
        write_measured(out, variant, measurement, found, tiles, run)
        rows = measurement.book.rows
        run.log_metrics({f"{row.name}/{name}": value for row in rows for name, value in row.scores.items()})
