"""Names of files that may belong to two patients or examinations are noticed."""

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.nifti.names import mixed_study_notice
from lesionlens.imaging.reading.readers import open_study


@pytest.mark.parametrize(
    ("names", "noticed"),
    [
        (["BraTS2021_00006_t1c", "BraTS2021_00006_t2", "BraTS2021_00009_flair"], True),
        (["P001_t1c", "P002_t2"], True),
        (["sub-01_ses-1_T1w", "sub-01_ses-2_FLAIR"], True),
        (["t1", "t1c", "t2", "flair"], False),
        (["301_T1W", "401_T2W", "501_FLAIR", "601_T1W_GD"], False),
        (["5_t1_mprage", "6_t2_tse_p2", "7_flair_p2"], False),
        (["3d_t1", "3d_flair", "2d_t2"], False),
        (["s3_t1", "s4_t2", "s5_flair"], False),
        (["sub-01_run-1_T1w", "sub-01_acq-2024_FLAIR", "sub-01_run-1_T2w"], False),
    ],
)
def test_names_that_begin_with_different_numbers_are_noticed(names, noticed):
    assert bool(mixed_study_notice(f"{name}.nii.gz" for name in names)) is noticed


@pytest.mark.parametrize("opened", ["dropped", "named"])
def test_two_sessions_of_one_subject_are_noticed_however_they_were_opened(make_study, opened):
    """Only DICOM files of two days were noticed, and a folder of two sessions refused."""
    folder = make_study(sequences={"t1c", "flair"})
    paths = {s: series.files[0].path for s, series in open_study(folder).series.items()}
    files = {}
    for number, (sequence, path) in enumerate(paths.items()):
        files[sequence] = folder.parent / f"{number}" / f"sub-01_ses-{number}_{sequence}.nii.gz"
        files[sequence].parent.mkdir()
        path.rename(files[sequence])
    named = {MrSequence.FLAIR: files[MrSequence.FLAIR]}
    alone = open_study(files[MrSequence.T1C])
    both = (
        open_study([*files.values()])
        if opened == "dropped"
        else open_study(files[MrSequence.T1C].parent, named=named)
    )
    assert set(both.series) == set(files)
    assert any("different sessions" in notice for notice in both.notices)
    assert not alone.notices
