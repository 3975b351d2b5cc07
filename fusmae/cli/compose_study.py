"""Compose a study's parameters from conf/, as DVC composes params.yaml."""

from collections.abc import Sequence
from pathlib import Path

from fusmae.config.params import Config, load_config
from fusmae.errors import ConfigError
from fusmae.files import file_sha256
from fusmae.study.variants import study_of, variant_config


def compose_study(overrides: Sequence[str], out: Path, conf: Path = Path("conf")) -> None:
    """Write `conf/study.yaml` with other values laid over it to `out`.

    Not by `dvc exp run`: killed, it leaves git without a branch.

    Raises:
        ConfigError: an override names nothing, a value is wrong, or a file of weights is absent.
    """
    config = _composed(overrides, out, conf)
    hashes = [
        f"study.variants.{name}.weights_sha256={_hash(name, Path(variant.weights))}"
        for name, variant in study_of(config).variants.items()
        if variant.weights
    ]
    if hashes:
        config = _composed([*overrides, *hashes], out, conf)
    for name in study_of(config).run:
        variant_config(config, name, config.seed)


def _composed(overrides: Sequence[str], out: Path, conf: Path) -> Config:
    from dvc.utils.hydra import compose_and_dump
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    try:
        compose_and_dump(out, str(conf.absolute()), None, "study", "", list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"The study can't be composed: {error}",
            got=" ".join(overrides),
            expected="values like study_size=gpu or pretrain.epochs=100",
        ) from error
    return load_config(out)


def _hash(name: str, weights: Path) -> str:
    if not weights.is_file():
        raise ConfigError(
            f"study.variants.{name}.weights names no file.",
            got=str(weights),
            expected="a file of weights, or none for random ones",
        )
    return file_sha256(weights)
