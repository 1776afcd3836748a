"""Volumes as NIfTI: same grid, same values, small and finite."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from tests.phantoms.analysis import make_analysis

from lesionlens.base.errors import ExportError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.attention import SequenceEvidence
from lesionlens.base.records.export import ExportOptions
from lesionlens.base.records.findings import Considered, Location
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export.nifti import NiftiExporter, write_volume
from lesionlens.results.review import reopen


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "LIP"])
def test_every_volume_lies_on_the_native_grid(make, tmp_path, orientation):
    analysis = make(orientation=orientation, spacing_mm=(3.0, 4.0, 6.0), tilt_deg=9)
    volumes = [p for p in NiftiExporter().write(analysis, tmp_path) if p.suffix == ".gz"]
    assert {p.name for p in volumes} == {
        "segmentation.nii.gz",
        "candidates.nii.gz",
        *(f"{k}_{r}.nii.gz" for k in ("probability", "attention") for r in ("wt", "tc", "et")),
    }
    native = analysis.prepared.native
    for path in volumes:
        image = nib.load(path)
        assert image.shape == native.shape
        np.testing.assert_allclose(image.affine, native.affine, atol=1e-5)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        np.testing.assert_allclose(image.get_qform(), native.affine, atol=1e-3)


def test_labels_are_stored_exactly_and_maps_in_fine_steps(make, tmp_path):
    """Every reader gets the same values: nibabel, and ITK with it 3D Slicer, apply the slope."""
    analysis = make()
    labels = analysis.volumes.labels
    noise = np.random.default_rng(0).random(labels.data.shape, np.float32)
    noise.ravel()[:4] = 0, 0.5, 1, 1e-5
    volumes = replace(
        analysis.volumes,
        probability={Region.WT: Volume(noise, labels.grid)},
        uncertainty=Volume(1 - noise, labels.grid),
    )
    NiftiExporter().write(replace(analysis, volumes=volumes), tmp_path)
    stored = nib.load(tmp_path / "segmentation.nii.gz")
    assert stored.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), labels.data)
    for name, values in {"probability_wt": noise, "uncertainty": 1 - noise}.items():
        path = tmp_path / f"{name}.nii.gz"
        assert nib.load(path).get_data_dtype() == np.int16
        by_itk = sitk.GetArrayFromImage(sitk.ReadImage(path)).transpose()
        for read in (nib.load(path).get_fdata(), by_itk, reopen._volume(path, np.float32).data):
            np.testing.assert_allclose(read, values, rtol=0, atol=4e-5)
            assert set(read[values == 0.5]) | set(read[values == 1]) == {0.5, 1.0}


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 0), (0, 1), (1, 2)])
def test_the_codes_of_the_source_are_kept(make_study, patient, tmp_path, codes):
    folder = make_study(sequences={"t1c"}, orientation="LPS", tilt_deg=7)
    (path,) = folder.glob("*.nii.gz")
    source = nib.load(path)
    source.set_sform(source.affine, codes[0])
    source.set_qform(source.affine, codes[1])
    nib.save(nib.Nifti1Image(np.asanyarray(source.dataobj), None, source.header), path)
    analysis = make_analysis(patient, open_study(folder))
    NiftiExporter().write(analysis, tmp_path)
    image = nib.load(tmp_path / "segmentation.nii.gz")
    found = int(image.header["sform_code"]), int(image.header["qform_code"])
    assert found == (codes[0], codes[1] or codes[0])
    np.testing.assert_allclose(image.affine, nib.load(path).affine, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -2.0])
def test_a_value_that_no_map_can_have_is_refused(tmp_path, value):
    data = np.zeros((2, 3, 4), np.float32)
    data[1, 1, 1] = value
    with pytest.raises(ExportError, match="not numbers"):
        write_volume(tmp_path / "x.nii.gz", Volume(data, Grid((2, 3, 4), np.eye(4))))


@pytest.mark.parametrize("codes", [(1, 0), (0, 1), (1, 1)])
@pytest.mark.parametrize("shear", [3e-4, 2e-2])
def test_a_sheared_grid_opens_in_itk(tmp_path, shear, codes):
    affine = np.eye(4)
    affine[0, 1] = shear
    volume = Volume(np.zeros((20, 30, 4), np.uint8), Grid((20, 30, 4), affine))
    path = write_volume(tmp_path / "x.nii.gz", volume, codes=codes)
    np.testing.assert_allclose(nib.load(path).affine, affine, atol=1e-6)
    direction = np.reshape(sitk.ReadImage(str(path)).GetDirection(), (3, 3))
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ direction, affine[:3, :3], atol=shear)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    spacing=st.tuples(*[st.floats(0.4, 7.0)] * 3),
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    origin=st.tuples(*[st.floats(-200.0, 200.0)] * 3),
    mirrored=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_a_marked_voxel_keeps_its_millimetres(
    tmp_path_factory, shape, spacing, angles, origin, mirrored, seed
):
    affine = np.eye(4)
    affine[:3, :3] = _rotation(angles) * spacing
    if mirrored:
        affine[:3, 0] *= -1
    affine[:3, 3] = origin
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 4, shape, dtype=np.uint8)
    grid = Grid(shape, affine)
    path = write_volume(tmp_path_factory.mktemp("nifti") / "x.nii.gz", Volume(data, grid))
    read = nib.load(path)
    voxel = tuple(rng.integers(0, shape))
    place = nib.affines.apply_affine(np.linalg.inv(read.affine), grid.to_mm(voxel))
    np.testing.assert_allclose(place, voxel, atol=1e-3)
    assert np.asanyarray(read.dataobj)[voxel] == data[voxel]
    assert np.linalg.det(read.affine) * np.linalg.det(affine) > 0


def _rotation(angles):
    return Rotation.from_euler("xyz", angles).as_matrix()


def test_evidence_is_written_where_it_was_asked_for(make, tmp_path):
    analysis = make()
    grid = Grid((4, 5, 6), np.diag([3.0, 3.0, 3.0, 1.0]))
    share, base = np.full(grid.shape, -0.25, np.float32), np.full(grid.shape, 0.5, np.float32)
    evidence = SequenceEvidence({MrSequence.T1C: share}, base, grid)
    voxels = np.zeros((1, 3), np.int32)
    below = Considered(0.1, Location("left", None), (1, 2, 3), (1, 2, 4), 0.25, voxels)
    analysis = replace(
        analysis,
        volumes=replace(analysis.volumes, evidence=evidence),
        findings=replace(analysis.findings, considered=(below,)),
    )
    NiftiExporter().write(analysis, tmp_path)
    assert not list(tmp_path.glob("evidence*")) + list(tmp_path.glob("considered*"))
    wanted = replace(analysis, options=ExportOptions(evidence=True))
    NiftiExporter().write(wanted, tmp_path)
    np.testing.assert_array_equal(nib.load(tmp_path / "evidence_t1c.nii.gz").get_fdata(), -0.25)
    np.testing.assert_array_equal(nib.load(tmp_path / "evidence_none.nii.gz").get_fdata(), 0.5)
    rows = json.loads((tmp_path / "considered.json").read_text())["considered"]
    assert rows[0]["score"] == 0.1
    assert rows[0]["peak_mm"] == [1, 2, 4]
