"""Reads a request's arrays from `.npz` or JSON, whose bytes are not trusted."""

import json
import zipfile
import zlib
from collections.abc import Sequence
from io import BytesIO
from math import prod
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fusmae.errors import InputError
from fusmae.modalities import ModalityInput

Arrays = dict[str, NDArray[Any]]

_DAMAGED = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, RuntimeError, NotImplementedError)
"""Errors that zipfile and numpy raise for bytes that are not `.npz`, are encrypted, or have another compression."""


def read_npz(body: bytes, inputs: Sequence[ModalityInput], max_tiles: int) -> Arrays:
    """Read the arrays of a `.npz`, without unpickling, and without unpacking more than the size of `max_tiles` tiles.

    Args:
        body: content of a file that `numpy.savez` or `numpy.savez_compressed` wrote.
        inputs: arrays that the model takes.
        max_tiles: maximum number of tiles in a request.

    Raises:
        InputError: the body is no such file, an array is unknown or not numeric, or there are too many tiles.
    """
    try:
        with zipfile.ZipFile(BytesIO(body)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            _check_names(members, inputs)
            by_name, arrays = {item.name: item for item in inputs}, {}
            for name, info in members.items():
                if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise InputError(f"Array {name} is packed by another method than deflate.")
                with archive.open(info) as file:
                    _check_header(file, by_name[name], max_tiles)
                with archive.open(info) as file:
                    arrays[name] = npy.read_array(file, allow_pickle=False)
    except _DAMAGED as error:
        raise InputError(
            f"The body is no .npz: {error}", expected="what numpy.savez writes, its arrays named as GET /model says"
        ) from error
    return arrays


def read_json(body: bytes, inputs: Sequence[ModalityInput]) -> Arrays:
    """Read the arrays of `{"inputs": {"s1_10m": [[[[…]]]], …}}`, the form that MLflow's server takes, too.

    Args:
        body: JSON text in UTF-8.
        inputs: arrays that the model takes.

    Raises:
        InputError: the body is not JSON or has another form, or an array is unknown, ragged or not numeric.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InputError(f"The body is no JSON: {error}", expected='{"inputs": {"s1_10m": [[[[…]]]], …}}') from error
    named = found.get("inputs") if isinstance(found, dict) else None
    if not isinstance(named, dict):
        raise InputError("The JSON has another form.", expected='{"inputs": {"s1_10m": [[[[…]]]], …}}')
    _check_names(named, inputs)
    return {name: _numbers(name, value) for name, value in named.items()}


def _numbers(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"Array {name} is ragged.", expected="[B, C, h, w]") from error
    _check_numbers(name, array.dtype, array.shape)
    return array


def _check_names(names: Any, inputs: Sequence[ModalityInput]) -> None:
    known = [item.name for item in inputs]
    foreign = sorted(set(names) - set(known))
    if foreign:
        raise InputError(
            f"The model takes no array {foreign[0]}.",
            got=sorted(names),
            expected=f"some of {known}",
            hint="leave out the arrays of an absent modality; `presence` follows from that",
        )


def _check_numbers(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    if dtype.kind not in "iuf":
        raise InputError(f"Array {name} isn't numbers.", got=str(dtype), expected="integers or floats")
    if len(shape) != 4:
        raise InputError(f"Array {name} has a wrong shape.", got=shape, expected="[B, C, h, w]")


def _check_header(file: IO[bytes], item: ModalityInput, max_tiles: int) -> None:
    """Refuse an array that must not be unpacked, by its header."""
    # Format 1.0 bounds a header to 64 KB. In format 2.0 a header may have 4 GB, which numpy reads before it checks the
    # length.
    if npy.read_magic(file) != (1, 0):
        raise InputError(f"Array {item.name} has a header of a newer format.", expected="what numpy.savez writes")
    shape, _, dtype = npy.read_array_header_1_0(file)
    _check_numbers(item.name, dtype, shape)
    if prod(shape) > max_tiles * len(item.bands) * item.side_px**2:
        raise InputError(
            f"Array {item.name} is larger than {max_tiles} tiles.",
            got=shape,
            expected=f"[B, {len(item.bands)}, {item.side_px}, {item.side_px}], B at most {max_tiles}",
            hint="ask in several requests",
        )
