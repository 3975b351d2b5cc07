"""What the stages that train share: their sections of the parameters, their pairs, their MLflow run and the fit."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import FinetuneConfig, ModelConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.runs.mlflow_address import tracking_uri
from fusmae.runs.tracking import Run, stage_run
from fusmae.training.checkpoint import part_of

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule


@dataclass(frozen=True)
class TrainingStage:
    """What a stage that trains is given beside its own section of the parameters.

    These are the sections `model`, `data` and `runtime`, the run's random seed and the name of the MLflow experiment.
    """

    model: ModelConfig
    tiles: DataConfig
    runtime: RuntimeConfig
    seed: int
    experiment: str

    def pairs(
        self,
        shards: Path,
        recipe: PretrainConfig | FinetuneConfig,
        modalities: tuple[str, ...],
        num_patches: int = 1,
        *,
        with_labels: bool = False,
    ) -> PairDataModule:
        """The pairs of `shards`, with the recipe's augmentation and modality drop in training.

        `with_labels` is whether labels are learned from, so that batches have maps where these are the labels.

        Raises:
            ShardError: labels are asked for, and there are none.
        """
        draws = Draws(
            self.seed, modalities, num_patches, recipe.modality_drop, recipe.group_drop, recipe.augment.model_dump()
        )
        data = PairDataModule(shards, batch_size=recipe.batch_size, draws=draws, num_workers=self.runtime.num_workers)
        data.with_maps = with_labels and data.task().is_dense
        return data

    def run(
        self,
        name: str,
        params: Mapping[str, Any],
        code: Mapping[str, str],
        inputs: Sequence[Path],
        run_file: Path,
        data: PairDataModule,
    ) -> AbstractContextManager[Run]:
        """The stage's MLflow run; the arguments are those of `stage_run`."""
        return stage_run(
            name,
            experiment=self.experiment,
            seed=self.seed,
            params=params,
            code=code,
            inputs=inputs,
            run_file=run_file,
            accelerator=self.runtime.accelerator,
            data=data.reader("train").origin.described,
        )

    def fit(
        self,
        module: "LightningModule",
        data: PairDataModule,
        run: Run,
        epochs: int,
        callbacks: Sequence["Callback"] = (),
    ) -> dict[str, Tensor]:
        """Train in the stage's run, from where it was interrupted; the weights of the module's `model` by name.

        With 0 epochs these are the weights that it has.
        """
        if not epochs:
            return part_of(module.state_dict(), "model.")
        # Lightning takes seconds to import, and stage probe has no use for it.
        from lightning.pytorch.loggers import MLFlowLogger

        from fusmae.training.trainer import build_trainer, fit

        logger = MLFlowLogger(self.experiment, tracking_uri=tracking_uri(), run_id=run.run_id) if run.is_first else None
        trainer = build_trainer(self.runtime, epochs, self.seed, run.resume_folder, logger, callbacks)
        return part_of(fit(trainer, module, data), "model.")
