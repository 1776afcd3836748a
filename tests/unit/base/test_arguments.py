"""Arguments of Python calls: what is no path, no study or no name is said in words."""

from dataclasses import replace
from pathlib import Path

import pytest

from lesionlens import Lens, batch, evaluate, open_study
from lesionlens.base.arguments import path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging import samples


class PathOfBytes:
    """A path by its protocol, such as an entry of `os.scandir(b".")`, but of bytes."""

    def __fspath__(self):
        return b"x"


NO_PATHS = [
    *(None, "", " ", 3, 2.5, b"x", {"a": 1}, [None], "a\0b", "x" * 5000),
    PathOfBytes(),
    "lone surrogate \ud800",
]


@pytest.mark.parametrize("given", NO_PATHS, ids=lambda value: repr(value)[:12])
def test_what_is_no_path_is_refused_by_every_public_call(given, tmp_path):
    calls = (
        lambda: open_study(given),
        lambda: batch(given, tmp_path / "out"),
        lambda: batch(tmp_path, given),
        lambda: evaluate(given, tmp_path),
        lambda: evaluate(tmp_path, given),
        lambda: Lens("cpu", bundle=[] if given is None else given),
    )
    for call in calls:
        with pytest.raises(UnusableInputError) as refused:
            call()
        assert len(str(refused.value)) < 400


def test_no_folder_means_no_folder(tmp_path, monkeypatch):
    """An unset variable analysed the working folder, and wrote into it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableInputError):
        path_of("", "a folder")
    assert path_of(".", "a folder") == Path()


def test_a_batch_from_python_writes_nothing_into_the_studies(tmp_path):
    (tmp_path / "studies" / "a").mkdir(parents=True)
    with pytest.raises(UnusableInputError):
        batch(tmp_path / "studies", tmp_path / "studies" / "out")
    assert [place.name for place in (tmp_path / "studies").iterdir()] == ["a"]


@pytest.mark.parametrize("value", [None, b"t1c.nii.gz", 3, ""], ids=repr)
def test_a_sequence_is_named_by_a_path_or_a_uid(value):
    """None was sought as a file of the name 'None'."""
    with pytest.raises(UnusableInputError, match="a file, a folder or a Series UID of that seq"):
        open_study(samples.STUDY, named={"t1c": value})


def test_an_unknown_or_missing_sequence_is_a_missing_key_of_a_study():
    study = open_study(samples.STUDY)
    without = replace(study, series={s: study[s] for s in study if s is not MrSequence.T1})
    assert [*study] == [*MrSequence]
    assert [s in without for s in ("t1", "t1c", "dwi", 0)] == [False, True, False, False]
    with pytest.raises(KeyError, match="'dwi' is not a sequence"):
        study["dwi"]
    with pytest.raises(KeyError, match="t1"):
        without["t1"]
