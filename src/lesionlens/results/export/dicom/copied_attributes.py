"""Source attributes that are copied to our DICOM objects, validated.

Headers may contain invalid values (sex "0000", dates with dots, overlong text, undeclared
characters). These do not affect the image and must not prevent an export: an unambiguous value is
corrected, any other is omitted, or empty if DICOM requires the attribute; a notice names the
attributes, never their content. Text becomes Unicode (ISO_IR 192).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lesionlens.results.export.dicom import values

CHARACTER_SET = "ISO_IR 192"
TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Type 2 attributes: required to be present, empty if unknown."""
UIDS = ("StudyInstanceUID", "FrameOfReferenceUID")
"""Identifiers of study and series; never omitted."""
PATIENT = (
    *("IssuerOfPatientID", "TypeOfPatientID", "PatientBirthTime", "OtherPatientNames"),
    *("OtherPatientIDsSequence", "EthnicGroupCodeSequence", "PatientComments"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
)
STUDY = (
    *("IssuerOfAccessionNumberSequence", "StudyDescription", "ProcedureCodeSequence"),
    *("ConsultingPhysicianName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy"),
    *("ReferencedStudySequence", "RequestingService", "RequestingServiceCodeSequence"),
    *("ReasonForPerformedProcedureCodeSequence", "AdmittingDiagnosesDescription"),
    *("AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientWeight"),
    *("PatientBodyMassIndex", "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus"),
    *("AdditionalPatientHistory", "PregnancyStatus", "LastMenstrualDate", "ReasonForVisit"),
    *("AdmissionID", "ServiceEpisodeID", "ServiceEpisodeDescription", "PatientState"),
)
TRIAL_NEEDS = (
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName"),
    *("ClinicalTrialSiteID", "ClinicalTrialSiteName"),
)
TRIAL = (
    *TRIAL_NEEDS,
    *("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID"),
    "ClinicalTrialTimePointDescription",
)
"""Clinical trial attributes, copied completely or not at all."""
EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber"),
    *("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName"),
)
"""Attributes of the scanner, for contributing equipment."""
COPIED = (*UIDS, *TYPE_2, *PATIENT, *STUDY, *TRIAL, *EQUIPMENT)
GEOMETRY = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "Rows", "Columns", "NumberOfFrames", "PositionReferenceIndicator"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DimensionOrganizationSequence", "DimensionIndexSequence", "InstanceNumber"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
)
"""Attributes of image identity, geometry and compression: used unchanged, except the distance and
a missing thickness of the slices.
"""
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_NONE_DECLARED = ("", "ISO_IR 6", "ISO 2022 IR 6")
_PERSON = {0x5E, 0x3D}  # ^ and =, after which the default character set applies again
_TEXT = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}


@dataclass(frozen=True, slots=True)
class Characters:
    """Decoder of a header's text."""

    encodings: tuple[str, ...]
    """Python encodings; empty if the header declares none that is known: then text is decoded as
    UTF-8 if valid, else as Latin-1.
    """

    @classmethod
    def of(cls, header: Dataset) -> Characters:
        """Return the decoder for the character sets that a header declares."""
        element = header.get_item(0x00080005)
        raw = b"" if element is None else element.value
        if isinstance(raw, bytes | bytearray):
            names = [part.strip("\0 ") for part in raw.decode("latin-1").split("\\")]
        else:
            names = [str(raw)] if isinstance(raw, str) or raw is None else [str(n) for n in raw]
        if not all(name in python_encoding for name in names) or set(names) <= {*_NONE_DECLARED}:
            return cls(())
        return cls(tuple(convert_encodings(names)))

    def decoded(self, text: bytes, *, person: bool = False) -> str:
        """Decode text to Unicode.

        Parameters
        ----------
        person : bool
            Whether it is a person name (PN).
        """
        if self.encodings:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    delimiters = _PERSON if person else _TEXT
                    return str(decode_bytes(text, self.encodings, delimiters))
            except (UserWarning, ValueError, LookupError):
                pass  # not valid in the declared character set
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")


@dataclass(frozen=True, slots=True)
class CopiedAttributes:
    """The attributes of a header to copy."""

    dataset: Dataset
    """Valid attributes of `COPIED`, in Unicode."""
    notices: tuple[str, ...]
    """Which were corrected or omitted, in words; without values."""


def copied_attributes(header: Dataset) -> CopiedAttributes:
    """Return patient, study and scanner attributes for our objects from a source header.

    Parameters
    ----------
    header : Dataset
        Header of any image of the reference series, as read.
    """
    taker = _AttributeCopier(Characters.of(header))
    made = taker.take(header, COPIED)
    for keyword in UIDS:
        if keyword not in made and header.get_item(tag_for_keyword(keyword) or 0) is not None:
            text = taker.texts(header, keyword)
            setattr(made, keyword, generate_uid(entropy_srcs=[keyword, *text]))
    for keyword in TYPE_2:
        if keyword not in made:
            setattr(made, keyword, "")
    _whole_or_nothing(made)
    made.SpecificCharacterSet = CHARACTER_SET
    return CopiedAttributes(made, tuple(_notices(taker)))


class _AttributeCopier:
    """Copies attributes and records, by keyword, which were corrected or omitted."""

    def __init__(self, characters: Characters) -> None:
        self.characters = characters
        self.corrected: dict[str, None] = {}
        self.left_out: dict[str, None] = {}

    def take(self, source: Dataset, keywords: tuple[str, ...]) -> Dataset:
        made = Dataset()
        for keyword in keywords:
            tag = tag_for_keyword(keyword)
            if tag is None or source.get_item(tag) is None:
                continue
            vr = str(dictionary_VR(tag))
            value = self._items(source, keyword) if vr == "SQ" else self._value(source, keyword)
            if value:
                made.add(DataElement(tag, vr, value, validation_mode=0))
        return made

    def texts(self, source: Dataset, keyword: str) -> list[str]:
        """Return an attribute's values as decoded text, whatever its VR."""
        tag = tag_for_keyword(keyword)
        element: Any = source.get_item(tag or 0)
        raw = element.value
        if isinstance(raw, bytes | bytearray):
            text = self.characters.decoded(bytes(raw), person=keyword.endswith(("Name", "Names")))
            return text.rstrip("\0 ").split("\\")
        if raw is None:
            return []
        many = isinstance(raw, list) or type(raw).__name__ == "MultiValue"
        return [str(part) for part in raw] if many else [str(raw)]

    def _value(self, source: Dataset, keyword: str) -> Any:
        tag = tag_for_keyword(keyword) or 0
        vr = str(dictionary_VR(tag))
        if vr not in values.BY_VR:
            return self._number(source, keyword)
        found = self.texts(source, keyword)
        if dictionary_VM(tag) == "1" and len(found) > 1:
            found = ["\\".join(found)]  # a literal backslash
        kept = [values.valid(keyword, vr, text) for text in found]
        good = [text for text in kept if text]
        if not good and any(text.strip(" \0") for text in found):
            self.left_out[keyword] = None
        elif good and [text.strip(" \0") for text in found if text.strip(" \0")] != good:
            self.corrected[keyword] = None
        return good[0] if len(good) == 1 else good

    def _number(self, source: Dataset, keyword: str) -> Any:
        try:
            return source[keyword].value
        except (ValueError, TypeError, NotImplementedError):
            self.left_out[keyword] = None
            return None

    def _items(self, source: Dataset, keyword: str) -> list[Dataset]:
        try:
            items = list(source[keyword].value or ())
        except (ValueError, TypeError, KeyError, NotImplementedError):
            self.left_out[keyword] = None
            return []
        made = [self.take(item, tuple(_keywords(item))) for item in items]
        kept = [item for item in made if item and _is_whole(keyword, item)]
        if len(kept) < len(items):
            self.left_out[keyword] = None
        return kept


def _keywords(item: Dataset) -> Iterator[str]:
    """Yield the public attributes of an item, except its character set."""
    for tag in item.keys():  # noqa: SIM118  (a Dataset yields elements, which may not be readable)
        if not tag.is_private and tag != 0x00080005:
            keyword = keyword_for_tag(tag)
            if keyword:
                yield keyword


def _is_whole(keyword: str, item: Dataset) -> bool:
    """Return whether a code sequence item contains a code."""
    if not keyword.endswith("CodeSequence"):
        return True
    coded = any(name in item for name in _CODE_VALUES) and "CodeMeaning" in item
    return coded and ("CodingSchemeDesignator" in item or "URNCodeValue" in item)


def _whole_or_nothing(made: Dataset) -> None:
    """Remove attributes that DICOM allows only together with missing ones."""
    named = all(keyword in made for keyword in TRIAL_NEEDS[:2])
    subject = any(f"ClinicalTrialSubject{part}ID" in made for part in ("", "Reading"))
    for keyword in TRIAL:
        if keyword in made and not (named and subject):
            del made[keyword]
        elif keyword in TRIAL_NEEDS and keyword not in made and named and subject:
            setattr(made, keyword, "")
    how = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if made.get("PatientIdentityRemoved") == "YES" and not any(word in made for word in how):
        del made.PatientIdentityRemoved


def _notices(taker: _AttributeCopier) -> Iterator[str]:
    parts = [
        f"{words}: {', '.join(names)}"
        for words, names in (("corrected", taker.corrected), ("left out", taker.left_out))
        if names
    ]
    if parts:
        yield (
            "The DICOM objects do not repeat what DICOM does not allow in the source's header "
            f"({'; '.join(parts)})"
        )
    apart = [k for k in (*UIDS, "PatientID") if k in {**taker.corrected, **taker.left_out}]
    if apart:
        yield (
            f"The source's {' and '.join(apart)} cannot be written as it stands: archives and "
            "viewers may keep the DICOM objects apart from the images"
        )
