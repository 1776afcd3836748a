"""Messages of the stages in another language.

Checks, notices and steps are stored in English. A catalogue maps each English template to one of
another language; a message is recognised by the template that matches it. The value of a
placeholder `{name}` is unchanged, that of `{n}` is a number, that of `{sequence}` a sequence; any
other value is translated as a message itself, also in lists ("T1c 5.0 mm, FLAIR 6.0 mm").
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from lesionlens.base.labels import MrSequence

_SEPARATORS = (". ", "; ", ", ", ": ", " and ", " or ")
_SEQUENCE = "|".join(sequence.display_name for sequence in reversed(MrSequence))
_VALUE_PATTERNS = {
    "n": r"[-+<>]?(?:\d+(?:\.\d+)?|inf|nan)%?",
    "sequence": rf"(?:{_SEQUENCE})",
    "sequences": rf"(?:{_SEQUENCE})(?:(?:, | or | and )(?:{_SEQUENCE}))*",
}
"""Pattern of a placeholder's value by its name without digits; others match any text."""
_NUMBER = re.compile(r"(?<![\w.])([-+]?\d+)\.(\d+)(?![\w.])")
_PERCENT = re.compile(r"(?<=\d)%")
_CACHED = 10_000
"""Number of texts whose translation is kept."""


class Messages:
    """The messages of one language.

    Parameters
    ----------
    table : mapping of str to str
        From English templates to those of the language; empty for English.
    decimal : str
        Decimal separator.
    translate_value : callable, optional
        Translates the value of a placeholder by its name, instead of the rules above.
    """

    def __init__(
        self,
        table: Mapping[str, str],
        decimal: str,
        translate_value: Callable[[str, str], str] | None = None,
    ) -> None:
        self._table, self._decimal = table, decimal
        self._translate_value = translate_value or self._by_kind
        # Splitting by each order of the separators yields the same parts many times.
        self._whole = lru_cache(_CACHED)(self._translate_whole)
        self._parts = lru_cache(_CACHED)(self._translate_parts)

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
        """Translate a list joined by "; "; entries that match no template are unchanged.

        Examples
        --------
        >>> own = Messages({"vessel": "Gefäß", "{n} ml left out": "{n} ml weggelassen"}, ",")
        >>> own.entries("my vessel; vessel; 3.5 ml left out")
        'my vessel; Gefäß; 3,5 ml weggelassen'
        """
        return "; ".join(map(self.whole, text.split("; ")))

    def whole(self, text: str) -> str:
        """Translate a message that is one filled template; any other is unchanged."""
        return self._whole(text) or text

    def _translate_whole(self, text: str) -> str | None:
        """Translate by the matching template with the most fixed letters; None if none matches."""
        if re.fullmatch(_SEQUENCE, text):
            return text
        matches = [
            (len(_PLACEHOLDER.sub("", template)), template, match)
            for template in self._table
            if (match := _pattern(template).fullmatch(text)) is not None
        ]
        if matches:
            _, template, match = max(matches, key=lambda item: item[0])
            values = {
                name: self._translate_value(name, value)
                for name, value in match.groupdict().items()
            }
            return self._table[template].format(**values)
        if not text.endswith("."):
            completed = self._whole(f"{text}.")
            return None if completed is None else completed.removesuffix(".")
        return None

    def _translate_parts(self, text: str) -> str | None:
        """Translate a list or several sentences part by part; None if no part is known."""
        for separator in (s for s in _SEPARATORS if s in text):
            parts = text.split(separator)
            translations = [self._whole(part) or self._parts(part) for part in parts]
            if any(part is not None for part in translations):
                word = separator.strip()
                joiner = separator.replace(word, self._table.get(word, word))
                return joiner.join(
                    new or part for new, part in zip(translations, parts, strict=True)
                )
        return None

    def _by_kind(self, name: str, value: str) -> str:
        kind = name.rstrip("0123456789")
        if kind in ("name", "names"):
            return value
        if kind != "n":
            value = self(value)
        return _PERCENT.sub(" %", _NUMBER.sub(rf"\1{self._decimal}\2", value))


_PLACEHOLDER = re.compile(r"{\w*}")


@cache
def _pattern(template: str) -> re.Pattern[str]:
    """Return a pattern that matches a filled template, in any case of its letters."""
    pattern = ""
    for text, name, _, _ in string.Formatter().parse(template):
        pattern += re.escape(text)
        if name:
            kind = _VALUE_PATTERNS.get(name.rstrip("0123456789"), ".*?")
            pattern += f"(?P<{name}>{kind})"
    return re.compile(pattern, re.IGNORECASE | re.DOTALL)
