"""Files in the user's folders never stop an analysis, and a damaged one is not lost."""

from __future__ import annotations

import json
import logging

from lesionlens.base.files import user_files


def test_a_damaged_file_is_kept_under_another_name(tmp_path, caplog):
    place = tmp_path / "recent.json"
    place.write_text("{ damaged")
    user_files.store(place, {"a": 1}, "the list")
    assert json.loads(place.read_text()) == {"a": 1}
    assert (tmp_path / "recent.damaged-1.json").read_text() == "{ damaged"
    user_files.store(place, {"a": 2}, "the list")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recent.damaged-1.json", "recent.json"]
    assert [r.levelno for r in caplog.records] == [logging.WARNING]


def test_a_file_that_cannot_be_written_is_only_logged(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    user_files.store(tmp_path / "file" / "list.json", {"a": 1}, "the list")
    assert "the list could not be saved" in caplog.text
