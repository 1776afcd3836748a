"""Series are named so that no other file can be meant."""

from dataclasses import replace

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import choose, distinct_names

T2, FLAIR = MrSequence.T2, MrSequence.FLAIR


@pytest.fixture
def beside_another(make_study, monkeypatch):
    """Return a study, while the working folder is another patient's with files of its names."""
    one, other = (make_study(name=name, sequences={"flair", "t1"}) for name in "ab")
    monkeypatch.chdir(other)
    return one


def test_a_name_that_means_a_file_of_the_study_and_one_of_the_working_folder_is_refused(
    beside_another,
):
    with pytest.raises(UnusableInputError, match="both in the study and in the working folder"):
        open_study(beside_another, named={T2: "flair.nii.gz"})


def test_series_of_one_description_are_told_apart_by_their_files(make_study):
    folder = make_study(dicom=True, sequences={"t1", "t2", "flair"})
    study = open_study(folder, named={})
    t1, flair = study.series[MrSequence.T1], study.series[FLAIR]
    again = replace(flair, files=(replace(flair.files[0], name="S09/IM0001"),))
    names = distinct_names([t1, flair, again])
    assert names[0] == t1.description
    assert len(set(names)) == 3
    assert names[2] == f"{flair.description}, S09/IM0001"
    _, _, (notice,) = choose([flair, again], {})
    assert f'"{names[1]}" was used' in notice
    assert f'"{names[2]}" set aside' in notice
