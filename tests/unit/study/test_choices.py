"""The user's choice of sequences is met again at that study, and at no other."""

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.study import choices
from lesionlens.study.readers import open_study

T2, FLAIR = MrSequence.T2, MrSequence.FLAIR


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    return tmp_path / "choices"


@pytest.mark.parametrize("dicom", [False, True])
def test_a_choice_is_met_again(make_study, dicom):
    folder = make_study(dicom=dicom, sequences={"flair", "t1"})
    plain = open_study(folder, recall=True)
    flair = plain.series[FLAIR]
    name = flair.uid or flair.files[0].name
    choices.remember(open_study(folder, named={T2: name}))
    again = open_study(folder, recall=True)
    assert set(again.series) == {T2, MrSequence.T1}
    assert any("before" in notice for notice in again.notices)
    assert set(open_study(folder).series) == {FLAIR, MrSequence.T1}


def test_a_flag_wins_over_what_is_remembered(make_study):
    folder = make_study(sequences={"flair", "t1"})
    choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    study = open_study(folder, named={MrSequence.T1C: "flair.nii.gz"}, recall=True)
    assert MrSequence.T1C in study.series


def test_another_study_does_not_meet_it(make_study):
    one = make_study(name="a", sequences={"flair", "t1"})
    choices.remember(open_study(one, named={T2: "flair.nii.gz"}))
    other = make_study(name="b", sequences={"flair", "t1", "t1c"})
    assert FLAIR in open_study(other, recall=True).series


def test_nothing_named_forgets(make_study, own_folder):
    folder = make_study(sequences={"flair"})
    choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    choices.remember(open_study(folder))
    assert FLAIR in open_study(folder, recall=True).series
    assert not list(own_folder.glob("*.json"))


def test_a_damaged_memory_is_no_memory(make_study, own_folder):
    folder = make_study(sequences={"flair"})
    choices.remember(open_study(folder, named={T2: "flair.nii.gz"}))
    next(own_folder.glob("*.json")).write_text("[1")
    assert FLAIR in open_study(folder, recall=True).series
