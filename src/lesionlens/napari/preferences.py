"""The plugin's settings: defaults in the manifest, values in napari's Preferences."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lesionlens.base.errors import ConfigError, MissingPluginError
from lesionlens.base.records.export import ExportOptions
from lesionlens.engines import EngineChoice
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.site.worklist.site_policy import unaided_first_required

if TYPE_CHECKING:
    from napari.utils.events import EmitterGroup


@dataclass(frozen=True, slots=True)
class Preferences:
    """Settings under Preferences → LesionLens."""

    reader_name: str | None = None
    """Name stored with every decision."""
    overlay: Overlay = Overlay.OFF
    """Overlay shown with a new analysis; off keeps the read unaided."""
    opacity: float = 0.6
    """Opacity of maps, 0 to 1."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, xpu, xpu:N or mps."""
    open_panel: bool = True
    """Whether opening a study opens the panel."""
    wheel_zooms: bool = False
    """Whether the wheel zooms and Ctrl+wheel scrolls, instead of the reverse."""
    sentence_template: str = ""
    """A site's sentence template; empty for the built-in ones."""
    unaided_first: bool = False
    """Whether the reader signs an unaided read before the analysis is shown, by choice or by the
    site's policy."""
    site_problem: str = ""
    """Why the site's settings cannot be used; *Unaided first*, which they may require, then holds.
    """

    @property
    def engine(self) -> EngineChoice:
        """Choice of the engine."""
        return EngineChoice(self.device)

    def with_report_settings(self, options: ExportOptions) -> ExportOptions:
        """Return export options with the sentence template of these settings.

        Raises
        ------
        UnusableInputError
            The template cannot be used.
        """
        from lesionlens.results.export.sentence import read_template

        file = self.sentence_template
        template = read_template(Path(file)) if file else ""
        return replace(options, sentence_template=template)


def read_preferences() -> Preferences:
    """Return the current settings.

    Raises
    ------
    MissingPluginError
        The plugin is disabled in napari.
    """
    required, site_problem = _policy()
    settings = _settings()
    review, engine = settings.review, settings.engine
    return Preferences(
        reader_name=review.reader_name.strip() or None,
        overlay=Overlay(review.overlay),
        opacity=float(review.opacity),
        device=engine.device.strip() or "auto",
        open_panel=bool(review.open_panel),
        wheel_zooms=str(review.wheel) == "zoom",
        sentence_template=review.sentence_template.strip(),
        unaided_first=bool(review.unaided_first) or required,
        site_problem=site_problem,
    )


def _settings() -> Any:
    from napari.settings import get_plugin_settings

    try:
        return get_plugin_settings("lesionlens")
    except KeyError:
        raise _disabled_error() from None


def check_enabled() -> None:
    """Raise MissingPluginError if napari's settings disable the plugin."""
    from napari.settings import get_settings

    if "lesionlens" in get_settings().plugins.disabled_plugins:
        raise _disabled_error()


def _disabled_error() -> MissingPluginError:
    return MissingPluginError(
        "The plugin LesionLens is disabled in napari.",
        hint="Enable it in napari (Plugins, Install/Uninstall Plugins…), then start again.",
    )


def preference_events() -> tuple[EmitterGroup, ...]:
    """Return napari's events of changed settings."""
    settings = _settings()
    return tuple(group.events for group in (settings.review, settings.engine))


def _policy() -> tuple[bool, str]:
    """Return whether the site requires unaided reads, and why that is unknown; then it does."""
    try:
        return unaided_first_required(), ""
    except ConfigError as error:
        return True, f"{error} Until then every study is read unaided first."


def store_reader(name: str) -> None:
    """Store the reader's name."""
    _settings().review.reader_name = name


FOLDERS = f"*{os.sep}"
"""Napari's pattern for all folders."""


def used_for_folders() -> bool:
    """Whether napari opens folders with LesionLens without asking which reader to use."""
    from napari.settings import get_settings

    return bool(get_settings().plugins.extension2reader.get(FOLDERS) == "lesionlens")


def use_for_folders(enabled: bool) -> None:
    """Let napari open folders with LesionLens, or ask each time; stored in napari's settings.

    A folder that LesionLens declines is offered to the other readers as before.
    """
    from napari.settings import get_settings

    plugins = get_settings().plugins
    others = {key: name for key, name in plugins.extension2reader.items() if key != FOLDERS}
    plugins.extension2reader = others | ({FOLDERS: "lesionlens"} if enabled else {})
