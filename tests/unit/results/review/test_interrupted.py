"""Whatever reads a result folder whose replacement was killed reads a whole result."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from tests.phantoms.analysis import make_reviewed

from lesionlens.analysis.evaluation import scored_result
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.review import Review
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.exporter import save
from lesionlens.results.result import Result
from lesionlens.results.review import store
from lesionlens.results.review.earlier import check_result_name
from lesionlens.results.review.prior import find_prior
from lesionlens.results.review.reopen import read_result, result_of, results_in
from lesionlens.site.pacs.send_result import check_objects


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    study = tmp_path_factory.mktemp("study")
    return make_reviewed(study, (MrSequence.T1C, MrSequence.FLAIR), "RAS")


@pytest.fixture(scope="module")
def saved(reviewed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(reviewed, folder / "out")
    return folder / "out"


def move_aside(folder):
    """Leave what a process leaves that is killed between its two renames."""
    folder.rename(folder.with_name(f".{folder.name}.lesionlens-old"))
    folder.with_name(f".{folder.name}.lesionlens-new").mkdir()


def is_kept_from_another_study(folder):
    with pytest.raises(UnusableInputError, match="result of another study"):
        check_result_name([("t1.nii", "0" * 64)], folder)
    return True


@pytest.fixture
def interrupted(saved, tmp_path):
    """A result of which everything was moved aside when the process was killed."""
    folder = shutil.copytree(saved, tmp_path / "results" / "out")
    move_aside(folder)
    return folder


@pytest.mark.parametrize(
    "read",
    [
        Result.open,
        lambda folder: result_of([folder]),
        scored_result.is_result,
        lambda folder: store.change_response(folder, lambda _: None) or True,
        lambda folder: results_in(folder.parent) == [folder],
        is_kept_from_another_study,
    ],
    ids=["open", "drop", "score", "sign", "list", "replace"],
)
def test_a_killed_replacement_is_reverted_before_the_folder_is_read(saved, interrupted, read):
    """The sentence was refused, and the score was a failure."""
    assert read(interrupted)
    assert sorted(p.name for p in interrupted.iterdir()) == sorted(p.name for p in saved.iterdir())


@pytest.mark.parametrize("named", ["out", ""], ids=["result", "folder of results"])
def test_a_killed_replacement_is_reverted_before_it_is_compared(
    reviewed, saved, interrupted, named
):
    """Named itself it was no study, and among others an older result was taken for the prior."""
    later = replace(reviewed.study, root=reviewed.study.root.with_name("sub-1_ses-2"))
    with pytest.raises(UnusableInputError, match=r"study is not where|no earlier result"):
        find_prior(interrupted.parent / named, later)
    assert sorted(p.name for p in interrupted.iterdir()) == sorted(p.name for p in saved.iterdir())


def test_objects_of_two_results_are_never_sent(saved, interrupted):
    """Without a run.json yet, nothing was checked."""
    check_objects(interrupted)
    assert (interrupted / "run.json").is_file()
    assert [path.name for path in interrupted.parent.iterdir()] == ["out"]


def test_decisions_stay_with_a_result_that_is_saved_again(reviewed, interrupted):
    """They were set aside, and the candidates were unreviewed."""
    save(replace(reviewed, review=Review()), interrupted)
    assert store.load(interrupted).events == reviewed.review.events
    assert not (interrupted / "earlier_reviews").exists()


def test_a_result_in_a_bids_dataset_is_reverted_with_the_dataset(reviewed, tmp_path):
    dataset = tmp_path / "derivatives"
    result = dataset / "lesionlens" / "sub-01"
    save_bids(reviewed, dataset, "sub-01")
    move_aside(result)
    assert read_result(result).review.events == reviewed.review.events
    move_aside(result)
    save_bids(replace(reviewed, review=Review()), dataset, "sub-01")
    assert store.load(result).events == reviewed.review.events
    assert not (result / "earlier_reviews").exists()
