"""A list analysed in the background: what the window reports when the process ends."""

import time
from pathlib import Path

import pytest

from lesionlens.napari.controllers.ahead_process import AheadProcess
from lesionlens.napari.model.studies.worklist import WorklistSession
from lesionlens.napari.preferences import Preferences
from lesionlens.site.database.worklist_database import open_worklist_database

PATIENCE_S = 120.0


@pytest.fixture
def session() -> WorklistSession:
    return WorklistSession()


def end(ahead: AheadProcess) -> None:
    """Poll, as the window does, until the process has ended."""
    deadline = time.monotonic() + PATIENCE_S
    while ahead._session.state.ahead:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        ahead.poll()


def test_an_analysis_that_cannot_begin_reports_why(
    session: WorklistSession, tmp_path: Path
) -> None:
    """The button became *Analyse ahead* again, without a word."""
    open_worklist_database(tmp_path).close()
    ahead = AheadProcess(session)
    ahead.start(tmp_path, Preferences(device="nonsense"))
    assert session.state.ahead
    end(ahead)
    assert "'nonsense'" in session.state.message


def test_a_process_that_is_ended_from_outside_is_reported(
    session: WorklistSession, tmp_path: Path
) -> None:
    open_worklist_database(tmp_path).close()
    ahead = AheadProcess(session)
    ahead.start(tmp_path, Preferences())
    assert ahead._process is not None
    ahead._process.kill()
    end(ahead)
    assert session.state.message == "Analysing ahead stopped early: start it again."


def test_a_file_of_the_working_folder_is_not_run(
    session: WorklistSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list in a folder that also held a file `dataclasses.py` ran that file."""
    open_worklist_database(tmp_path).close()
    (tmp_path / "dataclasses.py").write_text("raise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ahead = AheadProcess(session)
    ahead.start(tmp_path, Preferences(device="nonsense"))
    end(ahead)
    assert "'nonsense'" in session.state.message
