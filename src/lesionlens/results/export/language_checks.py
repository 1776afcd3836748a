"""Check the texts of a language file, which a site may have edited by hand."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

REASSURING_WORDS = re.compile(
    r"\b(ab)?normal\w*|unremarkable|no (tumou?r|disease)|kein\w* tumor|unauff[aä]llig\w*",
    re.IGNORECASE,
)
"""Words that exclude disease, which no text of a result does."""
_DECIMALS = (".", ",")


def differences(table: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return the keys that a catalogue lacks, that are unknown, or whose text cannot be used.

    Omitted placeholders are allowed, unknown ones are not; `place` may use any of its three. Left
    and right must differ.
    """
    unusable_keys = [] if table.get("decimal") in _DECIMALS else ["decimal"]
    unusable_keys += [key for key in table if key not in base]  # a misspelt table has no effect
    for key, text in base.items():
        translation = table.get(key)
        if isinstance(text, dict) and isinstance(translation, dict | None):
            unusable_keys += [f"{key}.{name}" for name in text if name not in (translation or {})]
        elif isinstance(text, dict) or not _is_translation(
            translation, "{lobe}{side}" if key == "place" else "", text
        ):
            unusable_keys.append(key)
    for section, entries in table.items():
        base_texts = base.get(section, {})
        if isinstance(entries, dict) and isinstance(base_texts, dict):
            unusable_keys += [
                f"{section}.{name}"
                for name, text in entries.items()
                if not _is_translation(text, name, base_texts.get(name, ""))
            ]
            left, right = (entries.get(side, side) for side in ("left", "right"))
            if left == right or not (left and right):
                unusable_keys.append(f"{section}.left")
    return unusable_keys


def _is_translation(text: object, english: str, base_text: str) -> bool:
    """Return whether an entry of a table is a text with the placeholders of what it translates."""
    own = _placeholders(english)
    is_template = len(set(own)) == len(own) and all(map(str.isidentifier, own))
    known = {*own, *_placeholders(base_text)}
    return is_template and isinstance(text, str) and known.issuperset(_placeholders(text))


def _placeholders(text: str) -> list[str]:
    """Return the placeholders of a text; one with a format, such as {n:.1f}, is none of English."""
    try:
        return [
            f"{name}:{form}" if form else name
            for _, name, form, _ in string.Formatter().parse(text)
            if name is not None
        ]
    except ValueError:
        return ["a brace that does not close"]


def texts_of(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield all texts of a catalogue, including those of its tables."""
    for value in table.values():
        if isinstance(value, dict):
            yield from texts_of(value)
        else:
            yield str(value)
