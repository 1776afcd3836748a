"""Patient identity as the files state it, and the comparison of two identities.

Five attributes distinguish patients. A missing attribute does not contradict, and an equal Patient
ID does not suffice if another attribute differs. A user may confirm that a contradiction is
acceptable; the confirmation is recorded in the results.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from enum import StrEnum
from itertools import combinations
from typing import Any

from lesionlens.base.errors import PatientConflictError
from lesionlens.base.text import capitalized, iso_date, joined_with_and

_PREFIX_INDEX = 3  # of a DICOM name: a title such as "Dr", which may be missing
_MAX_COMPARED = 20
_STROKES = str.maketrans({"ø": "o", "æ": "a", "ł": "l", "đ": "d"})


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
        names = ("patient ID", "issuer of the patient ID", "name", "birth date", "sex")
        return dict(zip(PatientField, names, strict=True))[self]


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

        Examples
        --------
        >>> Patient.of({"PatientID": "P1 ", "PatientBirthDate": "19700102", "PatientSex": "f"})
        Patient(id='P1', issuer='', name='', birth_date='1970-01-02', sex='F')
        """
        read = value.get if isinstance(value, Mapping) else value
        texts = [str(read(field.value) or "").replace("\0", " ") for field in PatientField]
        number, issuer, name, birth, sex = (
            unicodedata.normalize("NFC", text).strip() for text in texts
        )
        birth_date = iso_date(birth.replace(".", "").replace("/", ""))
        known_sex = sex.upper() if sex.upper() in ("M", "F", "O") else ""
        return cls(number, issuer, name, birth_date, known_sex)

    @property
    def known(self) -> bool:
        """Whether there is any attribute that distinguishes patients."""
        return bool(self.id or any(map(_words, self.name.split("="))))

    @property
    def attributes(self) -> dict[PatientField, str]:
        """The attributes by field."""
        return dict(zip(PatientField, astuple(self), strict=True))

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
            one_sided=tuple(f for f in PatientField if bool(own[f]) != bool(others[f])),
        )


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
    conflicting: set[PatientField] = set()
    missing: set[PatientField] = set()
    for one, other in combinations(list(dict.fromkeys(patients))[:_MAX_COMPARED], 2):
        comparison = one.compared(other)
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
    verb = "differ" if len(differing) > 1 else "differs"
    statement = f"{capitalized(in_words(differing))} {verb} in {between}"
    if confirmed:
        return f"{statement}; a person confirmed that it is the same patient (--same-patient)."
    known = list(dict.fromkeys(patients))
    raise PatientConflictError(
        tuple(field.display_name for field in differing),
        f"{statement}.",
        hint=f"{advice}; if you are sure that it is one person, confirm it with --same-patient.",
        in_window=in_window or advice,
        values=tuple(tuple(dict.fromkeys(p.attributes[f] for p in known))[:5] for f in differing),
    )


def in_words(fields: Iterable[PatientField]) -> str:
    """Return attributes as in "name, birth date and sex"."""
    return joined_with_and(field.display_name for field in fields)


def _are_equal(field: PatientField, value: str, other: str) -> bool | None:
    """Return whether two values of a field mean the same; None if one is missing."""
    if field is PatientField.NAME:
        pairs = zip(value.split("="), other.split("="), strict=False)
        words = [(a, b) for a, b in ((_words(x), _words(y)) for x, y in pairs) if a and b]
        return all(a <= b or b <= a for a, b in words) if words else None
    if field is PatientField.ISSUER:
        value, other = value.casefold(), other.casefold()
    return value == other if value and other else None


def _words(name: str) -> frozenset[str]:
    """Return the words of a name without title, case, accents, order and punctuation.

    "ü" and "ue" are one letter. Other scripts keep their marks.
    """
    parts = [part for n, part in enumerate(name.split("^")) if n != _PREFIX_INDEX]
    text = unicodedata.normalize("NFKD", " ".join(parts)).casefold().translate(_STROKES)
    plain = re.sub("([aou])e", r"\1", re.sub("[\u0300-\u036f]", "", text))
    words = re.split(r"[\s,]+", plain)
    letters = ("".join(c for c in w if unicodedata.category(c)[0] in "LMN") for w in words)
    return frozenset(filter(None, letters))
