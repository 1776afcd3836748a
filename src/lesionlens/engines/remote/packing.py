"""Message format: a JSON header and losslessly compressed arrays, never pickles.

A message is a safetensors file: the metadata contain the header, each tensor is one compressed
array. Arrays that are zero outside the brain are sent as their brain voxels only.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from lesionlens.base.errors import ServerError
from lesionlens.base.files.bounded_read import parse_json
from lesionlens.base.geometry import Mask

Array = NDArray[Any]
LIMIT_BYTES = 2**33
"""Size limit of an unpacked message."""
_KEY = "lesionlens"
_COMPRESSION_LEVEL = 1
_TYPES = ("float16", "float32", "float64", "uint8", "bool")


def pack(
    header: Mapping[str, Any], arrays: Mapping[str, Array] | None = None, inside: Mask | None = None
) -> bytes:
    """Pack a message.

    Parameters
    ----------
    header : mapping
        JSON-compatible values.
    arrays : mapping of str to array
        Any shape; float16, float32, float64, uint8 or bool.
    inside : (I, J, K) bool or None
        Brain mask, known to the receiver; (…, I, J, K) arrays that are zero outside it are sent as
        its voxels.
    """
    descriptions: dict[str, Any] = {}
    packed: dict[str, Array] = {}
    for name, array in (arrays or {}).items():
        is_inside = inside is not None and _is_zero_outside(array, inside)
        descriptions[name] = {"shape": array.shape, "dtype": array.dtype.name, "inside": is_inside}
        values = array[..., inside] if is_inside else array
        packed[name] = np.frombuffer(zlib.compress(_planes(values), _COMPRESSION_LEVEL), np.uint8)
    metadata = json.dumps({"header": header, "arrays": descriptions})
    return bytes(save(packed, {_KEY: metadata}))


def unpack(
    message: bytes, inside: Mask | None = None, limit_bytes: int = LIMIT_BYTES
) -> tuple[dict[str, Any], dict[str, Array]]:
    """Unpack the header and the arrays of a message.

    Raises
    ------
    ServerError
        Not a valid message, or larger than `limit_bytes` when unpacked.
    """
    try:
        packed = load(message)
        metadata = parse_json(_metadata(message)[_KEY], infinite=True)
        header, descriptions = dict(metadata["header"]), dict(metadata["arrays"])
        sizes = [
            math.prod(_shape(description)) * _dtype(description).itemsize
            for description in descriptions.values()
        ]
        if sum(sizes) > limit_bytes:
            raise _damaged("more than may be unpacked at once")
        arrays = {
            name: _array(packed[name].tobytes(), description, inside)
            for name, description in descriptions.items()
        }
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, zlib.error) as error:
        raise _damaged(f"a damaged message ({type(error).__name__})") from error
    return header, arrays


def header_of(message: bytes) -> dict[str, Any]:
    """Return the header of a message without unpacking its arrays.

    Raises
    ------
    ServerError
        Not a valid message.
    """
    try:
        return dict(parse_json(_metadata(message)[_KEY], infinite=True)["header"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(f"a damaged message ({type(error).__name__})") from error


def _metadata(message: bytes) -> dict[str, str]:
    size = int.from_bytes(message[:8], "little")
    return dict(parse_json(message[8 : 8 + size])["__metadata__"])


def _is_zero_outside(array: Array, inside: Mask) -> bool:
    has_volume_shape = array.ndim >= 3 and array.shape[-3:] == inside.shape
    return has_volume_shape and not array[..., ~inside].any()


def _planes(values: Array) -> bytes:
    """Group the bytes of all values by significance, which compresses better."""
    if values.dtype.kind == "b":
        return np.packbits(values).tobytes()
    flattened = np.ascontiguousarray(values).reshape(-1)
    return flattened.view(np.uint8).reshape(-1, flattened.itemsize).T.tobytes()


def _array(stream: bytes, description: Mapping[str, Any], inside: Mask | None) -> Array:
    shape, dtype = _shape(description), _dtype(description)
    if not description["inside"]:
        return _values(stream, dtype, shape)
    if inside is None or shape[-3:] != inside.shape:
        raise _damaged("voxels of a brain of another shape")
    array = np.zeros(shape, dtype)
    leading_shape = shape[:-3]
    array[..., inside] = _values(stream, dtype, (*leading_shape, int(np.count_nonzero(inside))))
    return array


def _shape(description: Mapping[str, Any]) -> tuple[int, ...]:
    shape = tuple(int(n) for n in description["shape"])
    if any(n < 0 for n in shape):
        raise _damaged("an array of an invalid shape")
    return shape


def _dtype(description: Mapping[str, Any]) -> np.dtype[Any]:
    if description["dtype"] not in _TYPES:
        raise _damaged("an array of an unknown type")
    return np.dtype(str(description["dtype"]))


def _values(stream: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    count = math.prod(shape)
    expected = -(-count // 8) if dtype.kind == "b" else count * dtype.itemsize
    raw = zlib.decompressobj().decompress(stream, expected + 1)
    if len(raw) != expected:
        raise _damaged("a number of values that does not fit the shape")
    octets = np.frombuffer(raw, np.uint8)
    if dtype.kind == "b":
        return np.unpackbits(octets, count=count).astype(bool).reshape(shape)
    values = np.ascontiguousarray(octets.reshape(dtype.itemsize, -1).T)
    return values.view(dtype).reshape(shape)


def _damaged(defect: str) -> ServerError:
    return ServerError(
        found=defect,
        expected="a message as LesionLens packs it",
        next_step="Try again; if it happens again, compare the versions on both sides",
    )
