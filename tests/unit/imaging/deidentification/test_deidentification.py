"""Names are planted wherever a data set can hold one; no byte of what leaves holds any."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from time import sleep

import pydicom
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import generate_uid
from tests.helpers.file_search import files_below
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ReadError, ResourceError, UnusableInputError
from lesionlens.base.files.folder_lock import folder_lock
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.deidentification.clean import Cleaner, identifying_words
from lesionlens.imaging.deidentification.folder import deidentify_folder
from lesionlens.imaging.deidentification.profile import (
    BULK,
    CHARACTERISTICS,
    CODES,
    DEVICE,
    MACHINES,
    Action,
    Options,
    action_of,
)
from lesionlens.imaging.deidentification.pseudonyms import (
    Pseudonyms,
    create_or_check_map,
    read_or_create_key,
)
from lesionlens.imaging.deidentification.vocabulary import is_plain
from lesionlens.imaging.preparation import brain_extraction
from lesionlens.imaging.reading.readers import open_study
from lesionlens.results.export.dicom.exporter import DicomExporter

NAME = "Plantedname"
KEPT = DEVICE | CHARACTERISTICS | MACHINES | CODES
NO_OBJECT = {"CodingSchemeUID", "ContextUID", "DeviceUID", "MappingResourceUID"}
TEXT = {"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
NAMES = Pseudonyms(b"k" * 32)


def token(tag: int) -> str:
    """A word of its own for each attribute."""
    return f"Zq{tag:08x}"


def worth(keyword: str, number: int, vr: str, depth: int):
    """What an attribute is given, None where it can hold no name."""
    word = NAME if keyword in KEPT else token(number)
    if vr == "SQ":
        return [nested(number, depth)] if depth else None
    if vr in TEXT:
        return f"{word}^A" if vr == "PN" else word[:16]
    values = {
        "CS": NAME.upper(),
        "DA": "19600203",
        "DT": "19600203",
        "UI": "1.2.840.10008.9" if keyword in NO_OBJECT else f"1.2.3.{number}.999",
        **dict.fromkeys(("OB", "UN", "OW"), f"{token(number)} ".ljust(12).encode()),
    }
    return values.get(vr)


def nested(number: int, depth: int) -> Dataset:
    """An item with names, private ones among them, and with items of its own."""
    item = Dataset()
    item.PatientName = f"{token(number)}^B"
    item.add_new((0x0009, 0x0010), "LO", "VENDOR")
    item.add_new((0x0009, 0x1001), "LO", token(number))
    if depth > 1:
        inner = Dataset()
        inner.InstitutionName = token(number)
        inner.PersonName = f"{token(number)}^C"
        item.OtherPatientIDsSequence = [inner]
        item.ReferencedSOPSequence = [inner]
    return item


def planted(base: Dataset, depth: int = 2) -> int:
    """Put a name into every attribute of the dictionary that can hold one; return how many."""
    count = 0
    for number, (vr, *_) in DicomDictionary.items():
        tag, keyword = Tag(number), keyword_for_tag(number)
        format_of_file = tag.group in (0x0000, 0x0002, 0x0004, 0xFFFE, 0x7FE0) or tag.elem == 0
        if format_of_file or tag in base or keyword in BULK | {"SpecificCharacterSet"}:
            continue
        value = worth(keyword, number, vr, depth)
        if value is not None:
            base.add(DataElement(tag, vr, value))
            count += 1
    return count


def image() -> pydicom.FileDataset:
    """A valid MR image of two voxels."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3.4.5"
    made.StudyInstanceUID, made.SeriesInstanceUID = "1.2.3.4", "1.2.3.4.6"
    made.PatientName, made.PatientID = f"{NAME}^Person", f"{NAME}1"
    made.ImageType = ["ORIGINAL", "PRIMARY"]
    made.Rows = made.Columns = 1
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, 12, 11
    made.SamplesPerPixel, made.PixelRepresentation = 1, 0
    made.PhotometricInterpretation, made.PixelData = "MONOCHROME2", b"\x01\x00"
    made.BurnedInAnnotation = "NO"
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made.file_meta.SourceApplicationEntityTitle = NAME.upper()
    made.file_meta.PrivateInformationCreatorUID = "1.2.3"
    made.file_meta.PrivateInformation = NAME.encode()
    stream = io.BytesIO()
    made.preamble = NAME.encode().ljust(128)
    made.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


def found(content: bytes) -> set[bytes]:
    """The planted words in some bytes, in any case."""
    lower = content.lower()
    return set(re.findall(rb"zq[0-9a-f]{8}", lower)) | set(re.findall(b"plantedname", lower))


def written(dataset: Dataset) -> bytes:
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "options",
    [Options(), Options(full_dates=True, keep_uids=True), Options(device=False,
                                                                  characteristics=False)],
)  # fmt: skip
def test_no_planted_name_leaves(options):
    dataset = image()
    assert planted(dataset) > 3000
    dataset.add_new((0x0029, 0x0010), "LO", "SIEMENS CSA HEADER")
    dataset.add_new((0x0029, 0x1010), "OB", NAME.encode().ljust(12))
    for group in (0x5000, 0x6000, 0x6002):
        dataset.add_new((group, 0x3000), "OW", NAME.encode().ljust(12))
        dataset.add_new((group, 0x4000), "LT", token(group << 16))
    before = written(dataset)
    assert len(found(before)) > 1000
    Cleaner(options, NAMES, identifying_words(dataset)).clean(dataset)
    assert found(written(dataset)) == set()
    assert dataset.PixelData == b"\x01\x00"
    assert dataset.PatientName == dataset.PatientID == NAMES.patient(f"{NAME}1")
    assert dataset.PatientBirthDate == ""
    if not options.full_dates:
        assert b"19600203" not in written(dataset)
    if not options.keep_uids:
        assert not re.search(rb"1\.2\.3\.\d+\.999", written(dataset))


def test_a_search_would_find_what_stayed():
    dataset = image()
    assert found(written(dataset)) == {b"plantedname"}


def test_a_description_that_objects_must_contain_is_emptied():
    """Type 2 of the Content Identification macro (PS3.3, 10.9)."""
    dataset = image()
    dataset.ContentDescription = "of Mrs. Plantedname"
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.ContentDescription in (None, "")


def test_labels_with_unknown_words_stay_as_many_as_they_were():
    dataset, roi = image(), Dataset()
    dataset.FrameLabelVector = ["Miller left", "right"]
    dataset.StructureSetLabel = "PLAN MILLER"
    roi.ROIName = "GTV Miller"
    dataset.StructureSetROISequence = [roi]
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.FrameLabelVector == ["REMOVED", "REMOVED"]
    assert dataset.StructureSetLabel == "REMOVED"
    assert dataset.StructureSetROISequence[0].ROIName == ""


def test_dates_of_a_patient_move_together_and_keep_their_distance():
    first, second = image(), image()
    first.StudyDate, second.StudyDate = "20250110", "20260105"
    first.AcquisitionDateTime = "20250110101500.25"
    cleaner = Cleaner(Options(), NAMES)
    cleaner.clean(first)
    cleaner.clean(second)
    dates = [date.fromisoformat(d.StudyDate) for d in (first, second)]
    assert (dates[1] - dates[0]).days == 360
    assert first.StudyDate != "20250110"
    assert str(first.AcquisitionDateTime) == f"{first.StudyDate}101500.25"
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"


def test_the_table_and_its_options():
    def of(keyword: str, **options: bool) -> Action:
        tag = Tag(keyword)
        return action_of(tag, pydicom.datadict.dictionary_VR(tag), Options(**options))

    assert of("InstitutionName") is Action.DUMMY
    assert of("ReferringPhysicianName") is Action.EMPTY
    assert of("PatientAddress") is Action.REMOVE
    assert of("PatientSex") is Action.KEEP
    assert of("PatientSex", characteristics=False) is Action.EMPTY
    assert of("DeviceSerialNumber", device=False) is Action.DUMMY
    assert of("StudyDate") is Action.SHIFT
    assert of("StudyDate", full_dates=True) is Action.KEEP
    assert of("PatientBirthDate", full_dates=True) is Action.EMPTY
    assert of("FrameOfReferenceUID") is Action.MAP
    assert of("FrameOfReferenceUID", keep_uids=True) is Action.KEEP
    assert of("RepetitionTime") is of("ImagePositionPatient") is Action.KEEP
    assert action_of(Tag(0x00291010), "OB", Options()) is Action.REMOVE


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("t1_mprage_sag_p2_iso", True),
        ("AxT2FLAIR", True),
        ("T1 ohne KM", True),
        ("LesionLens measurements (research use)", True),
        ("T1 post Dr. Miller", False),
        ("T1 1960-02-03", False),
        ("AX T1 W/O CONTRAST", True),
        ("T1 avant injection", True),
        ("T1 3.2.60", False),
        ("MR brain 12-345-678", False),
        ("T1 080 555 123", False),
        ("T1 1.5 mm p2 3", True),
        ("Müller", False),
    ],
)
def test_descriptions_of_known_words_stay_whole(text, kept):
    assert is_plain(text) is kept
    dataset = image()
    dataset.SeriesDescription = text
    Cleaner(Options(), NAMES).clean(dataset)
    assert dataset.get("SeriesDescription") == (text if kept else None)


@pytest.fixture
def pair(tmp_path, patient):
    """A DICOM study and the objects of its result, in one folder."""
    study = write_study(
        patient,
        tmp_path / "in" / f"{NAME} study",
        kind=StudyKind.DICOM,
        sequences=(MrSequence.T1C,),
    )
    objects = tmp_path / "in" / "objects"
    objects.mkdir()
    DicomExporter().write(make_analysis(patient, study), objects)
    for path in files_below(tmp_path / "in"):
        if path.is_file():
            dataset = pydicom.dcmread(path)
            dataset.PatientName = f"{NAME}^Person"
            dataset.OperatorsName = f"{NAME}^Operator"
            dataset.add_new((0x0029, 0x0010), "LO", f"{NAME} HEADER")
            dataset.save_as(path)
    (tmp_path / "in" / "notes.txt").write_text(NAME)
    return tmp_path / "in"


def test_a_result_points_at_the_deidentified_study(pair, tmp_path, monkeypatch):
    brain = brain_extraction.OutlineContent(brain=0.8, beyond=0.0)
    monkeypatch.setattr(brain_extraction, "outline_content", lambda *_: brain)
    out = tmp_path / "out"
    done = deidentify_folder(pair, out, NAMES, Options())
    files = [path for path in out.rglob("*") if path.is_file()]
    assert done.file_count == len(files) == sum(1 for p in pair.rglob("*") if p.is_file()) - 1
    assert "1 × not DICOM and not copied" in done.notices
    assert any("a skull-stripped brain" in notice for notice in done.notices)
    assert not any(found(path.read_bytes() + str(path.relative_to(out)).encode()) for path in files)
    sets = [pydicom.dcmread(path) for path in files]
    by_uid = {d.SOPInstanceUID: d for d in sets}
    segmentation = next(d for d in sets if d.Modality == "SEG")
    sources = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    assert len(sources) > 10
    for source in sources:
        there = by_uid[source.ReferencedSOPInstanceUID]
        assert there.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
        assert there.StudyInstanceUID == segmentation.StudyInstanceUID
    assert len({d.PatientID for d in sets}) == 1
    report = next(d for d in sets if d.Modality == "SR")
    groups = [i for i in _containers(report) if i.ConceptNameCodeSequence[0].CodeValue == "125007"]
    assert groups
    tracking = {s.TrackingUID for s in segmentation.SegmentSequence}
    reported = {i.UID for g in groups for i in g.ContentSequence if is_tracking(i)}
    assert reported <= tracking
    numbers = [i for g in groups for i in g.ContentSequence if i.ValueType == "NUM"]
    assert numbers
    study = open_study(out)
    assert set(study.series) == {MrSequence.T1C}


def is_tracking(item):
    return item.ValueType == "UIDREF" and item.ConceptNameCodeSequence[0].CodeValue == "112040"


def _containers(item):
    for inner in item.get("ContentSequence", ()):
        yield inner
        yield from _containers(inner)


def test_names_of_two_characters_are_found_in_other_text():
    data = Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    data.PatientName, data.PatientID = "Li^Na=李^小娜", "7"
    data.StationName, data.SequenceName = "MR 小娜", "linac"
    data.file_meta = Dataset()
    data.SOPClassUID = data.SOPInstanceUID = "1.2.3"
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    assert identifying_words(data) == {"小娜"}
    Cleaner(Options(), NAMES, identifying_words(data)).clean(data)
    assert (data.StationName, data.SequenceName) == ("REMOVED", "linac")


def test_an_institution_named_after_the_maker_hides_no_machine():
    dataset = image()
    dataset.Manufacturer, dataset.InstitutionName = "Philips", "Philips Clinic Eindhoven"
    dataset.ManufacturerModelName = "Scanner of Eindhoven"
    Cleaner(Options(), NAMES, identifying_words(dataset)).clean(dataset)
    assert dataset.Manufacturer == "Philips"
    assert dataset.ManufacturerModelName == "REMOVED"


def test_overlays_go_and_those_within_the_pixels_keep_the_image_back(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, embedded in (("plane", False), ("bits", True)):
        dataset = image()
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        dataset.add_new((0x6000, 0x0010), "US", 1)
        if not embedded:
            dataset.add_new((0x6000, 0x3000), "OW", NAME.encode().ljust(12))
        dataset.save_as(folder / name)
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert done.file_count == 1
    assert any("overlay within the bits" in notice for notice in done.notices)
    assert any("overlay plane, which was removed" in notice for notice in done.notices)
    (path,) = (tmp_path / "out").rglob("*.dcm")
    assert not found(path.read_bytes())


def test_pictures_with_text_and_documents_are_left_out_with_a_word(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    kinds = {
        "plain": ("1.2.840.10008.5.1.4.1.1.4", "NO"),
        "burned": ("1.2.840.10008.5.1.4.1.1.4", "YES"),
        "capture": ("1.2.840.10008.5.1.4.1.1.7", "NO"),
        "document": ("1.2.840.10008.5.1.4.1.1.104.1", "NO"),
    }
    for name, (kind, burned) in kinds.items():
        dataset = image()
        dataset.SOPClassUID, dataset.BurnedInAnnotation = kind, burned
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        dataset.save_as(folder / name)
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert done.file_count == 1
    assert sum("left out" in notice for notice in done.notices) == 3
    taken = deidentify_folder(folder, tmp_path / "all", NAMES, Options(burned_in=True))
    assert taken.file_count == 3
    for name in ("plain", "capture"):
        (folder / name).unlink()
    with pytest.raises(UnusableInputError, match="cannot be de-identified"):
        deidentify_folder(folder, tmp_path / "none", NAMES, Options())
    assert not (tmp_path / "none").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [Options(), Options(keep_uids=True)])
@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "SOPInstanceUID"])
@pytest.mark.parametrize("value", ["../../other", "{}/other", "1.2.840.10008.5/../../../other"])
def test_a_uid_that_is_a_path_leads_nowhere(tmp_path, options, keyword, value):
    folder = tmp_path / "in"
    folder.mkdir()
    dataset = image()
    raw = value.format(tmp_path).encode()
    tag = dataset[keyword].tag
    dataset[tag] = RawDataElement(tag, "UI", len(raw), raw, 0, False, True)
    dataset.save_as(folder / "file")
    assert deidentify_folder(folder, tmp_path / "out", NAMES, options).file_count == 1
    assert len([p for p in files_below(tmp_path / "out") if p.suffix == ".dcm"]) == 1
    assert not [p for p in tmp_path.rglob("*") if "other" in p.name]


@pytest.mark.parametrize("ids", [("42", " 42"), ("M\u00fc42", "Mu\u030842")])
def test_one_patient_id_in_two_forms_makes_no_other_patient(tmp_path, ids):
    """Padding, or composed letters: one patient had two pseudonyms and two shifts of dates."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, patient in enumerate(ids):
        dataset = image()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientID, dataset.StudyDate = patient, "20260105"
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        dataset.save_as(folder / str(number))
    deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    copies = [pydicom.dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert len(copies) == 2
    assert len({(copy.PatientID, copy.StudyDate) for copy in copies}) == 1


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", "SOPInstanceUID"])
def test_an_image_with_an_empty_uid_is_left_out_with_a_word(tmp_path, keyword):
    """It ended the run with the name of the file that could not be written, ".dcm"."""
    folder = tmp_path / "in"
    folder.mkdir()
    whole, empty = image(), image()
    setattr(empty, keyword, "")
    whole.save_as(folder / "a")
    empty.save_as(folder / "b")
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert done.file_count == 1
    assert "1 × left out: not a DICOM object: its UIDs are missing" in done.notices


def test_of_two_files_with_one_uid_the_second_is_left_out_with_a_word(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, pixels in (("a", b"\x01\x00"), ("b", b"\x02\x00")):
        dataset = image()
        dataset.PixelData = pixels
        dataset.save_as(folder / name)
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert done.file_count == 1
    assert any("same SOP Instance UID" in notice for notice in done.notices)
    (path,) = (p for p in files_below(tmp_path / "out") if p.suffix == ".dcm")
    assert pydicom.dcmread(path).PixelData == b"\x01\x00"


@pytest.mark.parametrize(
    ("keyword", "other"), [("PatientID", "of another site"), ("PatientName", "Roe^Jane")]
)
def test_one_uid_for_two_patients_is_refused(tmp_path, keyword, other):
    """The second patient's file was left out, with a notice and exit status 0."""
    folder = tmp_path / "in"
    folder.mkdir()
    dataset = image()
    for name, series in (("a", "1"), ("b", "2")):  # as a file would have been copied for each
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[series])
        dataset.save_as(folder / name)
        setattr(dataset, keyword, other)
    with pytest.raises(UnusableInputError, match="one SOP Instance UID: 'a', 'b'"):
        deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert not (tmp_path / "out").exists()


def test_a_copy_of_another_patient_with_the_same_uids_is_not_overwritten(tmp_path):
    """A second run, with the second patient's folder, replaced the first one's copy in silence."""
    out, copies = tmp_path / "out", []
    for patient in ("A1", "A1", "B2"):
        dataset, folder = image(), tmp_path / patient
        dataset.PatientID = patient
        folder.mkdir(exist_ok=True)
        dataset.save_as(folder / "a")
        if patient == "B2":
            with pytest.raises(UnusableInputError, match="dcm"):
                deidentify_folder(folder, out, NAMES, Options(keep_faces=True))
        else:
            deidentify_folder(folder, out, NAMES, Options(keep_faces=True))
        copies.append({path: path.read_bytes() for path in files_below(out) if path.is_file()})
    assert copies[0] == copies[1] == copies[2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("vr", [b"QI", b"FD"])
def test_a_damaged_element_names_its_file(tmp_path, vr):
    folder = tmp_path / "in"
    folder.mkdir()
    dataset = image()
    dataset.StationName = "STATION1AB"
    dataset.save_as(folder / "damaged")
    whole = (folder / "damaged").read_bytes()
    place = whole.index(b"STATION1AB") - 4
    (folder / "damaged").write_bytes(whole[:place] + vr + whole[place + 2 :])
    with pytest.raises(ReadError, match="damaged"):
        deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert not (tmp_path / "out").exists()


def test_a_file_without_meta_header_is_deidentified_as_the_others(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Dataset(image()).save_as(folder / "bare", implicit_vr=True, little_endian=True)
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options())
    assert done.file_count == 1
    (path,) = (p for p in files_below(tmp_path / "out") if p.suffix == ".dcm")
    assert not found(path.read_bytes())
    assert pydicom.dcmread(path).PixelData == b"\x01\x00"


@pytest.mark.parametrize("other", [{"IssuerOfPatientID": "B"}, {"PatientName": "Roe^Jane"}, {}])
def test_one_pseudonym_for_two_people_is_reported(tmp_path, other):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, more in (("a", {}), ("b", other)):
        dataset = image()
        dataset.IssuerOfPatientID, dataset.SOPInstanceUID = "A", generate_uid(entropy_srcs=[name])
        for keyword, value in more.items():
            setattr(dataset, keyword, value)
        dataset.save_as(folder / name)
    done = deidentify_folder(folder, tmp_path / "out", NAMES, Options(keep_faces=True))
    assert any("two people" in notice for notice in done.notices) is bool(other)


@pytest.mark.parametrize("others", [(), ("", "42"), ("A1", "B2")])
def test_files_of_a_study_without_a_patient_id_are_its_patient_s(tmp_path, others):
    """One study had two pseudonyms and two shifts of dates; of two IDs none is chosen."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, patient in enumerate(("", *others)):
        dataset = image()
        dataset.PatientID = patient
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[str(number)])
        if number == 0:
            del dataset.PatientID
        dataset.save_as(folder / str(number))
    deidentify_folder(folder, tmp_path / "out", NAMES, Options(keep_faces=True))
    copies = [pydicom.dcmread(p) for p in files_below(tmp_path / "out") if p.suffix == ".dcm"]
    assert len(copies) == 1 + len(others)
    study = str(image().StudyInstanceUID)
    expected = {(): {study}, ("", "42"): {"42"}, ("A1", "B2"): {study, "A1", "B2"}}[others]
    assert {copy.PatientID for copy in copies} == {NAMES.patient(one) for one in expected}


def test_key_and_map_are_their_owner_s_alone(tmp_path):
    key = read_or_create_key(tmp_path / "place" / "key")
    assert key == read_or_create_key(tmp_path / "place" / "key")
    assert (tmp_path / "place" / "key").stat().st_mode & 0o077 == 0
    assert (tmp_path / "place").stat().st_mode & 0o077 == 0
    names = Pseudonyms(key)
    new = names.uid("1.2.3")
    assert new.startswith("2.25.")
    assert new != Pseudonyms(b"x" * 32).uid("1.2.3")
    assert names.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    names.write_map(tmp_path / "other" / "map.csv")
    assert (tmp_path / "other").stat().st_mode & 0o077 == 0
    names.write_map(tmp_path / "map.csv")
    names.write_map(tmp_path / "map.csv")
    lines = (tmp_path / "map.csv").read_text().splitlines()
    assert lines == ["kind,original,replacement", f"uid,1.2.3,{new}"]
    assert Path(tmp_path / "map.csv").stat().st_mode & 0o077 == 0
    with (tmp_path / "map.csv").open("a") as file:
        file.write("uid,1.2.")  # the process ended here
    (tmp_path / "map.csv").chmod(0o644)
    names.uid("1.2.4")
    names.write_map(tmp_path / "map.csv")
    lines = (tmp_path / "map.csv").read_text().splitlines()
    assert lines[2:] == [f"uid,1.2.4,{names.uid('1.2.4')}"]
    assert Path(tmp_path / "map.csv").stat().st_mode & 0o077 == 0
    (tmp_path / "bad").write_text("secret")
    with pytest.raises(UnusableInputError, match="no key"):
        read_or_create_key(tmp_path / "bad")


def test_no_original_in_the_map_is_executed_and_a_spreadsheet_may_save_it(tmp_path):
    """A patient ID of an archive could begin with a formula; a byte order mark was refused."""
    names, path = Pseudonyms(b"k" * 32), tmp_path / "map.csv"
    names.patient("=HYPERLINK(1)")
    names.write_map(path)
    text = path.read_text(encoding="utf-8")
    assert ",=" not in text
    path.write_text("\ufeff" + text, encoding="utf-8")
    names.patient("Müller")
    names.write_map(path)
    assert path.read_text(encoding="utf-8").splitlines()[1:] == [
        *text.splitlines()[1:], f"patient,Müller,{names.patient('Müller')}"
    ]  # fmt: skip


def test_a_row_of_the_map_that_was_cut_off_is_named_by_its_line(tmp_path):
    """The whole map was refused, without a word where it is damaged."""
    names, path = Pseudonyms(b"k" * 32), tmp_path / "map.csv"
    for patient in ("first", 'of "two" names'):
        names.patient(patient)
    names.write_map(path)
    whole = path.read_text()
    path.write_text(whole[: whole.index("names")])  # the process ended within quotes
    with pytest.raises(UnusableInputError, match=r"line 3 of 'map\.csv'.*Delete line 3"):
        create_or_check_map(path)
    path.write_text("".join(whole.splitlines(keepends=True)[:2]))
    names.write_map(path)
    assert path.read_text() == whole


def test_no_line_of_another_table_is_to_be_deleted(tmp_path):
    """A damaged table of somebody else was taken for a map that was cut off."""
    path = tmp_path / "budget.csv"
    path.write_text('item,cost\n"rent,100\n')
    with pytest.raises(UnusableInputError, match="not a table of pseudonyms") as refused:
        create_or_check_map(path)
    assert "Delete" not in str(refused.value)


def test_a_key_is_made_whole_or_not_at_all_and_by_one_of_two(tmp_path, monkeypatch):
    """A full disk left an empty file, which every later run refused as no key."""
    place = tmp_path / "key"

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            read_or_create_key(place)
    assert list(tmp_path.iterdir()) == []

    with ThreadPoolExecutor() as pool:
        with folder_lock(tmp_path):
            both = [pool.submit(read_or_create_key, place) for _ in "ab"]
            sleep(0.2)
            assert not place.exists()
            place.write_text("ab" * 32)  # by the process that has the folder
        assert [one.result(60) for one in both] == [bytes.fromhex("ab" * 32)] * 2

    place.unlink()
    place.symlink_to(tmp_path / "away" / "key")
    with pytest.raises(FileNotFoundError):
        read_or_create_key(place)
    assert place.is_symlink()


def test_a_copy_whose_map_cannot_be_written_does_not_appear(tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image().save_as(folder / "one.dcm", enforce_file_format=True)

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ResourceError, match="full disk"):
        deidentify_folder(folder, out, NAMES, Options(keep_faces=True), finish=full)
    assert not out.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"PatientIdentityRemoved": "NO"},
        {"PatientID": "somebody else's"},
        {"SOPInstanceUID": "2.25.7"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_only_an_earlier_copy_of_the_same_image_is_replaced(tmp_path, other):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    image().save_as(folder / "one.dcm", enforce_file_format=True)
    for _ in range(2):  # the second time the first copy is replaced
        deidentify_folder(folder, out, NAMES, Options(keep_faces=True))
    (copy,) = files_below(out, "*.dcm")
    changed = pydicom.dcmread(copy)
    for keyword, value in other.items():
        setattr(changed, keyword, value)
    changed.save_as(copy)
    before = copy.read_bytes()
    with pytest.raises(UnusableInputError):
        deidentify_folder(folder, out, NAMES, Options(keep_faces=True))
    assert copy.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_a_map_for_which_there_is_no_room_stays_as_it_was(tmp_path):
    import resource

    path = tmp_path / "map.csv"
    first = Pseudonyms(b"k" * 32)
    first.uid("1.2.3")
    first.write_map(path)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    more = Pseudonyms(b"k" * 32)
    for number in range(500):
        more.uid(f"1.2.4.{number}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(ResourceError, match="table of pseudonyms"):
            more.write_map(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    more.write_map(path)
    assert len(path.read_text().splitlines()) == 502
