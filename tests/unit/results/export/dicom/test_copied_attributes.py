"""No header of a source costs a result, and none makes what leaves invalid."""

import shutil
import subprocess

import pydicom
import pytest
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from tests.helpers.dicom_files import edited_dicom

from lesionlens.base.labels import MrSequence
from lesionlens.results.export.dicom.exporter import DicomExporter
from lesionlens.results.export.exporter import save
from lesionlens.testing import Lesion

KANJI = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
HANGUL = (
    b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
)
DIRTY = {
    "values": {
        "PatientSex": (b"0000", ""),
        "PatientAge": (b"45", None),
        "PatientSize": (b"tall", None),
        "PatientWeight": (b"72,5", "72.5"),
        "PatientBirthDate": (b"1949.03.01", "19490301"),
        "StudyDate": (b"2006-12-01", "20061201"),
        "StudyTime": (b"123456.1234567890", "123456.123456"),
        "StudyID": (b"STUDY-0123456789-0123456789", ""),
        "AccessionNumber": (b"A1\r\nB2", ""),
        "InstitutionName": (b"Clinic\x00\x1b[31m", ...),
        "PatientName": (b"Doe^Jane=Doe^Jane=Doe^Jane=Doe^Jane", "Doe^Jane=Doe^Jane=Doe^Jane"),
        "StudyInstanceUID": (b"1.2.840.00113.2", "1.2.840.113.2"),
        "FrameOfReferenceUID": (b"1.2.840.00113.1", ...),
        "StudyDescription": (b"brain\\spine", "brain/spine"),
        "PatientComments": (b"a\x07b", ...),
    },
    "words": {
        "PatientSex": (b"female", "F"),
        "PatientBirthDate": (b"unknown", ...),
        "PatientAge": (b"UNKNOWN", ...),
        "StudyTime": (b"256199", ""),
        "PatientName": (b"Doe^Jane^A^B^C^D^E", "Doe^Jane^A^B^C D E"),
        "FrameOfReferenceUID": (b"frame 1", ...),
        "StudyInstanceUID": (b"1.2.study", ...),
    },
    "overlong": {
        "PatientSex": (b"m", "M"),
        "PatientBirthDate": (b"19491399", ""),
        "PatientName": (b"X" * 200, "X" * 64),
        "PatientID": (b"LL-" + b"9" * 100, ""),
        "ReferringPhysicianName": (b"Y" * 150, ...),
        "StudyDescription": (b"brain " * 40, ...),
        "AccessionNumber": (b"ACC-0123456789-0123456789", ""),
    },
}
"""Raw bytes of attributes, and what is written in their place; `...` is any valid value."""
UNREPORTED = {
    "charset-unknown": {
        "SpecificCharacterSet": (b"ISO_IR 999", ...),
        "PatientName": (b"M\xfcller^Eva", "Müller^Eva"),
    },
    "charset-python": {
        "SpecificCharacterSet": (b"utf8", ...),
        "PatientName": ("Müller^Eva".encode(), "Müller^Eva"),
    },
    "charset-none": {
        "SpecificCharacterSet": (None, ...),
        "PatientName": (b"M\xfcller^Eva", "Müller^Eva"),
        "ClinicalTrialSponsorName": (b"S", ...),
        "ClinicalTrialProtocolID": (b"P", ...),
        "ClinicalTrialSubjectID": (b"1", "1"),
        "ClinicalTrialSiteName": (None, ""),
    },
    "charset-japanese": {
        "SpecificCharacterSet": (b"\\ISO 2022 IR 87", ...),
        "PatientName": (KANJI, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        "ClinicalTrialSiteID": (b"S1", None),
        "PatientIdentityRemoved": (b"YES", None),
    },
    "charset-korean": {
        "SpecificCharacterSet": (b"\\ISO 2022 IR 149", ...),
        "PatientName": (HANGUL, "Hong^Gildong=洪^吉洞=홍^길동"),
    },
    "missing": {
        "Manufacturer": (None, ...),
        "PatientSex": (None, ""),
        "StudyID": (None, ""),
        "PatientName": (None, ""),
    },
}
"""Nothing of these headers is lost that a reader must know of."""
THICK = {"dicom": True, "spacing_mm": (8.0, 8.0, 8.0)}
"""Few slices: headers are in question, not pixels."""


def _dirty(analysis, attributes):
    """Put raw bytes into attributes: written as a placeholder of their length, then exchanged."""
    for file in analysis.study.series[MrSequence.T1C].files:
        with edited_dicom(file.path) as ds:
            exchange = {}
            for number, (keyword, value) in enumerate(attributes.items()):
                tag = tag_for_keyword(keyword)
                ds.pop(tag, None)
                if value is None:
                    continue
                even = value.ljust(10) + b" " * (len(value.ljust(10)) % 2)
                held = bytes([65 + number]) * len(even)
                if keyword == "SpecificCharacterSet":
                    held = {10: b"ISO_IR 192", 16: b"\\ISO 2022 IR 100"}[len(even)]
                exchange[held] = even
                vr = dictionary_VR(tag)
                ds[tag] = RawDataElement(Tag(tag), vr, len(even), held, 0, False, True)
        data = file.path.read_bytes()
        for held, even in exchange.items():
            assert held in data
            data = data.replace(held, even, 1)
        file.path.write_bytes(data)


def _errors(path):
    done = subprocess.run(
        ["dciodvfy", path], check=False, capture_output=True, text=True, errors="replace"
    )
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


@pytest.mark.parametrize("name", DIRTY | UNREPORTED)
def test_a_dirty_header_costs_nothing_and_leaves_valid(make, tmp_path, name):
    analysis = make(**THICK, lesions=(Lesion(),))
    attributes = (DIRTY | UNREPORTED)[name]
    _dirty(analysis, {keyword: raw for keyword, (raw, _) in attributes.items()})
    done = DicomExporter().write(analysis, tmp_path)
    assert done.left_out == {}
    reported = " ".join(text for text in done.notices if "DICOM does not allow" in text)
    named = {keyword for keyword in attributes if keyword in reported}
    assert named == (set(attributes) if name in DIRTY else set())
    wanted = {k: str(written) for k, (_, written) in attributes.items() if written is not ...}
    for path in done.files:
        ds = pydicom.dcmread(path)
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        assert {keyword: str(ds.get(keyword)) for keyword in wanted} == wanted, path.name
        if shutil.which("dciodvfy"):
            assert _errors(path) == [], path.name


ITEM = b"\xfe\xff\x00\xe0"


@pytest.mark.parametrize(
    ("keyword", "vr", "value"),
    [
        ("PregnancyStatus", "LO", b"YES "),
        ("PregnancyStatus", "IS", b"99999999"),
        ("PregnancyStatus", "SS", b"\xff\xff"),
        ("PregnancyStatus", "US", b"\x04\x00\x01"),
        ("PregnancyStatus", "US", b"\x04\x00\x01\x00"),
        ("ProcedureCodeSequence", "LO", b"MR head "),
        ("ProcedureCodeSequence", "SQ", ITEM + b"\x10\x00\x00\x00abc"),  # shorter than stated
        ("ProcedureCodeSequence", "SQ", ITEM + b"\x00\x00\x00\x00"),  # no code
    ],
)
def test_a_value_of_another_type_is_omitted_and_costs_no_object(make, tmp_path, keyword, vr, value):
    """It cost all objects: written under the type that DICOM states, or not readable."""
    analysis = make(**THICK, lesions=(Lesion(),))
    tag = Tag(tag_for_keyword(keyword))
    for file in analysis.study.series[MrSequence.T1C].files:
        with edited_dicom(file.path) as ds:
            ds[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)
    done = DicomExporter().write(analysis, tmp_path)
    assert done.left_out == {}
    assert any(f"(left out: {keyword})" in text for text in done.notices)
    assert all(tag not in pydicom.dcmread(path) for path in done.files)


def test_no_notice_repeats_what_a_header_says_of_a_person(make, tmp_path):
    analysis = make(**THICK, lesions=(Lesion(),))
    _dirty(analysis, {"PatientID": b"SECRET\n1", "PatientSex": b"SECRETX", "StudyDate": b"SECRET"})
    _, warnings = save(analysis, tmp_path / "out")
    assert any("PatientID" in text for text in warnings)
    assert not any("SECRET" in text for text in warnings)


def test_nothing_travels_that_is_not_on_the_list(make, tmp_path):
    analysis = make(**THICK, lesions=(Lesion(),))
    hidden = {"OperatorsName": b"HIDDENNAME", "PatientAddress": b"HIDDENNAME"}
    _dirty(analysis, {**hidden, "RequestAttributesSequence": None})
    for file in analysis.study.series[MrSequence.T1C].files:
        with edited_dicom(file.path) as ds:
            block = ds.private_block(0x0029, "SOMEONE", create=True)
            block.add_new(0x01, "LO", "HIDDENNAME")
    written = DicomExporter().write(analysis, tmp_path)
    assert written.files
    assert not written.left_out
    for path in written.files:
        assert b"HIDDENNAME" not in path.read_bytes(), path.name
