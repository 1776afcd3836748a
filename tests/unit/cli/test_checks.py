"""Files that a command writes by name: an earlier one is replaced, a foreign one never."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli.checks import check_file
from lesionlens.cli.evaluate import evaluate

MARK = b"lesionlens/evaluation/"


@pytest.mark.parametrize(
    "content",
    [
        b'{"schema": "lesionlens/evaluation/1"}',
        b"x" * 2**17 + b"lesionlens/evaluation/1" + b"x" * 2**10,
    ],
)
def test_an_earlier_file_of_the_command_is_replaced(tmp_path, content):
    check_file(None, MARK)
    check_file(tmp_path / "new.json", MARK)
    (tmp_path / "scores.json").write_bytes(content)
    check_file(tmp_path / "scores.json", MARK)


@pytest.mark.parametrize("content", [b"", b"a scan", b'{"schema": "lesionlens/findings/1"}'])
def test_a_foreign_file_is_refused_by_name_before_any_work(tmp_path, content):
    file = tmp_path / "t1c.nii.gz"
    file.write_bytes(content)
    for command in (
        lambda: evaluate(tmp_path, tmp_path, json=file),
        lambda: evaluate(tmp_path, tmp_path, plot=file),
    ):
        with pytest.raises(UnusableInputError, match=r"t1c\.nii\.gz.*exists"):
            command()
    assert file.read_bytes() == content


def test_a_plot_does_not_take_the_place_of_the_scores(tmp_path):
    with pytest.raises(UnusableInputError, match="--json and --plot"):
        evaluate(tmp_path, tmp_path, json=tmp_path / "scores", plot=tmp_path / "scores")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnusableInputError, match="--json and --plot"):
        evaluate(tmp_path, tmp_path, json=tmp_path / "s", plot=tmp_path / "folder" / ".." / "s")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_neither_a_pipe_nor_a_link_to_nothing_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(Path("nowhere"))
    for name in ("pipe", "link"):
        with pytest.raises(UnusableInputError, match=name):
            check_file(tmp_path / name, MARK)


def test_a_working_folder_that_was_deleted_is_refused_in_words(tmp_path):
    """The message was "a system error: No such file or directory", and torch ended the process."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = f"import os; os.rmdir({str(gone)!r}); from lesionlens.cli.main import run; run()"
    ended = subprocess.run(
        [sys.executable, "-c", program, "sentence", "."],
        cwd=gone,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "current folder cannot be found" in ended.stderr
