"""An encoder as a torch module, saved to and loaded from local folders in the form of the Hugging Face hub.

Such a folder is a checkpoint's folder in which `checkpoint.json` has the hub's name, `config.json`, with a model card
beside it. So each function that takes a checkpoint's folder takes it, too.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import torch
from huggingface_hub import ModelCard, ModelCardData, ModelHubMixin
from torch import Tensor

from fusmae.config.task import Task
from fusmae.errors import CheckpointError
from fusmae.evaluation.features import CheckpointEncoder
from fusmae.release.markdown import fill
from fusmae.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from fusmae.training.checkpoint_card import CARD, HUB_CARD, WEIGHTS

_TEMPLATE = Path(__file__).parent / "templates" / "hub_card.md"
README = "README.md"


class PretrainedEncoder(
    CheckpointEncoder,
    ModelHubMixin,
    library_name="fusmae",
    pipeline_tag="image-feature-extraction",
    tags=["remote-sensing", "sentinel-1", "sentinel-2", "masked-autoencoder"],
):
    """The encoder of a checkpoint with its preprocessing, as a torch module for your own training.

    It takes physical pixels `[B, C, h, w]` by input name (`s1_10m`), of one modality or more. Its weights are frozen
    until you call `requires_grad_()`, and it is in eval mode until `train()`.

    Raises:
        CheckpointError: the weights don't fit the architecture.
    """

    # Without it the mixin would copy all weights into a configuration of its own.
    _hub_mixin_config: Any = {}  # noqa: RUF012

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint, checkpoint.architecture.readout or "mean")
        self._checkpoint = checkpoint
        self.num_features = self.encoder.dim
        self.feature_info = self.encoder.feature_info

    def forward(self, pixels: dict[str, Tensor]) -> Tensor:
        """Features `[B, D]` of tiles, pooled as `fusmae.load(…).embed` pools them."""
        return self.pooled(self.encoder(self.preprocess(pixels)))  # not `latents`, which keeps no gradients

    def forward_features(self, pixels: dict[str, Tensor]) -> Tensor:
        """See `Encoder.forward_features`."""
        return self.encoder.forward_features(self.preprocess(pixels))

    def forward_intermediates(self, pixels: dict[str, Tensor], *arguments: Any, **options: Any) -> Any:
        """See `Encoder.forward_intermediates`."""
        return self.encoder.forward_intermediates(self.preprocess(pixels), *arguments, **options)

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint with the weights as they are now.

        Where you trained the encoder on, a head and a decoder are left out: they fit the former weights.
        """
        former = self._checkpoint
        weights = {f"encoder.{name}": tensor.detach().cpu() for name, tensor in self.encoder.state_dict().items()}
        if all(torch.equal(tensor, former.weights[name]) for name, tensor in weights.items()):
            return former
        architecture = former.architecture.model_copy(update={"num_classes": None, "map_px": None})
        changed: Mapping[str, Any] = {**former.provenance, "changed": "trained on outside of fusmae's stages"}
        return replace(former, architecture=architecture, task=Task(), provenance=changed, weights=weights)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write weights, `config.json` and, where there is none yet, the model card; other files there are kept.

        The mixin's `options` apply. A folder that a kill leaves half-written is refused when it is loaded.

        Raises:
            StorageError: the disk is full.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = Path(temporary) / folder.name
            address = super().save_pretrained(made, **options)
            for path in made.iterdir():
                if path.name != README or not (folder / README).exists():
                    path.replace(folder / path.name)
        return address

    def _save_pretrained(self, save_directory: Path) -> None:
        with TemporaryDirectory(dir=save_directory) as temporary:
            made = Path(temporary) / "checkpoint"
            save_checkpoint(made, self.checkpoint)
            (made / WEIGHTS).replace(save_directory / WEIGHTS)
            (made / CARD).replace(save_directory / HUB_CARD)

    def generate_model_card(self, *_: Any, **facts: Any) -> ModelCard:
        """The model card, from the checkpoint's facts; a fact may be given instead, such as `license`."""
        checkpoint = self.checkpoint
        data: dict[str, Any] = self._hub_mixin_info.model_card_data.to_dict()  # type: ignore[no-untyped-call]
        card = fill(
            _TEMPLATE,
            metadata=ModelCardData(**data | facts).to_yaml(),
            architecture=checkpoint.architecture,
            inputs=checkpoint.preprocessing.inputs,
            provenance=checkpoint.provenance,
            task=checkpoint.task,
            readout=self.readout,
            num_parameters=self.num_parameters,
        )
        return ModelCard(card)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **_: Any) -> Self:
        """Load a local folder; the mixin's options, which are about downloads, have no effect.

        Raises:
            CheckpointError: there is no such folder, or it has no checkpoint, or a damaged one.
        """
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            raise CheckpointError(
                f"There is no folder {folder}.",
                expected="a local folder that `save_pretrained` wrote, or a checkpoint's",
                hint=f"hf download {folder} --local-dir FOLDER, then name that FOLDER",
            )
        return cls(load_checkpoint(folder))
