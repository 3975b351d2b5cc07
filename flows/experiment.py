"""A flow run's overrides become parameters of its worktree, and its results a DVC experiment."""

import re
from collections.abc import Sequence
from pathlib import Path

from fusmae.config.params import load_config
from fusmae.errors import ConfigError

# Hydra's grammar allows more, which is refused here: removing a default (~), reading environment variables
# (${oc.env:…}), searching other folders for groups.
_OVERRIDE = re.compile(r"(?!hydra[.=])[a-z_]\w*(\.[a-z_]\w*)*=(?!.*\$\{)[^\x00-\x1f\x7f]*", re.IGNORECASE | re.ASCII)
_GROUP = re.compile(r"\w+", re.ASCII)


def lay_over(folder: Path, overrides: Sequence[str]) -> None:
    """Apply overrides to a checkout's params.yaml, as `dvc exp run -S …` does.

    Args:
        folder: folder of the checkout.
        overrides: values such as `pretrain.epochs=3`, or choices of a config group such as `model=small`.

    Raises:
        ConfigError: a text is not an override, or it names a key or sets a value that the parameters don't allow.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from fusmae.config.composition import PRIMARY, compose

    for override in overrides:
        name, _, value = override.partition("=")
        is_group = (folder / "conf" / name).is_dir()
        if not _OVERRIDE.fullmatch(override) or (is_group and not _GROUP.fullmatch(value)):
            raise ConfigError(
                f"{override!r} is not an override.",
                expected="name=value, as in pretrain.epochs=3 or model=small",
                hint="dvc exp run -S … takes the same ones",
            )
    if not (folder / "conf" / f"{PRIMARY}.yaml").is_file():
        raise ConfigError(
            f"The commit has no conf/{PRIMARY}.yaml: it is from a build whose overrides changed more than they named.",
            hint="run a later commit, or commit the values in params.yaml there and run without overrides",
        )
    try:
        compose(folder, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(
            f"The overrides {list(overrides)} don't fit params.yaml: {error}", hint="look up the names in params.yaml"
        ) from error
    load_config(folder / "params.yaml")


def describe(flow_run: str, overrides: Sequence[str], runs: Sequence[str]) -> str:
    """The experiment's message: its flow run, overrides and MLflow runs."""
    return "\n".join(
        [
            f"Flow run {flow_run}",
            *(f"override {override}" for override in overrides),
            *(f"MLflow run {run}" for run in runs),
        ]
    )
