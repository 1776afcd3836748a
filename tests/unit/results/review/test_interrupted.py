"""Whatever reads a result folder whose replacement was killed reads a whole result."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from tests.phantoms.analysis import make_reviewed

from lesionlens.analysis.evaluation import scored_result
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.journal import _prefix_of as prefix_of
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.parts import check_objects
from lesionlens.base.records.review import Review
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.exporter import save
from lesionlens.results.result import Result
from lesionlens.results.review import store
from lesionlens.results.review.earlier import check_result_name
from lesionlens.results.review.prior import find_prior
from lesionlens.results.review.reopen import read_result, result_of, results_in


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory):
    study = tmp_path_factory.mktemp("study")
    return make_reviewed(study, (MrSequence.T1C, MrSequence.FLAIR), "RAS")


@pytest.fixture(scope="module")
def saved(reviewed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(reviewed, folder / "out")
    return folder / "out"


def move_aside(folder, hidden):
    """Leave what a process leaves that is killed when it has moved every file aside."""
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    for name in names:
        (hidden / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(hidden / "old" / name)
    (hidden / "new").mkdir()
    journal = {"files": [name.as_posix() for name in names], "made": []}
    (hidden / "journal.json").write_text(json.dumps(journal))


def is_kept_from_another_study(folder):
    with pytest.raises(UnusableInputError, match="result of another study"):
        check_result_name([("t1.nii", "0" * 64)], folder)
    return True


@pytest.fixture
def interrupted(saved, tmp_path):
    """A result of which everything was moved aside when the process was killed."""
    folder = shutil.copytree(saved, tmp_path / "results" / "out")
    move_aside(folder, folder / ".lesionlens-0123456789ab")
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
    assert not list(interrupted.glob(".lesionlens-*"))


def test_decisions_stay_with_a_result_that_is_saved_again(reviewed, interrupted):
    """They were set aside, and the candidates were unreviewed."""
    save(replace(reviewed, review=Review()), interrupted)
    assert store.load(interrupted).events == reviewed.review.events
    assert not (interrupted / "earlier_reviews").exists()


def test_a_result_in_a_bids_dataset_is_reverted_with_the_dataset(reviewed, tmp_path):
    dataset = tmp_path / "derivatives"
    result, hidden = dataset / "lesionlens" / "sub-01", prefix_of(dataset) + "0123456789ab"
    save_bids(reviewed, dataset, "sub-01")
    move_aside(dataset, dataset / hidden)
    assert read_result(result).review.events == reviewed.review.events
    move_aside(dataset, dataset / hidden)
    save_bids(replace(reviewed, review=Review()), dataset, "sub-01")
    assert store.load(result).events == reviewed.review.events
    assert not (result / "earlier_reviews").exists()
