"""DVC looks here for what Hydra reads configurations with (`plugins_path` in .dvc/config)."""

from fusmae.config.composition import DescribedFirst, DescribedFolder, ParamsFile

__all__ = ["DescribedFirst", "DescribedFolder", "ParamsFile"]
