"""File names as text that can be encoded as UTF-8."""

from __future__ import annotations


def writable(name: str) -> str:
    r"""Return a file name as text that can be encoded as UTF-8.

    A name that is not UTF-8 on disk (umlauts from another system's archive) reaches Python with
    lone surrogates, which cannot be encoded: they are escaped.

    Examples
    --------
    >>> writable("Müller"), writable(b"M\xfcller".decode("utf-8", "surrogateescape"))
    ('Müller', 'M\\udcfcller')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
