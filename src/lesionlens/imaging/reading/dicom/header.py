"""Fast parser of the few DICOM header elements that are needed, without decoding the others.

Only the usual encoding is supported: little endian, elements in ascending order. Anything else is
left to pydicom, and so is the decoding of values: this module only locates the bytes of elements.
"""

from __future__ import annotations

import io
import re
import struct
from functools import lru_cache
from typing import Any

from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import (
    DataElement,
    RawDataElement,
    convert_raw_data_element,
    empty_value_for_VR,
)
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    PrivateTransferSyntaxes,
)
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

FIRST_BYTES = 2**14
"""Bytes read at once: longer than most headers without private elements."""
_READ_AHEAD_BYTES = 2**12
_MAX_SEQUENCE_BYTES = 2**17
_CHARACTER_SET = 0x00080005
_TRANSFER_SYNTAX = 0x00020010
_PIXEL_GROUP, _DELIMITERS = 0x7FE00000, 0xFFFE0000
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000FFFE, 0xE00DFFFE, 0xE0DDFFFE
_LONG = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)
_SHORT = frozenset(str(vr).encode() for vr in STANDARD_VR) - _LONG
_OTHER_ENCODINGS = frozenset(
    {ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, *PrivateTransferSyntaxes}
)
_unpack_short_head = struct.Struct("<I2sH").unpack_from
_unpack_uint32 = struct.Struct("<I").unpack_from
_unpack_two_uint32 = struct.Struct("<II").unpack_from
_keyword_tag = lru_cache(maxsize=512)(tag_for_keyword)


class _UnusualError(Exception):
    """The header is not in the usual encoding."""


class DicomHeader:
    """Raw elements of one header; pydicom decodes a value when it is requested.

    Parameters
    ----------
    raw : dict of tag to (VR, bytes)
        VR None if the encoding is implicit.
    """

    __slots__ = ("_charset", "_raw")

    def __init__(self, raw: dict[int, tuple[str | None, bytes]]) -> None:
        self._raw = raw
        self._charset = raw.get(_CHARACTER_SET)

    def get(self, key: str | tuple[int, int], default: Any = None) -> Any:
        """Return what `pydicom.Dataset.get` would: a keyword's value, or a tag's element."""
        tag = _keyword_tag(key) if isinstance(key, str) else key[0] << 16 | key[1]
        raw = None if tag is None else self._raw.get(tag)
        if tag is None or raw is None:
            return default
        element = _element(tag, raw, self._charset)
        return element.value if isinstance(key, str) else element


@lru_cache(maxsize=2**14)
def _element(
    tag: int, raw: tuple[str | None, bytes], charset: tuple[str | None, bytes] | None
) -> DataElement:
    """Decode an element with pydicom, cached: the slices of a series share most elements."""
    dataset = Dataset({BaseTag(tag): _raw_element(tag, raw)})
    dataset.set_original_encoding(
        is_implicit_vr=raw[0] is None, is_little_endian=True, character_encoding=_encoding(charset)
    )
    return dataset[tag]


def _raw_element(tag: int, raw: tuple[str | None, bytes]) -> RawDataElement:
    vr, value = raw
    content = value or empty_value_for_VR(vr, raw=True)
    return RawDataElement(
        BaseTag(tag),
        vr,
        len(value),
        content,
        value_tell=0,
        is_implicit_VR=vr is None,
        is_little_endian=True,
    )


@lru_cache(maxsize=64)
def _encoding(charset: tuple[str | None, bytes] | None) -> Any:
    if charset is None:
        return default_encoding
    return convert_encodings(convert_raw_data_element(_raw_element(_CHARACTER_SET, charset)).value)


def requested_elements(
    stream: io.FileIO, head: bytes, size: int, requested: frozenset[int]
) -> DicomHeader | None:
    """Extract the requested elements of a file's header, or return None to use pydicom.

    Parameters
    ----------
    stream : FileIO
        The open file, read further if `head` does not contain the whole header.
    head : bytes
        First bytes of the file.
    size : int
        File size in bytes.
    requested : frozenset of int
        Tags, group << 16 | element.

    Returns
    -------
    DicomHeader or None
        None if the encoding is unusual.
    """
    try:
        elements = _elements(stream, head, size, requested)
        _encoding(elements.get(_CHARACTER_SET))
    except (_UnusualError, struct.error, ValueError, LookupError):
        return None
    return DicomHeader(elements)


def _parse_element_head(data: bytes, offset: int, *, implicit: bool) -> tuple[int, bytes, int, int]:
    """Return tag, VR, length and start of the value of the element at an offset."""
    low, vr, length = _unpack_short_head(data, offset)
    start = offset + 8
    if implicit:
        (length,) = _unpack_uint32(data, offset + 4)
    elif vr in _LONG:
        (length,), start = _unpack_uint32(data, start), start + 4
    elif vr not in _SHORT:
        raise _UnusualError
    return (low & 0xFFFF) << 16 | low >> 16, vr, length, start


def _dataset_start(head: bytes) -> tuple[int, bool]:
    """Return the offset of the data set, and whether its VRs are implicit."""
    if head[128:132] != b"DICM":
        raise _UnusualError
    offset, last_tag, syntax = 132, 0, b""
    while head[offset : offset + 2] == b"\x02\0":
        tag, _, length, start = _parse_element_head(head, offset, implicit=False)
        if tag <= last_tag or start + length > len(head):
            raise _UnusualError
        if tag == _TRANSFER_SYNTAX:
            syntax = head[start : start + length].rstrip(b"\0 ")
        offset, last_tag = start + length, tag
    if not re.fullmatch(rb"[0-9.]+", syntax) or syntax.decode() in _OTHER_ENCODINGS:
        raise _UnusualError
    implicit = syntax.decode() == str(ImplicitVRLittleEndian)
    vr = head[offset + 4 : offset + 6]
    if implicit and vr.isalpha() and vr.isupper():  # pydicom would trust the VR
        raise _UnusualError
    return offset, implicit


def _elements(
    stream: io.FileIO, head: bytes, size: int, requested: frozenset[int]
) -> dict[int, tuple[str | None, bytes]]:
    offset, implicit = _dataset_start(head)
    head_offset, last_tag = 0, 0x0002FFFF
    elements: dict[int, tuple[str | None, bytes]] = {}
    while offset < size:
        if offset - head_offset + 12 > len(head):
            head, head_offset = _read_at(stream, offset, _READ_AHEAD_BYTES), offset
        tag, vr, length, start = _parse_element_head(head, offset - head_offset, implicit=implicit)
        start += head_offset
        if tag in _PIXELS and tag > last_tag:
            return elements
        if tag <= last_tag or tag >= _PIXEL_GROUP:
            raise _UnusualError
        last_tag = tag
        if length == _UNDEFINED:
            if tag in requested or not _is_sequence(tag, vr, implicit=implicit):
                raise _UnusualError
            offset = _after_sequence(stream, head, head_offset, start, implicit=implicit)
            continue
        offset = start + length
        if tag in requested:
            buffered = head[start - head_offset : offset - head_offset]
            value = buffered if len(buffered) == length else _read_at(stream, start, length)
            elements[tag] = (None if implicit else vr.decode(), value)
            if len(value) != length:
                raise _UnusualError
    if offset > size:
        raise _UnusualError
    return elements


def _read_at(stream: io.FileIO, offset: int, count: int) -> bytes:
    stream.seek(offset)
    return stream.read(count) or b""


def _is_sequence(tag: int, vr: bytes, *, implicit: bool) -> bool:
    """Return whether an element of undefined length is a sequence."""
    if not implicit:
        return vr == b"SQ"
    try:
        return str(dictionary_VR(tag)) == "SQ"
    except KeyError:
        return False


def _after_sequence(
    stream: io.FileIO, head: bytes, head_offset: int, start: int, *, implicit: bool
) -> int:
    """Return the end of a sequence of undefined length, reading more if `head` is too short."""
    try:
        return head_offset + _after_items(head, start - head_offset, implicit=implicit)
    except (_UnusualError, struct.error):
        return start + _after_items(
            _read_at(stream, start, _MAX_SEQUENCE_BYTES), 0, implicit=implicit
        )


def _after_items(data: bytes, offset: int, *, implicit: bool) -> int:
    """Return the end of a sequence of undefined length."""
    while True:
        low, length = _unpack_two_uint32(data, offset)
        offset += 8
        if low == _SEQUENCE_END:
            return offset
        if low != _ITEM:
            raise _UnusualError
        end = None if length == _UNDEFINED else offset + length
        offset = _after_elements(data, offset, end, implicit=implicit)


def _after_elements(data: bytes, offset: int, end: int | None, *, implicit: bool) -> int:
    """Return the end of an item; its elements must fill it exactly."""
    while end is None or offset < end:
        if end is None and _unpack_uint32(data, offset) == (_ITEM_END,):
            return offset + 8
        tag, vr, length, start = _parse_element_head(data, offset, implicit=implicit)
        if length == _UNDEFINED and _is_sequence(tag, vr, implicit=implicit):
            offset = _after_items(data, start, implicit=implicit)
        else:
            offset = start + length
        if tag >= _DELIMITERS or offset > len(data):
            raise _UnusualError
    if offset != end:
        raise _UnusualError
    return offset
