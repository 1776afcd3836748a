"""Layer edits from two scenes: the only module that creates and changes napari layers.

LesionLens layers have `metadata["lesionlens"]` with their role. Changes by the user (visibility,
contrast, colour map) are kept until the scene changes the same property.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakSet, ref

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.choices.views import ComparedPictures, Window
from lesionlens.napari.model.overlays.maps import (
    MapView,
    Overlays,
    axis_aligned,
    contrast_limits,
    geometry_keywords,
    grid_of,
    image_keywords,
)
from lesionlens.napari.model.overlays.window_level import Limits, dragged, full_range, limits_of
from lesionlens.napari.model.screen.screen import ShownOutline, ShownScene
from lesionlens.napari.viewer.colours import (
    ATTENTION,
    EVIDENCE,
    PROBE,
    UNCERTAINTY,
    colours_of,
    label_colours,
    map_words,
)
from lesionlens.napari.viewer.single import TRANSFORM

OUTLINE, BRAIN, COMPARED = "candidates", "brain", "compared"
_OPAQUE = 0.95
_UNTURNED = (("rotate", np.eye(3)), ("shear", np.zeros(3)), ("affine", np.eye(4)))
_ORDER = (BRAIN, UNCERTAINTY, ATTENTION, EVIDENCE, PROBE, OUTLINE)


def put(layer: Any, **values: Any) -> None:
    """Set properties that differ, as napari redraws a layer for every assignment."""
    for name, value in values.items():
        if getattr(layer, name) != value:
            setattr(layer, name, value)


class Layers:
    """The layers of one session in one viewer."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._made: dict[str, Any] = {}
        self._drawn: dict[str, Any] = {}
        self._overlays: Overlays | None = None
        self._aside: list[Any] = []
        self._held: WeakSet[Any] = WeakSet()
        self._laying = False
        self.moved: Callable[[], object] = lambda: None
        """Called after the transform of a layer changed and was restored."""
        self._sequence: MrSequence | None = None
        self.revealed: Callable[[MrSequence], object] = lambda _: None
        """Called when napari's layer list makes the image of another sequence visible."""

    # --- images ---------------------------------------------------------------------------

    def adopt(self, layer: Any) -> None:
        """Use a layer as the image of its sequence."""
        ours = layer.metadata[KEY]
        self._made[ours["sequence"]] = layer
        ours.setdefault("of", ref(layer))
        self.hold(layer)
        layer.events.visible.connect(self._on_visible)
        ours.setdefault("auto", tuple(layer.contrast_limits))
        layer.contrast_limits_range = full_range(layer.data)

    def hold(self, layer: Any) -> None:
        """Keep a layer where it is in the patient: changes of its transform are undone."""
        place = tuple(layer.scale), tuple(layer.translate)
        layer.metadata[KEY].setdefault("place", place)
        self._held.add(layer)
        for name in TRANSFORM:
            getattr(layer.events, name).connect(self._on_transform)

    def release(self) -> None:
        """Disconnect from the layers."""
        for layer in self._held:
            for name in TRANSFORM:
                getattr(layer.events, name).disconnect(self._on_transform)
            layer.events.visible.disconnect(self._on_visible)

    def has_made(self, layer: Any) -> bool:
        """Whether a layer is one of these, and no copy of one."""
        return layer in self._made.values()

    def picture(self, sequence: MrSequence | None) -> Any:
        """Return the layer of a sequence; None if there is none."""
        return None if sequence is None else self._get(sequence.value)

    def pictures(self) -> dict[MrSequence, tuple[NDArray[Any], Grid]]:
        """Return voxels and grid of each sequence, as acquired if known.

        Changes of a layer's transform by the user are ignored.
        """
        found: dict[MrSequence, tuple[NDArray[Any], Grid]] = {}
        for sequence in MrSequence:
            layer = self._get(sequence.value)
            if layer is None:
                continue
            ours = layer.metadata[KEY]
            if ours.get("acquired") is not None:
                found[sequence] = (ours["acquired"].data, ours["acquired"].grid)
            else:
                found[sequence] = (layer.data, grid_of(layer.data, *ours["place"]))
        return found

    def limits(self, sequence: MrSequence) -> Limits:
        """Return the values shown black and white; 0 and 1 without a layer."""
        layer = self._get(sequence.value)
        low, high = (0.0, 1.0) if layer is None else layer.contrast_limits
        return float(low), float(high)

    def choose_window(self, window: Window) -> None:
        """Apply a preset to every sequence."""
        for layer in self._pictures():
            layer.contrast_limits = limits_of(np.asarray(layer.data), window)

    def drag_window(self, sequence: MrSequence, right: float, down: float) -> None:
        """Change a sequence's window by pixels to the right (width) and down (level)."""
        layer = self._get(sequence.value)
        if layer is not None:
            auto = layer.metadata[KEY]["auto"]
            low, high = dragged(self.limits(sequence), auto, (right, down))
            lowest, highest = layer.contrast_limits_range
            layer.contrast_limits_range = (min(low, lowest), max(high, highest))
            layer.contrast_limits = (low, high)

    def set_right(self) -> bool:
        """Restore the transform of every LesionLens layer; return whether one was changed."""
        turned, self._laying = False, True
        for layer in self._held.intersection(self._viewer.layers):
            place = layer.metadata[KEY]["place"]
            for name, value in (("scale", place[0]), ("translate", place[1]), *_UNTURNED):
                if not np.allclose(np.asarray(getattr(layer, name)), value):
                    turned = True
                    setattr(layer, name, value)
        self._laying = False
        return turned

    def _on_transform(self) -> None:
        if not self._laying and self.set_right():
            self.moved()

    def _on_visible(self, event: Any) -> None:
        """Choose the sequence whose layer was made visible, so that the view names it."""
        sequence = MrSequence(event.source.metadata[KEY]["sequence"])
        if event.source.visible and self._sequence not in (None, sequence):
            self.revealed(sequence)

    def forget_others(self, study: Any, aside: Any = None) -> None:
        """Remove the layers of any other study, and all overlays.

        The images of a study set aside are kept, and restored with it.
        """
        kept = []
        for layer in list(self._viewer.layers):
            ours = layer.metadata.get(KEY)
            if ours is not None and ours.get("study") is not study:
                self._viewer.layers.remove(layer)
                if aside is not None and ours.get("study") is aside and "sequence" in ours:
                    kept.append(layer)
        back = [one for one in self._aside if one.metadata[KEY]["study"] is study]
        self._aside = kept or (self._aside if aside is not None else [])
        self._viewer.layers.extend(back)
        self._overlays = None
        self._drawn.clear()
        self._made = {role: layer for role, layer in self._made.items() if self._has(layer)}

    def _has(self, layer: Any) -> bool:
        return layer in self._viewer.layers

    def _get(self, role: str) -> Any:
        layer = self._made.get(role)
        return layer if layer is not None and self._has(layer) else None

    def take(self, overlays: Overlays | None, study: Any) -> None:
        """Show an analysis: replace overlays, and images of registered sequences.

        Images of other sequences stay unchanged.
        """
        if overlays is self._overlays:
            return
        old, self._overlays = self._overlays, overlays
        if old is not None and overlays is not None and old.images is overlays.images:
            return
        for role in _ORDER:
            layer = self._get(role)
            if layer is not None:
                self._viewer.layers.remove(layer)
        self._drawn.clear()
        if overlays is not None:
            for sequence in reversed(tuple(overlays.images)):
                self._show_image(sequence, overlays, study)

    def _show_image(self, sequence: MrSequence, overlays: Overlays, study: Any) -> None:
        data = overlays.images[sequence]
        layer = self._get(sequence.value)
        if layer is None:
            metadata = {KEY: {"study": study, "sequence": sequence.value}}
            keywords = image_keywords(data, overlays.grid)
            layer = Image(data, name=sequence.display_name, metadata=metadata, **keywords)
            self.adopt(layer)
            self._viewer.layers.insert(0, layer)
        elif sequence in overlays.moved:
            place = geometry_keywords(overlays.grid)
            layer.metadata[KEY] |= {
                "place": (place["scale"], place["translate"]),
                "acquired": None,
                "auto": contrast_limits(data),
            }
            layer.data = data
            self.set_right()
            layer.contrast_limits_range = full_range(data)
            layer.contrast_limits = layer.metadata[KEY]["auto"]

    # --- scene ----------------------------------------------------------------------------

    def apply(self, old: ShownScene, new: ShownScene) -> None:
        """Apply the differences between two scenes."""
        if new.sequence is not None and old.sequence is not new.sequence:
            self._show_sequence(new.sequence)
        if new.compared is not old.compared:
            self._show_compared(new.compared, new.sequence)
        if self._overlays is None:
            return
        shown = (
            (UNCERTAINTY, new.uncertainty, self._overlays.uncertainty, "Uncertainty"),
            (PROBE, new.probe, self._overlays.probe, "Probe"),
        )
        lines = new.isolines and self._viewer.dims.ndisplay == 2
        for role, visible, view, name in shown:
            self._apply_map(role, view if visible and not lines else None, name, new.opacity)
        self._apply_attention(replace(new, attention=None) if lines else new)
        self._apply_outline(new.outline)
        self._see_through(new)

    def show_dimensions(self, scene: ShownScene) -> None:
        """Show the brain in three dimensions, or the slices in two."""
        if self._overlays is None or scene.sequence is None:
            return
        solid = self._viewer.dims.ndisplay == 3
        brain = self._get(BRAIN)
        if solid:
            brain = brain or self._add_brain()
            self._fill_brain(brain, scene.sequence)
        if brain is not None:
            put(brain, visible=solid)
        image = self._get(scene.sequence.value)
        if image is not None:
            put(image, visible=not solid)
        self.apply(scene, scene)

    def _see_through(self, scene: ShownScene) -> None:
        """Make candidates transparent in three dimensions if a map is shown."""
        layer = self._get(OUTLINE)
        inside = self._viewer.dims.ndisplay == 3 and scene.attention is not None
        if layer is not None and self._drawn.get("inside", False) != inside:
            layer.opacity = 0.3 if inside else _OPAQUE
            self._drawn["inside"] = inside

    def _add_brain(self) -> Any:
        layer = Image(
            np.zeros((2, 2, 2), np.float32),
            rendering="attenuated_mip",
            attenuation=0.2,
            opacity=0.5,
            contrast_limits=(0.0, 1.0),
            **(self._keywords(BRAIN) | {"name": "Brain"}),
        )
        return self._add(BRAIN, layer)

    def _fill_brain(self, layer: Any, sequence: MrSequence) -> None:
        if self._overlays is None or self._drawn.get(BRAIN) is sequence:
            return
        image, mask = self._overlays.images[sequence], self._overlays.brain
        layer.data = np.where(mask, image, np.float32(0.0))
        layer.contrast_limits = contrast_limits(layer.data)
        self._drawn[BRAIN] = sequence

    def _show_sequence(self, sequence: MrSequence) -> None:
        self._sequence = sequence
        solid = self._viewer.dims.ndisplay == 3 and self._get(BRAIN) is not None
        for other in MrSequence:
            layer = self._get(other.value)
            if layer is not None:
                put(layer, visible=other is sequence and not solid)
        if solid:
            self._fill_brain(self._get(BRAIN), sequence)
        wanted, active = self._get(sequence.value), self._viewer.layers.selection.active
        drawing = active is not None and active.metadata.get(KEY, {}).get("role") == "edit"
        if wanted is not None and not drawing:  # else the brush would be put away
            self._viewer.layers.selection.active = wanted

    def _show_compared(
        self, compared: ComparedPictures | None, sequence: MrSequence | None
    ) -> None:
        """Show an image of another study over the sequence, or remove it."""
        layer, below = self._get(COMPARED), self.picture(sequence)
        if compared is None or sequence is None or below is None:
            if layer is not None:
                put(layer, visible=False)
            return
        if layer is not None and self._drawn.get(COMPARED) == (compared, sequence):
            put(layer, visible=True)
            return
        if layer is not None:
            self._viewer.layers.remove(layer)
        volume = axis_aligned(compared.volumes[sequence])
        keywords = image_keywords(volume.data, volume.grid) | {"blending": "opaque"}
        study = below.metadata[KEY].get("study")
        metadata = {KEY: {"study": study, "role": COMPARED}}
        layer = Image(volume.data, name=compared.description, metadata=metadata, **keywords)
        self.hold(layer)
        active = self._viewer.layers.selection.active
        places = [self._viewer.layers.index(one) for one in self._pictures()]
        self._viewer.layers.insert(max(places) + 1, layer)
        self._made[COMPARED] = layer
        self._drawn[COMPARED] = (compared, sequence)
        self._viewer.layers.selection.active = active

    def _pictures(self) -> list[Any]:
        found = (self._get(sequence.value) for sequence in MrSequence)
        return [layer for layer in found if layer is not None]

    def _apply_attention(self, scene: ShownScene) -> None:
        """Show the requested attention; the previous map stays until it is computed."""
        if self._overlays is None or scene.attention is None:
            for role in (ATTENTION, EVIDENCE):
                self._apply_map(role, None, "", scene.opacity)
            return
        view = self._overlays.attended(scene.attention, scene.layer_choice)
        if view is None and scene.layer_choice is not None:
            return
        key = (view, scene.only, id(self._overlays.components))
        if view is not None and self._drawn.get("attended") != key:
            self._drawn["attended"] = key
            self._drawn["shown"] = self._overlays.alone(view, scene.only)
        name = map_words(scene.attention, scene.layer_choice)
        if scene.only is not None:
            name += f" · candidate {scene.only}"
        for role in (ATTENTION, EVIDENCE):
            shown = self._drawn["shown"] if view is not None and view.role == role else None
            self._apply_map(role, shown, name, scene.opacity)

    def _apply_map(self, role: str, view: MapView | None, name: str, opacity: float) -> None:
        layer = self._get(role)
        if view is None:
            if layer is not None:
                put(layer, visible=False)
            return
        if layer is None:
            layer = self._add_map(role, view)
        elif self._drawn.get(role) is not view:
            layer.data = view.data
            layer.contrast_limits = (view.low, view.top)
        self._drawn[role] = view
        put(layer, name=name, opacity=opacity, visible=True)

    def _add_map(self, role: str, view: MapView) -> Any:
        layer = Image(
            view.data,
            colormap=colours_of(role),
            contrast_limits=(view.low, view.top),
            blending="translucent_no_depth",
            rendering="mip",
            interpolation2d="linear",
            **self._keywords(role),
        )
        return self._add(role, layer)

    def _apply_outline(self, outline: ShownOutline) -> None:
        """Show candidates as solids in three dimensions; on slices `CanvasLines` draws them."""
        layer = self._get(OUTLINE)
        if not outline.visible or self._overlays is None or self._viewer.dims.ndisplay != 3:
            if layer is not None:
                put(layer, visible=False)
            return
        if layer is None:
            layer = self._add_labels(OUTLINE, self._overlays.outline(outline.region))
        elif self._drawn.get(OUTLINE) != (outline.region, id(self._overlays.components)):
            layer.data = self._overlays.outline(outline.region)
        self._drawn[OUTLINE] = (outline.region, id(self._overlays.components))
        if self._drawn.get("colours") != outline.colours:
            layer.colormap = label_colours(dict(outline.colours))
            self._drawn["colours"] = outline.colours
        whole = outline.region is Region.WT
        name = "Candidates" if whole else f"Candidates · {outline.region.display_name}"
        put(layer, name=name, visible=True)

    def _add_labels(self, role: str, data: NDArray[Any]) -> Any:
        keywords = self._keywords(role) | {"blending": "translucent_no_depth"}
        layer = Labels(data, opacity=_OPAQUE, **keywords)
        layer.editable = False
        self._drawn.pop("colours", None)
        return self._add(role, layer)

    def _keywords(self, role: str) -> dict[str, Any]:
        if self._overlays is None:
            raise RuntimeError("an overlay was requested before there is an analysis")
        ours = (layer.metadata[KEY] for layer in self._viewer.layers if KEY in layer.metadata)
        study = next((one["study"] for one in ours), None)
        metadata = {KEY: {"study": study, "role": role}}
        return geometry_keywords(self._overlays.grid) | {"name": role, "metadata": metadata}

    def _add(self, role: str, layer: Any) -> Any:
        """Add a layer above the images, in order, without selecting it."""
        layers = self._viewer.layers
        active = layers.selection.active
        rank = _ORDER.index(role)
        above = [self._get(other) for other in _ORDER[rank + 1 :]]
        places = [layers.index(other) for other in above if other is not None]
        layers.insert(min(places, default=len(layers)), layer)
        self._made[role] = layer
        self.hold(layer)
        layers.selection.active = active
        return layer
