"""Fus-MAE as a pipeline: raw archive → index → shards → pretraining → probe and finetune → ONNX → registry.

The public API is what `__all__` names; everything else may change between two versions. The package is also used by its
command line, `fusmae --help`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from fusmae.errors import FusmaeError

if TYPE_CHECKING:
    from fusmae.data.dataset import open_shards
    from fusmae.release.embedder import load
    from fusmae.release.hub import PretrainedEncoder

    __version__: str

__all__ = ["FusmaeError", "PretrainedEncoder", "__version__", "load", "open_shards"]

_MODULES = {
    "PretrainedEncoder": "fusmae.release.hub",
    "load": "fusmae.release.embedder",
    "open_shards": "fusmae.data.dataset",
}
"""Modules of what needs large packages; they are imported when it is asked for."""


def __getattr__(name: str) -> Any:
    """Look up what is imported only when it is asked for, and `__version__`, which takes long to read."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name != "__version__":
        raise AttributeError(f"module 'fusmae' has no attribute {name!r}")
    from importlib.metadata import version

    return version("fusmae")
