"""Streaming parser of multipart/related responses."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message

HEADER_BYTES = 65536
"""Maximum size of a part's header, and of the preamble."""


class Broken(ValueError):
    """Not multipart, or truncated before the closing boundary."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary in a Content-Type.

    Raises
    ------
    Broken
        The type is not multipart, or names no boundary.

    Examples
    --------
    >>> boundary_of('multipart/related; type="application/dicom"; boundary="a b"')
    b'a b'
    """
    header = Message()
    header["Content-Type"] = content_type
    found = header.get_boundary()
    if header.get_content_maintype() != "multipart" or not found:
        raise Broken(f"a response of type {header.get_content_type()}")
    return found.encode("latin-1", "replace")


def parts(chunks: Iterator[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    r"""Yield each part as an iterator over its bytes; read one to its end before the next.

    Parameters
    ----------
    chunks : iterator of bytes
        Chunks of the body, split anywhere.
    boundary : bytes
        As returned by `boundary_of`.

    Raises
    ------
    Broken
        The body is truncated, or a header does not end.

    Examples
    --------
    >>> body = iter([b"--x\r\nA: b\r\n\r\none\r", b"\n--x\r\n\r\ntwo\r\n--x--"])
    >>> [b"".join(part) for part in parts(body, b"x")]
    [b'one', b'two']
    """
    body, mark = _Body(chunks), b"--" + boundary
    body.skip(mark)
    while not body.ends():
        body.skip(b"\r\n\r\n")
        yield body.until(b"\r\n" + mark)


class _Body:
    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._held = bytearray()

    def until(self, mark: bytes) -> Iterator[bytes]:
        """Yield the bytes before a marker, and skip the marker."""
        while (at := self._held.find(mark)) < 0:
            sure = len(self._held) - len(mark) + 1
            if sure > 0:
                yield self._cut(sure)
            self._more()
        yield self._cut(at)
        self._cut(len(mark))

    def skip(self, mark: bytes) -> None:
        """Skip a marker that must be near."""
        seen = 0
        for chunk in self.until(mark):
            seen += len(chunk)
            if seen > HEADER_BYTES:
                raise Broken("a header without an end")

    def ends(self) -> bool:
        """Return whether the closing boundary follows."""
        while len(self._held) < 2:
            self._more()
        return self._held.startswith(b"--")

    def _cut(self, count: int) -> bytes:
        cut = bytes(self._held[:count])
        del self._held[:count]
        return cut

    def _more(self) -> None:
        for chunk in self._chunks:
            self._held += chunk
            return
        raise Broken("a truncated response")
