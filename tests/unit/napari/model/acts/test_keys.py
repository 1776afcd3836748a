"""Keys are unique, and the manual lists each."""

from __future__ import annotations

from pathlib import Path

from lesionlens.napari.model.acts.keys import KEYS

REPOSITORY = Path(__file__).resolve().parents[5]


def test_keys_and_acts_are_unique():
    assert len({key.key for key in KEYS}) == len(KEYS)
    assert len({key.act for key in KEYS}) == len(KEYS)


def test_the_manual_lists_every_key():
    manual = (REPOSITORY / "docs" / "how-to" / "napari.md").read_text(encoding="utf-8")
    for key in KEYS:
        assert f"| {key.shown} | {key.words} |" in manual
