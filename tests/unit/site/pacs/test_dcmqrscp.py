"""Another archive than Orthanc: DCMTK's, which lists no SOP classes."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time

import pydicom
import pytest
from tests.helpers.ports import free_port
from tests.phantoms.files import write_dicom
from tests.unit.site.pacs.conftest import STUDY

from lesionlens.base.errors import ResourceError, UnusableInputError
from lesionlens.site.pacs.connect import connect
from lesionlens.site.pacs.peer import StudyQuery
from lesionlens.site.pacs.retrieve import FIRST_KINDS
from lesionlens.site.pacs.server import Retrieval, Server
from lesionlens.testing import make_patient

pytestmark = pytest.mark.filterwarnings("ignore:unclosed.*socket:ResourceWarning")
CONFIGURATION = """
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 8
HostTable BEGIN
us = (LESIONLENS, localhost, {move})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {place} RW (20, 1024mb) us
AETable END
"""


@pytest.fixture
def archive(tmp_path):
    """Start dcmqrscp; its address, and the port that it sends to by C-MOVE."""
    program = shutil.which("dcmqrscp")
    if program is None:
        pytest.skip("dcmqrscp (dcmtk) is not installed")
    port, move = free_port(), free_port()
    place = tmp_path / "db"
    place.mkdir()
    file = tmp_path / "dcmqrscp.cfg"
    file.write_text(CONFIGURATION.format(port=port, move=move, place=place))
    running = subprocess.Popen([program, "-c", file], stdout=-3, stderr=-3)
    address = f"dicom://QRSCP@127.0.0.1:{port}"
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield address, move
    finally:
        running.terminate()
        running.wait()


def study_of_all_kinds(folder):
    """Write one image as each class that a study of ours may hold."""
    write_dicom(make_patient(spacing_mm=16.0, lesions=()), folder, sequences=("t1c",))
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, kind in enumerate(FIRST_KINDS, 1):
        image = pydicom.dcmread(paths[0])
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = kind
        image.SOPInstanceUID = f"{image.SOPInstanceUID[:60]}.{number}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / f"kind{number}.dcm")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_study_with_our_results_comes_back_where_no_classes_are_listed(archive, tmp_path):
    address, move = archive
    files = study_of_all_kinds(tmp_path / "study")
    assert len(connect(Server(address)).send(files).stored) == len(files)
    assert connect(Server(address)).get(STUDY, tmp_path / "back").files == len(files)
    by_move = connect(Server(address, by=Retrieval.MOVE, port=move))
    with pytest.raises(ResourceError, match=r"--by get, --by move or its DICOMweb"):
        by_move.get(STUDY, tmp_path / "moved")  # dcmqrscp proposes 64 classes, ours not among them
    assert not (tmp_path / "moved").exists()


def test_a_wrong_title_of_theirs_and_of_ours_are_told_apart(archive):
    address, _ = archive
    assert connect(Server(address)).find(StudyQuery()) == ()
    with pytest.raises(ResourceError, match="it is not called NOBODY"):
        connect(Server(address.replace("QRSCP", "NOBODY"))).find(StudyQuery())
    with pytest.raises(UnusableInputError, match="without the archive's AE title"):
        connect(Server(address.replace("QRSCP@", "")))
