"""What `lesionlens worklist` returns to a script."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli import worklist
from lesionlens.cli.console import StopRequest
from lesionlens.site.database import worklist_database
from lesionlens.site.database.records import Status, StudyOutcome
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.worklist import background_analysis, sources


@pytest.mark.parametrize(
    ("statuses", "status"), [((0, 0), 0), ((2, 0), 2), ((2, 1), 1), ((1, 2), 1)]
)
def test_the_exit_status_of_ahead_is_that_of_batch(monkeypatch, statuses, status):
    """A full disk beside an unusable study was reported as unusable input alone."""
    outcomes = tuple(
        StudyOutcome(str(n), Status.FAILED if code else Status.ANALYSED, code, "a message")
        for n, code in enumerate(statuses)
    )
    monkeypatch.setattr(worklist, "STOP", StopRequest())
    monkeypatch.setattr(background_analysis, "lower_priority", lambda: None)
    monkeypatch.setattr(background_analysis, "run_ahead", lambda *_, **__: outcomes)
    monkeypatch.setattr(worklist_database, "existing_worklist_database", nullcontext)
    assert worklist.ahead(folder=Path("list")).status == status


@pytest.mark.parametrize("count", [2, 3])
def test_a_list_of_an_archive_that_is_cut_short_says_so(monkeypatch, tmp_path, count):
    """Of a month with more studies than one query returns, the others were missing in silence."""
    monkeypatch.setattr(worklist, "LIMIT", 3)
    found = [FoundStudy(f"1.2.{n}", "7", "20260105", "Head", ("MR",)) for n in range(count)]
    archive = SimpleNamespace(find=lambda query, context: found)
    monkeypatch.setattr(sources, "connect", lambda *_: archive)
    output = worklist.scan("https://a/dicom-web", tmp_path / "list", date="20260101-20260131")
    assert [note for note in output.notes if "first 3" in note] == list(output.notes)
    assert len(output.notes) == (count == 3)


def test_a_file_in_the_place_of_a_list_is_refused_before_an_archive_is_searched(tmp_path):
    """It was called a full disk, by the exit status of a defect, after the search."""
    (tmp_path / "list").write_text("mine")
    with pytest.raises(UnusableInputError, match="a file where the output folder should be: list"):
        worklist.scan("http://127.0.0.1:1/dicom-web", tmp_path / "list")
    assert (tmp_path / "list").read_text() == "mine"
