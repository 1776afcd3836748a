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
    """Return the keys that a catalogue lacks, or whose text cannot be used.

    Omitted placeholders are allowed, unknown ones are not; `place` may use any of its three. Left
    and right must differ.
    """
    unusable_keys = [] if table.get("decimal") in _DECIMALS else ["decimal"]
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
    known = _placeholders(english) | _placeholders(base_text)
    return isinstance(text, str) and _placeholders(text) <= known


def _placeholders(text: str) -> set[str]:
    try:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError:
        return {"a brace that does not close"}


def texts_of(table: Mapping[str, Any]) -> Iterator[str]:
    """Yield all texts of a catalogue, including those of its tables."""
    for value in table.values():
        if isinstance(value, dict):
            yield from texts_of(value)
        else:
            yield str(value)
