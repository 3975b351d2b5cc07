"""Fus-MAE as a pipeline: raw archive → index → shards → pretraining → probe and finetune → ONNX → registry.

The public API is what `__all__` names; everything else may change between two versions. The package is also used by its
command line, `fusmae --help`.
"""

from typing import TYPE_CHECKING

from fusmae.errors import FusmaeError

if TYPE_CHECKING:
    __version__: str

__all__ = ["FusmaeError", "__version__"]


def __getattr__(name: str) -> str:
    """Look up `__version__` when it is asked for: reading it takes longer than importing the package."""
    if name != "__version__":
        raise AttributeError(f"module 'fusmae' has no attribute {name!r}")
    from importlib.metadata import version

    return version("fusmae")
