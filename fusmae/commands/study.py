"""Compose a study's parameters from conf/, as DVC composes params.yaml."""

from collections.abc import Sequence
from pathlib import Path

from fusmae.config import load_config
from fusmae.errors import ConfigError
from fusmae.study.variants import study_of, variant_config


def study(*, overrides: Sequence[str], out: Path, conf: Path = Path("conf")) -> None:
    """Write `conf/study.yaml` with other values laid over it to `out`.

    Not by `dvc exp run`: killed, it leaves git without a branch.

    Raises:
        ConfigError: an override names nothing, or a value is wrong.
    """
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
    config = load_config(out)
    for name in study_of(config).run:
        variant_config(config, name, config.seed)
