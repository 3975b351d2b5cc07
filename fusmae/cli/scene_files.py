"""Files of scenes as a command line names them, and how readers shall understand them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusmae.inference.scene.scene import Reading
from fusmae.rasters.s1_units import S1Units


@dataclass(frozen=True)
class SceneFiles:
    """Scenes as a command line names them.

    Attributes:
        s1: paths of Sentinel-1 files, folders and archives.
        s2: paths of Sentinel-2, likewise.
        s1_bands: names of bands in file order, with commas; "" to trust the files.
        s2_bands: names of bands of Sentinel-2, likewise.
        s1_units: units of the S1 files.
        s2_offset: number to take off every S2 digital number; None for nothing.
    """

    s1: tuple[str | Path, ...] = ()
    s2: tuple[str | Path, ...] = ()
    s1_bands: str = ""
    s2_bands: str = ""
    s1_units: S1Units = "dB"
    s2_offset: int | None = None

    @property
    def paths(self) -> dict[str, tuple[str | Path, ...]]:
        """Files, folders and archives by modality."""
        return {"s1": self.s1, "s2": self.s2}

    @property
    def readings(self) -> Mapping[str, Reading]:
        """How to understand them, by modality."""
        return {
            "s1": Reading(bands=_names(self.s1_bands), units=self.s1_units),
            "s2": Reading(bands=_names(self.s2_bands), offset=self.s2_offset),
        }


def _names(text: str) -> tuple[str, ...] | None:
    return tuple(name.strip() for name in text.split(",")) if text else None
