"""The next study to be labelled is one that a viewer can load."""

import random
import shutil

import pytest

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.records.prediction import Capability
from lesionlens.site.serving.monailabel.adapter import Adapter
from lesionlens.site.serving.sessions import Limits, Sessions


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "datastore"
    (place / "a protocol").mkdir(parents=True)
    (place / "a protocol" / "read me.txt").write_text("no scan")
    (place / "damaged").mkdir()
    (place / "damaged" / "t1c.nii.gz").write_bytes(b"no image")
    return place


@pytest.fixture
def adapter(folder):
    engine = QuickEngine(can=frozenset({Capability.SEGMENT}))
    sessions = Sessions({"quick": engine}, Limits())
    yield Adapter(sessions, folder)
    sessions.end()


@pytest.mark.parametrize("strategy", ["first", "random"])
def test_what_is_no_study_is_passed_over(strategy, adapter, folder, make_study, monkeypatch):
    """A folder of documents before the studies: every request for the next one was refused."""
    monkeypatch.setattr(random, "shuffle", lambda names: None)
    shutil.copytree(make_study(name="scan"), folder / "scan")
    assert adapter.next_sample(strategy, "me")["id"] == "scan"


def test_where_nothing_is_a_study_the_reason_is_given(adapter):
    with pytest.raises(UnusableInputError, match="a protocol"):
        adapter.next_sample("first", "me")
