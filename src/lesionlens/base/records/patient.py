"""Patient identity as the files state it, and the comparison of two identities.

Five attributes distinguish patients. A missing attribute does not contradict, and an equal Patient
ID does not suffice if another attribute differs. A user may confirm that a contradiction is
acceptable; the confirmation is recorded in the results.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from lesionlens.base.dates import iso_date
from lesionlens.base.errors import PatientConflictError
from lesionlens.base.text import joined_with_and

_GERMAN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe", "æ": "ae"})
_PLAIN = str.maketrans({"ø": "o", "æ": "ae", "ł": "l", "đ": "d"})
_ACCENTS = re.compile("[\u0300-\u036f]")
_NAME_PARTS = 5
_PREFIX_INDEX = 3  # a title such as "Dr", which may be missing
_MAX_VALUES = 5  # values of a field shown to the user
_MAX_COMPARED = 20  # at most this many patients are compared


class PatientField(StrEnum):
    """An attribute that distinguishes patients; the value is its DICOM keyword."""

    ID = "PatientID"
    ISSUER = "IssuerOfPatientID"
    NAME = "PatientName"
    BIRTH_DATE = "PatientBirthDate"
    SEX = "PatientSex"

    @property
    def display_name(self) -> str:
        """The attribute's name in plain words."""
        return _DISPLAY_NAMES[self]


_DISPLAY_NAMES = {
    PatientField.ID: "patient ID",
    PatientField.ISSUER: "issuer of the patient ID",
    PatientField.NAME: "name",
    PatientField.BIRTH_DATE: "birth date",
    PatientField.SEX: "sex",
}


class IdentityMatch(StrEnum):
    """The outcome of a comparison of two patients."""

    SAME = "same"
    """Nothing contradicts, and the patient ID, or name and birth date, are equal."""
    CONFLICT = "conflict"
    """An attribute that both have differs."""
    UNKNOWN = "unknown"
    """Nothing contradicts, but there is too little to compare."""


@dataclass(frozen=True, slots=True)
class Patient:
    """Patient attributes from the files, decoded and without padding; empty if missing."""

    id: str = ""
    issuer: str = ""
    name: str = ""
    """DICOM PN: components separated by "^", up to three spellings separated by "="."""
    birth_date: str = ""
    """ISO 8601; empty if it is not a valid date."""
    sex: str = ""
    """"M", "F" or "O"; empty for anything else."""

    @classmethod
    def of(cls, value: Callable[[str], Any] | Mapping[str, Any]) -> Patient:
        """Build a patient from a lookup of DICOM keywords, such as a header.

        Parameters
        ----------
        value : callable or mapping
            Maps a DICOM keyword to its decoded value, or None if it is absent.

        Examples
        --------
        >>> Patient.of({"PatientID": "P1 ", "PatientBirthDate": "19700102", "PatientSex": "f"})
        Patient(id='P1', issuer='', name='', birth_date='1970-01-02', sex='F')
        """
        read = value.get if isinstance(value, Mapping) else value
        text = {field: _stripped(read(field.value)) for field in PatientField}
        sex = text[PatientField.SEX].upper()
        return cls(
            id=text[PatientField.ID],
            issuer=text[PatientField.ISSUER],
            name=text[PatientField.NAME],
            birth_date=_day(text[PatientField.BIRTH_DATE]),
            sex=sex if sex in ("M", "F", "O") else "",
        )

    @property
    def known(self) -> bool:
        """Whether there is any attribute that distinguishes patients."""
        return bool(self.id or any(map(_letters, self.name.split("="))))

    def compared(self, other: Patient) -> PatientComparison:
        """Compare with another patient, attribute by attribute.

        Examples
        --------
        >>> Patient("1", name="MÜLLER^A").compared(Patient("1", name="Mueller^A^")).conflicts
        ()
        >>> in_words(Patient("1", sex="F").compared(Patient("1", sex="M")).conflicts)
        'sex'
        """
        own, others = self.attributes, other.attributes
        equal = {field: _are_equal(field, own[field], others[field]) for field in PatientField}
        return PatientComparison(
            conflicts=tuple(field for field, same in equal.items() if same is False),
            agreeing=tuple(field for field, same in equal.items() if same),
            one_sided=tuple(
                field for field in PatientField if bool(own[field]) != bool(others[field])
            ),
        )

    @property
    def attributes(self) -> dict[PatientField, str]:
        """The attributes by field."""
        values = (self.id, self.issuer, self.name, self.birth_date, self.sex)
        return dict(zip(PatientField, values, strict=True))


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """How two patients compare; holds the attributes' names, never their values."""

    conflicts: tuple[PatientField, ...]
    """Present in both, and different."""
    agreeing: tuple[PatientField, ...]
    """Present in both, and equal."""
    one_sided: tuple[PatientField, ...]
    """Present in one of them only."""

    @property
    def agreement(self) -> IdentityMatch:
        """The outcome."""
        if self.conflicts:
            return IdentityMatch.CONFLICT
        named = {PatientField.NAME, PatientField.BIRTH_DATE} <= {*self.agreeing}
        same = named or PatientField.ID in self.agreeing
        return IdentityMatch.SAME if same else IdentityMatch.UNKNOWN


def conflict_among(patients: Iterable[Patient], *, gaps: bool = True) -> tuple[PatientField, ...]:
    """Return the attributes in which any two of these patients differ.

    Parameters
    ----------
    gaps : bool
        If nothing differs but some files lack identifying attributes of the others, above all the
        patient ID, return the missing ones: such files cannot be attributed.
    """
    distinct = list(dict.fromkeys(patients))
    conflicting: set[PatientField] = set()
    missing: set[PatientField] = set()
    for index, patient in enumerate(distinct):
        if conflicting and index > _MAX_COMPARED:
            break
        for other in distinct[: min(index, _MAX_COMPARED)]:
            comparison = patient.compared(other)
            conflicting.update(comparison.conflicts)
            unknown = comparison.agreement is IdentityMatch.UNKNOWN
            if gaps and (unknown or PatientField.ID in comparison.one_sided):
                missing.update(comparison.one_sided)
    return tuple(field for field in PatientField if field in (conflicting or missing))


def settle(
    fields: Iterable[PatientField],
    between: str,
    *,
    confirmed: bool,
    advice: str = "Choose the files of one patient, or correct the headers",
    in_window: str | None = None,
    patients: Iterable[Patient] = (),
) -> str:
    """Refuse contradicting attributes, unless a user confirmed the patient.

    Parameters
    ----------
    between : str
        What was compared, as in "the images of this folder".
    confirmed : bool
        Whether the user confirmed that it is one patient (`--same-patient`).
    advice, in_window : str
        What else to do, on the command line and in the window.
    patients : iterable of Patient
        The compared patients, for the window to show the differing values.

    Returns
    -------
    str
        The notice to record in the results; empty if nothing differs.

    Raises
    ------
    PatientConflictError
        Something differs and was not confirmed.
    """
    differing = tuple(fields)
    if not differing:
        return ""
    if not confirmed:
        raise PatientConflictError(
            tuple(field.display_name for field in differing),
            found=f"more than one patient, or an incomplete identity, in {between}: "
            f"{in_words(differing)} differ{'' if len(differing) > 1 else 's'}",
            expected="one patient",
            next_step=f"{advice}; if you are sure that it is one person, confirm it with "
            "--same-patient",
            in_window=in_window or advice,
            values=_values_of(differing, dict.fromkeys(patients)),
        )
    names = in_words(differing)
    return (
        f"{names[0].upper()}{names[1:]} differ{'' if len(differing) > 1 else 's'} in {between}; "
        "a person confirmed that it is the same patient (--same-patient)."
    )


def _values_of(
    fields: Iterable[PatientField], patients: Collection[Patient]
) -> tuple[tuple[str, ...], ...]:
    """Return the first few different values of each field."""
    return tuple(
        tuple(dict.fromkeys(patient.attributes[field] for patient in patients))[:_MAX_VALUES]
        for field in fields
    )


def in_words(fields: Iterable[PatientField]) -> str:
    """Return attributes as in "name, birth date and sex"."""
    return joined_with_and(field.display_name for field in fields)


def _stripped(value: Any) -> str:
    text = "" if value is None else str(value)
    return unicodedata.normalize("NFC", text.replace("\0", " ")).strip()


def _day(text: str) -> str:
    return iso_date(text.replace(".", "").replace("/", ""))


def _are_equal(field: PatientField, value: str, other_value: str) -> bool | None:
    """Return whether two values of a field mean the same; None if that cannot be told."""
    if field is PatientField.NAME:
        return _equal_names(value, other_value)
    if field is PatientField.ISSUER:
        return _equal(value.casefold(), other_value.casefold())
    return _equal(value, other_value)


def _equal(value: str, other_value: str) -> bool | None:
    """Return whether two values are equal; None if one is missing."""
    return value == other_value if value and other_value else None


def _equal_names(name: str, other_name: str) -> bool | None:
    """Return whether two names are spelt the same in every alphabet that both have."""
    pairs = zip(name.split("="), other_name.split("="), strict=False)
    outcomes = [_equal_spelling(spelling, other_spelling) for spelling, other_spelling in pairs]
    decided = [same for same in outcomes if same is not None]
    return all(decided) if decided else None


def _equal_spelling(name: str, other_name: str) -> bool | None:
    parts, other_parts = _parts(name), _parts(other_name)
    if not any(map(_letters, parts)) or not any(map(_letters, other_parts)):
        return None
    if not any(map(_letters, parts[1:])) or not any(map(_letters, other_parts[1:])):
        words, other_words = _words(name), _words(other_name)  # "Roe Jane" for "Roe^Jane"
        pairs = (words, other_words), (other_words, words)
        return any(all(any(a & b for b in more) for a in fewer) for fewer, more in pairs)
    matches = (
        not (_letters(a) and _letters(b)) or bool(_spellings(a) & _spellings(b))
        for index, (a, b) in enumerate(zip(parts, other_parts, strict=True))
        if index != _PREFIX_INDEX
    )
    return all(matches)


def _parts(name: str) -> list[str]:
    return (name.split("^") + [""] * _NAME_PARTS)[:_NAME_PARTS]


def _words(name: str) -> frozenset[frozenset[str]]:
    """Return the spellings of each word of a name without its prefix."""
    parts = _parts(name)
    del parts[_PREFIX_INDEX]
    words = re.split(r"[\s,]+", " ".join(parts))
    return frozenset(_spellings(word) for word in words if _letters(word))


def _spellings(text: str) -> frozenset[str]:
    """Return spellings of a name part without diacritics: plain, and with German umlaut rules."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return frozenset(_letters(folded.translate(table)) for table in (_PLAIN, _GERMAN))


def _letters(text: str) -> str:
    """Return letters and digits without accents, case, spaces or punctuation."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    unaccented = unicodedata.normalize(
        "NFC", _ACCENTS.sub("", decomposed)
    )  # other scripts keep their marks
    return "".join(char for char in unaccented if unicodedata.category(char)[0] in "LMN")
