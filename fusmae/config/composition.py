"""Overrides are laid over params.yaml as it is: `dvc exp run -S …` and a Prefect flow's overrides alike.

DVC composes params.yaml with Hydra from `conf/overrides.yaml`, whose search path names params.yaml itself. So a section
keeps its values unless an override names it; a config group, `data=folder`, replaces its section as a whole.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf

PRIMARY = "overrides"
"""Name of the file in `conf/` that params.yaml is composed from."""
GROUPS = ("data", "model", "runtime")
"""Folders of `conf/` that are named like the section that each of their files replaces."""
_UNCHANGED = "unchanged"


class ParamsFile(ConfigSource):  # type: ignore[misc, unused-ignore]
    """The choice `unchanged` of each group, and of all sections that belong to no group: what params.yaml has.

    DVC finds this class through `conf/hydra_plugins`. A relative path counts from the working folder, where DVC writes
    params.yaml, too.
    """

    @staticmethod
    def scheme() -> str:
        """Hydra's search path has `params://params.yaml`."""
        return "params"

    def load_config(self, config_path: str) -> ConfigResult:
        """The sections of a group, or those of none.

        Raises:
            ConfigLoadError: the file is absent or holds no sections.
        """
        path = Path(self.path)
        if not path.is_file():
            raise ConfigLoadError(
                f"There is no {path} in {Path.cwd()}: overrides are laid over it. Run this in the project's folder; "
                f"`git checkout {path}` brings the file back."
            )
        # As load_config reads it: OmegaConf's own reader takes more texts for numbers.
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(params, dict):
            raise ConfigLoadError(f"{path} holds no sections.")
        group = config_path.rpartition("/")[0]
        if group:
            found = {name: params[name] for name in params if name == group}
        else:  # empty, the sections of groups keep their place among the others
            found = {name: {} if name in GROUPS else params[name] for name in params}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(found), header={"package": "_global_"})

    def is_group(self, config_path: str) -> bool:
        """Whether Hydra may look for choices there."""
        return config_path in ("", *GROUPS)

    def is_config(self, config_path: str) -> bool:
        """Whether it is `unchanged`, of a group or of none."""
        group, _, name = config_path.rpartition("/")
        return self.is_group(group) and name.removesuffix(".yaml") == _UNCHANGED

    def available(self) -> bool:
        """Always: a file that is absent is named when it is read."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """What Hydra names where a choice does not exist."""
        groups = [] if config_path or results_filter == ObjectType.CONFIG else [*GROUPS]
        is_asked = self.is_group(config_path) and results_filter != ObjectType.GROUP
        return [*groups, *([_UNCHANGED] if is_asked else [])]


def compose(folder: Path, overrides: Sequence[str]) -> None:
    """Lay overrides over a checkout's params.yaml, as `dvc exp run -S …` does; refused ones leave it as it was.

    Args:
        folder: of the checkout.
        overrides: `pretrain.epochs=3`, or a config group: `model=small`.

    Raises:
        HydraException: an override names or chooses what there is not.
        OmegaConfBaseException: a value does not fit.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.core.plugins import Plugins

    Plugins.instance().register(ParamsFile)
    with contextlib.chdir(folder):
        conf = str(folder / "conf")
        compose_and_dump(folder / "params.yaml", conf, None, PRIMARY, conf, list(overrides))
