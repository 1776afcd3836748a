"""The listing of an archive's studies."""

import json
from types import SimpleNamespace

import pytest

from lesionlens.cli import pacs
from lesionlens.site.pacs.peer import FoundStudy


@pytest.mark.parametrize(("count", "said"), [(None, "? images"), (1, "1 image "), (9, "9 images")])
def test_studies_are_listed_with_their_images(monkeypatch, count, said):
    study = FoundStudy("1.2.3", "7", "20260104", "HEAD", ("MR",), count)
    archive = SimpleNamespace(find=lambda *_, **__: (study,))
    monkeypatch.setattr(pacs, "connect", lambda *_: archive)
    row, summary = pacs.find("http://127.0.0.1/dicom-web").output
    assert said in row
    assert summary == "1 study"
    (listed,) = json.loads(pacs.find("http://127.0.0.1/dicom-web", json=True).output[0])
    assert (listed["study_uid"], listed["instances"]) == ("1.2.3", count)


@pytest.mark.parametrize(
    ("given", "asked"), [({}, "MR"), ({"modality": "CT"}, "CT"), ({"modality": "*"}, "")]
)
def test_studies_of_every_modality_can_be_asked_for(monkeypatch, given, asked):
    """The help named an empty value, which every command refuses."""
    queries = []
    archive = SimpleNamespace(find=lambda query, **_: queries.append(query) or ())
    monkeypatch.setattr(pacs, "connect", lambda *_: archive)
    pacs.find("http://127.0.0.1/dicom-web", **given)
    assert [query.modality for query in queries] == [asked]
