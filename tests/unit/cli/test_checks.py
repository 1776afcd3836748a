"""Files that a command writes by name: an earlier one is replaced, a foreign one never."""

import os
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.cli.checks import check_file
from lesionlens.cli.evaluate import evaluate
from lesionlens.cli.export_model import export_model

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
        lambda: export_model(out=file),
        lambda: evaluate(tmp_path, tmp_path, json=file),
        lambda: evaluate(tmp_path, tmp_path, plot=file),
    ):
        with pytest.raises(UnusableInputError, match=r"t1c\.nii\.gz.*exists"):
            command()
    assert file.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_neither_a_pipe_nor_a_link_to_nothing_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(Path("nowhere"))
    for name in ("pipe", "link"):
        with pytest.raises(UnusableInputError, match=name):
            check_file(tmp_path / name, MARK)
