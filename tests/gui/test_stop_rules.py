"""The panel warns of what `lesionlens monitor` found broken."""

from __future__ import annotations

import os

import pytest
from tests.gui.window import reads

from lesionlens.base.files import user_folders
from lesionlens.napari.preferences import read_preferences
from lesionlens.site.monitoring import monitor_warning

pytestmark = pytest.mark.gui


@pytest.fixture
def broken(tmp_path, monkeypatch):
    monkeypatch.setattr(user_folders, "data", lambda: tmp_path)
    monitor_warning.keep(
        ("2026-W07: 4.0 candidates per study, more than 3",), tmp_path / "monitor.html"
    )


def test_a_broken_stop_rule_stands_at_the_top_until_none_is(broken, panel, tmp_path):
    assert "4.0 candidates per study, more than 3" in reads(panel)
    if out := os.environ.get("LESIONLENS_PICTURES"):
        panel.grab().save(f"{out}/stop-rule.png")
    monitor_warning.keep((), tmp_path / "monitor.html")
    panel.show_stops()
    assert "Stop and look" not in reads(panel)


def test_nothing_is_reported_before_the_first_run(panel):
    assert "Stop and look" not in reads(panel)


def test_a_site_whose_settings_cannot_be_read_has_its_panel_and_its_words(
    tmp_path, monkeypatch, panel
):
    """No panel opened, the image lay as it was stored, and only the terminal had a traceback."""
    monkeypatch.setattr(user_folders, "site_settings", lambda: tmp_path)
    (tmp_path / "settings.toml").write_text("[Reading]\nunaided_first = true\n")
    found = read_preferences()
    assert found.unaided_first
    panel.show_stops()
    assert "the name 'Reading'" in reads(panel)
    assert "every study is read unaided first" in reads(panel)
    (tmp_path / "settings.toml").write_text("[reading]\nunaided_first = false\n")
    panel.show_stops()
    assert "Reading" not in reads(panel)
    assert not read_preferences().unaided_first
