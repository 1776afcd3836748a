"""Whatever reads a result folder whose replacement was killed reads a whole result."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.phantoms.analysis import make_reviewed

from lesionlens.analysis.evaluation import scored_result
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.parts import check_objects
from lesionlens.results.export.exporter import save
from lesionlens.results.opened import open_result
from lesionlens.results.review.reopen import result_of
from lesionlens.site.monitoring.read_results import gather


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save(make_reviewed(folder / "study", (MrSequence.T1C, MrSequence.FLAIR), "RAS"), folder / "out")
    return folder / "out"


@pytest.fixture
def interrupted(saved, tmp_path):
    """A result of which everything was moved aside when the process was killed."""
    folder = shutil.copytree(saved, tmp_path / "results" / "out")
    hidden = folder / ".lesionlens-0123456789ab"
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    for name in names:
        (hidden / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(hidden / "old" / name)
    (hidden / "new").mkdir()
    journal = {"files": [name.as_posix() for name in names], "made": []}
    (hidden / "journal.json").write_text(json.dumps(journal))
    return folder


@pytest.mark.parametrize(
    "read",
    [
        lambda folder: open_result(folder, None),
        lambda folder: result_of([folder]),
        scored_result.is_result,
        lambda folder: gather(folder.parent)[0],
    ],
    ids=["open", "drop", "score", "monitor"],
)
def test_a_killed_replacement_is_reverted_before_the_folder_is_read(saved, interrupted, read):
    """The sentence was refused, the score was a failure, and monitoring skipped the study."""
    assert read(interrupted)
    assert sorted(p.name for p in interrupted.iterdir()) == sorted(p.name for p in saved.iterdir())


def test_objects_of_two_results_are_never_sent(saved, interrupted):
    """Without a run.json yet, nothing was checked."""
    check_objects(interrupted)
    assert (interrupted / "run.json").is_file()
    assert not list(interrupted.glob(".lesionlens-*"))
