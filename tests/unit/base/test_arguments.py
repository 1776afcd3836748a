"""Arguments of Python calls: what is no path, no study or no name is said in words."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens import Lens, Result, RunContext, batch, evaluate, open_study
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
        {"device": 3},
        {"precision": "float16"},
        {"precision": None},
        {"engine": None},
        {"engine": 3},
        {"engine": SimpleNamespace(predict=None)},
        {"server": 3},
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
        {"workers": None},
        {"workers": "2"},
        {"workers": True},
        {"workers": 0},
        {"workers": -1},
        {"device": 5},
        {"weights": 5},
        {"context": None},
    ],
    ids=str,
)
def test_what_a_batch_cannot_be_made_of_is_named(tmp_path, wrong):
    (value,) = wrong.values()
    with pytest.raises(UnusableInputError, match=f"Found {value!r}"):
        batch(tmp_path / "studies", tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"convention": 5}, {"context": None}], ids=str)
def test_what_an_evaluation_cannot_be_made_of_is_named(tmp_path, wrong):
    with pytest.raises(UnusableInputError, match=r"convention|RunContext"):
        evaluate(tmp_path, tmp_path, **wrong)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda result: result.layer_attention("x", 0), "'x', a str as a region"),
        (lambda result: result.layer_attention("wt", "0"), "'0', a str as a layer"),
        (lambda result: result.layer_attention("wt", 0, 1.5), "1.5, a float as a head"),
        (lambda result: result.what_if("1"), "'1', a str as a candidate"),
        (lambda result: result.what_if(1, context=None), "None. Expected a `RunContext`"),
        (lambda result: result.sentence([1]), r"\[1\], a list as a candidate"),
        (lambda result: result.sentence(language=5), "5, an int"),
        (lambda result: result.sentence(template=None), "None. Expected a template"),
    ],
)
def test_what_a_result_cannot_be_asked_is_named(result, call, found):
    with pytest.raises(UnusableInputError, match=found):
        call(result)


@pytest.mark.parametrize("first", [5, "print"])
def test_what_cannot_be_called_is_not_told_of_preliminary_candidates(result, first):
    engine = SimpleNamespace(predict=None, info=None)
    with pytest.raises(UnusableInputError, match="preliminary"):
        Lens(engine=engine)(result.analysis.study, first=first)


@pytest.mark.parametrize("named", ["t1.nii", {"pd": "t1.nii"}], ids=str)
def test_files_are_named_by_sequence(tmp_path, named):
    with pytest.raises(UnusableInputError, match=r"mapping|t1c"):
        open_study(tmp_path, named=named)


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


def test_a_study_or_an_open_file_is_no_path(tmp_path):
    """They were iterated: the message named a sequence, or the file's first bytes."""
    study = open_study(samples.STUDY)
    with pytest.raises(UnusableInputError, match="a Study instead of a path"):
        open_study(study)
    with (samples.STUDY / "t1c.nii.gz").open("rb") as file:
        pass
    with pytest.raises(UnusableInputError, match="BufferedReader instead of a path"):
        open_study(file)


@pytest.mark.parametrize("context", [None, print, RunContext], ids=repr)
def test_a_study_is_opened_in_a_run_context_only(context):
    with pytest.raises(UnusableInputError, match="Expected a `RunContext`"):
        open_study(samples.STUDY, context=context)


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
