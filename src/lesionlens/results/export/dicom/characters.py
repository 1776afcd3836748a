"""Text of a header as Unicode, in whatever character set it was written."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.dataset import Dataset

_NONE_DECLARED = ("", "ISO_IR 6", "ISO 2022 IR 6")
_PERSON = {0x5E, 0x3D}  # ^ and =, after which a name begins again in the default character set
_TEXT = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}


@dataclass(frozen=True, slots=True)
class Characters:
    """How the text of a header is decoded."""

    encodings: tuple[str, ...]
    """Python's names; empty if the header declares none that is known: then text that is valid
    UTF-8 is taken as that, and any other as Latin-1."""

    @classmethod
    def of(cls, header: Dataset) -> Characters:
        """Return the character sets that a header declares."""
        element = header.get_item(0x00080005)
        raw = b"" if element is None else element.value
        if isinstance(raw, bytes | bytearray):
            names = [part.strip("\0 ") for part in raw.decode("latin-1").split("\\")]
        else:
            names = [str(raw)] if isinstance(raw, str) or raw is None else [str(n) for n in raw]
        if not all(name in python_encoding for name in names) or set(names) <= {*_NONE_DECLARED}:
            return cls(())
        return cls(tuple(convert_encodings(names)))

    def decoded(self, text: bytes, *, person: bool = False) -> str:
        """Return text as Unicode.

        Parameters
        ----------
        text : bytes
            As it stands in the file.
        person : bool
            A person's name.
        """
        if self.encodings:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    delimiters = _PERSON if person else _TEXT
                    return str(decode_bytes(text, self.encodings, delimiters))
            except (UserWarning, ValueError, LookupError):
                pass  # it is not in the declared character set
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")
