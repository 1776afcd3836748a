"""The action for each attribute: DICOM PS3.15 table E.1-1 with the supported options.

The table (`profile_2026c.tsv`) is of the 2026c edition, taken from the package `dicom-anonymizer`
2.1.0 (BSD; see NOTICE); this module adds the options and stricter rules. Free text that the profile
does not list is also removed, unless it is known to describe equipment only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag


class Action(StrEnum):
    """The action on an element; sequences that are not removed are cleaned item by item."""

    KEEP = "keep"
    REMOVE = "remove"
    EMPTY = "empty"
    DUMMY = "dummy"
    MAP = "map"
    """A UID is replaced consistently."""
    SHIFT = "shift"
    """A date is shifted by the patient's number of days; a time is kept."""
    CLEAN = "clean"
    """Text is kept if it consists of known words only."""


_CODES = {
    "X": Action.REMOVE, "X/Z": Action.EMPTY, "Z": Action.EMPTY, "U": Action.MAP,
    "X/Z/U*": Action.MAP, "X/D": Action.DUMMY, "X/Z/D": Action.DUMMY, "Z/D": Action.DUMMY,
    "D": Action.DUMMY,
}  # fmt: skip
"""The action for each code in table E.1-1."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of PS3.15 Annex E that a user can choose."""

    full_dates: bool = False
    """Keep dates; otherwise all dates of a patient are shifted by the same number of days."""
    keep_uids: bool = False
    device: bool = True
    """Keep the identity of the device."""
    characteristics: bool = True
    """Keep sex, age, size and weight of the patient."""
    burned_in: bool = False
    """Include objects whose pixels may contain text."""
    keep_faces: bool = False
    """Do not change pixels."""

    @property
    def methods(self) -> tuple[tuple[str, str], ...]:
        """Codes (DCM) and meanings of CID 7050 that describe the applied methods."""
        dates = (
            ("113106", "Retain Longitudinal Temporal Information Full Dates Option")
            if self.full_dates
            else ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
        )
        codes = [
            ("113100", "Basic Application Confidentiality Profile"),
            ("113104", "Clean Structured Content Option"),
            ("113105", "Clean Descriptors Option"),
            dates,
        ]
        if self.characteristics:
            codes.append(("113108", "Retain Patient Characteristics Option"))
        if self.device:
            codes.append(("113109", "Retain Device Identity Option"))
        if self.keep_uids:
            codes.append(("113110", "Retain UIDs Option"))
        return tuple(codes)


DEVICE = frozenset(
    {
        "CassetteID", "DeviceSerialNumber", "DeviceUID", "GantryID", "GeneratorID",
        "PerformedStationAETitle", "PerformedStationName", "PlateID", "SourceSerialNumber",
        "StationName",
    }
)  # fmt: skip
CHARACTERISTICS = frozenset(
    {
        "EthnicGroup", "PatientAge", "PatientSex", "PatientSexNeutered", "PatientSize",
        "PatientWeight", "PregnancyStatus", "SmokingStatus",
    }
)  # fmt: skip
DESCRIPTORS = frozenset(
    {
        "AlgorithmParameters", "ContentDescription", "ContributionDescription",
        "DerivationDescription", "FrameLabelVector", "LUTExplanation",
        "PerformedProcedureStepDescription", "ProtocolName", "ROIDescription", "ROIName",
        "RequestedProcedureDescription", "SegmentDescription", "SegmentLabel", "SeriesDescription",
        "StructureSetDescription", "StructureSetLabel", "StudyDescription", "TextValue",
        "TrackingID",
    }
)  # fmt: skip
CODES = frozenset(
    {
        "CodeMeaning", "CodeValue", "CodingSchemeDesignator", "CodingSchemeName",
        "CodingSchemeRegistry", "CodingSchemeVersion", "LongCodeValue", "URNCodeValue",
    }
)  # fmt: skip
MACHINES = frozenset(
    {
        "AlgorithmName", "AlgorithmVersion", "DimensionDescriptionLabel", "ImagedNucleus",
        "LUTLabel", "Manufacturer", "ManufacturerModelName", "MultiCoilElementName",
        "PositionReferenceIndicator",
        "PulseSequenceName", "ReceiveCoilManufacturerName", "ReceiveCoilName", "RescaleType",
        "SegmentAlgorithmName",
        "SequenceName", "SoftwareVersions", "StackID", "TransmitCoilManufacturerName",
        "TransmitCoilName",
    }
)  # fmt: skip
"""Free text that describes equipment and software; not part of the profile."""
BULK = frozenset(
    {
        "BluePaletteColorLookupTableData", "DoubleFloatPixelData", "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths", "FloatPixelData", "GreenPaletteColorLookupTableData",
        "LUTData", "PixelData", "RedPaletteColorLookupTableData",
    }
)  # fmt: skip
BIRTH = frozenset({"PatientBirthDate", "PatientBirthTime"})
"""Never kept with the other dates: birth dates identify a person."""
STANDARD_SCHEMES = frozenset(
    {
        "99LESIONLENS", "DCM", "FMA", "IBSI", "LN", "MA", "NCIt", "RADLEX", "RFC5646", "SCT", "SRT",
        "UBERON", "UCUM", "UMLS",
    }
)  # fmt: skip
"""Coding schemes with published meanings; meanings of other schemes are cleaned as descriptions."""
_REFERENCED_STUDY = (0x0008, 0x1110)
"""The profile allows either action for X/Z; this sequence may be absent, but not empty."""
_PUBLIC_UIDS = frozenset({"CodingSchemeUID", "ContextUID", "MappingResourceUID"})
_TEXT_VRS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_BYTE_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_DATE_VRS = frozenset({"DA", "DT", "TM"})
_STRING_VRS = _TEXT_VRS | _DATE_VRS | {"AS", "CS", "DS", "IS", "UI"}


def action_of(tag: BaseTag, vr: str, options: Options) -> Action:
    """Return the action on an element.

    Parameters
    ----------
    vr : str
        Its value representation in the file, which may differ from the dictionary's.
    """
    keyword = keyword_for_tag(tag)
    standard_vr = dictionary_VR(tag) if dictionary_has_tag(tag) else ""
    curve_or_overlay = tag.group & 0xFF01 in {0x5000, 0x6000}  # groups 50xx and 60xx, even
    rules = (
        (tag.is_private or not standard_vr or curve_or_overlay, Action.REMOVE),
        (standard_vr in _STRING_VRS and vr not in _STRING_VRS, Action.REMOVE),  # text as bytes
        (options.device and keyword in DEVICE, Action.KEEP),
        (options.characteristics and keyword in CHARACTERISTICS, Action.KEEP),
        (vr == "UI" and (options.keep_uids or keyword in _PUBLIC_UIDS), Action.KEEP),
        (vr == "UI", Action.MAP),
        (vr in _DATE_VRS and keyword not in BIRTH and options.full_dates, Action.KEEP),
        (vr in _DATE_VRS and keyword not in BIRTH, Action.SHIFT),
        (keyword in DESCRIPTORS, Action.CLEAN),
    )
    rule_action = next((action for applies, action in rules if applies), None)
    return (
        rule_action
        or _profile_actions().get((tag.group, tag.element))
        or _unlisted_action(keyword, vr, standard_vr)
    )


def _unlisted_action(keyword: str, vr: str, standard_vr: str) -> Action:
    """Return the action on an unlisted element: free text and unknown bytes are removed."""
    if _TEXT_VRS & {vr, standard_vr}:
        return Action.KEEP if keyword in MACHINES | CODES else Action.REMOVE
    if vr[:2] in _BYTE_VRS:  # implicit VR: "OB or OW"
        return Action.KEEP if keyword in BULK else Action.REMOVE
    return Action.KEEP


@cache
def _profile_actions() -> dict[tuple[int, int], Action]:
    text = files(__package__).joinpath("profile_2026c.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    actions = {(int(group, 16), int(element, 16)): _CODES[code] for group, element, code, _ in rows}
    return {**actions, _REFERENCED_STUDY: Action.REMOVE}
