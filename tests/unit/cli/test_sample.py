"""What a newcomer types first: the sample as files, and the window."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib import util

import pytest

from lesionlens.base.errors import MissingPluginError, ResourceError, UnusableInputError
from lesionlens.cli.open_window import open_window
from lesionlens.cli.sample import sample
from lesionlens.imaging.reading.open import open_study


def test_the_sample_becomes_files_and_replaces_none(tmp_path):
    out = tmp_path / "mine"
    sample(out)
    assert set(open_study(out / "study").series) == {"t1", "t1c", "t2", "flair"}
    assert (out / "study_reference" / "segmentation.nii.gz").is_file()
    assert "CC BY 4.0" in (out / "README.md").read_text("utf-8")
    (out / "README.md").write_text("mine")
    with pytest.raises(UnusableInputError, match=r"README\.md") as refusal:
        sample(out)
    assert "--out" not in str(refusal.value)  # `sample` has no such option
    assert (out / "README.md").read_text() == "mine"


def test_the_sample_may_be_requested_again(tmp_path):
    """The README, the site and the tutorial begin with this command: the second was refused."""
    assert sample(tmp_path / "mine") == sample(tmp_path / "mine")
    (tmp_path / "mine" / "study" / "t1.nii.gz").write_bytes(b"")
    with pytest.raises(UnusableInputError):
        sample(tmp_path / "mine")


def test_the_command_to_try_works_as_pasted_for_any_folder(tmp_path):
    out = tmp_path / "my studies & more"
    first, *_ = sample(out).output
    assert shlex.split(first.removeprefix("Try it: "))[2] == str(out / "study")


def test_the_window_opens_or_says_what_it_lacks(tmp_path, monkeypatch):
    ran, started = [], subprocess.Popen

    def remember(command, env):
        ran.append((command, env))
        return Window(3)

    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(MissingPluginError, match=r"lesionlens\[gui\]"):
        open_window(tmp_path)
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ResourceError, match="no display"):  # Qt aborted, with status 250
        open_window(tmp_path)
    assert not ran
    monkeypatch.setenv("DISPLAY", ":77")  # where no display is: Qt aborted
    monkeypatch.setattr(subprocess, "Popen", started)
    with pytest.raises(ResourceError, match=":77"):
        open_window(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert open_window(tmp_path).status == 3
    ((command, env),) = ran
    napari = [sys.executable, "-P", "-m", "lesionlens.napari.standalone"]
    assert command == [*napari, "--plugin", "lesionlens", str(tmp_path)]
    assert env["MALLOC_ARENA_MAX"] == env["OPENBLAS_NUM_THREADS"] == "1"
    assert env["NUMPY_MADVISE_HUGEPAGE"] == "0"
    with pytest.raises(UnusableInputError, match="gone"):
        open_window(tmp_path / "gone")


@pytest.mark.parametrize(
    ("outcomes", "asked"),
    [
        ((KeyboardInterrupt(), 130), ["terminate"]),
        ((KeyboardInterrupt(), -15), ["terminate"]),
        ((KeyboardInterrupt(), subprocess.TimeoutExpired("napari", 1)), ["terminate", "kill"]),
    ],
)
def test_an_interrupted_window_has_time_to_store_what_was_begun(
    tmp_path, monkeypatch, outcomes, asked
):
    """It was killed a quarter of a second after Ctrl+C."""
    window = Window(*outcomes)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    monkeypatch.setattr(subprocess, "Popen", lambda command, env: window)
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    assert open_window(tmp_path).status == 130
    assert window.asked == asked


class Window:
    """Stands for the process of a window, each wait for which has the next outcome."""

    def __init__(self, *outcomes):
        self.outcomes, self.asked = list(outcomes), []

    def wait(self, timeout=None):
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def terminate(self):
        self.asked.append("terminate")

    def kill(self):
        self.asked.append("kill")
