"""The line that names patient and examination."""

from lesionlens.napari.model.state.identity import Identity
from lesionlens.napari.model.wording.titles import who


def test_a_name_that_runs_to_the_left_does_not_reorder_number_and_date():
    """Qt displays 2026-01-05 after an Arabic name as 05-01-2026."""
    listed = Identity("head", "محمد علي", "12-34", "born 1970-01-02 · F", "2026-01-05")
    assert who(listed) == "\u2068محمد علي\u2069 · ID 12-34 · 2026-01-05"
    assert listed.text == "\u2068محمد علي\u2069 · ID 12-34 · 2026-01-05 · head"
    overridden = Identity("head", "Doe\u202e", "12-34", "", "2026-01-05")
    assert who(overridden) == "Doe · ID 12-34 · 2026-01-05"
    assert overridden.lines[0] == "Doe"
