"""De-identify one DICOM data set; pixels and geometry are not changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue

from lesionlens.base.process.ignored_warnings import warnings_ignored
from lesionlens.base.records.patient import Patient
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
_MAX_AGE_YEARS = 90
"""Ages above this one are capped: very old patients could be recognised by their age."""
_IDENTIFYING_KEYWORDS = frozenset(
    {"AccessionNumber", "OtherPatientIDs", "PatientAddress", "PatientID"}
)
_DUMMY_BY_VR = {"AS": "000Y", "CS": REMOVED, "DS": "0", "IS": "0", "PN": "Anonymous"}
_CONTRAST_AGENT = "ContrastBolusAgent"
_NEVER_EMPTY = frozenset(
    {"FrameLabelVector", "LUTExplanation", "SegmentLabel", "StructureSetLabel", "TextValue"}
)
"""Type 1 descriptions, which their objects must contain."""
_MAY_BE_EMPTY = frozenset({"ContentDescription", "ROIName"})
"""Type 2 descriptions, which their objects must contain, if only empty."""
_TIME_OF_DAY = r"(?:\d{2}){0,3}(?:\.\d{1,6})?(?:[+-]\d{4})?"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORM_BY_VR = {
    "DA": re.compile(r"\d{4}\.?\d{2}\.?\d{2}"),
    "DS": _NUMBER,
    "DT": re.compile(rf"\d{{4}}(\d{{2}}){{0,2}}{_TIME_OF_DAY}"),
    "IS": _NUMBER,
    "TM": re.compile(r"\d{2}(:?\d{2}(:?\d{2}(\.\d{1,6})?)?)?"),
}
"""What a date, a time and a number that is stored as text look like, also those of ACR-NEMA."""
_TEXT_VRS = frozenset({"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


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
    patient_id_by_study: Mapping[str, str] = field(default_factory=dict)
    """Study Instance UID to Patient ID, for files of the study that have none."""

    def clean(self, dataset: Dataset) -> None:
        """Clean a whole data set, as read from a file, in place; record the method in it.

        Its file meta information is replaced.
        """
        patient = self._patient_key(dataset)
        pseudonym, days = self.pseudonyms.patient(patient), self.pseudonyms.date_shift_days(patient)
        self._clean_items(dataset, days)
        dataset.PatientName = dataset.PatientID = pseudonym
        dataset.PatientIdentityRemoved = "YES"
        keeps_dates = self.options.full_dates
        dataset.LongitudinalTemporalInformationModified = (
            "UNMODIFIED" if keeps_dates else "MODIFIED"
        )
        dataset.DeidentificationMethodCodeSequence = [
            code_item(value, meaning) for value, meaning in self.options.methods
        ]
        _replace_file_meta(dataset)

    def _patient_key(self, dataset: Dataset) -> str:
        """Return the Patient ID, else that of the study, from which the pseudonym is derived."""
        study = str(dataset.get("StudyInstanceUID") or "")
        return patient_id(dataset) or self.patient_id_by_study.get(study, study)

    def _clean_items(self, dataset: Dataset, days: int) -> None:
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
                    self._clean_items(item, days)
            else:
                self._clean_element(dataset, element, action, days)

    def _clean_element(
        self, dataset: Dataset, element: DataElement, action: Action, days: int
    ) -> None:
        if action is Action.EMPTY:
            element.clear()
        elif action is Action.DUMMY:
            _replace_by_dummy(element)
        elif action is Action.MAP:
            _map_values(element, lambda value: self._new_uid(str(value)))
        elif action is Action.SHIFT and element.VR == "TM":
            _empty_invalid_values(element)
        elif action is Action.SHIFT:
            _map_values(element, lambda value: shifted_date(str(value), days))
        elif action is Action.CLEAN and not _all_plain(element):
            if element.keyword in _NEVER_EMPTY:
                _map_values(element, lambda _: REMOVED)
            elif element.keyword in _MAY_BE_EMPTY:
                element.clear()
            else:
                del dataset[element.tag]
        if action is Action.KEEP:
            self._clean_kept(dataset, element)

    def _new_uid(self, value: str) -> str:
        return value if value in self.replaced_uids else self.pseudonyms.uid(value)

    def _clean_kept(self, dataset: Dataset, element: DataElement) -> None:
        """Clean UIDs, numbers, dates, ages, local codes and text with names that are kept."""
        if element.VR == "UI":
            _map_values(
                element, lambda value: value if is_uid(str(value)) else self._new_uid(str(value))
            )
            return
        if element.keyword == "PatientAge" or element.VR == "AS":
            _map_values(element, capped_age)
            return
        _empty_invalid_values(element)
        if element.keyword in CODES:
            scheme = str(dataset.get("CodingSchemeDesignator") or "")
            if scheme not in STANDARD_SCHEMES and not _all_plain(element):
                element.value = REMOVED
        if element.VR in _TEXT_VRS and self._identifies(element):
            element.value = REMOVED if element.VR in ("CS", "LO", "SH") else None

    def _identifies(self, element: DataElement) -> bool:
        text = " ".join(map(str, _values(element))).lower()
        return any(word in text for word in self.identifying) and not is_plain(text)


def patient_id(dataset: Dataset) -> str:
    """Return the Patient ID as patients are compared by it; empty without one.

    Spaces around it and the form of its accented letters mean nothing.
    """
    return Patient.of(dataset.get).id


def identifying_words(dataset: Dataset) -> frozenset[str]:
    """Return the identifying words of names and identifiers, in lower case.

    Words of fewer than four letters (two beyond ASCII, as in Chinese names) occur in other words
    and are not returned, nor those that an institution shares with its scanner's manufacturer.

    Parameters
    ----------
    dataset : Dataset
        Before it is cleaned.
    """
    words: set[str] = set()
    manufacturer_words = _words_of(dataset.get("Manufacturer"))
    for element in dataset.iterall():
        if element.keyword == "InstitutionName":
            words |= _words_of(element.value) - manufacturer_words
        elif element.VR == "PN" or element.keyword in _IDENTIFYING_KEYWORDS:
            words |= _words_of(" ".join(map(str, _values(element))))
    return frozenset(word for word in words if len(word) >= (4 if word.isascii() else 2))


def _words_of(text: object) -> set[str]:
    return set(re.split(r"[\W_]+", str(text or "").lower()))


def shifted_date(text: str, days: int) -> str:
    """Shift a DICOM date or date-time back by days; an invalid date becomes empty.

    Examples
    --------
    >>> shifted_date("20260105", 10), shifted_date("20260105101500.5+0100", 5)
    ('20251226', '20251231101500.5+0100')
    >>> shifted_date("2026.01.05", 1), shifted_date("20261345", 1), shifted_date("00010101", 1)
    ('', '', '')
    >>> shifted_date("05000110", 9)
    '05000101'
    >>> shifted_date("20260105-20260107", 10)  # a range: its second date would not be shifted
    ''
    """
    match = re.fullmatch(rf"(\d{{4}})(\d{{2}})(\d{{2}})({_TIME_OF_DAY})", text.strip())
    if match is None:
        return ""
    year, month, day, time_of_day = match.groups()
    try:
        shifted = date(int(year), int(month), int(day)) - timedelta(days)
    except (ValueError, OverflowError):
        return ""
    return f"{shifted.year:04d}{shifted:%m%d}{time_of_day}"


def capped_age(age: Any) -> str:
    """Return an age, capped at 90 years; an invalid age becomes empty.

    Examples
    --------
    >>> capped_age("045Y"), capped_age("093Y"), capped_age("Miller")
    ('045Y', '090Y', '')
    """
    match = re.fullmatch(r"(\d{3})([DWMY])", str(age))
    if match is None:
        return ""
    return (
        f"{_MAX_AGE_YEARS:03d}Y" if match[2] == "Y" and int(match[1]) > _MAX_AGE_YEARS else match[0]
    )


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or isinstance(value, bytes):
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _map_values(element: DataElement, convert: Any) -> None:
    values = [convert(value) for value in _values(element)]
    element.value = values if len(values) > 1 else (values[0] if values else None)


def _empty_invalid_values(element: DataElement) -> None:
    """Empty invalid dates, times and numbers, which may contain any text."""
    form = _FORM_BY_VR.get(element.VR)
    if form is not None and not all(form.fullmatch(str(v).strip()) for v in _values(element)):
        _map_values(element, lambda value: value if form.fullmatch(str(value).strip()) else "")


def _all_plain(element: DataElement) -> bool:
    return all(is_plain(str(value)) for value in _values(element))


def _replace_by_dummy(element: DataElement) -> None:
    """Replace a value by a neutral dummy; a contrast agent's dummy still indicates an agent."""
    if element.is_empty:
        return
    if element.keyword == _CONTRAST_AGENT:
        element.value = "CONTRAST"
    elif element.VR in ("OB", "OW", "UN", "US", "UL", "SS", "SL", "FL", "FD"):
        element.clear()
    else:
        element.value = _DUMMY_BY_VR.get(element.VR, REMOVED)


def code_item(value: str, meaning: str) -> Dataset:
    """Return a code sequence item with a DICOM-defined code."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning[:64]
    return item


def _replace_file_meta(dataset: Dataset) -> None:
    """Replace the file meta header and preamble, which may identify the sender."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    with warnings_ignored():
        dataset.file_meta = meta
    if hasattr(dataset, "preamble"):
        dataset.preamble = bytes(128)
