"""Whether two studies are one examination, and which earlier result is found."""

import json
import shutil
from dataclasses import replace
from itertools import permutations

import pytest
from tests.phantoms.analysis import write_study

from lesionlens.analysis.followup.patient import Examination, is_same_examination
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.patient import Patient
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.review import prior
from lesionlens.results.review.prior import find_prior, latest_result_before
from lesionlens.testing import make_patient

BOTH = (MrSequence.T1C, MrSequence.FLAIR)


@pytest.fixture(scope="module")
def head():
    return make_patient(5, spacing_mm=8.0, lesions=())


@pytest.fixture
def study(head, tmp_path):
    return write_study(head, tmp_path / "study", sequences=BOTH)


def copied(study, change, name="copy"):
    """Write every image again as `change` makes it, and open the copy."""
    folder = study.root.parent / name
    folder.mkdir()
    for file in study.root.glob("*.nii*"):
        change(file, folder)
    return open_study(folder)


def test_a_copy_is_refused_as_a_prior(study):
    copy = copied(study, shutil.copy)
    assert is_same_examination(study, copy)
    with pytest.raises(UnusableInputError, match="this same examination"):
        find_prior(copy.root, study, same_patient=True)


def test_one_shared_sequence_is_enough(study):
    copy = copied(study, lambda file, to: "flair" in file.name and shutil.copy(file, to))
    assert list(copy.series) == [MrSequence.FLAIR]
    assert is_same_examination(study, copy)


def _result_of(folder, sha256):
    folder.mkdir(parents=True)
    (folder / "findings.json").write_text("{}")
    (folder / "run.json").write_text(json.dumps({"inputs": [{"file": "t1c", "sha256": sha256}]}))


def test_the_earlier_result_is_found_by_bids_names_and_a_copy_is_passed_over(tmp_path):
    """NIfTI has no Study UID on either side, which was taken for the same study."""
    _result_of(tmp_path / "out" / "sub-07_ses-20240101", "11")
    _result_of(tmp_path / "out" / "sub-07_ses-20250101", "22")
    _result_of(tmp_path / "out" / "sub-08_ses-20250201", "33")
    now = Examination(Patient("sub-07"), "2025-03-01")
    assert latest_result_before(tmp_path / "out", now).name == "sub-07_ses-20250101"
    passed = latest_result_before(tmp_path / "out", now, frozenset({"22"}))
    assert passed.name == "sub-07_ses-20240101"
    for number, inputs in enumerate(([{"file": "t1c"}, "t1c"], "t1c", None)):
        damaged = tmp_path / f"damaged-{number}" / "sub-07_ses-20250201"
        _result_of(damaged, "44")
        (damaged / "run.json").write_text(json.dumps({"inputs": inputs}))
        assert latest_result_before(damaged.parent, now, frozenset({"22"})) == damaged


def test_examinations_of_other_series_are_two(study, head, tmp_path):
    """Series that have a UID each are shared only if the UIDs are equal."""
    other_head = make_patient(6, spacing_mm=8.0)
    other = write_study(other_head, tmp_path / "other", sequences=BOTH)

    def named(study, uid):
        series = {
            s: replace(one, uid=f"{uid}.{n}") for n, (s, one) in enumerate(study.series.items())
        }
        return replace(study, series=series)

    assert not is_same_examination(named(study, "1.2"), named(other, "1.3"))
    assert is_same_examination(named(study, "1.2"), named(other, "1.2"))
    assert not is_same_examination(study, named(other, "1.3"))


def test_results_of_two_datasets_with_one_subject_are_not_taken_for_one_examination(tmp_path):
    """Either was compared: of another patient, as each BIDS dataset has its own subject 1."""
    for number, dataset in enumerate(("a", "b")):
        _result_of(tmp_path / "out" / dataset / "sub-01_ses-1", f"{number}{number}")
    now = Examination(Patient("sub-01"), "2")
    with pytest.raises(UnusableInputError, match="several examinations of ses-1 there"):
        latest_result_before(tmp_path / "out", now)
    _result_of(tmp_path / "one" / "sub-01_ses-1", "11")
    _result_of(tmp_path / "one" / "again" / "sub-01_ses-1", "11")
    assert latest_result_before(tmp_path / "one", now).name == "sub-01_ses-1"


@pytest.mark.parametrize("names", [*permutations("abc")])
def test_results_of_single_series_are_linked_by_one_of_both(names, monkeypatch, tmp_path):
    """Which of them the disk named first decided whether they were one examination."""
    inputs = dict(zip("abc", (["11"], ["22"], ["11", "22"]), strict=True))
    for name, sha256s in inputs.items():
        _result_of(tmp_path / name / "sub-01_ses-1", "11")
        rows = [{"file": f"{n}.nii.gz", "sha256": one} for n, one in enumerate(sha256s)]
        run = tmp_path / name / "sub-01_ses-1" / "run.json"
        run.write_text(json.dumps({"inputs": rows}))
    found = [tmp_path / name / "sub-01_ses-1" for name in names]
    monkeypatch.setattr(prior, "_possible_results", lambda _: iter(found))
    now = Examination(Patient("sub-01"), "2")
    assert latest_result_before(tmp_path, now) in found
    single = [folder for folder in found if folder.parent.name != "c"]
    monkeypatch.setattr(prior, "_possible_results", lambda _: iter(single))
    with pytest.raises(UnusableInputError, match="several examinations"):
        latest_result_before(tmp_path, now)
