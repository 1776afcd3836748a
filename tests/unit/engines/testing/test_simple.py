"""Synthetic heads keep their lesion at its millimetres, however they are imaged."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import aff2axcodes
from tests.phantoms.acquire import CORONAL, SAGITTAL, Acquisition, acquire
from tests.phantoms.files import DicomLayout, write_dicom, write_nifti

from lesionlens.base.labels import Label, MrSequence
from lesionlens.engines.testing.simple import Lesion, make_patient

HEAD = make_patient(spacing_mm=4.0)
codes = st.permutations(["LR", "AP", "SI"]).flatmap(
    lambda axes: st.tuples(*(st.sampled_from(axis) for axis in axes)).map("".join)
)


def centre_of(volume, label: Label) -> np.ndarray:
    inside = np.argwhere(volume.data == label)
    return volume.grid.to_mm(inside).mean(axis=0)


def test_same_seed_same_head():
    again = make_patient(spacing_mm=4.0)
    for sequence in MrSequence:
        np.testing.assert_array_equal(again.sequences[sequence].data, HEAD.sequences[sequence].data)
    other = make_patient(1, spacing_mm=4.0)
    assert (other.sequences[MrSequence.T1].data != HEAD.sequences[MrSequence.T1].data).any()


def test_the_lesion_is_where_it_was_asked_for():
    for centre in ((-28.0, 8.0, 26.0), (25.0, -30.0, 30.0)):
        patient = make_patient(lesions=(Lesion(centre, 16.0),))
        assert np.linalg.norm(centre_of(patient.labels, Label.ENHANCING) - centre) < 2.5


def test_a_head_without_lesions_has_no_label():
    assert not make_patient(spacing_mm=4.0, lesions=()).labels.data.any()


def test_a_skull_lies_outside_the_brain_only():
    bare, skull = make_patient(spacing_mm=4.0), make_patient(spacing_mm=4.0, skull=True)
    outside = ~bare.brain.data
    assert (bare.sequences[MrSequence.T1].data[outside] == 0).all()
    assert (skull.sequences[MrSequence.T1].data[outside] > 0).mean() > 0.2


@settings(max_examples=30, deadline=None)
@given(codes)
def test_a_turn_of_the_axes_keeps_every_voxel_and_its_place(orientation):
    turned = acquire(HEAD.labels, Acquisition(orientation))
    assert "".join(aff2axcodes(turned.grid.affine)) == orientation
    counts = np.bincount(turned.data.ravel(), minlength=4)
    np.testing.assert_array_equal(counts, np.bincount(HEAD.labels.data.ravel(), minlength=4))
    for label in (Label.CORE, Label.ENHANCING, Label.OEDEMA):
        np.testing.assert_allclose(
            centre_of(turned, label), centre_of(HEAD.labels, label), atol=1e-6
        )


def test_nifti_holds_the_voxels_and_the_affine(tmp_path):
    how = Acquisition("LIP", (4.0, 4.0, 6.0), 5.0)
    paths = write_nifti(HEAD, tmp_path, sequences=(MrSequence.T2,), how=how, reference=True)
    image = nib.load(paths[MrSequence.T2])
    wanted = acquire(HEAD.sequences[MrSequence.T2], how)
    np.testing.assert_allclose(image.affine, wanted.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.rint(wanted.data))
    assert nib.load(tmp_path / "seg.nii.gz").shape == image.shape


@pytest.mark.parametrize("orientation", ["LPS", SAGITTAL, CORONAL])
def test_dicom_slices_give_back_the_volume(tmp_path, orientation):
    how = Acquisition(orientation, (4.0, 4.0, 5.0), 6.0)
    layout = DicomLayout(flat=True, shuffled=True)
    paths = write_dicom(HEAD, tmp_path, sequences=(MrSequence.T1C,), how=how, layout=layout)
    wanted = acquire(HEAD.sequences[MrSequence.T1C], how)
    slices = [pydicom.dcmread(path) for path in paths[MrSequence.T1C]]
    stacked = np.stack([s.pixel_array.T for s in slices], axis=-1)
    np.testing.assert_array_equal(stacked, np.clip(np.rint(wanted.data), 0, 4095))
    for k, dataset in enumerate(slices):
        lps = np.array(dataset.ImagePositionPatient, dtype=float)
        np.testing.assert_allclose(lps * (-1, -1, 1), wanted.grid.to_mm((0, 0, k)), atol=1e-6)
    assert {str(s.PatientName) for s in slices} == {"Synthetic^Phantom"}
    assert len({s.SOPInstanceUID for s in slices}) == len(slices)
