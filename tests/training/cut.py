"""A training run that is cut off, as by a kill."""

from lightning.pytorch.callbacks import Callback


class CutError(BaseException):
    """Like a kill: no Exception, and Lightning has no handler of its own for it."""


class CutOff(Callback):
    """Ends the process's work before step `step`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise CutError
