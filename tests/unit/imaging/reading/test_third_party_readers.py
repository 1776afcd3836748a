"""Readers of other packages: one that is broken costs nobody else a study."""

from __future__ import annotations

import numpy as np
import pytest
from tests.helpers.third_party_package import install_package

from lesionlens.base.errors import PluginError, UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.readers import open_study

READER = """
from dataclasses import replace
from lesionlens.imaging.reading.nifti.reader import NiftiReader

class Reader:
    name = "mine"

    def claims(self, path):
        return {claim}

    def read(self, path, named, options):
        study = NiftiReader().read(path, named, options)
        return {study}
"""
DEAF = READER.replace(
    "path, named, options)\n        return", "path, {{}}, ReadOptions())\n        return"
)
DEAF = DEAF.replace(
    "class Reader", "from lesionlens.imaging.reading.readers import ReadOptions\n\nclass Reader"
).format(claim="1.0", study="study")
CHANGED = (
    "replace(study, series={s: replace(v, load=lambda v=v: LOAD) for s, v in study.series.items()})"
)


def with_reader(monkeypatch, tmp_path, *, claim="1.0", study="study"):
    install_package(
        monkeypatch, tmp_path, READER.format(claim=claim, study=study), readers="mine = Reader"
    )


READ_BY = "Read by a plug-in: 'mine' of crooked 0.7"


def test_the_surest_reader_reads_whoever_wrote_it_and_is_named(monkeypatch, tmp_path, make_study):
    with_reader(monkeypatch, tmp_path)
    study = open_study(make_study())
    assert all(item.load().dtype == np.float32 for item in study.series.values())
    assert [notice for notice in study.notices if "mine" in notice] == [READ_BY]


REFUSES = "NiftiReader().read(path / 'none', {}, None)"


@pytest.mark.parametrize("claim", ["1 / 0", "None", "'much'", "float('nan')", "2.0", REFUSES])
def test_a_study_opens_beside_a_broken_reader_which_a_notice_names(
    claim, monkeypatch, tmp_path, make_study
):
    with_reader(monkeypatch, tmp_path, claim=claim)
    study = open_study(make_study())
    assert study.series
    (notice,) = (notice for notice in study.notices if "'mine' of crooked 0.7" in notice)
    assert notice.startswith("Reader not used: ")


def test_where_nobody_can_read_it_the_broken_reader_is_named(monkeypatch, tmp_path):
    install_package(monkeypatch, tmp_path, "import nothing_like_this", readers="mine = Reader")
    (tmp_path / "scan.xyz").write_text("voxels")
    with pytest.raises(UnusableInputError, match=r"scan\.xyz.*'mine' of crooked"):
        open_study(tmp_path / "scan.xyz")


@pytest.mark.parametrize("study", ["None", "study.nothing"])
def test_a_reader_that_gives_no_study_is_named(study, monkeypatch, tmp_path, make_study):
    with_reader(monkeypatch, tmp_path, study=study)
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7"):
        open_study(make_study())


@pytest.mark.parametrize(
    "study",
    [
        "replace(study, series={s.value.upper(): v for s, v in study.series.items()})",
        "replace(study, series=list(study.series.values()))",
        "replace(study, series={s: replace(v, files=()) for s, v in study.series.items()})",
        "replace(study, series={s: replace(v, files=(path,)) for s, v in study.series.items()})",
        "replace(study, series={s: None for s in study.series})",
        "replace(study, series=dict(zip(study.series, reversed(study.series.values()))))",
        "replace(study, set_aside=(None,))",
        "replace(study, root=None)",
        "replace(study, name='')",
        "replace(study, name='../7')",  # its folder in a BIDS dataset of results
        "replace(study, notices=(5,))",
        "replace(study, kind='nifti file')",
        "replace(study, series={s: replace(v, detected_by=None) for s, v in study.series.items()})",
        "replace(study, set_aside=(replace(study.series['t1'], description=7),))",
        "replace(study, set_aside=None)",
        "replace(study, notices=None)",
        "replace(study, uid=5)",
        "replace(study, patient={'weight': 70})",
        *map(
            "replace(study, series={{s: replace(v, {}) for s, v in study.series.items()}})".format,
            (
                "files=(replace(v.files[0], path=None),)",
                "files=(replace(v.files[0], sop_instance_uid=3),)",
                "nifti_codes=None",
                "nifti_codes=(77, 1)",
                "confidence=float('nan')",
                "confidence='sure'",
                "evidence_kind='guess'",
                "frames=None",
                "uid=7",
                "load=None",
            ),
        ),
    ],
)
def test_a_study_that_could_not_be_opened_again_is_refused(
    study, monkeypatch, tmp_path, make_study
):
    """Without its files a result lists no inputs, and no study is known to be its own."""
    with_reader(monkeypatch, tmp_path, study=study)
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7 gave"):
        open_study(make_study())


def test_names_that_are_not_utf_8_reach_no_file(monkeypatch, tmp_path, make_study):
    odd = "M\\udcfcller"
    files = f"tuple(replace(f, name='{odd}') for f in v.files)"
    texts = f"detected_by='{odd}', description='{odd}', files={files}"
    series = f"{{s: replace(v, {texts}) for s, v in study.series.items()}}"
    changed = f"replace(study, name='{odd}', notices=('{odd}',), series={series})"
    with_reader(monkeypatch, tmp_path, study=changed)
    study = open_study(make_study())
    t1 = study.series[MrSequence.T1]
    assert study.notices[-1] == READ_BY
    texts = study.name, *study.notices[:-1], t1.detected_by, t1.description, t1.files[0].name
    assert set(texts) == {r"M\udcfcller"}


@pytest.mark.parametrize("how", ["file", "folder", "uid"])
def test_a_reader_that_ignores_what_the_user_named_is_refused(
    how, monkeypatch, tmp_path, make_study
):
    """Else another series than the user's own would be analysed in its place, without a word."""
    place, other = make_study(), tmp_path / "other"
    other.mkdir()
    source = next(place.glob("*t1c*"))
    (other / "mine.nii.gz").write_bytes(source.read_bytes())
    named = {"file": other / "mine.nii.gz", "folder": other, "uid": "1.2.3"}[how]
    install_package(monkeypatch, tmp_path, DEAF, readers="mine = Reader")
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7 gave a different T1c from"):
        open_study(place, named={MrSequence.T1C: named})
    for same in (source, source.name, place):
        assert open_study(place, named={MrSequence.T1C: same}).series


def test_a_reader_that_ignores_the_named_study_is_refused(monkeypatch, tmp_path, make_study):
    place = make_study()
    install_package(monkeypatch, tmp_path, DEAF, readers="mine = Reader")
    with pytest.raises(PluginError, match=r"gave a different study from '1\.2\.3'"):
        open_study(place, study_uid="1.2.3")
    assert open_study(place, study_uid=place.name).series


MASKED = "__import__('numpy').ma.masked_array(v.load(), v.load() > 0)"
TENSOR = "__import__('torch').from_numpy(v.load().copy())"


@pytest.mark.parametrize("load", ["v.load()[:-1]", "v.load() > 0", "None", "1 / 0", MASKED, TENSOR])
def test_voxels_that_do_not_fit_their_grid_are_refused(load, monkeypatch, tmp_path, make_study):
    """A volume short of a slice would else be shown, and measured, at wrong places."""
    with_reader(monkeypatch, tmp_path, study=CHANGED.replace("LOAD", load))
    study = open_study(make_study())
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7"):
        next(iter(study.series.values())).load()


def test_voxels_of_a_series_that_is_set_aside_are_checked_too(monkeypatch, tmp_path, make_study):
    """The window shows it beside the four."""
    aside = "replace(study.series['t1'], sequence=None, load=lambda: None)"
    with_reader(monkeypatch, tmp_path, study=f"replace(study, set_aside=({aside},))")
    (series,) = open_study(make_study()).set_aside
    with pytest.raises(PluginError, match=r"'mine' of crooked 0\.7 gave voxels as NoneType"):
        series.load()
