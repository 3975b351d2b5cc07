"""Stage probe: linear heads on a frozen encoder, one a modality setting; learning rate chosen on validation."""

from pathlib import Path

import numpy as np
import torch

from fusmae.config.params import Config
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.metrics import average_precisions
from fusmae.runs.distributed import require_one_process
from fusmae.runs.tracking import stage_run
from fusmae.training.build import build_encoder, build_preprocess, modality_settings, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, require_same_model, save_checkpoint
from fusmae.training.probe import Prober, choose_heads
from fusmae.training.trainer import Machine, build_trainer, fit, predict


def probe(config: Config, *, weights: Path, shards: Path, out: Path, run_file: Path) -> None:
    """Probe the encoder in the checkpoint folder `weights`; write encoder and chosen heads to `out`."""
    require_one_process("probe")
    section, runtime, start = config.probe, config.runtime, load_checkpoint(weights)
    require_same_model(start, config.model.model_dump(mode="json"), weights)
    modalities, machine = tuple(config.data.modalities), Machine(**runtime.machine)
    draws = Draws(config.seed, modalities, num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws, num_workers=runtime.num_workers)
    classes, labels = data.reader("train").classes, np.asarray(data.reader("validation").labels)
    encoder, preprocess = build_encoder(start.architecture), build_preprocess(start.preprocessing)
    load_weights(encoder, part_of(start.weights, "encoder."), weights)
    torch.manual_seed(config.seed)
    module = Prober(
        encoder,
        preprocess,
        settings=modality_settings(modalities),
        learning_rates=section.learning_rates,
        num_classes=len(classes),
        readout=section.readout,
    )
    with stage_run(
        f"probe-{weights.name}",
        experiment=config.register_as.experiment,
        seed=config.seed,
        params={"model": config.model.model_dump(), "probe": section.model_dump()},
        inputs=[weights, shards],
        run_file=run_file,
        accelerator=config.runtime.accelerator,
        data=data.reader("train").origin.described,
    ) as run:
        trainer = build_trainer(machine, section.epochs, config.seed, run.scratch, run.logger)
        fit(trainer, module, data, run.scratch)
        found = module.collect(predict(machine, module, data.loader("validation")))
        scores = {name: [average_precisions(labels, logits)[0] for logits in found[name]] for name in found}
        chosen = choose_heads(scores)
        architecture = {**start.architecture, "num_classes": len(classes), "readout": section.readout}
        choice = {name: {"learning_rate": section.learning_rates[at], "validation_micro_ap": scores[name][at]}
                  for name, at in chosen.items()}  # fmt: skip
        facts = {**run.facts, "chosen": choice}
        finished = Checkpoint(architecture, start.preprocessing, classes, facts, module.published(chosen))
        save_checkpoint(out, finished)
        run.log_metrics({f"{name}/{key}": value for name, values in choice.items() for key, value in values.items()})
