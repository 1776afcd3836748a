"""What stays of one data set: its own new UID, codes of known vocabularies, the kind of dates."""

from __future__ import annotations

import struct
import warnings
from io import BytesIO

import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian

from lesionlens.imaging.deidentification.clean import Cleaner
from lesionlens.imaging.deidentification.profile import Options
from lesionlens.imaging.deidentification.pseudonyms import Pseudonyms
from lesionlens.imaging.deidentification.vocabulary import is_plain

NAMES = Pseudonyms(b"k" * 32)
LONG = {"OB", "OW", "SQ"}
"""Value representations whose length has four bytes."""


def image() -> Dataset:
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
    made.StudyInstanceUID, made.StudyDate = "1.2.3.4", "20260105"
    made.file_meta = FileMetaDataset()
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return made


def test_the_file_is_named_by_the_new_uid():
    dataset = image()
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.SOPInstanceUID == NAMES.uid("1.2.3.4.5") != "1.2.3.4.5"
    assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


def test_an_image_without_an_id_is_of_the_patient_of_its_study():
    dataset = image()
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.PatientID == dataset.PatientName == NAMES.patient("1.2.3.4")
    nameless = image()
    del nameless.StudyInstanceUID
    Cleaner(Options(), NAMES).clean(nameless)
    assert nameless.PatientID == NAMES.patient("")


@pytest.mark.parametrize(
    ("full_dates", "stated", "kept"), [(True, "UNMODIFIED", True), (False, "MODIFIED", False)]
)
def test_whether_dates_were_shifted_is_stated(full_dates, stated, kept):
    dataset = image()
    Cleaner(Options(full_dates=full_dates), NAMES).clean(dataset)
    assert dataset.LongitudinalTemporalInformationModified == stated
    assert (dataset.StudyDate == "20260105") is kept


@pytest.mark.parametrize(
    ("scheme", "meaning", "left"),
    [
        ("SCT", "Structure of xyzlobe", "Structure of xyzlobe"),
        ("99CLINIC", "Musterfrau's lesion", "REMOVED"),
        (None, "Musterfrau's lesion", "REMOVED"),
        ("99CLINIC", "head", "head"),
    ],
)
def test_meanings_of_local_codes_go_unless_they_are_plain_words(scheme, meaning, left):
    dataset, code = image(), Dataset()
    code.CodeValue, code.CodeMeaning = "1", meaning
    if scheme:
        code.CodingSchemeDesignator = scheme
    dataset.AnatomicRegionSequence = [code]
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.AnatomicRegionSequence[0].CodeMeaning == left


@pytest.mark.parametrize(("agent", "left"), [("Dr. Musterfrau's", "CONTRAST"), ("", "")])
def test_that_an_agent_was_given_stays_without_its_text(agent, left):
    dataset = image()
    dataset.ContrastBolusAgent = agent
    Cleaner(Options(), NAMES).clean(dataset)
    assert (dataset.ContrastBolusAgent or "") == left


ALWAYS = {"113100", "113104", "113105"}


@pytest.mark.parametrize(
    ("options", "codes"),
    [
        (Options(), {"113107", "113108", "113109"}),
        (Options(full_dates=True), {"113106", "113108", "113109"}),
        (Options(characteristics=False), {"113107", "113109"}),
        (Options(device=False), {"113107", "113108"}),
        (Options(keep_uids=True), {"113107", "113108", "113109", "113110"}),
    ],
)
def test_what_was_done_and_kept_is_recorded_by_its_codes(options, codes):
    """CID 7050: a code of what was not done would be believed."""
    dataset = image()
    Cleaner(options, NAMES).clean(dataset)
    items = dataset.DeidentificationMethodCodeSequence
    assert {item.CodeValue for item in items} == ALWAYS | codes
    assert {item.CodingSchemeDesignator for item in items} == {"DCM"}
    assert len(items) == len(ALWAYS | codes)


@pytest.mark.parametrize("full_dates", [False, True])
@pytest.mark.parametrize(
    ("keyword", "valid", "text"),
    [
        ("StudyTime", b"101500.25", b"Dr Huber"),
        ("StudyTime", b"10:15:00", b"10 Huber"),
        ("FlipAngle", b"9.5e1", b"HUBER"),
        ("SeriesNumber", b"12", b"HUBER 12"),
    ],
)
def test_text_in_place_of_a_time_or_number_goes(full_dates, keyword, valid, text):
    """Pydicom reads any text there; dates and ages were checked, times and numbers kept as are."""
    cleaned = []
    for raw in (valid, text):
        dataset = image()
        tag = Tag(tag_for_keyword(keyword))
        vr = dictionary_VR(tag)
        dataset[tag] = RawDataElement(tag, vr, len(raw), raw, 0, False, True)
        with warnings.catch_warnings(action="ignore"):
            Cleaner(Options(full_dates=full_dates), NAMES).clean(dataset)
        cleaned.append(str(dataset[tag].value or ""))
    assert cleaned == [valid.decode(), ""]


@pytest.mark.parametrize("keyword", ["EchoTime", "SeriesNumber"])
def test_an_empty_number_stays_empty(keyword):
    dataset = image()
    setattr(dataset, keyword, None)
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset[keyword].is_empty


def test_text_in_place_of_a_date_goes_also_where_dates_are_kept():
    dataset = image()
    with warnings.catch_warnings(action="ignore"):
        dataset.SeriesDate, dataset.AcquisitionDateTime = "Huber", "Huber 2026"
        Cleaner(Options(full_dates=True), NAMES).clean(dataset)
    assert (dataset.SeriesDate, dataset.AcquisitionDateTime) == ("", "")
    assert dataset.StudyDate == "20260105"


@pytest.mark.parametrize("vr", ["AS", "CS", "OB", "OW", "US", "UL", "AT", "SQ"])
@pytest.mark.parametrize(
    "keyword", ["StudyDescription", "SeriesDescription", "ViewName", "StationName", "PatientSex"]
)
def test_text_under_another_vr_than_its_own_goes(keyword, vr):
    tag, text = tag_for_keyword(keyword), b"MUSTERFRAU 1960 "
    length = struct.pack("<HI", 0, len(text)) if vr in LONG else struct.pack("<H", len(text))
    written = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr.encode()) + length + text
    dataset = image()
    if vr == "SQ":
        dataset.add(DataElement(tag, "SQ", [image()]))
    else:
        dataset.update(read_dataset(BytesIO(written), is_implicit_VR=False, is_little_endian=True))
    Cleaner(Options(), NAMES, frozenset({"musterfrau"})).clean(dataset)
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    assert b"MUSTERFRAU" not in file.getvalue()
    assert vr != "SQ" or keyword not in dataset


@pytest.mark.parametrize(
    "text",
    [
        "5.3.60",
        "5. 3. 60",
        "5.3. 60",
        "(5:3:60)",
        "555 - 123 - 456",
        "12'34'56",
        "1234567890123456",
    ],
)
def test_dates_and_identifiers_in_groups_are_no_plain_text(text):
    assert not is_plain(f"AX T1 {text}")


@pytest.mark.parametrize("text", ["0.5 3mm", "1.0 1.0", "1 mm", "ab12cd34ef56ab78"])
def test_lengths_and_digests_are_plain_text(text):
    assert is_plain(f"AX T1 {text}")
