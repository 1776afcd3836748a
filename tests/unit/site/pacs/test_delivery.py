"""What an archive takes is stored once and counted; what it refuses costs nothing else."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from io import BytesIO

import pydicom
import pytest
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind as FindModel
from tests.helpers.http_server import serving_requests
from tests.unit.site.pacs.conftest import files_of

from lesionlens.base.errors import (
    ExportError,
    PatientConflictError,
    ReadError,
    ResourceError,
    UnusableInputError,
)
from lesionlens.base.records.analysis import Document
from lesionlens.base.records.patient import Patient
from lesionlens.site.pacs import delivery
from lesionlens.site.pacs import files as outgoing
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.delivery import DeliveryInterruptedError
from lesionlens.site.pacs.files import ObjectKind, kinds_in, only
from lesionlens.site.pacs.intake import Pacs
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(delivery, "WAITS_S", (0.0, 0.0))


@pytest.fixture(scope="module")
def files(sent, tmp_path_factory):
    """A segmentation and a report beside some images and a document, all of one study."""
    folder = tmp_path_factory.mktemp("objects")
    kept = [p for p in files_of(sent) if p.name == "note.dcm"] + files_of(sent)[:3]
    for number, path in enumerate(dict.fromkeys(kept)):
        pydicom.dcmread(path).save_as(folder / f"{number}.dcm")
    for name, kind in (("seg", SegmentationStorage), ("sr", Comprehensive3DSRStorage)):
        made = pydicom.dcmread(kept[-1], stop_before_pixels=True)
        made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = kind
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        made.save_as(folder / f"{name}.dcm")
    return files_of(folder)


class Archive(Pacs):
    """Takes files one by one; its line breaks after some of them."""

    def __init__(self, breaks=(), lists=True):
        self.breaks, self.lists = [*breaks], lists
        self.came, self.has, self.patient = [], {}, None

    def find(self, query, **_):
        found = FoundStudy(query.study_uid, "", "", "", (), patient=self.patient)
        return (found,) if self.patient else ()

    def _fetch(self, *_):
        raise NotImplementedError

    def _series(self, *_):
        return {}

    def _listing(self, study_uid, context, series_uid=""):
        if not self.lists:
            raise ResourceError(found="no list", expected="one", next_step="None")
        return dict(self.has)

    def _store(self, ledger, context):
        bears = self.breaks.pop(0) if self.breaks else 1000
        for number, item in enumerate(ledger.remaining):
            self.came.append(item.sop_instance)
            self.has[item.sop_instance] = item.sop_class
            if number + 1 >= bears:  # it took the file, and the answer was lost
                raise DeliveryInterruptedError("https://here", "the connection broke")
            ledger.store(item)


def test_a_broken_line_is_taken_up_again_and_nothing_is_sent_twice(files):
    archive = Archive(breaks=(3, 1))
    done = archive.send(files)
    assert set(done.stored) == set(files)
    assert len(archive.came) == len(set(archive.came)) == len(files)
    done.check()
    assert (done.n_present, done.refused) == (0, ())


def test_an_archive_names_its_objects_by_uids_alone():
    class Shelf(Archive):
        def _series(self, *_):
            return {"1.2.3": "ours", "../1": "ours", "1.2.4": "another's"}

    shelf = Shelf()
    shelf.has = {"1.2.5": "1.2.6", "../5": "1.2.6", "1.2.7": "MR"}
    found = shelf.objects_of("1.2", lambda description: description == "ours")
    assert found == (Document("1.2", "1.2.3", "1.2.6", "1.2.5"),)


@pytest.mark.parametrize("same", [True, False])
def test_of_two_files_of_one_object_none_is_lost_silently(files, tmp_path, same):
    image = pydicom.dcmread(next(path for path in files if path.stem.isdecimal()))
    image.save_as(tmp_path / "one.dcm")
    image.ImageComments = "" if same else "annotated"
    if same:
        shutil.copy(tmp_path / "one.dcm", tmp_path / "two.dcm")
    else:
        image.save_as(tmp_path / "two.dcm")
    archive = Archive()
    if same:
        assert len(archive.send(files_of(tmp_path)).stored) == 2
        return
    with pytest.raises(ReadError, match=r"two different files: one.dcm and two.dcm"):
        archive.send(files_of(tmp_path))
    assert not archive.came


def test_a_line_that_stays_broken_is_reported_with_what_the_archive_has(files):
    with pytest.raises(ResourceError, match=f"it has 3 of {len(files)} files") as error:
        Archive(breaks=(1, 1, 1, 1)).send(files)
    assert "nothing was changed" not in str(error.value)
    with pytest.raises(ResourceError, match=f"it confirmed 3 of {len(files)} files"):
        Archive(breaks=(2, 2, 2), lists=False).send(files)


class Discarding(Archive):
    """Reports every file as stored; what it lists lacks reports the first few times."""

    def __init__(self, times):
        super().__init__()
        self.times, self.has = times, {"1.2.3": MRImageStorage}  # an image of the study

    def _listing(self, study_uid, context, series_uid=""):
        listed = super()._listing(study_uid, context, series_uid)
        if Comprehensive3DSRStorage in listed.values() and self.times:
            self.times -= 1
            listed = {u: k for u, k in listed.items() if k != Comprehensive3DSRStorage}
        return listed


def test_an_object_that_the_archive_reports_as_stored_and_discards_is_named(files):
    """Orthanc does that where a filter of its site drops a kind: all was said to be stored."""
    done = Discarding(times=9).send(files)
    assert [one.sop_class for one in done.unlisted] == [Comprehensive3DSRStorage]
    assert "does not list 1 × Comprehensive 3D SR Storage" in done.notices[0]
    for archive in (Discarding(times=1), Archive(), Archive(lists=False)):  # late, all, no list
        assert (done := archive.send(files)).unlisted == done.notices[1:] == ()


def test_what_the_archive_lists_is_not_sent_again(files):
    archive = Archive()
    archive.send(files[:2])
    done = archive.send(files)
    assert (len(done.stored), done.n_present) == (len(files), 2)
    assert len(archive.came) == len(files)


@contextmanager
def dimse(kinds, statuses, lists=True, syntaxes=None):
    """An archive by DIMSE that takes some kinds, and answers each object as it is told to.

    A status None breaks the connection in place of an answer.
    """
    entity, came = AE("STORE"), []
    entity.add_supported_context("1.2.840.10008.1.1")
    for kind in kinds:
        entity.add_supported_context(kind, syntaxes)

    def store(event):
        came.append(event.request.AffectedSOPInstanceUID)
        status = statuses.pop(0) if statuses else 0x0000
        if status is None:
            event.assoc.abort(block=False)
        return status or 0x0000

    if lists:
        entity.add_supported_context(FindModel)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_C_FIND, lambda _: iter(()))]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield f"dicom://STORE@127.0.0.1:{server.server_address[1]}", came
    finally:
        server.shutdown()


def test_an_archive_that_takes_no_report_gets_all_else_by_dimse(files):
    kinds = {pydicom.dcmread(f, stop_before_pixels=True).SOPClassUID for f in files}
    with dimse(kinds - {Comprehensive3DSRStorage}, []) as (address, came):
        done = connect(Server(address)).send(files)
    assert len(came) == len(done.stored) == len(files) - 1
    with pytest.raises(ExportError, match="1 × Comprehensive 3D SR Storage: it does not") as error:
        done.check()
    assert f"it stored the other {len(files) - 1}" in error.value.found


def test_an_archive_that_takes_nothing_but_the_default_transfer_syntax_gets_all(files):
    kinds = {pydicom.dcmread(f, stop_before_pixels=True).SOPClassUID for f in files}
    with dimse(kinds, [], syntaxes=[ImplicitVRLittleEndian]) as (address, came):
        done = connect(Server(address)).send(files)
    assert not done.refused
    assert len(came) == len(done.stored) == len(files)


def test_one_object_that_is_refused_by_dimse_costs_no_other_and_a_full_archive_is_tried_again(
    files,
):
    kinds = {pydicom.dcmread(f, stop_before_pixels=True).SOPClassUID for f in files}
    with dimse(kinds, [0xC000, 0xA700]) as (address, came):
        done = connect(Server(address)).send(files)
    assert len(done.stored) == len(files) - 1
    assert [one.reason for one in done.refused] == ["status 0xc000"]
    assert len(came) == len(files) + 1  # one was sent again, which had not been stored


def names_stored(parts):
    """The response to STOW-RS that names every file as stored."""
    uids = [pydicom.dcmread(BytesIO(part)).SOPInstanceUID for part in parts]
    items = [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]
    return {"00081199": {"vr": "SQ", "Value": items}}


@contextmanager
def web(answers, takes=lambda kind: True, listed=None, names=names_stored):
    """An archive by STOW: the first answers as they are told, then by the kind of object."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.reply(200 if listed else 204, listed)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = body.split(b"application/dicom\r\n\r\n")[1:]
            if answers:
                status, headers = answers.pop(0)
                self.reply(status, names(parts), headers)
            elif all(takes(part) for part in parts):
                came.append(len(parts))
                self.reply(200, names(parts))
            else:
                self.reply(409, {})

        def reply(self, status, content, headers=None):
            text = json.dumps(content).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(0 if status == 204 else len(text)))
            self.end_headers()
            self.wfile.write(b"" if status == 204 else text)

        def log_message(self, *_):
            pass

    with serving_requests(Handler) as port:
        yield f"http://127.0.0.1:{port}/dicom-web", came


def test_a_busy_archive_is_asked_again(files):
    with web([(503, {"Retry-After": "0"}), (429, {})]) as (address, came):
        done = connect(Server(address)).send(files)
    assert len(done.stored) == sum(came) == len(files)
    with (
        web([(503, {})] * 9) as (address, came),
        pytest.raises(ResourceError, match=f"busy .503.; it has 0 of {len(files)} files"),
    ):
        connect(Server(address)).send(files)
    assert not came


@pytest.mark.parametrize("named", [0, 1])
def test_a_file_that_a_response_does_not_name_is_not_taken_for_stored(files, named):
    """An archive that answered `{}` was said to have stored every file."""
    partial = []
    with (
        web([], names=lambda parts: names_stored(parts[:named])) as (address, came),
        pytest.raises(ResourceError, match="does not name every file"),
    ):
        connect(Server(address)).send(files, on_partial=partial.append)
    assert [len(part.stored) for part in partial] == [len(came)] * named


def test_a_delivery_that_fails_halfway_is_continued_and_says_how_much_is_there(files, monkeypatch):
    monkeypatch.setattr(outgoing, "BATCH_FILES", 2)
    with web([(200, {}), (500, {})]) as (address, came):
        done = connect(Server(address)).send(files)
    assert len(done.stored) == 2 + sum(came) == len(files)
    parts = []
    with (
        web([(200, {}), *[(401, {})] * 9]) as (address, _),
        pytest.raises(ResourceError, match=f"not authorised; it has 2 of {len(files)} files"),
    ):
        connect(Server(address)).send(files, on_partial=parts.append)
    assert [len(part.stored) for part in parts] == [2]


def test_an_archive_that_takes_no_report_gets_all_else_by_web(files):
    report = Comprehensive3DSRStorage.encode()
    with web([], lambda part: report not in part) as (address, came):
        done = connect(Server(address)).send(files)
    assert sum(came) == len(done.stored) == len(files) - 1
    count = f"1 of {len(files)} files .*other {len(files) - 1}"
    with pytest.raises(ExportError, match="Comprehensive 3D SR Storage: status 409") as error:
        done.check()
    assert re.search(count, str(error.value))


def test_kinds_of_objects_are_chosen_by_their_words(files):
    chosen = only(files, kinds_in("seg,SR"))
    assert sorted(path.stem for path in chosen) == ["seg", "sr"]
    assert only(files, ()) == files
    with pytest.raises(UnusableInputError, match="--only"):
        kinds_in("seg,elbow")
    with pytest.raises(UnusableInputError, match="no object of the kind ko"):
        only(files, (ObjectKind.KO,))


def test_a_study_that_is_another_patients_in_the_archive_is_not_sent_unless_confirmed(files):
    archive = Archive()
    archive.patient = Patient.of(pydicom.dcmread(files[0]).get)
    assert archive.send(files[:1]).notices == ()
    archive.patient = replace(archive.patient, id="ANOTHER")
    with pytest.raises(PatientConflictError, match=r"(?i)patient ID"):
        archive.send(files)
    assert len(archive.came) == 1
    assert "atient ID differs" in archive.send(files, same_patient=True).notices[0]


@pytest.mark.parametrize("searchable", [True, False])
def test_files_of_two_patients_under_one_study_are_not_sent_unless_confirmed(
    files, tmp_path, searchable
):
    made = []
    for name in ("ONE", "OTHER"):
        image = pydicom.dcmread(files[0])
        image.PatientID, image.SOPInstanceUID = name, generate_uid()
        made.append(tmp_path / name)
        image.save_as(made[-1])

    class Silent(Archive):
        def find(self, query, **_):
            if not searchable:
                raise ResourceError(found="no search", expected="one", next_step="None")
            return ()

    archive = Silent()
    with pytest.raises(PatientConflictError, match=r"(?i)patient ID"):
        archive.send(made)
    assert archive.came == []
    assert "atient ID differs" in archive.send(made, same_patient=True).notices[-1]
    assert len(archive.came) == 2


def test_files_of_two_patients_under_one_study_are_not_kept_unless_confirmed(files, tmp_path):
    """The confirmation is then told with what came."""
    one, other = (pydicom.dcmread(path) for path in files[:2])
    other.PatientBirthDate, one.PatientBirthDate = "19010203", "19400506"
    made = []
    for number, header in enumerate((one, other)):
        made.append(tmp_path / f"{number}.dcm")
        header.save_as(made[-1])

    class Holds(Archive):
        def _fetch(self, study_uid, intake, context):
            assert all(intake.try_add_file(path.read_bytes()) for path in made)

    archive = Holds()
    archive.has = {h.SOPInstanceUID: h.SOPClassUID for h in (one, other)}
    with pytest.raises(PatientConflictError, match=r"(?i)birth date"):
        archive.get(one.StudyInstanceUID, tmp_path / "got")
    assert not (tmp_path / "got").exists()
    got = archive.get(one.StudyInstanceUID, tmp_path / "got", same_patient=True)
    assert got.files == 2
    (notice,) = got.notices
    assert "irth date differs" in notice
    assert "a person confirmed" in notice


def test_a_study_whose_files_are_of_another_patient_than_listed_is_not_kept_unless_confirmed(
    files, tmp_path
):
    """`get` and the archive dialog kept the images of another patient under the chosen UID."""

    class Holds(Archive):
        def _fetch(self, study_uid, intake, context):
            assert intake.try_add_file(files[0].read_bytes())

    image = pydicom.dcmread(files[0])
    archive, uid = Holds(), image.StudyInstanceUID
    archive.has, patient = {image.SOPInstanceUID: image.SOPClassUID}, Patient.of(image.get)
    for number, archive.patient in enumerate((None, patient, replace(patient, name=""))):
        assert archive.get(uid, tmp_path / str(number)).notices == ()
    archive.patient = replace(patient, id="ANOTHER")
    with pytest.raises(PatientConflictError, match=r"(?i)patient ID differs") as error:
        archive.get(uid, tmp_path / "got")
    assert error.value.values == ((patient.id, "ANOTHER"),)
    assert archive.get(uid, tmp_path / "chosen", listed=patient).notices == ()
    archive.patient = patient
    with pytest.raises(PatientConflictError, match="Name differs"):
        archive.get(uid, tmp_path / "got", listed=replace(patient, name="Roe^Richard"))
    assert not (tmp_path / "got").exists()
    archive.patient = replace(patient, id="ANOTHER")
    (notice,) = archive.get(uid, tmp_path / "got", same_patient=True).notices
    assert "a person confirmed" in notice


def test_a_patient_that_an_archive_cannot_list_is_said_to_be_unchecked(files, tmp_path):
    class Silent(Archive):
        def find(self, query, **_):
            raise ResourceError(found="no search", expected="one", next_step="None")

        def _fetch(self, study_uid, intake, context):
            assert intake.try_add_file(files[0].read_bytes())

    image = pydicom.dcmread(files[0])
    archive = Silent()
    archive.has = {image.SOPInstanceUID: image.SOPClassUID}
    (notice,) = archive.get(image.StudyInstanceUID, tmp_path / "got").notices
    assert "could not be checked" in notice
