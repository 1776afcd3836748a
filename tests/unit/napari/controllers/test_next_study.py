"""The study that is read in advance is taken once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lesionlens.napari.controllers import next_study
from lesionlens.site.database.records import StudyEntry


def test_a_study_is_taken_once_and_by_its_name(monkeypatch):
    monkeypatch.setattr(next_study, "read_entry", lambda entry, *_: entry.name)
    with ThreadPoolExecutor(1) as pool:
        held = next_study.NextStudy(pool)
        held.read(StudyEntry("a", "/x"), Path("a"))
        assert held.take("a").result() == "a"
        assert held.take("a") is None
        held.read(StudyEntry("a", "/x"), Path("a"))
        assert held.take("b") is None
        assert not held.is_held
