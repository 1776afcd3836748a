"""Windows of the sequences, shared by all views: the contrast limits of their layers."""

from __future__ import annotations

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.napari.model.choices.views import Window as WindowPreset
from lesionlens.napari.model.overlays.window_level import dragged, limits_of
from lesionlens.napari.viewer.board_view import Window
from lesionlens.napari.viewer.layers import Layers


class Brightness:
    """Reads and sets the contrast limits of the sequences' layers."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers

    def window_of(self, sequence: MrSequence) -> Window:
        """Return the values shown black and white; 0 and 1 without a layer."""
        layer = self._layers.picture(sequence)
        if layer is None:
            return 0.0, 1.0
        low, high = layer.contrast_limits
        return float(low), float(high)

    def take(self, window: WindowPreset) -> None:
        """Apply a preset to every sequence."""
        for sequence in MrSequence:
            layer = self._layers.picture(sequence)
            if layer is not None:
                layer.contrast_limits = limits_of(np.asarray(layer.data), window)

    def drag(self, sequence: MrSequence, right: float, down: float) -> None:
        """Change a sequence's window by pixels to the right (width) and down (level)."""
        layer = self._layers.picture(sequence)
        if layer is not None:
            auto = self._layers.auto_limits(sequence)
            low, high = dragged(self.window_of(sequence), auto, (right, down))
            lowest, highest = layer.contrast_limits_range
            layer.contrast_limits_range = (min(low, lowest), max(high, highest))
            layer.contrast_limits = (low, high)
