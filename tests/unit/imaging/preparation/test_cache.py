"""The cache saves time and never changes a result; it lies in the user's own folder."""

from dataclasses import replace

import numpy as np
import pytest
from tests.phantoms.acquire import Acquisition

from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import RunContext
from lesionlens.imaging.preparation import cache, co_registration
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.imaging.reading.readers import open_study

COARSE = PrepareOptions(edge_mm=4.0, strip=False)


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def study(make_study):
    how = {"flair": Acquisition("LPS", (4, 4, 6), tilt_deg=6)}
    return open_study(make_study(sequences={"t1c", "flair"}, how=how))


def test_an_entry_spares_the_search_and_a_damaged_one_is_made_anew(study, monkeypatch, own_folder):
    first = prepare(study, RunContext(), COARSE)
    entries = list(own_folder.glob("*.kept"))
    assert entries

    def never(*_, **__):
        raise AssertionError

    with monkeypatch.context() as spared:
        spared.setattr(co_registration, "register", never)
        second = prepare(study, RunContext(), COARSE)
    whole = [path.read_bytes() for path in entries]
    for path, content in zip(entries, whole, strict=True):
        path.write_bytes(content[:-1])
    anew = prepare(study, RunContext(), COARSE)
    for again in (second, anew):
        np.testing.assert_array_equal(again.channels, first.channels)
        assert again.steps == first.steps
    assert [path.read_bytes() for path in entries] == whole


def test_an_entry_under_the_name_of_another_is_computed_again():
    """A folder of entries that was renamed or restored wrongly moved another patient's scan."""
    form = cache.ArrayForm(frozenset({"a"}), lambda arrays: int(arrays["a"]), lambda a: {"a": a})
    first, second = (
        cache.cached(key, lambda number=number: np.array(number), form)
        for number, key in enumerate("kl")
    )
    assert (cache.recall("k", form), cache.recall("l", form)) == (first, second) == (0, 1)
    entries = {key: cache.folder() / f"{key}.kept" for key in "kl"}
    entries["l"].write_bytes(entries["k"].read_bytes())
    assert cache.recall("l", form) is None
    assert cache.cached("l", lambda: np.array(1), form) == cache.recall("l", form) == 1


def test_each_sequence_is_hashed_once(make_study, monkeypatch):
    tilted = Acquisition("LPS", (4, 4, 6), tilt_deg=6)
    names, hashed = {"t1", "t1c", "t2", "flair"}, []
    study = open_study(make_study(sequences=names, how=dict.fromkeys(names - {"t1c"}, tilted)))
    real, still = (
        cache.digest_of,
        Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0),
    )
    monkeypatch.setattr(co_registration, "register", lambda *_, **__: still)
    monkeypatch.setattr(cache, "digest_of", lambda values: hashed.append(1) or real(values))
    prepare(study, RunContext(), COARSE)
    assert len(hashed) == 4


def test_other_voxels_are_another_key(study):
    values, grid = study.series[MrSequence.T1C].load(), study.series[MrSequence.T1C].grid
    other = values.copy()
    other[0, 0, 0] += 1

    def key(voxels, affine=grid.affine, options="x"):
        return cache.key_of({"a": (cache.digest_of(voxels), affine)}, options)

    assert key(other) != key(values)
    assert key(values, grid.affine + np.eye(4)) != key(values)
    assert key(values, options="y") != key(values)
    assert key(np.ascontiguousarray(values)) == key(values)


def test_a_cache_that_cannot_be_written_is_no_failure(make_study, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "file" / "below")
    prepare(open_study(make_study(sequences={"t1c", "t2"})), RunContext(), COARSE)


def test_it_can_be_left_out(make_study, own_folder):
    study = open_study(make_study(sequences={"t1c", "t2"}))
    prepare(study, RunContext(), replace(COARSE, cache=False))
    assert not own_folder.exists()


def test_the_oldest_entries_go(monkeypatch, own_folder):
    monkeypatch.setattr(cache, "MAX_ENTRIES", 3)
    for number in range(6):
        cache.save(f"k{number}", {"a": np.arange(number)})
    assert len(list(own_folder.glob("*.kept"))) == 3
    assert not list(own_folder.glob("*.part"))


def test_entries_that_another_process_deletes_are_no_reason_to_warn(own_folder, caplog):
    cache.save("k", {"a": np.zeros(3)})
    (own_folder / "gone.kept").symlink_to(own_folder / "nowhere")
    cache.save("l", {"a": np.zeros(3)})
    assert not caplog.records
    assert (own_folder / "l.kept").exists()
