"""The style sheet of the panel and the worklist, in the colours of a napari theme."""

from __future__ import annotations

from napari.utils.theme import get_theme
from qtpy.QtGui import QColor

STYLE = """
QWidget#lesionlens QLabel {{ background: transparent; }}
QWidget#lesionlens QLabel[role="title"] {{ font-size: {large}; font-weight: 600; }}
QWidget#lesionlens QLabel[role="dim"] {{ color: {dim}; font-size: {plain}; }}
QWidget#lesionlens QLabel[role="warn"] {{ color: {warn}; font-size: {plain}; }}
QWidget#lesionlens QLabel[role="good"] {{ color: {good}; font-size: {plain}; }}
QWidget#lesionlens QWidget[role="painted"] {{ font-size: {plain}; }}
QWidget#lesionlens QLabel[role="notice"] {{ color: {dim}; font-size: {small}; }}
QWidget#lesionlens QToolButton[role="fold"] {{
  background: transparent; border: 1px solid transparent; padding: 0; color: {dim};
  font-size: {small}; font-weight: 600; }}
QWidget#lesionlens QToolButton[role="fold"]:hover {{ color: {text}; }}
QWidget#lesionlens QFrame[role="rule"] {{
  background: {rule}; max-height: 1px; min-height: 1px; border: none; }}
QWidget#lesionlens QFrame[role="card"] {{ background: {card}; border-radius: 4px; }}
QWidget#lesionlens QFrame[role="problem"] {{
  background: {card}; border-left: 3px solid {warn}; border-radius: 2px; }}
QWidget#lesionlens QToolButton[role="segment"] {{
  background: {rule}; border: 1px solid transparent; padding: 3px 6px; border-radius: 3px;
  font-size: {plain}; }}
QWidget#lesionlens QToolButton[role="segment"]:hover {{ background: {hover}; }}
QWidget#lesionlens QToolButton[role="segment"]:checked {{
  background: {accent}; color: #ffffff; }}
QWidget#lesionlens QToolButton[role="segment"]:disabled {{ color: {off}; background: {card}; }}
QWidget#lesionlens QToolButton[role="flat"] {{
  background: transparent; border: 1px solid transparent; padding: 1px 3px; border-radius: 3px;
  color: {dim}; font-size: {plain}; }}
QWidget#lesionlens QToolButton::menu-indicator {{ image: none; width: 0; }}
QWidget#lesionlens QToolButton[role="flat"]:hover {{ color: {text}; }}
QWidget#lesionlens QToolButton[role="flat"]:disabled {{ color: {off}; }}
QWidget#lesionlens QPushButton {{
  padding: 4px 3px; border: 1px solid transparent; border-radius: 3px; min-width: 40px;
  font-size: {plain}; }}
QWidget#lesionlens QComboBox, QWidget#lesionlens QCheckBox {{ font-size: {plain}; }}
QWidget#lesionlens QComboBox, QWidget#lesionlens QLineEdit {{ placeholder-text-color: {dim}; }}
QWidget#lesionlens QPushButton[role="primary"] {{
  background: {accent}; color: #ffffff; font-weight: 600; }}
QWidget#lesionlens QPushButton[role="primary"]:disabled {{ background: {rule}; color: {off}; }}
QWidget#lesionlens QTableView {{ font-size: {plain};
  background: {card}; border: 1px solid transparent; border-radius: 4px;
  gridline-color: transparent;
  selection-background-color: {select}; selection-color: {text}; outline: 0; }}
QWidget#lesionlens QTableView::item:selected {{ background: {select}; color: {text}; }}
QWidget#lesionlens QTableView#studies::item:focus:!selected {{ border: 1px solid {focus}; }}
QWidget#lesionlens QHeaderView::section {{
  background: {card}; color: {dim}; border: none; font-size: {small}; padding: 3px 2px; }}
QWidget#lesionlens QToolButton:focus, QWidget#lesionlens QPushButton:focus,
QWidget#lesionlens QTableView:focus, QWidget#lesionlens QPushButton[role="primary"]:focus,
QWidget#lesionlens QToolButton[role="segment"]:checked:focus {{ border: 1px solid {focus}; }}
QWidget#lesionlens QComboBox:focus, QWidget#lesionlens QListWidget:focus,
QWidget#lesionlens QSpinBox:focus, QWidget#lesionlens QLineEdit:focus {{ background: {select}; }}
QWidget#lesionlens QCheckBox:focus {{ color: {focus}; }}
QWidget#lesionlens QSlider::handle:focus {{ background: {focus}; }}
"""
"""Filled from the theme by `style_sheet`."""

_DARK = {
    "dim": "#9aa3b2", "warn": "#f0b849", "good": "#4cc19a", "rule": "#3a404b", "card": "#2b3039",
    "hover": "#4a5160", "accent": "#2f6fb5", "off": "#6b7280", "text": "#f0f1f2",
    "select": "#3f5878", "focus": "#f0c75e",
}  # fmt: skip
_LIGHT = {
    "dim": "#4d5563", "warn": "#7a5200", "good": "#086044", "rule": "#d5d9df", "card": "#f3f4f6",
    "hover": "#c3c8d0", "accent": "#2f6fb5", "off": "#9aa0a8", "text": "#1d2026",
    "select": "#c5d9f0", "focus": "#8a4b00",
}  # fmt: skip


_LIGHT_FROM = 128
"""Lightness of the background, 0 to 255, from which a theme is light."""


def is_light(theme: str) -> bool:
    """Return whether a theme of napari has a light background; "system" is the desktop's."""
    return bool(QColor(get_theme(theme).background.as_hex()).lightness() >= _LIGHT_FROM)


def style_sheet(theme: str, font_pt: float) -> str:
    """Return the style for a theme of napari, light or dark, and napari's font size."""
    sizes = {"small": 0.85, "plain": 0.92, "large": 1.15}
    points = {name: f"{font_pt * scale:.1f}pt" for name, scale in sizes.items()}
    return STYLE.format(**(_LIGHT if is_light(theme) else _DARK), **points)
