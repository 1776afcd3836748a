"""A study of arrays equals the same study opened from its files."""

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.errors import GeometryError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.base.run_context import SILENT
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.reading.input_files import identity_of, inputs_of
from lesionlens.imaging.reading.open import open_study

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR"])
def test_it_is_prepared_as_from_its_files(make_study, orientation):
    files = open_study(make_study(sequences={"t1c", "flair"}, orientation=orientation))
    images = {s: nib.load(series.files[0].path) for s, series in files.series.items()}
    arrays = {s.value: (np.asarray(i.dataobj), i.affine) for s, i in reversed(images.items())}
    study = Study.from_arrays(arrays)
    assert list(study.series) == [T1C, FLAIR]
    options = PrepareOptions(edge_mm=4.0, strip=False)
    one, other = (prepare(each, SILENT, options) for each in (files, study))
    assert one.working.matches(other.working)
    np.testing.assert_array_equal(one.channels, other.channels)
    np.testing.assert_array_equal(one.to_native, other.to_native)
    assert one.quality == other.quality
    assert one.scans == other.scans


def test_other_voxels_are_another_study_and_later_changes_of_the_array_none():
    voxels = np.ones((9, 9, 9))
    study = Study.from_arrays({T1C: (voxels, np.eye(4))})
    voxels[4, 4, 4] = 2
    assert study[T1C].load().max() == 1
    other = Study.from_arrays({T1C: (voxels, np.eye(4))})
    one, another = (identity_of(each, inputs_of(each)) for each in (study, other))
    assert one != another


@pytest.mark.parametrize(
    "pair",
    [
        (np.ones((9, 9)), np.eye(4)),
        (np.ones((9, 9, 9), complex), np.eye(4)),
        (np.ones((9, 9, 9)), np.zeros((4, 4))),
    ],
)
def test_what_is_no_volume_is_refused(pair):
    with pytest.raises((UnusableInputError, GeometryError)):
        Study.from_arrays({T1C: pair})
    with pytest.raises(UnusableInputError):
        Study.from_arrays({"pd": (np.ones((9, 9, 9)), np.eye(4))})
