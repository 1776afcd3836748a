"""Arguments of Python calls: what is no path, no study or no name is said in words."""

from pathlib import Path

import pytest

from lesionlens import Lens, batch, evaluate, open_study
from lesionlens.base.arguments import path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import ByRegion, Region

NO_PATHS = [None, "", " ", 3, 2.5, b"x", {"a": 1}, [None], "a\0b", "x" * 5000]


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


def test_a_path_that_is_too_long_is_named_without_its_class():
    with pytest.raises(UnusableInputError, match="too long for this system: 'xxx") as refused:
        path_of(Path("x" * 300), "a folder")
    assert "PosixPath" not in str(refused.value)


def test_no_folder_means_no_folder(tmp_path, monkeypatch):
    """An unset variable analysed the working folder, and wrote into it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnusableInputError, match="empty name"):
        path_of("", "a folder")
    assert path_of(".", "a folder") == Path()


def test_a_batch_from_python_writes_nothing_into_the_studies(tmp_path):
    (tmp_path / "studies" / "a").mkdir(parents=True)
    with pytest.raises(UnusableInputError, match="within the study"):
        batch(tmp_path / "studies", tmp_path / "studies" / "out")
    assert [place.name for place in (tmp_path / "studies").iterdir()] == ["a"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": 3},
        {"precision": "float16"},
        {"precision": None},
        {"engine": None},
        {"engine": 3},
        {"server": 3},
        {"weights": ""},
    ],
    ids=str,
)
def test_what_a_lens_cannot_be_made_of_is_named(wrong):
    with pytest.raises(UnusableInputError):
        Lens(**wrong)


@pytest.mark.parametrize("named", ["t1.nii", {"pd": "t1.nii"}], ids=str)
def test_files_are_named_by_sequence(tmp_path, named):
    with pytest.raises(UnusableInputError, match=r"mapping|t1c"):
        open_study(tmp_path, named=named)


def test_an_unknown_region_is_a_missing_key():
    known = ByRegion({Region.WT: 1})
    assert "x" not in known
    assert known.get("x") is None
    with pytest.raises(KeyError, match="'x' is no region"):
        known["x"]
