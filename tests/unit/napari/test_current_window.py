"""Questions of napari's reader to the panel."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.napari import current_window
from lesionlens.napari.model.state.state import Request


@pytest.mark.parametrize("running", [False, True])
def test_a_running_job_keeps_its_progress_when_napari_itself_has_a_question(monkeypatch, running):
    """The line with *Cancel* went, and the study that was chosen could not be opened."""
    panel, paths = Mock(), (Path("study"),)
    panel.jobs.busy_reason = "Analysing: wait until it finishes." if running else ""
    panel.session.refuses.side_effect = bool
    monkeypatch.setattr(current_window, "_viewer", Mock())
    monkeypatch.setattr(current_window, "open_panel", lambda _: panel)
    monkeypatch.setattr(current_window, "when_idle", lambda act: act())
    error = UnusableInputError(found="two studies", expected="one", next_step="choose")
    assert current_window.ask_in_panel(paths, error)
    if running:
        panel.actions_.opener.handle_error.assert_not_called()
        panel.session.refuses.assert_called_once_with(panel.jobs.busy_reason)
    else:
        panel.actions_.opener.handle_error.assert_called_once_with(Request.of(paths), error)
