"""Names of files and folders as text that can be written anywhere."""

from __future__ import annotations


def writable(name: str) -> str:
    r"""Return a file's name as text that UTF-8 can hold, for files, tables and databases.

    A name that is no UTF-8 on the disk (a folder of another system's umlauts, unpacked from an
    archive) reaches Python with lone surrogates, which no encoder takes: they are written out.

    Examples
    --------
    >>> writable("Müller"), writable(b"M\xfcller".decode("utf-8", "surrogateescape"))
    ('Müller', 'M\\udcfcller')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
