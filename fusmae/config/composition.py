"""Apply overrides to params.yaml as it is: those of `dvc exp run -S …` and of a Prefect flow alike.

DVC composes params.yaml with Hydra from `conf/overrides.yaml`, whose search path names params.yaml itself. So a section
keeps its values unless an override names it; a config group, `data=folder`, replaces its section as a whole. Where
`data/raw/folder` describes itself in `folder.yaml`, as `fusmae tile` writes it, `data=folder` means that file.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from fusmae.config.source import FOLDER_DESCRIPTION

PRIMARY = "overrides"
"""Name of the file in `conf/` that params.yaml is composed from."""
GROUPS = ("data", "model", "runtime")
"""Folders of `conf/`; each is named like the section that its files replace."""
_UNCHANGED = "unchanged"
_DESCRIBED = "data/folder"


class ParamsFile(ConfigSource):  # type: ignore[misc, unused-ignore]
    """The choice `unchanged` of each group, and of the sections that belong to no group: the values in params.yaml.

    DVC finds this class through `conf/hydra_plugins`. A relative path counts from the working folder, to which DVC also
    writes params.yaml.
    """

    @staticmethod
    def scheme() -> str:
        """The scheme of `params://params.yaml` in Hydra's search path."""
        return "params"

    def load_config(self, config_path: str) -> ConfigResult:
        """The section of a group, or all sections that belong to no group.

        Raises:
            ConfigLoadError: the file is absent or contains no sections.
        """
        path = Path(self.path)
        if not path.is_file():
            raise ConfigLoadError(
                f"There is no {path} in {Path.cwd()}: overrides are laid over it. Run this in the project's folder; "
                f"`git checkout {path}` brings the file back."
            )
        params = _mapping_in(path)
        group = config_path.rpartition("/")[0]
        if group:
            found = {name: params[name] for name in params if name == group}
        else:  # sections of groups stay here as empty ones, which keeps the order
            found = {name: {} if name in GROUPS else params[name] for name in params}
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(found), header={"package": "_global_"})

    def is_group(self, config_path: str) -> bool:
        """Whether Hydra may look for choices there."""
        return config_path in ("", *GROUPS)

    def is_config(self, config_path: str) -> bool:
        """Whether the path is the choice `unchanged`, of a group or of none."""
        group, _, name = config_path.rpartition("/")
        return self.is_group(group) and name.removesuffix(".yaml") == _UNCHANGED

    def available(self) -> bool:
        """Always true: an absent file raises an error when it is read."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The choices that Hydra lists in an error where a choice does not exist."""
        groups = [] if config_path or results_filter == ObjectType.CONFIG else [*GROUPS]
        is_asked = self.is_group(config_path) and results_filter != ObjectType.GROUP
        return [*groups, *([_UNCHANGED] if is_asked else [])]


class DescribedFolder(ConfigSource):  # type: ignore[misc, unused-ignore]
    """The choice `data=folder` where the folder of pairs describes itself: the section `data` in its `folder.yaml`."""

    @staticmethod
    def scheme() -> str:
        """The scheme of `described://data/raw/folder` in Hydra's search path."""
        return "described"

    def load_config(self, config_path: str) -> ConfigResult:
        """The folder's section `data`.

        Raises:
            ConfigLoadError: the file contains no mapping, or would be replaced by other values where it is read.
        """
        path = Path(self.path, FOLDER_DESCRIPTION)
        section = _mapping_in(path)
        if "${" in str(section):  # it may come with somebody else's pairs, and must not read variables of this process
            raise ConfigLoadError(f"{path} has ${{…}} in it, which would be replaced: write the value.")
        # Descriptions of older versions have no kind, which stages depend on.
        content = OmegaConf.create({"data": {"kind": "multilabel", **section}})
        return ConfigResult(self.provider, self.full_path(), content, header={"package": "_global_"})

    def is_group(self, config_path: str) -> bool:
        """Whether Hydra may look for choices there."""
        return config_path in ("", "data")

    def is_config(self, config_path: str) -> bool:
        """Whether the path is the choice `data=folder`, and the folder describes itself."""
        return config_path.removesuffix(".yaml") == _DESCRIBED and Path(self.path, FOLDER_DESCRIPTION).is_file()

    def available(self) -> bool:
        """Always true: a folder that does not describe itself has no choice here."""
        return True

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """No choices: `conf/data/folder.yaml` is listed already."""
        return []


class DescribedFirst(SearchPathPlugin):  # type: ignore[misc, unused-ignore]
    """Makes Hydra look into the folder of pairs before it looks into `conf/`."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Put the folder of pairs first."""
        search_path.prepend(provider="pairs", path=f"{DescribedFolder.scheme()}://data/raw/folder")


PLUGINS = (ParamsFile, DescribedFolder, DescribedFirst)
"""What DVC finds through `conf/hydra_plugins`, and `compose` registers."""


def _mapping_in(path: Path) -> dict[str, Any]:
    # Read as in load_config: OmegaConf's own reader takes more texts for numbers.
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ConfigLoadError(f"{path} holds no sections.")
    return values


def compose(folder: Path, overrides: Sequence[str]) -> None:
    """Apply overrides to a checkout's params.yaml, as `dvc exp run -S …` does; a refused override leaves it unchanged.

    Args:
        folder: folder of the checkout.
        overrides: values such as `pretrain.epochs=3`, or choices of a config group such as `model=small`.

    Raises:
        HydraException: an override names a key or a choice that does not exist.
        OmegaConfBaseException: a value does not fit.
    """
    from dvc.utils.hydra import compose_and_dump
    from hydra.core.plugins import Plugins

    for plugin in PLUGINS:
        Plugins.instance().register(plugin)
    with contextlib.chdir(folder):
        conf = str(folder / "conf")
        compose_and_dump(folder / "params.yaml", conf, None, PRIMARY, conf, list(overrides))
