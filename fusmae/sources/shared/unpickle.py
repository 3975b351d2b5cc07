"""Safe reading of pickles whose class is not installed: no code that a pickle names is imported or run.

Each name that a pickle may use is mapped to an inert class of this module. So the real
`numpy.dtype.__setstate__`, which trusts its input, never receives a foreign state either.
"""

import io
import math
import pickle
import pickletools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import SourceError

_FOREIGN_PREFIX = "bigearthnet_patch_interface."
_DTYPE_CODES = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})
_PLAIN_DTYPE_REST = (None, None, None, -1, -1, 0)
_MEMO_OPCODES = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


class Record:
    """An instance of a foreign class: the values of its attributes by name, and nothing else."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        # pydantic stores the attributes together with its own internal state
        fields = state.get("__dict__", state) if isinstance(state, dict) else None
        if not isinstance(fields, dict):
            raise SourceError("A pickled record has no plain state.", got=type(state).__name__, expected="dict")
        self.fields = fields


class _Ndarray:
    """Stands for the type `numpy.ndarray`, which `_reconstruct` gets as an argument."""

    def __setstate__(self, state: Any) -> None:
        raise SourceError("A pickled array was not made the way numpy makes it.")


class _Dtype:
    """Stands for `numpy.dtype`: one of the plain numeric types."""

    def __init__(self, code: object, *_align_and_copy: object) -> None:
        if not isinstance(code, str) or code not in _DTYPE_CODES:
            raise SourceError("A pickled array has a refused type.", got=repr(code), expected=sorted(_DTYPE_CODES))
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or state[2:] != _PLAIN_DTYPE_REST or state[1] not in ("<", ">", "|"):
            raise SourceError(f"A pickled array's type {self.dtype} is not a plain one.", got=state)
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for what `numpy.core.multiarray._reconstruct` returns: an array whose pixels follow."""

    def __init__(self, subtype: object, *_shape_and_code: object) -> None:
        if subtype is not _Ndarray:
            raise SourceError("A pickled array is of a subclass.", got=subtype, expected="numpy.ndarray")
        self.values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        match state:
            case (1, tuple(shape), _Dtype(dtype=dtype), bool(is_fortran), bytes(raw)):
                is_size = all(type(side) is int and side >= 0 for side in shape)
            case _:
                raise SourceError("A pickled array's state is not what numpy writes.")
        if not is_size or math.prod(shape) * dtype.itemsize != len(raw):
            raise SourceError("A pickled array's shape does not fit its bytes.", got=f"{shape}, {len(raw)} bytes")
        # A view: even if a pickle repeats the same bytes many times, they are in memory once.
        self.values = np.frombuffer(raw, dtype).reshape(shape, order="F" if is_fortran else "C")


_ADMITTED: dict[tuple[str, str], type] = {
    ("numpy", "ndarray"): _Ndarray,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
}


class _Unpickler(pickle.Unpickler):  # find_class returns inert classes only
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_FOREIGN_PREFIX) and name.isidentifier():
            return Record
        admitted = _ADMITTED.get((module, name))
        if admitted is None:
            raise SourceError(
                "A pickle asks for something that is refused.",
                got=f"{module}.{name}",
                expected="numpy arrays and plain records",
                hint="don't use this file; get the dataset anew with `dvc repro -f -s fetch`",
            )
        return admitted


def load_record(data: bytes) -> Record:
    """Read one pickled record of numpy arrays, text and numbers; its fields may hold records again.

    The memory used is at most a small multiple of the pickle's size. Arrays are wrapped; `array_of` unwraps them.

    Raises:
        SourceError: the pickle names anything but numpy arrays and foreign records, or is damaged.
    """
    record = load_plain(data)
    if not isinstance(record, Record):
        raise SourceError("A pickle holds no record.", got=type(record).__name__)
    return record


def load_plain(data: bytes) -> Any:
    """Read one pickle of plain values, numpy arrays and records; see `load_record`."""
    try:
        _refuse_wide_memo(data)
        return _Unpickler(io.BytesIO(data)).load()
    except SourceError:
        raise
    except Exception as error:  # a hostile or truncated pickle can raise nearly any type
        raise SourceError(f"A pickle cannot be read: {type(error).__name__}: {error}") from error


def array_of(value: object) -> NDArray[Any] | None:
    """Return the array that a record's field holds, read-only, or None where it holds something else."""
    return value.values if isinstance(value, _Array) else None


def _refuse_wide_memo(data: bytes) -> None:
    # CPython allocates its memo by the highest index in a pickle: nine bytes could request gigabytes.
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _MEMO_OPCODES and isinstance(argument, int) and argument > len(data):
            raise SourceError("A pickle's memo index is larger than the pickle.", got=argument, expected=len(data))
