"""Read a multipart/related answer part by part, as it comes: no part is ever held whole."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message

HEADER_BYTES = 65536
"""A part's header, or what comes before the first part, is shorter than this."""


class Broken(ValueError):
    """The answer is no multipart, or ended before its closing boundary."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type names.

    Raises
    ------
    Broken
        It is no multipart, or names none.

    Examples
    --------
    >>> boundary_of('multipart/related; type="application/dicom"; boundary="a b"')
    b'a b'
    """
    header = Message()
    header["Content-Type"] = content_type
    found = header.get_boundary()
    if header.get_content_maintype() != "multipart" or not found:
        raise Broken(f"an answer of type {header.get_content_type()}")
    return found.encode("latin-1", "replace")


def parts(chunks: Iterator[bytes], boundary: bytes) -> Iterator[Iterator[bytes]]:
    r"""Yield each part as an iterator over its bytes; read one to its end before the next.

    Parameters
    ----------
    chunks : iterator of bytes
        The body, cut anywhere.
    boundary : bytes
        As `boundary_of` gives it.

    Raises
    ------
    Broken
        The body ends early, or a header does not end.

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
        """Yield what comes before a mark, and step over the mark."""
        while (at := self._held.find(mark)) < 0:
            sure = len(self._held) - len(mark) + 1
            if sure > 0:
                yield self._cut(sure)
            self._more()
        yield self._cut(at)
        self._cut(len(mark))

    def skip(self, mark: bytes) -> None:
        """Step over a mark that is near."""
        seen = 0
        for chunk in self.until(mark):
            seen += len(chunk)
            if seen > HEADER_BYTES:
                raise Broken("a header without an end")

    def ends(self) -> bool:
        """Whether the closing boundary was met."""
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
        raise Broken("an answer that ends in the middle")
