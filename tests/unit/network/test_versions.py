"""Accepted weights: kept, in use, reverted; never silently others."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console
from tests.helpers.json_files import edited_json

from lesionlens.base.errors import ResourceError, WeightsError
from lesionlens.base.files import user_folders
from lesionlens.base.provenance import sha256_of
from lesionlens.cli import weights as command
from lesionlens.network import versions, weights
from lesionlens.network.shipped_weights import shipped_record
from lesionlens.network.versions import Lineage, WeightsStore
from lesionlens.training.learning import proposal as proposals


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


def test_weights_that_are_already_in_use_add_no_line_to_the_history(
    store, random_weights, tmp_path
):
    assert not store.use("default", by="B")
    assert store.acts == ()
    accepted(store, random_weights, tmp_path)
    assert command.use("v1", by="B").output == ("v1 was already in use; nothing was changed",)
    assert [act.use for act in store.acts] == ["v1"]
    assert command.use("default", by="B").output == ("default is in use from now on",)
    assert not store.use("default", by="B", why="again")
    assert [act.use for act in store.acts] == ["v1", "default"]


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
        "v2 reverted: worse on ours",
        "v1 reverted",
        "again",
    ]
    assert all(store.path(one.name).is_file() for one in store.versions)


def test_a_version_that_was_trained_from_a_kept_one_names_it(store, random_weights, tmp_path):
    first = accepted(store, random_weights, tmp_path)
    assert store.parent_of(accepted(store, random_weights, tmp_path, b" ")) == first.name == "v1"


@pytest.mark.parametrize("fails", ["folder", "weights", "log"])
def test_weights_that_cannot_be_stored_leave_those_in_use(
    store, random_weights, tmp_path, monkeypatch, fails
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    first = accepted(store, random_weights, tmp_path)
    with monkeypatch.context() as broken:
        place, name = {
            "folder": (versions.access, "make_folder"),
            "weights": (versions.shutil, "copyfile"),
            "log": (versions, "write_atomically"),
        }[fails]
        broken.setattr(place, name, full)
        with pytest.raises(ResourceError, match=r"could not be stored.*No space left"):
            accepted(store, random_weights, tmp_path, b" ")
    assert store.in_use == first
    assert weights.load_chosen(None)[1].sha256 == first.sha256
    second = accepted(store, random_weights, tmp_path, b" ")
    assert (second.name, store.in_use) == ("v2", second)


def test_altered_weights_are_refused_not_replaced_by_others(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    place = store.path("v1")
    place.write_bytes(place.read_bytes() + b"x")
    with pytest.raises(WeightsError, match="altered"):
        weights.load_chosen(None)
    place.unlink()
    with pytest.raises(WeightsError, match="missing"):
        weights.load_chosen("v1")


def test_a_user_without_a_home_folder_has_no_log(tmp_path):
    """With HOME=/dev/null every analysis was refused, for a log that cannot be read."""
    (tmp_path / "null").touch()
    assert versions.WeightsStore(tmp_path / "null" / "weights").in_use is None


def test_weights_accepted_in_a_development_version_stay_in_use_with_their_patients(
    store, random_weights, tmp_path
):
    """Until weights 0.4.1 the log named the patients `learnt_from`; it was called unreadable."""
    file = tmp_path / "proposed.safetensors"
    file.write_bytes(random_weights.read_bytes())
    lineage = Lineage("0.4.1", SHIPPED_SHA, trained_on=("1" * 64,), held_out=("2" * 64,))
    accepted = store.accept(file, lineage, by="A. Reader")
    log = store.folder / "versions.json"
    log.write_text(log.read_text().replace('"trained_on"', '"learnt_from"'))
    assert store.in_use == accepted
    assert store.in_use.trained_on == ("1" * 64,)
    store.use("default", by="A. Reader")
    assert store.versions == (accepted,)


def test_a_damaged_record_is_refused(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    with edited_json(store.folder / versions.LOG_NAME) as content:
        content["versions"][0]["name"] = "../../v1"
    with pytest.raises(WeightsError, match="cannot be read"):
        weights.load_chosen(None)


def test_the_same_weights_are_accepted_once(store, random_weights, tmp_path):
    accepted(store, random_weights, tmp_path)
    with pytest.raises(WeightsError, match="already accepted, as v1"):
        store.accept(random_weights, Lineage("x", SHIPPED_SHA), by="A. Reader")


def test_a_version_that_is_not_there_is_refused_by_name(store):
    with pytest.raises(WeightsError, match="no version 'v7'"):
        store.use("v7", by="A. Reader")


def test_the_weights_that_a_version_was_trained_from_are_named_as_they_are(
    store, random_weights, tmp_path
):
    """Weights trained from `synthetic` or from a file were listed as trained from the default."""
    synthetic = shipped_record("synthetic")["sha256"]
    for number, (parent, named) in enumerate(
        [
            (shipped_record("default")["sha256"], "default"),
            (synthetic, "synthetic"),
            ("ab" * 32, None),
        ]
    ):
        place = tmp_path / f"{number}.safetensors"
        place.write_bytes(random_weights.read_bytes() + b" " * number)
        new = store.accept(place, Lineage("0.5.0+tuned.1", parent), by="A. Reader")
        assert store.parent_of(new) == named
        shown = StringIO()
        Console(file=shown, width=200).print(command.show().output[0])
        assert (named or "abababababab…") in shown.getvalue().splitlines()[-2].partition("tuned")[2]
        done = command.back("B. Reader")
        assert "default is in use" in done.output[0]
        assert len(done.notes) == (named != "default")
        assert all((named or "SHA-256 abababababab") in note for note in done.notes)


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_proposal_that_was_compared_with_other_weights_than_those_in_use_says_so(
    store, random_weights, tmp_path, monkeypatch, meanwhile
):
    if meanwhile:
        accepted(store, random_weights, tmp_path, b" ")
    parent = SimpleNamespace(version="0.5.0", sha256=shipped_record("default")["sha256"])
    proposal = SimpleNamespace(
        proposed=SimpleNamespace(version="0.5.0+tuned.20260105"), parent=parent,
        trained_on=(), held_out=(), cautions=("few patients",),
    )  # fmt: skip
    monkeypatch.setattr(proposals, "read_proposal", lambda _: proposal)
    (tmp_path / proposals.WEIGHTS).write_bytes(random_weights.read_bytes())
    notes = command.accept(tmp_path, by="B. Reader").notes
    assert notes[0] == "few patients"
    assert [note for note in notes if "Until now v1 was in use" in note] == list(notes[1:])
    assert len(notes) == 1 + meanwhile


def test_a_proposal_made_in_a_development_version_is_read_with_its_patients(
    random_weights, tmp_path
):
    (tmp_path / proposals.WEIGHTS).write_bytes(random_weights.read_bytes())
    proposed = proposals.NamedWeights(version="0.4.1+tuned.1", sha256=sha256_of(random_weights))
    made = proposals.Proposal(
        made="2026-01-05T10:00:00+00:00", parent=proposed, proposed=proposed, steps=1, counts={},
        left_out=(), patients=(), drawn=(), cases=(), cautions=(),
        trained_on=("1" * 64,), held_out=("2" * 64,),
    )  # fmt: skip
    text = made.file_text().replace('"trained_on"', '"learnt_from"')
    (tmp_path / proposals.RECORD).write_text(text)
    assert proposals.read_proposal(tmp_path) == made


def test_a_file_that_the_log_does_not_know_is_not_replaced(store, random_weights, tmp_path):
    """Of a log restored from a backup: the versions accepted since were overwritten."""
    accepted(store, random_weights, tmp_path)
    content = store.path("v1").read_bytes()
    (store.folder / versions.LOG_NAME).unlink()
    again = accepted(store, random_weights, tmp_path, b" ")
    assert again.name == "v2"
    assert store.path("v1").read_bytes() == content


def test_an_acceptance_that_was_killed_before_its_record_is_repeated(
    store, random_weights, tmp_path
):
    """Its copy was of no version, and stayed for ever beside a second copy, v2."""
    store.folder.mkdir(parents=True)
    store.path("v1").write_bytes(random_weights.read_bytes())
    assert accepted(store, random_weights, tmp_path).name == "v1"
    assert [path.name for path in store.folder.glob("*.safetensors")] == ["v1.safetensors"]


def test_of_two_acceptances_at_a_time_none_is_lost(store, random_weights, tmp_path):
    files = [tmp_path / f"{n}.safetensors" for n in range(8)]
    for number, file in enumerate(files):
        file.write_bytes(random_weights.read_bytes() + b" " * number)
    line = Lineage("0.5.0+tuned.1", SHIPPED_SHA)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda file: store.accept(file, line, by="A. Reader"), files))
    assert {one.name for one in made} == {f"v{n}" for n in range(1, 9)}
    assert len(store.versions) == len(store.acts) == 8
    assert {sha256_of(store.path(one.name)) for one in made} == {sha256_of(file) for file in files}
