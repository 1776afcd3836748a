"""Accepted weights: kept, in use, taken back; never silently others."""

from __future__ import annotations

import json

import pytest

from lesionlens.base import user_folders
from lesionlens.base.errors import WeightsError
from lesionlens.network import versions, weights
from lesionlens.network.versions import Lineage, WeightsStore


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setattr(user_folders, "data", lambda: tmp_path / "data")
    return WeightsStore()


SHIPPED_SHA = "0" * 64


def accepted(store, file, tmp_path, tail=b""):
    place = tmp_path / f"proposed{len(store.versions)}.safetensors"
    place.write_bytes(file.read_bytes() + tail)
    parent = store.in_use
    line = Lineage("0.3.0+tuned.20260105", parent.sha256 if parent else SHIPPED_SHA)
    return store.accept(place, line, by="A. Reader", note="better on ours")


def test_what_was_accepted_is_used_where_nothing_is_named(store, random_weights, tmp_path):
    shipped = weights.load_shipped()[1].sha256
    assert weights.load_chosen(None)[1].sha256 == shipped
    new = accepted(store, random_weights, tmp_path)
    assert weights.load_chosen(None)[1].sha256 == new.sha256
    assert weights.load_chosen("v1")[1].sha256 == new.sha256
    assert weights.load_chosen("default")[1].sha256 == shipped
    assert weights.chosen_path(None) == store.path("v1")


def test_a_version_is_taken_back_to_its_parent_and_nothing_is_deleted(
    store, random_weights, tmp_path
):
    accepted(store, random_weights, tmp_path)
    second = accepted(store, random_weights, tmp_path, b" ")
    assert (second.name, second.parent_sha256) == ("v2", store.versions[0].sha256)
    assert [store.back(by="B", why="worse on ours"), store.back(by="B")] == ["v1", "default"]
    assert store.in_use is None
    with pytest.raises(WeightsError, match="the weights of the package in use"):
        store.back(by="B")
    store.use("v2", by="B", why="again")
    assert store.in_use is not None
    assert [act.use for act in store.acts] == ["v1", "v2", "v1", "default", "v2"]
    assert [act.why for act in store.acts] == [
        "accepted: better on ours",
        "accepted: better on ours",
        "v2 taken back: worse on ours",
        "v1 taken back",
        "again",
    ]
    assert all(store.path(one.name).is_file() for one in store.versions)


def test_altered_weights_are_refused_not_replaced_by_others(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    place = store.path("v1")
    place.write_bytes(place.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="altered"):
        weights.load_chosen(None)
    place.unlink()
    with pytest.raises(WeightsError, match="missing"):
        weights.load_chosen("v1")


def test_a_damaged_record_is_refused(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    record = store.folder / versions.LOG_NAME
    content = json.loads(record.read_text())
    content["versions"][0]["name"] = "../../v1"
    record.write_text(json.dumps(content))
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_chosen(None)


def test_the_same_weights_are_accepted_once(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    with pytest.raises(WeightsError, match="accepted before, as v1"):
        store.accept(random_weights, Lineage("x", SHIPPED_SHA), by="A. Reader")


def test_a_version_that_is_not_there_is_refused_by_name(store):
    with pytest.raises(WeightsError, match="no version 'v7'"):
        store.use("v7", by="A. Reader")
