"""Decode header text to Unicode from any character set."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.dataset import Dataset

_NONE_DECLARED = ("", "ISO_IR 6", "ISO 2022 IR 6")
_PERSON = {0x5E, 0x3D}  # ^ and =, after which the default character set applies again
_TEXT = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}


@dataclass(frozen=True, slots=True)
class Characters:
    """Decoder of a header's text."""

    encodings: tuple[str, ...]
    """Python encodings; empty if the header declares none that is known: then text is decoded as
    UTF-8 if valid, else as Latin-1.
    """

    @classmethod
    def of(cls, header: Dataset) -> Characters:
        """Return the decoder for the character sets that a header declares."""
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
        """Decode text to Unicode.

        Parameters
        ----------
        text : bytes
            Bytes in the file.
        person : bool
            Whether it is a person name (PN).
        """
        if self.encodings:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    delimiters = _PERSON if person else _TEXT
                    return str(decode_bytes(text, self.encodings, delimiters))
            except (UserWarning, ValueError, LookupError):
                pass  # not valid in the declared character set
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")
