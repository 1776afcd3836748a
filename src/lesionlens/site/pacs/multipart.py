"""Streaming parser of multipart/related responses."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message

HEADER_BYTES = 65536
"""Maximum size of a part's header, and of the preamble."""


class MultipartError(ValueError):
    """Not multipart, or truncated before the closing boundary."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary in a Content-Type.

    Raises
    ------
    MultipartError
        The type is not multipart, or names no boundary.

    Examples
    --------
    >>> boundary_of('multipart/related; type="application/dicom"; boundary="a b"')
    b'a b'
    """
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if header.get_content_maintype() != "multipart" or not boundary:
        raise MultipartError(f"a response of type {header.get_content_type()}")
    return boundary.encode("latin-1", "replace")


def parts(chunks: Iterator[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    r"""Yield each part as an iterator over its bytes; read one to its end before the next.

    Parameters
    ----------
    chunks : iterator of bytes
        Chunks of the body, split anywhere.

    Raises
    ------
    MultipartError
        The body is truncated, or a header does not end.

    Examples
    --------
    >>> body = iter([b"--x\r\nA: b\r\n\r\none\r", b"\n--x\r\n\r\ntwo\r\n--x--"])
    >>> [b"".join(part) for part in parts(body, b"x")]
    [b'one', b'two']
    """
    body, marker = _Body(chunks), b"--" + boundary
    body.skip(marker)
    while not body.ends():
        body.skip(b"\r\n\r\n")
        yield body.until(b"\r\n" + marker)


class _Body:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = bytearray()

    def until(self, marker: bytes) -> Iterator[bytes]:
        """Yield the bytes before a marker, and skip the marker."""
        while (position := self._buffer.find(marker)) < 0:
            n_safe = len(self._buffer) - len(marker) + 1
            if n_safe > 0:
                yield self._pop(n_safe)
            self._read_chunk()
        yield self._pop(position)
        self._pop(len(marker))

    def skip(self, marker: bytes) -> None:
        """Skip a marker that must be near."""
        n_skipped = 0
        for chunk in self.until(marker):
            n_skipped += len(chunk)
            if n_skipped > HEADER_BYTES:
                raise MultipartError("a header without an end")

    def ends(self) -> bool:
        """Return whether the closing boundary follows."""
        while len(self._buffer) < 2:
            self._read_chunk()
        return self._buffer.startswith(b"--")

    def _pop(self, count: int) -> bytes:
        cut = bytes(self._buffer[:count])
        del self._buffer[:count]
        return cut

    def _read_chunk(self) -> None:
        for chunk in self._chunks:
            self._buffer += chunk
            return
        raise MultipartError("a truncated response")
