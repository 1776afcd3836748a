"""The colours of the panel, which follow napari's theme."""

import pytest
from qtpy.QtCore import QObject, Qt
from qtpy.QtGui import QColor

from lesionlens.base.labels import ReviewState
from lesionlens.napari.model.screen.screen import ShownCandidate
from lesionlens.napari.qt.candidate_model import CandidateModel
from lesionlens.napari.widgets import style

THEMES = {"dark": style._DARK, "light": style._LIGHT}


@pytest.mark.parametrize("scheme", THEMES)
def test_the_system_theme_has_the_colours_of_the_desktop(monkeypatch, scheme):
    """On a light desktop the panel kept pale texts, made for a dark background."""
    monkeypatch.setattr("napari.utils.theme.get_system_theme", lambda: scheme)
    assert style.style_sheet("system", 9.0) == style.style_sheet(scheme, 9.0)
    assert THEMES[scheme]["dim"] in style.style_sheet("system", 9.0)


def contrast(one, other):
    """Contrast ratio of two colours by WCAG 2."""

    def luminance(colour):
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    high, low = sorted((luminance(QColor(c).getRgbF()[:3]) for c in (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("role", ["dim", "warn", "good", "text"])
def test_texts_can_be_read_on_the_background_of_each_theme(theme, role):
    """Warnings had 3.97:1 in the light theme, where WCAG asks for 4.5:1."""
    background = style.get_theme(theme).background.as_hex()
    assert contrast(THEMES[theme][role], background) >= 4.5


@pytest.mark.parametrize("state", ReviewState)
def test_the_sign_of_a_decision_can_be_seen_on_a_light_table(state):
    """Amber on white had 2:1; graphics need 3:1."""
    parent = QObject()
    model = CandidateModel(parent)
    model.replace((ShownCandidate(1, "left frontal", "8", "1 ml", "0.9", state, False, ""),))
    model.show_on(light=True)
    shown = model.data(model.index(0, 5), Qt.ItemDataRole.ForegroundRole)
    assert contrast(shown, style._LIGHT["card"]) >= 3
    model.show_on(light=False)
    shown = model.data(model.index(0, 5), Qt.ItemDataRole.ForegroundRole)
    assert contrast(shown, style._DARK["card"]) >= 2.4
