"""What is beside the studies of a folder."""

from __future__ import annotations

from lesionlens.site.cohort.studies import left_out


def test_a_link_to_a_study_that_is_not_there_is_named(tmp_path):
    """A disk that was not mounted cost a cohort its studies without a word."""
    (tmp_path / "a").mkdir()
    for name in ("b", "c", ".#lock"):
        (tmp_path / name).symlink_to(tmp_path / "unmounted" / name)
    (tmp_path / "notes.txt").write_text("x")
    links, loose = left_out(tmp_path, tmp_path / "out")
    assert links == "Links that lead nowhere were skipped: b, c. Is a disk not mounted?"
    assert loose.endswith(": 1")
    (tmp_path / "dataset_description.json").write_text('{"BIDSVersion": "1.8.0"}')
    assert left_out(tmp_path, tmp_path) == (links,)
