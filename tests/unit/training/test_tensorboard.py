"""What TensorBoard reads is written, and a log that cannot be written is an error in words."""

import os
import threading

import pytest
import torch

from lesionlens.base.errors import ResourceError
from lesionlens.training.tensorboard import _TensorBoard, open_event_writer


class Full:
    """A writer whose thread met a full disk, which it says at every call."""

    def add_scalar(self, *_):
        raise OSError(28, "No space left on device")

    add_image = close = add_scalar


def test_a_full_disk_is_an_error_and_no_thread_prints(capfd):
    before = threading.excepthook
    board = _TensorBoard(Full)

    def write():
        raise OSError(28, "No space left on device")

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()
    for act in (
        lambda: board.scalars({"loss": 1.0}, 1),
        lambda: board.picture("one", torch.zeros(2, 2), 1),
        board.close,
    ):
        with pytest.raises(ResourceError, match="No space left"):
            act()
    assert threading.excepthook is before
    assert capfd.readouterr().err == ""


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    running = threading.active_count()
    board = open_event_writer(None, 1)
    board.scalars({"loss": 1.0}, 1)
    board.picture("one", torch.zeros(2, 2), 1)
    board.close()
    assert not any(tmp_path.iterdir())
    assert threading.active_count() == running


def test_a_folder_whose_name_is_not_utf_8_has_no_board(tmp_path, caplog):
    board = open_event_writer(tmp_path / os.fsdecode(b"M\xfcller"), 1)
    board.scalars({"loss": 1.0}, 1)
    board.close()
    assert not any(tmp_path.iterdir())
    assert "no board is written" in caplog.text


def test_curves_and_pictures_are_written(tmp_path):
    pytest.importorskip("tensorboard", reason="lesionlens[train] is not installed")
    board = open_event_writer(tmp_path, 1)
    board.scalars({"loss": 1.0}, 1)
    board.picture("one", torch.zeros(4, 4), 1)
    board.close()
    assert list((tmp_path / "board").iterdir())


def test_curves_of_an_earlier_run_are_hidden_from_the_step_that_is_written_next(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in (range(1, 5), range(3, 4)):
        for earlier in tmp_path.glob("board/*"):  # files are read by name, which holds the second
            earlier.rename(earlier.with_name("events.out.tfevents.1"))
        board = open_event_writer(tmp_path, steps[0])
        for step in steps:
            board.scalars({"loss": 1.0}, step)
        board.close()
    events = accumulator.EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
