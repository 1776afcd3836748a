"""Text: names that can be encoded and shown safely, lists and dates in words, UIDs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import date

DIRECTION_CONTROLS = re.compile("[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
"""Invisible characters that change the direction of the text after them."""

LINE_BREAKS = str.maketrans("\t\n\v\f\r", " " * 5)
"""Table for `str.translate`: third-party text stays on one line of a message."""

ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
"""An ISO 8601 date within a sentence."""
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_SIGNED = r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]"
_FORMULA = re.compile(rf"[\t\r\n]|{_SIGNED}")
"""The start of what a spreadsheet may execute; some take full-width signs as the plain ones."""
_SPLIT = re.compile(rf";(?={_SIGNED})")
"""A semicolon before that: where it separates lists, a spreadsheet splits a table's lines at it."""


def capitalized(text: str) -> str:
    """Capitalise only the first letter: `str.capitalize` would lower-case names.

    Examples
    --------
    >>> capitalized("the T1c of Anna"), capitalized("")
    ('The T1c of Anna', '')
    """
    return text[:1].upper() + text[1:]


def case_folded(text: str) -> str:
    r"""Return text as compared without regard to case and Unicode form.

    Examples
    --------
    >>> case_folded("M\u00dcLLER") == case_folded("mu\u0308ller")
    True
    """
    return unicodedata.normalize("NFC", text).casefold()


def safe_cell(text: str) -> str:
    """Prefix text of a table that a spreadsheet would execute as a formula with an apostrophe.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell("T1 = 5"), safe_cell("seen; not sure"), safe_cell("a;=1+1")
    ("'=1+1", 'T1 = 5', 'seen; not sure', "a;'=1+1")
    """
    text = _SPLIT.sub(";'", text)
    return f"'{text}" if _FORMULA.match(text) else text


def encodable(name: str) -> str:
    r"""Return a file name as text that can be encoded as UTF-8.

    A name that is not UTF-8 on disk (umlauts from another system's archive) reaches Python with
    lone surrogates, which cannot be encoded: they are escaped.

    Examples
    --------
    >>> encodable("Müller"), encodable(b"M\xfcller".decode("utf-8", "surrogateescape"))
    ('Müller', 'M\\udcfcller')
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def is_writable(name: str) -> bool:
    r"""Return whether a name can be encoded as UTF-8, as files and other libraries need it.

    Examples
    --------
    >>> is_writable("Müller"), is_writable(b"M\xfcller".decode("utf-8", "surrogateescape"))
    (True, False)
    """
    return encodable(name) == name


def isolated(text: str) -> str:
    r"""Return text of unknown origin that does not reorder what is displayed beside it.

    After an Arabic name the ID "12-34" is displayed as "34-12", and a date likewise: text with
    letters that run to the left is enclosed in isolates (Unicode FSI and PDI). Its own direction
    controls are removed.

    Examples
    --------
    >>> isolated("Doe, Jane"), isolated("Doe\u202e"), ascii(isolated("\u05db\u05d4\u05df"))
    ('Doe, Jane', 'Doe', "'\\u2068\\u05db\\u05d4\\u05df\\u2069'")
    """
    cleaned = DIRECTION_CONTROLS.sub("", text)
    is_right_to_left = any(
        unicodedata.bidirectional(letter) in ("R", "AL", "AN") for letter in cleaned
    )
    return f"\u2068{cleaned}\u2069" if is_right_to_left else cleaned


def millilitres(volume_ml: float) -> str:
    """Return a volume as text, without its unit; "0" only if the volume is zero.

    Examples
    --------
    >>> [millilitres(volume) for volume in (61.23, 0.094, 0.004, 0.0)]
    ['61.2', '0.09', '<0.01', '0']
    """
    if volume_ml == 0:
        return "0"
    text = f"{volume_ml:.{1 if volume_ml >= 1 else 2}f}"
    return text if float(text) else "<0.01"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, in the plural unless it is 1; give `plural` if irregular.

    Examples
    --------
    >>> counted(1, "file"), counted(0, "file"), counted(2, "study", "studies")
    ('1 file', '0 files', '2 studies')
    """
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def score_digits(score: float) -> str:
    """Format a score, 0 to 1, with two decimals; never as 0 or 1, as no score is certain.

    Examples
    --------
    >>> [score_digits(score) for score in (0.974, 0.998, 0.004)]
    ['0.97', '>0.99', '<0.01']
    """
    if score > 0.99:
        return ">0.99"
    return f"{score:.2f}" if score >= 0.01 else "<0.01"


def percent_digits(probability: float) -> str:
    """Format a probability, 0 to 1, in whole per cent; never as 0 or 100, as none is certain.

    Examples
    --------
    >>> [percent_digits(probability) for probability in (0.974, 0.998, 0.004)]
    ['97', '>99', '<1']
    """
    if probability > 0.99:
        return ">99"
    return f"{100 * probability:.0f}" if probability >= 0.01 else "<1"


def joined_with_and(names: Iterable[str]) -> str:
    """Join names with commas and a final "and"; empty if there are none.

    Examples
    --------
    >>> joined_with_and(["T1", "T2", "FLAIR"]), joined_with_and(["T1"])
    ('T1, T2 and FLAIR', 'T1')
    """
    *first, last = list(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def abbreviated_list(texts: Sequence[str], count: int, separator: str = ", ") -> str:
    """Return the first texts, and the number of the others if there are more than `count`.

    Examples
    --------
    >>> abbreviated_list(["a", "b", "c"], 2), abbreviated_list(["a", "b"], 2)
    ('a, b and 1 more', 'a, b')
    """
    suffix = f" and {len(texts) - count} more" if len(texts) > count else ""
    return separator.join(texts[:count]) + suffix


def iso_date(text: str) -> str:
    """Return YYYYMMDD (DICOM DA) as ISO 8601; empty if it is no day of the calendar.

    Examples
    --------
    >>> iso_date("20260105"), iso_date("2026-01-05"), iso_date("1997.04"), iso_date("19701345")
    ('2026-01-05', '2026-01-05', '', '')
    """
    digits = text.replace("-", "")
    if len(digits) != 8 or not digits.isdigit():
        return ""
    try:
        return date.fromisoformat(digits).isoformat()
    except ValueError:
        return ""


def shown_day(text: str) -> str:
    """Return the day of an examination as it is displayed: a session's label has its BIDS prefix.

    Examples
    --------
    >>> shown_day("2026-01-05"), shown_day("1"), shown_day("examination 2"), shown_day("")
    ('2026-01-05', 'ses-1', 'examination 2', '')
    """
    return f"ses-{text}" if text.isalnum() else text


def day_of(text: str) -> date | None:
    """Return a DICOM date or date with time; None if it is not such a date.

    Examples
    --------
    >>> day_of("20260105131500").isoformat(), day_of("20269999")
    ('2026-01-05', None)
    """
    day = iso_date(text[:8])
    return date.fromisoformat(day) if day else None


def is_uid(text: str) -> bool:
    """Return whether a text has the form of a UID; any other could hold a name or a path.

    Numbers may begin with 0, which the standard forbids and scanners write.

    Examples
    --------
    >>> is_uid("1.2.840.01"), is_uid("1.2/../3"), is_uid("20260105")
    (True, False, False)
    """
    return len(text) <= 64 and _UID.fullmatch(text) is not None
