"""Validate values by value representation (PS3.5, 6.2): valid, corrected or None.

Only unambiguous values are corrected: dates with dots or dashes, a decimal comma, lower case,
overlong text. An identifier is never truncated, because the shorter one may be another patient's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from pydicom.valuerep import format_number_as_ds

LENGTH = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240, "UC": 10240, "UT": 10240}
IDENTIFIERS = frozenset(
    {"PatientID", "AccessionNumber", "StudyID", "IssuerOfPatientID", "AdmissionID"}
    | {"ServiceEpisodeID", "DeviceSerialNumber", "CodeValue", "CodingSchemeDesignator"}
    | {"ClinicalTrialProtocolID", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"}
    | {"ClinicalTrialSiteID", "ClinicalTrialTimePointID"}
)
CHOICES = {
    "PatientSex": {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"},
    "SmokingStatus": {"YES": "YES", "NO": "NO", "UNKNOWN": "UNKNOWN"},
    "PatientIdentityRemoved": {"YES": "YES", "NO": "NO"},
    "TypeOfPatientID": {"TEXT": "TEXT", "RFID": "RFID", "BARCODE": "BARCODE"},
}
"""Attributes with a closed set of codes."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]+")
_LINES = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f]+")
_DAY = re.compile(r"(\d{4})([.\-/]?)(\d{2})\2(\d{2})")
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d)(\.\d+)?)?)?")
_UID = re.compile(r"\d+(\.\d+)+")


def valid(keyword: str, vr: str, text: str) -> str | None:
    """Return a valid value; None if there is none.

    Parameters
    ----------
    vr : str
        Its value representation, a key of `BY_VR`.

    Examples
    --------
    >>> valid("PatientSex", "CS", "female"), valid("PatientSex", "CS", "0000")
    ('F', None)
    >>> valid("StudyDate", "DA", "2006-12-01"), valid("StudyDate", "DA", "20061399")
    ('20061201', None)
    >>> valid("AccessionNumber", "SH", "A" * 20), valid("StudyDescription", "LO", " brain ")
    (None, 'brain')
    """
    stripped = text.strip(" \0")
    if not stripped:
        return None
    if keyword in IDENTIFIERS:
        is_valid = len(stripped) <= LENGTH.get(vr, 64) and not _CONTROL.search(stripped)
        return stripped if is_valid and "\\" not in stripped else None
    if keyword in CHOICES:
        return CHOICES[keyword].get(stripped.upper())
    return BY_VR[vr](stripped) or None


def _line(limit: int) -> Callable[[str], str]:
    return lambda text: _CONTROL.sub(" ", text).replace("\\", "/").strip()[:limit].strip()


def _paragraph(limit: int) -> Callable[[str], str]:
    return lambda text: _LINES.sub(" ", text).strip()[:limit].strip()


def _person_name(text: str) -> str:
    """Return a name of at most three component groups of 64 characters."""
    groups = []
    for group in _CONTROL.sub(" ", text).replace("\\", "/").split("=")[:3]:
        parts = [part.strip() for part in group.split("^")]
        if len(parts) > 5:
            parts = [*parts[:4], " ".join(part for part in parts[4:] if part)]
        groups.append("^".join(parts).rstrip("^")[:64].strip())
    return "=".join(groups).rstrip("=")


def _code(text: str) -> str:
    return text.upper() if re.fullmatch(r"[A-Z0-9 _]{1,16}", text.upper()) else ""


def _date(text: str) -> str:
    match = _DAY.fullmatch(text)
    if not match:
        return ""
    year, _, month, day = match.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return ""
    return year + month + day


def _time(text: str) -> str:
    match = _TIME.fullmatch(text)
    if not match:
        return ""
    hour, minute, second, fraction = (part or "" for part in match.groups())
    return hour + minute + second + fraction[:7].rstrip(".")


def _datetime(text: str) -> str:
    return text if re.fullmatch(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})?", text) else ""


def _age(text: str) -> str:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", text.upper())
    return f"{int(match[1]):03d}{match[2]}" if match else ""


def _decimal(text: str) -> str:
    decimal = text.replace(",", ".") if re.fullmatch(r"[+-]?\d+,\d+", text) else text
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?", decimal):
        return ""
    return decimal if len(decimal) <= 16 else format_number_as_ds(float(decimal))


def _integer(text: str) -> str:
    match = re.fullmatch(r"[+-]?\d{1,11}", text)
    return text if match and -(2**31) <= int(text) < 2**31 else ""


def _uid(text: str) -> str:
    """Return a UID without leading zeros in components."""
    normalised = (
        ".".join(str(int(part)) for part in text.split(".")) if _UID.fullmatch(text) else ""
    )
    return normalised if len(normalised) <= 64 else ""


BY_VR: dict[str, Callable[[str], str]] = {
    **{vr: _line(LENGTH[vr]) for vr in ("SH", "LO", "UC")},
    **{vr: _paragraph(LENGTH[vr]) for vr in ("ST", "LT", "UT")},
    "PN": _person_name,
    "CS": _code,
    "DA": _date,
    "TM": _time,
    "DT": _datetime,
    "AS": _age,
    "DS": _decimal,
    "IS": _integer,
    "UI": _uid,
}
"""Validator of each VR; returns empty text for an invalid value."""
