"""Trains tiny modules one after the other, alone or as torchrun starts it: `distributed_jobs.py FOLDER JOBS`.

FOLDER has `setting.json`; JOBS is JSON. Writes `<job>-<rank>.pt`: losses by step and epoch, weights, how it ended.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from fusmae.config.task import Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.errors import TrainingError
from fusmae.models.architecture import Architecture
from fusmae.models.encoder import Encoder
from fusmae.models.fusmae import FusMAE
from fusmae.models.heads import ClassifierHead
from fusmae.models.predictors import TilePredictor
from fusmae.models.preprocess import Preprocess, Preprocessing
from fusmae.runs.distributed import ranks
from fusmae.training.reconstruction import Reconstructor
from fusmae.training.supervised import Finetuner
from fusmae.training.trainer import build_trainer, fit
from tests.sections import finetune_section, pretrain_section, runtime_section

AUGMENT = {"flip": True, "turn": True, "min_crop": 0.8}


class CutError(Exception):
    """A run that is cut off, on every process."""


class Disturb(Callback):
    """Before step `step`, on rank `rank` or on each: what `how` says."""

    def __init__(self, step=None, rank=None, how="cut"):
        self.step, self.rank, self.how = step, rank, how

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.global_step != self.step or self.rank not in (None, ranks().rank):
            return
        if self.how == "cut":
            raise CutError
        if self.how == "fail":
            raise TrainingError("Rank 0 can't go on.")
        parent = os.getppid()
        os.kill(parent if self.how == "kill torchrun" else os.getpid(), self.signal)
        while self.how == "kill torchrun" and os.getppid() == parent:
            time.sleep(0.01)

    @property
    def signal(self):
        return signal.SIGKILL if self.how == "kill torchrun" else signal.SIGTERM


class Curve(Callback):
    """Losses over all processes."""

    def __init__(self):
        self.train, self.validation = {}, {}

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        loss = outputs["loss"].detach().clone()
        self.train[trainer.global_step] = float(trainer.strategy.reduce(loss, reduce_op="mean"))

    def on_validation_end(self, trainer, module):
        self.validation[trainer.current_epoch] = float(trainer.callback_metrics["validation/loss"])


def make(kind, setting):
    torch.manual_seed(0)
    preprocess = Preprocess(Preprocessing.model_validate(setting["preprocessing"]))
    architecture = Architecture.model_validate(setting["architecture"], strict=False)
    if kind in ("pretrain", "contrast"):
        recipe = pretrain_section(contrastive_weight=0.5 if kind == "contrast" else 0.0)
        return Reconstructor(FusMAE(architecture), preprocess, recipe)
    encoder = Encoder(architecture, drop_path=0.3)
    model = TilePredictor(Task(), encoder, "mean", ClassifierHead(encoder.dim, setting["num_classes"]))
    return Finetuner(model, preprocess, finetune_section())


def run(folder, name, *, kind="pretrain", strategy="ddp", scratch=None, own_scratch=False, **disturbance):
    setting = json.loads((folder / "setting.json").read_text())
    data = PairDataModule(
        Path(setting["shards"]), batch_size=4, draws=Draws(0, ("s1", "s2"), 9, modality_drop=0.3, augment=AUGMENT)
    )
    module, curve = make(kind, setting), Curve()
    place = folder / (scratch or name) / (str(ranks().rank) if own_scratch else "")
    trainer = build_trainer(runtime_section(checkpoint_every_steps=3, strategy=strategy), 3, 0, place)
    trainer.callbacks += [curve, Disturb(**disturbance)]
    weights, ended = {}, "done"
    try:
        weights = fit(trainer, module, data)
    except (CutError, SIGTERMException) as error:
        ended = type(error).__name__
    except TrainingError as error:
        if disturbance:
            raise
        ended = str(error)
    found = {"train": curve.train, "validation": curve.validation, "weights": weights, "ended": ended}
    torch.save(found | {"step": trainer.global_step}, folder / f"{name}-{ranks().rank}.pt")


if __name__ == "__main__":
    torch.set_num_threads(1)
    for job in json.loads(sys.argv[2]):
        run(Path(sys.argv[1]), **job)
