"""Slicer's segmentation, read back by Slicer's own library and by another reader of NRRD."""

import locale
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.codes import LABEL_TYPES
from lesionlens.results.export.pictures import rgb
from lesionlens.results.export.slicer import SlicerExporter, segments_of

nrrd = pytest.importorskip("nrrd")
RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(header):
    """The RAS+ affine of a file in LPS+."""
    assert header["space"] == "left-posterior-superior"
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"]).T
    affine[:3, 3] = header["space origin"]
    return RAS_OF_LPS @ affine


@pytest.mark.parametrize(
    ("dicom", "orientation", "tilt"),
    [(False, "RAS", 0), (False, "LPS", 9), (False, "PIR", 5), (True, "LPS", 8), (True, "PIR", 0)],
)
def test_a_segment_lies_where_its_label_lies(make, tmp_path, dicom, orientation, tilt):
    analysis = make(dicom=dicom, orientation=orientation, spacing_mm=(3, 4, 6), tilt_deg=tilt)
    (path,) = SlicerExporter().write(analysis, tmp_path)
    data, header = nrrd.read(str(path))
    native = analysis.prepared.native
    assert data.shape == native.shape
    np.testing.assert_allclose(affine_of(header), native.affine, atol=1e-4)
    for index, (number, label) in enumerate(segments_of(analysis)[1]):
        candidate = analysis.findings.candidates[number - 1]
        value = int(header[f"Segment{index}_LabelValue"])
        inside = (analysis.findings.components == number) & (analysis.volumes.labels.data == label)
        np.testing.assert_array_equal(data == value, inside)
        centre = nib.affines.apply_affine(affine_of(header), np.argwhere(data == value)).mean(0)
        assert (centre[0] < 0) == (candidate.location.side == "left")


def test_slicer_s_library_reads_names_colours_and_terms(make, tmp_path):
    slicerio = pytest.importorskip("slicerio")
    analysis = make()
    (path,) = SlicerExporter().write(analysis, tmp_path)
    read = slicerio.read_segmentation(str(path))
    wanted = segments_of(analysis)[1]
    assert len(wanted) == 6
    for segment, (number, label) in zip(read["segments"], wanted, strict=True):
        assert segment["name"] == f"{number} {label.display_name}"
        np.testing.assert_allclose(segment["color"], np.array(rgb(label.colour)) / 255, atol=1e-5)
        terminology, code = segment["terminology"], LABEL_TYPES[label]
        assert terminology["type"] == [code.scheme, code.value, code.meaning]
        assert terminology["category"][1] == "49755003"
        assert terminology["anatomicRegion"] == ["SCT", "12738006", "Brain"]
        assert segment["labelValue"] == list(wanted).index((number, label)) + 1


def test_a_sheared_grid_is_kept(make, tmp_path, monkeypatch):
    from dataclasses import replace

    from lesionlens.base.grid import Grid
    from lesionlens.base.records.arrays import Volume

    analysis = make()
    affine = analysis.prepared.native.affine.copy()
    affine[0, 1] = 0.8
    labels = Volume(analysis.volumes.labels.data, Grid(analysis.prepared.native.shape, affine))
    sheared = replace(analysis, volumes=replace(analysis.volumes, labels=labels))
    (path,) = SlicerExporter().write(sheared, tmp_path)
    np.testing.assert_allclose(affine_of(nrrd.read_header(str(path))), affine, atol=1e-4)


@pytest.fixture
def decimal_commas(tmp_path, monkeypatch):
    """The process's locale as Qt sets it on a German desktop."""
    build = shutil.which("localedef")
    made = tmp_path / "locales" / "de_DE.UTF-8"
    if build:
        made.parent.mkdir()
        subprocess.run([build, "-i", "de_DE", "-f", "UTF-8", made], check=False)
        monkeypatch.setenv("LOCPATH", str(made.parent) if made.exists() else "")
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, "de_DE.UTF-8")
    except locale.Error:
        pytest.skip("no German locale is installed, nor can one be built")
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.usefixtures("decimal_commas")
def test_under_a_german_desktop_the_file_is_the_same(make, tmp_path):
    """Qt sets the process's locale: SimpleITK wrote (1,5,0,0), and the file was left out."""
    analysis = make(spacing_mm=(1.5, 2.25, 3.5))
    german = SlicerExporter().write(analysis, tmp_path)[0].read_bytes()
    assert locale.localeconv()["decimal_point"] == ","
    locale.setlocale(locale.LC_ALL, "C")
    assert SlicerExporter().write(analysis, tmp_path)[0].read_bytes() == german


def test_without_a_candidate_it_says_why_there_is_no_file(make):
    assert "no candidate" in SlicerExporter().missing(make(lesions=()))
