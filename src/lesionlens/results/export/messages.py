"""Messages of the stages in another language.

Checks, notices and steps are made and stored in English. A catalogue maps each English template to
one of another language; a message is recognised by the template that it fits. A value of a place
`{name}` stays as it is, one of `{n}` is a number, one of `{sequence}` a sequence; any other is
translated as a message of its own, also in lists ("T1c 5.0 mm, FLAIR 6.0 mm").
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import cache

from lesionlens.base.labels import MrSequence

_SEPARATORS = (". ", "; ", ", ", ": ", " and ", " or ")
_SEQUENCE = "|".join(sequence.display_name for sequence in reversed(MrSequence))
_VALUES = {
    "n": r"[-+<]?(?:\d+(?:\.\d+)?|inf|nan)%?",
    "sequence": rf"(?:{_SEQUENCE})",
    "sequences": rf"(?:{_SEQUENCE})(?:(?:, | or | and )(?:{_SEQUENCE}))*",
}
"""Values of places by their name, without its number; of any other place, everything."""
_NUMBER = re.compile(r"(?<![\w.])([-+]?\d+)\.(\d+)(?![\w.])")
_PERCENT = re.compile(r"(?<=\d)%")


class Messages:
    """The messages of one language.

    Parameters
    ----------
    table : mapping of str to str
        From English templates to those of the language; empty for English.
    decimal : str
        Decimal separator.
    """

    def __init__(self, table: Mapping[str, str], decimal: str) -> None:
        self._table, self._decimal = table, decimal

    def __call__(self, text: str) -> str:
        """Return a message in this language; an unknown one is unchanged.

        Examples
        --------
        >>> own = Messages({"Thick: {edges}.": "Dick: {edges}.", "{n} files": "{n} Dateien"}, ",")
        >>> own("Thick: T1c 5.5 mm, T2 6.0 mm."), own("3 files"), own("Of others: 3.5")
        ('Dick: T1c 5,5 mm, T2 6,0 mm.', '3 Dateien', 'Of others: 3.5')
        """
        return (self._whole(text) or self._parts(text) or text) if self._table else text

    def entries(self, text: str) -> str:
        """Translate a list joined by "; "; entries that no template fits as a whole are unchanged.

        Examples
        --------
        >>> own = Messages({"vessel": "Gefäß", "{n} ml left out": "{n} ml weggelassen"}, ",")
        >>> own.entries("my vessel; vessel; 3.5 ml left out")
        'my vessel; Gefäß; 3,5 ml weggelassen'
        """
        return "; ".join(self._whole(entry) or entry for entry in text.split("; "))

    def _whole(self, text: str) -> str | None:
        """Translate by the matching template with the most fixed letters; None if none matches."""
        if re.fullmatch(_SEQUENCE, text):
            return text
        fits = [
            (len(_PLACE.sub("", template)), template, found)
            for template in self._table
            if (found := _pattern(template).fullmatch(text)) is not None
        ]
        if fits:
            _, template, found = max(fits, key=lambda fit: fit[0])
            values = {name: self._value(name, value) for name, value in found.groupdict().items()}
            return self._table[template].format(**values)
        if not text.endswith("."):
            ended = self._whole(f"{text}.")
            return None if ended is None else ended.removesuffix(".")
        return None

    def _parts(self, text: str) -> str | None:
        """Translate a list or several sentences part by part; None if no part is known."""
        for separator in (one for one in _SEPARATORS if one in text):
            parts = text.split(separator)
            made = [self._whole(part) or self._parts(part) for part in parts]
            if any(part is not None for part in made):
                word = separator.strip()
                joint = separator.replace(word, self._table.get(word, word))
                return joint.join(new or old for new, old in zip(made, parts, strict=True))
        return None

    def _value(self, name: str, value: str) -> str:
        kind = name.rstrip("0123456789")
        if kind in ("name", "names"):
            return value
        if kind != "n":
            value = self(value)
        return _PERCENT.sub(" %", _NUMBER.sub(rf"\1{self._decimal}\2", value))


_PLACE = re.compile(r"{\w*}")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern that matches a filled template, in any case of its letters."""
    made = ""
    for text, name, _, _ in string.Formatter().parse(template):
        made += re.escape(text)
        if name:
            kind = _VALUES.get(name.rstrip("0123456789"), ".*?")
            made += f"(?P<{name}>{kind})"
    return re.compile(made, re.IGNORECASE | re.DOTALL)
