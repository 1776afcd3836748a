"""Colours and names of overlays: maps, labels, lines."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from napari.utils.colormaps import Colormap, DirectLabelColormap, ensure_colormap
from numpy.typing import NDArray

from lesionlens.napari.model.screen.map_layers import EVIDENCE

MAP = "inferno"
AGAINST, FOR = (0.835, 0.369, 0.0), (0.337, 0.706, 0.914)
"""Ends of a signed map, as in the panel's bars; the middle is transparent."""
PROMPT_COLOURS = {True: FOR, False: AGAINST}
"""Colours of a dragged prompt: foreground (True) and background (False)."""
BOX_COLOUR, MARK_COLOUR = "#F0E442", "#FFFFC0"


def see_through(name: str) -> Colormap:
    """Return a perceptual colour map that starts transparent."""
    base = ensure_colormap(name)
    stops = np.linspace(0.0, 1.0, 64)
    colours = np.asarray(base.map(0.25 + 0.75 * stops))
    colours[:, 3] = np.clip((stops - 0.05) / 0.45, 0.0, 1.0)
    return Colormap(colours, name=f"lesionlens-{name}", display_name=f"{name} (see-through)")


def colours_of(role: str) -> Colormap:
    """Return the colour map of a map's role."""
    if role != EVIDENCE:
        return see_through(MAP)
    stops = np.linspace(-1.0, 1.0, 129)
    colours = np.where(stops[:, None] < 0, AGAINST, FOR)
    alpha = np.clip((np.abs(stops) - 0.05) / 0.6, 0.0, 1.0)
    return Colormap(
        np.column_stack([colours, alpha]), name="lesionlens-signed", display_name="for and against"
    )


def label_colours(colours: Mapping[int, str]) -> DirectLabelColormap:
    """Return a label colour map; labels without a colour are transparent."""
    table: dict[int | None, str] = {None: "transparent", 0: "transparent"}
    return DirectLabelColormap(color_dict=table | dict(colours))


def map_colours(role: str) -> NDArray[np.float64]:
    """Return the (N, 4) colours of a map's role, lowest first."""
    return np.asarray(colours_of(role).colors, dtype=np.float64)
