"""The user's choice of sequences is met again at that study, and at no other."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading import series_choices
from lesionlens.imaging.reading.readers import open_study
from lesionlens.imaging.reading.series_selection import choose

T2, FLAIR = MrSequence.T2, MrSequence.FLAIR


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(series_choices, "folder", lambda: tmp_path / "choices")
    return tmp_path / "choices"


@pytest.mark.parametrize("dicom", [False, True])
def test_a_choice_is_met_again(make_study, dicom):
    folder = make_study(dicom=dicom, sequences={"flair", "t1"})
    plain = open_study(folder, recall=True)
    flair = plain.series[FLAIR]
    name = flair.uid or flair.files[0].name
    series_choices.remember(open_study(folder, named={T2: name}))
    again = open_study(folder, recall=True)
    assert set(again.series) == {T2, MrSequence.T1}
    assert any("earlier" in notice for notice in again.notices)
    assert set(open_study(folder).series) == {FLAIR, MrSequence.T1}


def test_a_choice_of_which_a_part_is_gone_claims_no_more_than_it_gives(make_study):
    """With a T1c from outside of the study, all were said to be those that the user chose."""
    folder = make_study(dicom=True, sequences={"flair", "t1c"})
    outside = make_study(name="outside", sequences={"t1c"}) / "t1c.nii.gz"
    named = {T2: open_study(folder).series[FLAIR].uid, MrSequence.T1C: outside}
    series_choices.remember(open_study(folder, named=named, same_patient=True))
    again = open_study(folder, recall=True)
    witnesses = {sequence: series.named_by_user for sequence, series in again.series.items()}
    assert witnesses == {MrSequence.T1C: False, T2: True}
    assert "to the series in this study" in again.notices[0]


def test_a_flag_wins_over_what_is_remembered(make_study):
    folder = make_study(sequences={"flair", "t1"})
    series_choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    study = open_study(folder, named={MrSequence.T1C: "flair.nii.gz"}, recall=True)
    assert MrSequence.T1C in study.series


def test_another_study_does_not_meet_it(make_study):
    one = make_study(name="a", sequences={"flair", "t1"})
    series_choices.remember(open_study(one, named={T2: "flair.nii.gz"}))
    other = make_study(name="b", sequences={"flair", "t1", "t1c"})
    assert FLAIR in open_study(other, recall=True).series


def test_another_patient_s_files_of_the_same_names_and_sizes_do_not_meet_it(make_study):
    one, other = (make_study(name=name, sequences={"flair", "t1"}) for name in "ab")
    for folder, value in ((one, 0), (other, 1)):
        for name in ("flair", "t1"):
            image = nib.load(folder / f"{name}.nii.gz")
            data = np.asanyarray(image.dataobj).copy()
            data[20, 20, 20] = value
            (folder / f"{name}.nii.gz").unlink()
            nib.Nifti1Image(data, image.affine).to_filename(folder / f"{name}.nii")
    assert (one / "t1.nii").stat().st_size == (other / "t1.nii").stat().st_size
    series_choices.remember(open_study(one, named={T2: "flair.nii"}))
    assert T2 in open_study(one, recall=True).series
    assert FLAIR in open_study(other, recall=True).series


def test_a_study_of_which_nothing_tells_is_opened_as_it_was_named_before(make_study):
    folder = make_study(sequences={"flair"})
    (folder / "flair.nii.gz").rename(folder / "a.nii.gz")
    with pytest.raises(UnusableInputError, match="none recognised"):
        open_study(folder, recall=True)
    series_choices.remember(open_study(folder, named={FLAIR: "a.nii.gz"}))
    assert set(open_study(folder, recall=True).series) == {FLAIR}
    with pytest.raises(UnusableInputError, match="none recognised"):
        open_study(folder)


def test_where_no_image_is_read_the_files_are_named(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(b"no image")
    with pytest.raises(UnusableInputError, match=r"no image that can be read: 'x\.nii\.gz' was"):
        open_study(tmp_path)


def test_a_choice_for_a_study_whose_file_is_gone_by_now_is_only_not_kept(make_study, caplog):
    """The result was written, and the command ended with status 1 and a system error."""
    folder = make_study(sequences={"flair", "t1"})
    study = open_study(folder, named={T2: open_study(folder).series[FLAIR].files[0].name})
    study.series[T2].files[0].path.unlink()
    series_choices.remember(study)
    assert "the choice of sequences could not be updated" in caplog.text


def test_nothing_named_forgets(make_study, own_folder):
    folder = make_study(sequences={"flair"})
    series_choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    series_choices.remember(open_study(folder))
    assert FLAIR in open_study(folder, recall=True).series
    assert not list(own_folder.glob("*.json"))


@pytest.mark.parametrize("content", ["[1", "[]", '{"t9": "flair.nii.gz"}', '{"t2": 3}'])
def test_a_damaged_memory_is_no_memory(make_study, own_folder, content):
    folder = make_study(sequences={"flair"})
    series_choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    next(own_folder.glob("*.json")).write_text(content)
    assert FLAIR in open_study(folder, recall=True).series


@pytest.fixture
def beside_another(make_study, monkeypatch):
    """Return a study, while the working folder is another patient's with files of its names."""
    one, other = (make_study(name=name, sequences={"flair", "t1"}) for name in "ab")
    monkeypatch.chdir(other)
    return one


def test_a_choice_is_of_its_own_study_in_a_working_folder_with_files_of_its_names(beside_another):
    flair = beside_another / "flair.nii.gz"
    series_choices.remember(open_study(beside_another, named={T2: flair}))
    assert open_study(beside_another, recall=True)[T2].files[0].path == flair


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
    names = series_choices.distinct_names([t1, flair, again])
    assert names[0] == t1.description
    assert len(set(names)) == 3
    assert names[2] == f"{flair.description}, S09/IM0001"
    _, _, (notice,) = choose([flair, again], {})
    assert f'"{names[1]}" was used' in notice
    assert f'"{names[2]}" set aside' in notice
