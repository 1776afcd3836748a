"""Source attributes that are copied to the DICOM objects, validated.

Headers may contain invalid values (sex "0000", dates with dots, overlong text, undeclared
characters). These do not affect the image and must not prevent an export: an unambiguous value is
corrected, any other is omitted, or empty if DICOM requires the attribute; a notice names the
attributes, never their content. Text becomes Unicode (ISO_IR 192).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lesionlens.imaging.reading.dicom.files import DAMAGED
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
_DESCRIPTION = (*TYPE_2, *PATIENT, *STUDY, *TRIAL)
COPIED = (*UIDS, *_DESCRIPTION, *EQUIPMENT)
LOSSY_COMPRESSION = (
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
GEOMETRY = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "Rows", "Columns", "NumberOfFrames", "PositionReferenceIndicator"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("DimensionOrganizationSequence", "DimensionIndexSequence", "InstanceNumber"),
    *LOSSY_COMPRESSION,
)
"""Attributes of image identity, geometry and compression: used unchanged, except the spacing and
a missing thickness of the slices.
"""
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_DEFAULT_REPERTOIRES = ("", "ISO_IR 6", "ISO 2022 IR 6")
_PERSON_NAME_DELIMITERS = {0x5E, 0x3D}  # ^, =: then the default character set applies again
_TEXT_DELIMITERS = {0x09, 0x0A, 0x0C, 0x0D, 0x5C}
_NOT_DECODED = {"\ufffd", "\x1b"}
"""Characters of text that is not valid in the declared character set, as pydicom decodes it."""


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
        if not all(name in python_encoding for name in names) or set(names) <= {
            *_DEFAULT_REPERTOIRES
        }:
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
            delimiters = _PERSON_NAME_DELIMITERS if person else _TEXT_DELIMITERS
            with suppress(ValueError, LookupError), warnings.catch_warnings(action="ignore"):
                decoded = str(decode_bytes(text, self.encodings, delimiters))
                if _NOT_DECODED.isdisjoint(decoded):
                    return decoded
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")


def copied_attributes(header: Dataset) -> tuple[Dataset, tuple[str, ...]]:
    """Return patient, study and scanner attributes for the objects from a source header.

    Parameters
    ----------
    header : Dataset
        Header of any image of the reference series, as read.

    Returns
    -------
    Dataset
        Valid attributes of `COPIED`, in Unicode.
    tuple of str
        Which attributes were corrected or omitted, for the user; without their values.
    """
    copier = _AttributeCopier(Characters.of(header))
    copied = copier.copy(header, COPIED)
    for keyword in UIDS:
        if keyword not in copied and header.get_item(tag_for_keyword(keyword) or 0) is not None:
            text = copier.texts(header, keyword)
            setattr(copied, keyword, generate_uid(entropy_srcs=[keyword, *text]))
    for keyword in TYPE_2:
        if keyword not in copied:
            setattr(copied, keyword, "")
    _remove_incomplete_groups(copied)
    copied.SpecificCharacterSet = CHARACTER_SET
    return copied, tuple(_notices(copier))


class _AttributeCopier:
    """Copies attributes and records, by keyword, which were corrected or omitted."""

    def __init__(self, characters: Characters) -> None:
        self.characters = characters
        self.corrected: dict[str, None] = {}
        self.left_out: dict[str, None] = {}

    def copy(self, source: Dataset, keywords: tuple[str, ...]) -> Dataset:
        copied = Dataset()
        for keyword in keywords:
            tag = tag_for_keyword(keyword)
            if tag is None or source.get_item(tag) is None:
                continue
            vr = str(dictionary_VR(tag))
            value = self._items(source, keyword) if vr == "SQ" else self._value(source, keyword, vr)
            if value:
                copied.add(DataElement(tag, vr, value, validation_mode=0))
        return copied

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
        is_multivalued = isinstance(raw, list) or type(raw).__name__ == "MultiValue"
        return [str(part) for part in raw] if is_multivalued else [str(raw)]

    def _value(self, source: Dataset, keyword: str, vr: str) -> Any:
        if vr not in values.BY_VR:
            return self._of_vr(source, keyword, vr)
        texts = self.texts(source, keyword)
        if _is_single(keyword) and len(texts) > 1:
            texts = ["\\".join(texts)]  # a literal backslash
        validated = [values.valid(keyword, vr, text) for text in texts]
        valid_texts = [text for text in validated if text]
        if not valid_texts and any(text.strip(" \0") for text in texts):
            self.left_out[keyword] = None
        elif valid_texts and list(filter(None, (t.strip(" \0") for t in texts))) != valid_texts:
            self.corrected[keyword] = None
        return valid_texts[0] if len(valid_texts) == 1 else valid_texts

    def _of_vr(self, source: Dataset, keyword: str, vr: str) -> Any:
        """Return a value that is not text; None if the header's has another type or number."""
        try:
            element = source[keyword]
            if element.VR in vr and not (_is_single(keyword) and element.VM > 1):  # US in US or SS
                return element.value
        except DAMAGED:
            pass
        self.left_out[keyword] = None
        return None

    def _items(self, source: Dataset, keyword: str) -> list[Dataset]:
        items = list(self._of_vr(source, keyword, "SQ") or ())
        copied = [self.copy(item, tuple(_keywords(item))) for item in items]
        complete = [item for item in copied if item and _is_complete(keyword, item)]
        if len(complete) < len(items):
            self.left_out[keyword] = None
        return complete


def _is_single(keyword: str) -> bool:
    return str(dictionary_VM(tag_for_keyword(keyword) or 0)) == "1"


def _keywords(item: Dataset) -> Iterator[str]:
    """Yield the public attributes of an item, except its character set."""
    for tag in item.keys():  # noqa: SIM118  (a Dataset yields elements, which may not be readable)
        if not tag.is_private and tag != 0x00080005:
            keyword = keyword_for_tag(tag)
            if keyword:
                yield keyword


def _is_complete(keyword: str, item: Dataset) -> bool:
    """Return whether a code sequence item contains a code."""
    if not keyword.endswith("CodeSequence"):
        return True
    has_code = any(name in item for name in _CODE_VALUES) and "CodeMeaning" in item
    return has_code and ("CodingSchemeDesignator" in item or "URNCodeValue" in item)


def _remove_incomplete_groups(copied: Dataset) -> None:
    """Remove attributes that DICOM allows only together with missing ones."""
    has_protocol = all(keyword in copied for keyword in TRIAL_NEEDS[:2])
    has_subject = any(f"ClinicalTrialSubject{part}ID" in copied for part in ("", "Reading"))
    for keyword in TRIAL:
        if keyword in copied and not (has_protocol and has_subject):
            del copied[keyword]
        elif keyword in TRIAL_NEEDS and keyword not in copied and has_protocol and has_subject:
            setattr(copied, keyword, "")
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if copied.get("PatientIdentityRemoved") == "YES" and not any(
        method in copied for method in methods
    ):
        del copied.PatientIdentityRemoved


def _notices(copier: _AttributeCopier) -> Iterator[str]:
    parts = [
        f"{outcome}: {', '.join(names)}"
        for outcome, names in (("corrected", copier.corrected), ("left out", copier.left_out))
        if names
    ]
    if parts:
        yield (
            "The DICOM objects correct or omit values of the source's header that DICOM does not "
            f"allow ({'; '.join(parts)})"
        )
    changed = [k for k in (*UIDS, "PatientID") if k in {**copier.corrected, **copier.left_out}]
    if changed:
        yield (
            f"The source's {' and '.join(changed)} cannot be written unchanged: archives and "
            "viewers may not link the DICOM objects to the images"
        )
