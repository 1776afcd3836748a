"""Laws of a whole result, from files to files through the command line.

Left stays left in every file, whatever the plane, the tilt and the format; sizes are those of the
outlines; without T1c nothing enhances; what a file says cannot become a page's code.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from tests.command import lesionlens
from tests.corpus import LEFT_MM, RIGHT_MM, copy_of, head
from tests.phantoms.acquire import Acquisition
from tests.phantoms.files import write_nifti

from lesionlens import open_study
from lesionlens.testing import Lesion

nrrd = pytest.importorskip("nrrd")
pytestmark = pytest.mark.usefixtures("coarse", "third_party")
REGIONS = ("wt", "tc", "et")
HOSTILE = "<script>alert(1)</script>"
NEAR_MM = 6.0
"""A voxel and a half: where two ways of measuring one place may differ."""


def analysed(study: Path, out: Path) -> Path:
    ended = lesionlens("analyze", study, "--out", out, "--engine", "by-rule")
    assert ended.status == 0, ended.stderr
    return out


def findings_of(out: Path) -> dict:
    return json.loads((out / "findings.json").read_text("utf-8"))


@cache
def voxels(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def centre_mm(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    return nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0))


def slicer_centre_mm(path: Path) -> np.ndarray:
    """Centre of what is outlined in a .seg.nrrd, whose space is LPS."""
    data, header = nrrd.read(str(path))
    assert header["space"] == "left-posterior-superior"
    mask = data.any(axis=0) if data.ndim == 4 else data > 0
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(header["space directions"])[-3:].T
    affine[:3, 3] = header["space origin"]
    return centre_mm(mask, affine) * (-1, -1, 1)


def dicom_centre_mm(path: Path) -> np.ndarray:
    """Centre of all segments or of the map's weights, by the position of each frame, in RAS."""
    image = pydicom.dcmread(path)
    shared = image.SharedFunctionalGroupsSequence[0]
    if "PixelData" in image:
        frames = image.pixel_array
    else:
        frames = np.frombuffer(image.FloatPixelData, np.float32).reshape(
            -1, image.Rows, image.Columns
        )
    total, mass = np.zeros(3), 0.0
    for pixels, frame in zip(frames, image.PerFrameFunctionalGroupsSequence, strict=True):
        plane = (
            shared if "PlaneOrientationSequence" in shared else frame
        ).PlaneOrientationSequence[0]
        right, down = np.reshape(plane.ImageOrientationPatient, (2, 3)).astype(float)
        rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        corner = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        weight = np.where(pixels > 0.5 * frames.max(), 1.0, 0.0)
        row, column = np.indices(weight.shape)
        total += corner * weight.sum() + right * (column * weight).sum() * columns_mm
        total += down * (row * weight).sum() * rows_mm
        mass += weight.sum()
    return total / mass * (-1, -1, 1)


@pytest.mark.parametrize("name", ["nifti slices", "nifti oblique", "dicom planes", "dicom flat"])
def test_left_stays_left_in_every_file(corpus, tmp_path, name):
    out = analysed(corpus.study(name), tmp_path / "out")
    (candidate,) = findings_of(out)["candidates"]
    assert candidate["location"]["side"] == "left"
    labels, affine = voxels(out / "segmentation.nii.gz")
    probability, _ = voxels(out / "probability_wt.nii.gz")
    attention, _ = voxels(out / "attention_wt.nii.gz")
    low, high = candidate["bounding_box_mm"]
    with (out / "findings.csv").open(encoding="utf-8", newline="") as table:
        (row,) = csv.DictReader(table)
    places = {
        "centroid": candidate["centroid_mm"],
        "box": np.add(low, high) / 2,
        "table": [float(row[f"centroid_mm_{axis}"]) for axis in "xyz"],
        "segmentation": centre_mm(labels > 0, affine),
        "candidates": centre_mm(voxels(out / "candidates.nii.gz")[0] == 1, affine),
        "probability": centre_mm(probability > 0.5, affine),
        "attention": centre_mm(attention > 0.5, affine),
        "slicer": slicer_centre_mm(out / "segmentation.seg.nrrd"),
    }
    if name.startswith("dicom"):
        for file in ("seg.dcm", "attention.dcm"):
            places[file] = dicom_centre_mm(out / "dicom" / file)
    for what, place in places.items():
        np.testing.assert_allclose(place, LEFT_MM, atol=NEAR_MM, err_msg=f"{name}: {what}")


def test_the_mirrored_head_gives_the_mirrored_result(tmp_path):
    mirrored = (-LEFT_MM[0], *LEFT_MM[1:])
    write_nifti(head(Lesion(mirrored)), tmp_path / "study", how=Acquisition("PIR"))
    out = analysed(tmp_path / "study", tmp_path / "out")
    (candidate,) = findings_of(out)["candidates"]
    assert candidate["location"]["side"] == "right"
    np.testing.assert_allclose(candidate["centroid_mm"], mirrored, atol=NEAR_MM)


def test_figures_are_those_of_the_outlines(corpus):
    """Volumes, box, nested regions and order, in the file that a reader quotes from."""
    out = corpus.result("nifti two")
    labels, affine = voxels(out / "segmentation.nii.gz")
    ids, _ = voxels(out / "candidates.nii.gz")
    ml = abs(np.linalg.det(affine[:3, :3])) / 1000
    found = findings_of(out)["candidates"]
    assert [one["id"] for one in found] == [1, 2]
    assert [one["location"]["side"] for one in found] == ["left", "right"]
    for one, place in zip(found, (LEFT_MM, RIGHT_MM), strict=True):
        np.testing.assert_allclose(one["centroid_mm"], place, atol=NEAR_MM)
        inside = ids == one["id"]
        for region, members in zip(REGIONS, ((1, 2, 3), (1, 3), (3,)), strict=True):
            counted = (inside & np.isin(labels, members)).sum() * ml
            assert one["volume_ml"][region] == pytest.approx(counted, abs=0.001), region
        corners = np.argwhere(inside)
        edges = np.array([corners.min(0) - 0.5, corners.max(0) + 0.5])
        box = np.sort(nib.affines.apply_affine(affine, edges), axis=0)
        np.testing.assert_allclose(one["bounding_box_mm"], box, atol=0.01)
    whole, core, enhancing = (voxels(out / f"probability_{region}.nii.gz")[0] for region in REGIONS)
    assert (enhancing <= core + 1e-5).all()
    assert (core <= whole + 1e-5).all()
    assert 0.9 < whole.max() <= 1
    assert ((whole > 0.5) == (labels > 0)).all()


def test_nothing_enhances_without_t1c(corpus, tmp_path):
    """Whatever an engine says: this one claims that it does."""
    for out in (
        corpus.result("nifti no t1c"),
        analysed(corpus.study("dicom no t1c"), tmp_path / "o"),
    ):
        findings = findings_of(out)
        assert findings["candidates"]
        assert {one["volume_ml"]["et"] for one in findings["candidates"]} == {None}
        assert all(one["volume_ml"]["tc"] > 0 for one in findings["candidates"]), "it is core"
        assert not {path.name for path in out.iterdir() if path.name.endswith("_et.nii.gz")}
        assert 3 not in voxels(out / "segmentation.nii.gz")[0]
        for object_ in (out / "dicom").glob("*.dcm"):
            text = str(pydicom.dcmread(object_, stop_before_pixels=True)).lower()
            assert "enhancing tumo" not in text.replace("non-enhancing tumo", ""), object_.name


def test_a_head_without_a_lesion_is_not_called_normal(corpus):
    out = corpus.result("nifti healthy")
    findings = findings_of(out)
    assert (findings["candidates"], findings["conclusion"]) == ([], "no candidate region")
    assert not voxels(out / "segmentation.nii.gz")[0].any()
    page = (out / "report.html").read_text("utf-8").lower()
    assert "research use" in page
    assert "no tumour" not in page


class _Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.calls: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.calls.append((tag, dict(attrs)))


def test_no_text_of_a_file_becomes_code_and_the_page_asks_for_nothing(corpus, tmp_path):
    study = copy_of(corpus.study("dicom no t1c"), tmp_path / "<img src=x onerror=alert(1)>")
    for path in study.rglob("IM*"):
        image = pydicom.dcmread(path)
        image.SeriesDescription = f"{image.SeriesDescription} {HOSTILE}"
        image.PatientName, image.Manufacturer = HOSTILE, HOSTILE
        image.save_as(path)
    assert open_study(study).series
    out = analysed(study, tmp_path / "out")
    page = (out / "report.html").read_text("utf-8")
    assert "&lt;script&gt;" in page, "the description is not shown at all"
    for tag, attributes in _Tags(page).calls:
        assert "alert(1)" not in str(attributes.get("onerror", "")), tag
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:")), (tag, target)
    assert HOSTILE not in page
