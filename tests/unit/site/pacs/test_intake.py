"""What a peer sends is not trusted: wrong parts, wrong studies, wrong sizes, wrong ends."""

import copy
import io
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.site.pacs.conftest import STUDY, files_of

from lesionlens.base.errors import (
    PatientConflictError,
    ReadError,
    ResourceError,
    UnusableInputError,
)
from lesionlens.base.storage import replaced_folder
from lesionlens.imaging.reading.open import open_study
from lesionlens.site.pacs import intake as intake_module
from lesionlens.site.pacs.intake import Intake, Pacs
from lesionlens.site.pacs.multipart import MultipartError, parts


@pytest.fixture(scope="module")
def image(sent):
    """One file of the study, as bytes, and its UIDs."""
    path = files_of(sent)[0]
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return path.read_bytes(), str(header.SOPInstanceUID), str(header.SOPClassUID)


def taking(folder, image, **more):
    return Intake(folder, more.pop("study", STUDY), {image[1]: image[2]}, **more)


def test_a_listed_image_is_kept_byte_by_byte_under_a_number(tmp_path, image):
    into = taking(tmp_path, image)
    into.add_file(iter([image[0][:1000], image[0][1000:]]))
    into.check_complete()
    assert [p.name for p in tmp_path.iterdir()] == ["000001.dcm"]
    assert (tmp_path / "000001.dcm").read_bytes() == image[0]


def test_an_image_that_comes_twice_is_kept_once(tmp_path, image):
    into = taking(tmp_path, image)
    into.add_file((image[0],))
    into.add_file((image[0],))
    into.check_complete()
    assert into.count == 1 == len(list(tmp_path.iterdir()))


def test_another_image_under_a_uid_that_came_is_no_duplicate(tmp_path, sent):
    headers = [pydicom.dcmread(path) for path in files_of(sent)]
    images = [
        header for header in headers if header.SeriesInstanceUID == headers[0].SeriesInstanceUID
    ]
    other = copy.deepcopy(images[0])
    other.PixelData = images[len(images) // 2].PixelData
    into = Intake(tmp_path, STUDY, {str(i.SOPInstanceUID): str(i.SOPClassUID) for i in images})
    for image in (*images, other, images[0]):
        with io.BytesIO() as file:
            image.save_as(file)
            into.add_file((file.getvalue(),))
    into.check_complete()
    assert len(list(tmp_path.iterdir())) == len(images) + 1
    with pytest.raises(UnusableInputError, match="differ, but have the same SOP Instance UID"):
        open_study(tmp_path)


def test_an_image_of_another_study_is_refused(tmp_path, image):
    with pytest.raises(ReadError, match="another study"):
        taking(tmp_path, image, study="1.2.3").add_file((image[0],))


@pytest.mark.parametrize(
    ("identity", "conflict"),
    [
        ({"PatientID": "another"}, True),
        ({"PatientID": "", "PatientName": "", "PatientBirthDate": "", "PatientSex": ""}, False),
    ],
)
def test_images_of_two_patients_are_refused_or_confirmed(tmp_path, sent, identity, conflict):
    """An image that names nobody is no other patient: opening the study judges it."""
    first, second = (pydicom.dcmread(path) for path in files_of(sent)[:2])
    for keyword, value in identity.items():
        setattr(second, keyword, value)
    listed = {str(one.SOPInstanceUID): str(one.SOPClassUID) for one in (first, second)}
    for confirmed in (False, True):
        folder = tmp_path / str(confirmed)
        folder.mkdir()
        into = Intake(folder, STUDY, listed, same_patient=confirmed)
        for one in (first, second):
            written = io.BytesIO()
            one.save_as(written, enforce_file_format=True)
            into.add_file((written.getvalue(),))
        if conflict and not confirmed:
            with pytest.raises(PatientConflictError, match=r"(?i)patient ID differs"):
                into.check_complete()
        else:
            assert ("a person confirmed" in into.check_complete()) is conflict


def test_an_image_that_was_not_listed_is_refused(tmp_path, image):
    with pytest.raises(ReadError, match="did not list"):
        Intake(tmp_path, STUDY, {"1.2.3": ""}).add_file((image[0],))


@pytest.mark.parametrize("uid", ["../../../etc/passwd", "..\\x", "/etc/x", "a\0b"])
def test_no_uid_of_a_peer_becomes_a_path(tmp_path, image, uid):
    aside = tmp_path / "aside"
    aside.mkdir()
    length = len(image[1]) + len(image[1]) % 2
    data = image[0].replace(
        image[1].encode().ljust(length, b"\0"), uid.encode().ljust(length, b"\0")
    )
    assert data != image[0]
    with pytest.raises(ReadError):
        taking(aside, image).add_file((data,))
    assert [p.name for p in tmp_path.iterdir()] == ["aside"]


@given(st.binary(max_size=400))
def test_what_is_no_dicom_file_is_refused(data):
    with TemporaryDirectory() as folder, pytest.raises(ReadError):
        Intake(Path(folder), STUDY, {"1.2": ""}).add_file((data,))


@given(st.data())
def test_a_damaged_header_is_refused_or_read_but_never_a_defect(image, data):
    """Bytes changed anywhere in a real header."""
    raw = bytearray(image[0][:1500])
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        assert taking(Path(folder), image).try_add_file(bytes(raw)) in (True, False)


def test_a_study_that_would_fill_the_disk_is_refused(tmp_path, image, monkeypatch):
    monkeypatch.setattr(intake_module, "RESERVE_BYTES", 2**62)
    with pytest.raises(ResourceError, match="fill the disk"):
        taking(tmp_path, image).add_file((image[0],))


def test_missing_images_leave_nothing(tmp_path, image):
    with (
        pytest.raises(ResourceError, match="1 of the study's 2 images"),
        replaced_folder(tmp_path / "got") as aside,
    ):
        into = Intake(aside, STUDY, {image[1]: image[2], "1.2.3": image[2]})
        into.add_file((image[0],))
        into.check_complete()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("later", [{}, {"1.2.4": "1.2"}])
def test_a_study_that_grows_while_it_is_fetched_is_refused(tmp_path, image, later):
    """Images that arrived after the archive had begun to send were missing, in silence."""

    class Growing(Pacs):
        lists = iter([{image[1]: image[2]}, {image[1]: image[2], **later}])
        _series = _store = None

        def find(self, *_, **__):
            return ()

        def _listing(self, *_):
            return next(self.lists)

        def _fetch(self, study_uid, into, context):
            into.add_file((image[0],))

    if not later:
        assert Growing().get(STUDY, tmp_path / "got").files == 1
        return
    with pytest.raises(ReadError, match="still be receiving"):
        Growing().get(STUDY, tmp_path / "got")
    assert not list(tmp_path.iterdir())


def test_a_refused_image_is_the_studys_failure(tmp_path, image):
    into = taking(tmp_path, image)
    assert not into.try_add_file(b"nothing")
    assert into.try_add_file(image[0])
    with pytest.raises(ReadError, match="not a DICOM file"):
        into.check_complete()


bodies = st.lists(st.binary(max_size=60), max_size=4)


def message(bodies, boundary=b"==x"):
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(b"--" + boundary + head + b + b"\r\n" for b in bodies) + b"--" + boundary


def cut(data, places):
    ends = sorted({min(p, len(data)) for p in places} | {0, len(data)})
    return iter([data[a:b] for a, b in pairwise(ends)])


@given(bodies.filter(bool), st.lists(st.integers(0, 400)))
def test_parts_come_back_however_the_wire_cuts_them(bodies, places):
    whole = [body.replace(b"--==x", b"") for body in bodies]
    found = [b"".join(p) for p in parts(cut(message(whole) + b"--\r\n", places), b"==x")]
    assert found == whole


@given(bodies.filter(bool), st.integers(1, 400), st.lists(st.integers(0, 400)))
def test_a_body_without_its_end_is_broken(bodies, missing, places):
    """Also where the server gave no length, and HTTP itself sees nothing wrong."""
    whole = message([body.replace(b"--==x", b"") for body in bodies])
    with pytest.raises(MultipartError):
        for part in parts(cut(whole[: max(len(whole) - missing, 0)], places), b"==x"):
            b"".join(part)
