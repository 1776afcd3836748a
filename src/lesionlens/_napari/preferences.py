"""The plugin's settings: defaults in the manifest, values in napari's Preferences."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens._napari.model.state import Choices, Overlay


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the user set under Preferences → LesionLens.

    Parameters
    ----------
    reader_name : str or None
        Written into every decision.
    overlay : Overlay
        Shown as soon as an analysis is there; off keeps the unaided read.
    opacity : float
        Of maps, 0 to 1.
    device : str
        auto, cpu, cuda or cuda:N.
    open_panel : bool
        Whether the panel opens with a study.
    """

    reader_name: str | None = None
    overlay: Overlay = Overlay.OFF
    opacity: float = 0.6
    device: str = "auto"
    open_panel: bool = True

    def choices(self) -> Choices:
        """Return what is chosen when a study opens."""
        return Choices(opacity=self.opacity)


def read_preferences() -> Preferences:
    """Return the values of now; the defaults where napari knows none of this plugin."""
    from napari.settings import get_plugin_settings  # noqa: PLC0415

    try:
        settings = get_plugin_settings("lesionlens")
    except KeyError:
        return Preferences()
    review, engine = settings.review, settings.engine
    return Preferences(
        reader_name=review.reader_name.strip() or None,
        overlay=Overlay(review.overlay),
        opacity=float(review.opacity),
        device=engine.device.strip() or "auto",
        open_panel=bool(review.open_panel),
    )
