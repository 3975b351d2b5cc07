"""Stage probe: linear heads on a frozen encoder, one a modality setting; learning rate chosen on validation."""

from pathlib import Path

import numpy as np
import torch

from fusmae.config import Config
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.metrics import average_precisions
from fusmae.tracking import stage_run
from fusmae.training.build import build_encoder, build_preprocess, modality_settings, part_of
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, load_weights, require_same_model, save_checkpoint
from fusmae.training.probe import Prober, choose_heads
from fusmae.training.trainer import Machine, build_trainer, fit, predict


def probe(config: Config, *, weights: Path, shards: Path, out: Path, run_file: Path) -> None:
    """Probe the encoder in the checkpoint folder `weights`; write encoder and chosen heads to `out`."""
    section, start = config.probe, load_checkpoint(weights)
    require_same_model(start, config.model.model_dump(mode="json"), weights)
    data = PairDataModule(
        shards,
        batch_size=section.batch_size,
        draws=Draws(config.seed, tuple(config.data.modalities), num_patches=1),
        num_workers=config.runtime.num_workers,
    )
    classes = data.reader("train").classes
    encoder = build_encoder(start.architecture)
    load_weights(encoder, part_of(start.weights, "encoder."), weights)
    torch.manual_seed(config.seed)
    module = Prober(
        encoder,
        build_preprocess(start.preprocessing),
        settings=modality_settings(tuple(config.data.modalities)),
        learning_rates=section.learning_rates,
        num_classes=len(classes),
        readout=section.readout,
    )
    with stage_run(
        f"probe-{weights.name}",
        experiment=config.register_as.experiment,
        seed=config.seed,
        params={"probe": section.model_dump()},
        inputs=[weights, shards],
        run_file=run_file,
    ) as run:
        machine = Machine(**config.runtime.machine)
        trainer = build_trainer(machine, section.epochs, config.seed, run.scratch, run.logger)
        fit(trainer, module, data, run.scratch)
        batches = predict(machine, module, data.loader("validation"))
        labels = np.asarray(data.reader("validation").labels)
        scores = {
            name: [
                average_precisions(labels, torch.cat([batch[name][at] for batch in batches]).numpy())[0]
                for at in range(len(section.learning_rates))
            ]
            for name in module.heads
        }
        chosen = choose_heads(scores)
        weights_out = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
        for name, at in chosen.items():
            head = part_of(module.state_dict(), f"heads.{name}.{at}.")
            weights_out |= {f"heads.{name}.{key}": tensor for key, tensor in head.items()}
        rates = {name: section.learning_rates[at] for name, at in chosen.items()}
        architecture = {**start.architecture, "num_classes": len(classes), "readout": section.readout}
        facts = {**run.facts, "learning_rates": rates}
        save_checkpoint(out, Checkpoint(architecture, start.preprocessing, classes, facts, weights_out))
