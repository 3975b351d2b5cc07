"""Sections of params.yaml for tiny models, and what is built from them; any value may be changed."""

from collections.abc import Sequence
from typing import Any

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import FinetuneConfig, ModelConfig, PretrainConfig
from fusmae.modalities import ModalityInput, Statistics
from fusmae.models.architecture import Architecture
from fusmae.models.preprocess import Preprocess, Preprocessing

_MODEL = {
    "patch_px": 8,
    "dim": 16,
    "depth": 2,
    "num_heads": 2,
    "decoder_dim": 16,
    "decoder_depth": 1,
    "decoder_num_heads": 2,
    "early_fusion": True,
    "feature_fusion": True,
    "masking": "independent",
    "mask_ratio": {"s1": 0.75, "s2": 0.75},
    "target_norm": "patch",
    "decode_fraction": 1.0,
}
_TRAINING = {
    "epochs": 3,
    "batch_size": 4,
    "base_lr": 0.1,
    "weight_decay": 0.05,
    "warmup_epochs": 1,
    "modality_drop": 0.0,
    "augment": {"flip": True, "turn": True, "min_crop": 0.8},
}
_PRETRAIN = {
    "num_pictures": 0,
    "reconstruction_weight": 1.0,
    "contrastive_weight": 0.0,
    "ema_decay": 0.0,
    "evidence_pairs": 0,
    "patience": 0,
}
_FINETUNE = {"layer_decay": 0.65, "drop_path": 0.3, "readout": "mean"}
_RUNTIME = {
    "num_workers": 0,
    "accelerator": "cpu",
    "strategy": "ddp",
    "checkpoint_every_steps": 10,
    "scheduler": "",
    "num_dask_workers": 0,
    "mirrors": [],
    "num_connections": 1,
}


def model_section(**changes: Any) -> ModelConfig:
    return ModelConfig(**(_MODEL | changes))


def pretrain_section(**changes: Any) -> PretrainConfig:
    return PretrainConfig(**(_TRAINING | _PRETRAIN | changes))


def finetune_section(**changes: Any) -> FinetuneConfig:
    return FinetuneConfig(**(_TRAINING | _FINETUNE | changes))


def runtime_section(**changes: Any) -> RuntimeConfig:
    return RuntimeConfig(**(_RUNTIME | changes))


def architecture_of(preprocessing: Preprocessing, **changes: Any) -> Architecture:
    return Architecture.of(model_section(**changes), preprocessing)


def preprocess_of(inputs: Sequence[ModalityInput], statistics: Statistics, **changes: bool) -> Preprocess:
    return Preprocess(Preprocessing(inputs=tuple(inputs), statistics=statistics, **changes))
