"""The study that is read in advance: taken once, and only as it would be read now."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lesionlens.imaging.preparation.draft import PrepareOptions
from lesionlens.napari.controllers import next_study
from lesionlens.site.database.records import StudyEntry


def test_a_study_is_taken_once_and_by_the_preferences_of_now(monkeypatch):
    """A result was shown on the brain of the method that had been chosen before."""
    monkeypatch.setattr(next_study, "read_entry", lambda entry, *_: entry.name)
    before, now = PrepareOptions(stripper="own"), PrepareOptions(stripper="hd-bet")
    with ThreadPoolExecutor(1) as pool:
        held = next_study.NextStudy(pool)
        held.read(StudyEntry("a", "/x"), Path("a"), before)
        assert held.take("a", now) is None
        held.read(StudyEntry("a", "/x"), Path("a"), now)
        assert held.take("a", now).result() == "a"
        assert held.take("a", now) is None
        held.read(StudyEntry("a", "/x"), Path("a"), now)
        assert held.take("b", now) is None
        assert not held.is_held
