"""De-identify one DICOM data set; pixels and geometry are not changed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue

from lesionlens.base.uids import is_uid
from lesionlens.imaging.deidentification.profile import (
    CODES,
    STANDARD_SCHEMES,
    Action,
    Options,
    action_of,
)
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.deidentification.vocabulary import is_plain

REMOVED = "REMOVED"
_OLDEST = 90  # ages above this one are capped: very old patients could be recognised by their age
_TELLING = frozenset({"AccessionNumber", "OtherPatientIDs", "PatientAddress", "PatientID"})
_DUMMIES = {"AS": "000Y", "CS": REMOVED, "DS": "0", "IS": "0", "PN": "Anonymous"}
_CONTRAST = "ContrastBolusAgent"
_NEVER_EMPTY = frozenset(
    {"FrameLabelVector", "LUTExplanation", "SegmentLabel", "StructureSetLabel", "TextValue"}
)
"""Type 1 descriptions, which their objects must contain."""
_MAY_BE_EMPTY = frozenset({"ContentDescription", "ROIName"})
"""Type 2 descriptions, which their objects must contain, if only empty."""


@dataclass(frozen=True, slots=True)
class Cleaner:
    """Cleans data sets of any patients with the same options and pseudonyms."""

    options: Options
    """Deviations from the basic profile."""
    pseudonyms: Pseudonyms
    """Replacement UIDs, patient names and date shifts."""
    identifying: frozenset[str] = frozenset()
    """Identifying words in lower case (`identifying_words`); text that contains one is removed."""
    replaced_uids: frozenset[str] = frozenset()
    """UIDs that are pseudonyms already, and are kept."""
    of_study: Mapping[str, str] = field(default_factory=dict)
    """Study Instance UID to Patient ID, for files of the study that have none."""

    def clean(self, dataset: Dataset) -> None:
        """Clean a whole data set in place, and record the de-identification method in it.

        Parameters
        ----------
        dataset : Dataset
            As read from a file; its file meta information is replaced.
        """
        patient = self._patient(dataset)
        new, days = self.pseudonyms.patient(patient), self.pseudonyms.days(patient)
        self._items(dataset, days)
        dataset.PatientName = dataset.PatientID = new
        dataset.PatientIdentityRemoved = "YES"
        kept = self.options.full_dates
        dataset.LongitudinalTemporalInformationModified = "UNMODIFIED" if kept else "MODIFIED"
        dataset.DeidentificationMethodCodeSequence = [
            coded(value, meaning) for value, meaning in self.options.methods
        ]
        _new_meta(dataset)

    def _patient(self, dataset: Dataset) -> str:
        """Return what the pseudonym is derived from: the Patient ID, else that of the study."""
        study = str(dataset.get("StudyInstanceUID") or "")
        return str(dataset.get("PatientID") or "") or self.of_study.get(study, study)

    def _items(self, dataset: Dataset, days: int) -> None:
        """Clean every element of a data set or sequence item, recursively."""
        for tag in list(dataset.keys()):
            element = dataset[tag]
            action = action_of(element.tag, element.VR, self.options)
            if action is Action.REMOVE:
                del dataset[tag]
            elif element.VR == "SQ":
                if action is Action.EMPTY:
                    element.value = []
                for item in element.value:
                    self._items(item, days)
            else:
                self._element(dataset, element, action, days)

    def _element(self, dataset: Dataset, element: DataElement, action: Action, days: int) -> None:
        if action is Action.EMPTY:
            element.clear()
        elif action is Action.DUMMY:
            _replace(element)
        elif action is Action.MAP:
            _each(element, lambda value: self._uid(str(value)))
        elif action is Action.SHIFT and element.VR != "TM":
            _each(element, lambda value: moved(str(value), days))
        elif action is Action.CLEAN and not _all_plain(element):
            if element.keyword in _NEVER_EMPTY:
                _each(element, lambda _: REMOVED)
            elif element.keyword in _MAY_BE_EMPTY:
                element.clear()
            else:
                del dataset[element.tag]
        if action is Action.KEEP:
            self._kept(dataset, element)

    def _uid(self, value: str) -> str:
        return value if value in self.replaced_uids else self.pseudonyms.uid(value)

    def _kept(self, dataset: Dataset, element: DataElement) -> None:
        """Check elements that the profile keeps: UIDs, ages, local codes, text with names."""
        if element.VR == "UI":
            _each(element, lambda value: value if is_uid(str(value)) else self._uid(str(value)))
            return
        if element.keyword == "PatientAge":
            _each(element, capped_age)
            return
        if element.keyword in CODES:
            scheme = str(dataset.get("CodingSchemeDesignator") or "")
            if scheme not in STANDARD_SCHEMES and not _all_plain(element):
                element.value = REMOVED
        if element.VR in _WRITTEN and self._identifies(element):
            element.value = REMOVED if element.VR in ("CS", "LO", "SH") else None

    def _identifies(self, element: DataElement) -> bool:
        text = " ".join(map(str, _values(element))).lower()
        return any(word in text for word in self.identifying) and not is_plain(text)


_TIME_OF_DAY = r"(?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_WRITTEN = frozenset({"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


def identifying_words(dataset: Dataset) -> frozenset[str]:
    """Return the identifying words of names and identifiers, in lower case.

    Words of fewer than four letters (two beyond ASCII, as of Chinese names) occur in other words
    and are not returned, nor those that an institution shares with its scanner's manufacturer.

    Parameters
    ----------
    dataset : Dataset
        Before it is cleaned.
    """
    found: set[str] = set()
    makers = _words(dataset.get("Manufacturer"))
    for element in dataset.iterall():
        if element.keyword == "InstitutionName":
            found |= _words(element.value) - makers
        elif element.VR == "PN" or element.keyword in _TELLING:
            found |= _words(" ".join(map(str, _values(element))))
    return frozenset(word for word in found if len(word) >= (4 if word.isascii() else 2))


def _words(text: object) -> set[str]:
    return set(re.split(r"[\W_]+", str(text or "").lower()))


def moved(text: str, days: int) -> str:
    """Shift a DICOM date or date-time back by days; an invalid date becomes empty.

    Examples
    --------
    >>> moved("20260105", 10), moved("20260105101500.5+0100", 5), moved("2026.01.05", 1)
    ('20251226', '20251231101500.5+0100', '')
    >>> moved("20260105-20260107", 10)  # the rest would be a date that is not shifted
    ''
    """
    found = re.fullmatch(rf"(\d{{4}})(\d{{2}})(\d{{2}})({_TIME_OF_DAY})", text.strip())
    if found is None:
        return ""
    year, month, day, rest = found.groups()
    try:
        new = date(int(year), int(month), int(day)) - timedelta(days)
    except (ValueError, OverflowError):
        return ""
    return f"{new:%Y%m%d}{rest}"


def capped_age(age: Any) -> str:
    """Return an age, capped at 90 years; an invalid age becomes empty.

    Examples
    --------
    >>> capped_age("045Y"), capped_age("093Y"), capped_age("Miller")
    ('045Y', '090Y', '')
    """
    found = re.fullmatch(r"(\d{3})([DWMY])", str(age))
    if found is None:
        return ""
    return f"{_OLDEST:03d}Y" if found[2] == "Y" and int(found[1]) > _OLDEST else found[0]


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _each(element: DataElement, change: Any) -> None:
    new = [change(value) for value in _values(element)]
    element.value = new if len(new) > 1 else (new[0] if new else None)


def _all_plain(element: DataElement) -> bool:
    return all(is_plain(str(value)) for value in _values(element))


def _replace(element: DataElement) -> None:
    """Replace a value by a neutral dummy; a contrast agent's dummy still indicates an agent."""
    if element.is_empty:
        return
    if element.keyword == _CONTRAST:
        element.value = "CONTRAST"
    elif element.VR in ("OB", "OW", "UN", "US", "UL", "SS", "SL", "FL", "FD"):
        element.clear()
    else:
        element.value = _DUMMIES.get(element.VR, REMOVED)


def coded(value: str, meaning: str) -> Dataset:
    """Return a code sequence item with a DICOM-defined code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning[:64]
    return item


def _new_meta(dataset: Dataset) -> None:
    """Replace the file meta header and preamble, which may identify the sender."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with warnings.catch_warnings(action="ignore"):
        dataset.file_meta = meta
    if hasattr(dataset, "preamble"):
        dataset.preamble = bytes(128)
