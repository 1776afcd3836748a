"""Whatever file a person or another program may have put there: of a bounded size, and one meaning.

Each reader answers a file that is too large, that nests without end, that holds a number which is
none, or that is not UTF-8, as it answers any damaged file: it refuses it in words, or does without.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lesionlens.analysis.evaluation.bounds import read_bounds
from lesionlens.analysis.evaluation.cases import _cases_of_dataset
from lesionlens.analysis.followup import study_locations
from lesionlens.base.errors import LesionLensError
from lesionlens.base.files import JSON_BYTES, read_file
from lesionlens.imaging.reading import bids
from lesionlens.imaging.reading.nifti import read_sidecar
from lesionlens.napari.model.studies import last_layout
from lesionlens.napari.model.studies.archive import stored_servers
from lesionlens.results.documents import SENT, sent_documents
from lesionlens.results.review import prior
from lesionlens.site.database.descriptions import with_result
from lesionlens.site.database.records import StudyEntry
from lesionlens.site.worklist import protocol, site_policy
from lesionlens.site.worklist.site_policy import unaided_first_required
from lesionlens.site.worklist.table import network_scores
from lesionlens.training.cases import read_split

DOCUMENT = {
    "study_uid": "1.1", "series_uid": "1.2", "sop_class_uid": "1.3", "sop_instance_uid": "1.4",
}  # fmt: skip
FINDINGS = {"candidates": [{"tracking_uid": "2.25.1", "score": 0.5}], "quality": []}
DATASET = {"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "whole": 1}}
CASES = [SimpleNamespace(name=name, patient=name.upper()) for name in "ab"]


@dataclass(frozen=True)
class Reader:
    """A reader of one file, and a file that it takes."""

    file: str
    """Below a folder that is also each of the user's folders."""
    content: Any
    """An object or a list for JSON, else text."""
    read: Callable[[Path], Any]


READERS = {
    "servers": Reader("archives.json", [{"address": "a"}], lambda _: stored_servers()),
    "views": Reader("views.json", {"a": "b"}, lambda _: last_layout._stored_layouts()),
    "study_locations": Reader(
        "studies.json", {"a": "b"}, lambda _: study_locations._load_locations()
    ),
    "split": Reader(
        "split.json", {"training": {"A": ["a"]}}, lambda d: read_split(d / "split.json")
    ),
    "sent": Reader(SENT, {"sent": [{"document": DOCUMENT}]}, sent_documents),
    "sidecar": Reader("a.json", {"PatientID": "1"}, lambda d: read_sidecar(d / "a.nii.gz", [])),
    "dataset": Reader("dataset_description.json", {"BIDSVersion": "1"}, bids.is_dataset),
    "prior": Reader("run.json", {"study_uid": "1"}, prior._uid_of),
    "bounds": Reader("a.toml", "min_cases = 7\n", lambda d: read_bounds(d / "a.toml")),
    "site": Reader("settings.toml", "[reading]\nunaided_first = true\n",
                   lambda _: unaided_first_required()),
    "protocol": Reader(
        protocol.FILE, 'title = "t"\nseed = 1\nreaders = ["a"]\n', protocol.read_protocol
    ),
    "row": Reader("findings.json", FINDINGS, lambda d: with_result(StudyEntry("one", str(d)), d)),
    "scores": Reader("findings.json", FINDINGS, lambda d: network_scores(d.parent, [d.name])),
    "decathlon": Reader("dataset.json", DATASET, _cases_of_dataset),
}  # fmt: skip


def _with(reader: Reader, extra: str) -> bytes:
    """Return the reader's file with one value more, which it would not look at."""
    if isinstance(reader.content, str):
        return f"extra = {extra}\n{reader.content}".encode()
    text = json.dumps(reader.content)
    inner = text[1:-1] + (", " if len(text) > 2 else "")
    more = extra if text[0] == "[" else f'"extra": {extra}'
    return f"{text[0]}{inner}{more}{text[-1]}".encode()


def _whole(reader: Reader) -> bytes:
    text = reader.content if isinstance(reader.content, str) else json.dumps(reader.content)
    return text.encode()


HOSTILE = {
    "large": lambda reader: _whole(reader) + b"\n" * (JSON_BYTES + 1),
    "nested": lambda reader: _with(reader, "[" * 100_000 + "]" * 100_000),
    "no number": lambda reader: _with(reader, "nan" if isinstance(reader.content, str) else "NaN"),
    "not UTF-8": lambda reader: _with(reader, '"?"').replace(b"?", b"\xe9"),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("data", "config"):
        monkeypatch.setattr(f"platformdirs.user_{name}_dir", lambda *_, **__: str(tmp_path))
    monkeypatch.setattr(site_policy, "site_settings", lambda: tmp_path)
    return tmp_path


def _answer(reader: Reader, folder: Path, content: bytes) -> str:
    (folder / reader.file).write_bytes(content)
    try:
        return repr(reader.read(folder))
    except (LesionLensError, ValueError):
        return "refused"


@pytest.mark.parametrize("name", READERS)
def test_a_hostile_file_is_answered_as_a_damaged_one(folder, name):
    reader = READERS[name]
    damaged = _answer(reader, folder, b'{"')
    assert _answer(reader, folder, _whole(reader)) != damaged
    for kind, made in HOSTILE.items():
        assert _answer(reader, folder, made(reader)) == damaged, kind


def _free_descriptor():
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    return number


def test_a_folder_in_place_of_a_file_keeps_no_descriptor(tmp_path):
    """One was lost at each try, in a window or server that runs for weeks."""
    before = _free_descriptor()
    for _ in range(3):
        with pytest.raises(OSError, match=tmp_path.name):
            read_file(tmp_path)
    assert _free_descriptor() == before
