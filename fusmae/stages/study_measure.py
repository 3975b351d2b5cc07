"""Stage study_measure: measure one variant and seed of a study in every way that the study asks for."""

from pathlib import Path

import torch

from fusmae.config.params import Config
from fusmae.data.datamodule import PairDataModule
from fusmae.data.index import read_index
from fusmae.runs.distributed import require_one_process
from fusmae.runs.stage_code import stage_code
from fusmae.runs.tracking import stage_run
from fusmae.study.measure.cell import open_variant, write_measured
from fusmae.study.measure.measurement import Measurement, named_draws
from fusmae.study.variants import model_modalities, study_of, variant_config, variant_of


def study_measure(
    config: Config, *, variant: str, seed: int, weights: Path, shards: Path, index: Path, out: Path, run_file: Path
) -> None:
    """Write the cell `out` of the variant whose checkpoint is in `weights`."""
    require_one_process("study_measure")
    chosen, own, study = variant_of(config, variant), variant_config(config, variant, seed), study_of(config)
    draws = named_draws(model_modalities(chosen, own), own)
    data = PairDataModule(shards, batch_size=own.evaluate.batch_size, draws=draws)
    pairs = {pair.key: pair for pair in read_index(index)}
    opened = open_variant(own, chosen, weights, seed)
    torch.manual_seed(seed)
    with stage_run(
        f"study-measure-{variant}-{seed}",
        experiment=own.register_as.experiment,
        seed=seed,
        params={"variant": chosen.model_dump(), "study": study.model_dump(exclude={"variants", "run", "seeds"})},
        code=stage_code("measure", Path("study/dvc.yaml")),
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=own.runtime.accelerator,
        data=data.reader("test").origin.described,
    ) as run:
        measurement = Measurement(
            own,
            opened.encoder,
            opened.checkpoint,
            is_scratch=chosen.start == "random",
            data=data,
            pairs=pairs,
            scratch=run.scratch,
        )
        features = measurement.features()
        measurement.add_heads(features)
        measurement.add_finetuned()
        measurement.add_maps()
        measured = measurement.evidence(features, opened.reconstructor)
        write_measured(out, own, variant, opened, measured, data, pairs, run)
        run.log_metrics(
            {f"{row.name}/{name}": value for row in measured.book.rows for name, value in row.scores.items()}
        )
