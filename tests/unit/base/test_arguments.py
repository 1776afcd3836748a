"""Arguments of Python calls: what is no path, no study or no name is said in words."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens import Lens, Result, batch, evaluate, open_study
from lesionlens.base.arguments import path_of
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import ByRegion, MrSequence, Region
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging import samples


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    patient = make_patient(spacing_mm=4.0)
    return Result(make_analysis(patient, write_study(patient, tmp_path_factory.mktemp("head"))))


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
        {"weights": ""},
    ],
    ids=str,
)
def test_what_a_lens_cannot_be_made_of_is_named(wrong):
    with pytest.raises(UnusableInputError):
        Lens(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers": 0},
        {"workers": -1},
        {"weights": 5},
    ],
    ids=str,
)
def test_what_a_batch_cannot_be_made_of_is_named(tmp_path, wrong):
    (value,) = wrong.values()
    with pytest.raises(UnusableInputError, match=f"Found {value!r}"):
        batch(tmp_path / "studies", tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_the_path_of_a_study_is_no_study():
    with pytest.raises(UnusableInputError, match=r"instead of a study.*open_study\(PATH\)"):
        Lens(engine=SimpleNamespace(predict=None, info=None))(str(samples.STUDY))


def test_files_are_named_by_sequence(tmp_path):
    with pytest.raises(UnusableInputError, match="t1c"):
        open_study(tmp_path, named={"pd": "t1.nii"})


@pytest.mark.parametrize("value", [None, b"t1c.nii.gz", 3, ""], ids=repr)
def test_a_sequence_is_named_by_a_path_or_a_uid(value):
    """None was sought as a file of the name 'None'."""
    with pytest.raises(UnusableInputError, match="a file, a folder or a Series UID of that seq"):
        open_study(samples.STUDY, named={"t1c": value})


def test_a_sequence_may_be_named_by_any_path(tmp_path):
    class Named:
        def __fspath__(self):
            return str(samples.STUDY / "t1c.nii.gz")

    study = open_study(samples.STUDY / "t1c.nii.gz", named={"t2": Named()})
    assert [*study] == [MrSequence.T2]


def test_an_unknown_region_is_a_missing_key():
    known = ByRegion({Region.WT: 1})
    assert "x" not in known
    assert known.get("x") is None
    with pytest.raises(KeyError, match="'x' is not a region"):
        known["x"]


def test_an_unknown_or_missing_sequence_is_a_missing_key_of_a_study():
    study = open_study(samples.STUDY)
    without = replace(study, series={s: study[s] for s in study if s is not MrSequence.T1})
    assert [*study] == [*MrSequence]
    assert [s in without for s in ("t1", "t1c", "dwi", 0)] == [False, True, False, False]
    with pytest.raises(KeyError, match="'dwi' is not a sequence"):
        study["dwi"]
    with pytest.raises(KeyError, match="t1"):
        without["t1"]
