"""Layer edits from two scenes: the only module that creates and changes napari layers.

LesionLens layers have `metadata["lesionlens"]` with their role. Changes by the user (visibility,
contrast, colour map) are kept until the scene changes the same property.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet, ref

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.napari.colours import colours_of, label_colours
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.choices.views import ComparisonImages, WindowPreset
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
from lesionlens.napari.model.screen.map_layers import (
    ATTENTION,
    EVIDENCE,
    MapLayer,
)
from lesionlens.napari.model.screen.screen import ShownOutline, ShownScene

OUTLINE, BRAIN, COMPARED = "candidates", "brain", "compared"
_SOLID_OPACITY = 0.95
_STACKING = (BRAIN, ATTENTION, EVIDENCE, OUTLINE)


def put(layer: Any, **values: Any) -> None:
    """Set properties that differ, as napari redraws a layer for every assignment."""
    for name, value in values.items():
        if getattr(layer, name) != value:
            setattr(layer, name, value)


class Layers:
    """The layers of one session in one viewer."""

    def __init__(self, viewer: ViewerModel, session: ReviewSession) -> None:
        self._viewer, self._session = viewer, session
        self._by_role: dict[str, Any] = {}
        self._applied: dict[str, Any] = {}
        """What the layer of each role shows, and other values that changed layers last."""
        self._overlays: Overlays | None = None
        self._study: Any = None
        """The study of the overlays."""
        self._background_layers: list[Any] = []
        self._adopted: WeakSet[Any] = WeakSet()
        self._sequence: MrSequence | None = None

    # --- images ---------------------------------------------------------------------------

    def adopt(self, layer: Any) -> None:
        """Use a layer as the image of its sequence."""
        metadata = layer.metadata[KEY]
        self._by_role[metadata["sequence"]] = layer
        self.tag(layer)
        self._adopted.add(layer)
        layer.events.visible.connect(self._on_visible)
        metadata.setdefault("auto", tuple(layer.contrast_limits))
        layer.contrast_limits_range = full_range(layer.data)

    def tag(self, layer: Any) -> None:
        """Note whose layer it is, so that a copy is told from it, and where it lies."""
        layer.metadata[KEY].setdefault("of", ref(layer))
        layer.metadata[KEY].setdefault("transform", (tuple(layer.scale), tuple(layer.translate)))

    def release(self) -> None:
        """Disconnect from the images, and remove the overlays, which nothing would update."""
        self._remove_overlays(COMPARED)
        image = self.image_layer(self._sequence)
        if image is not None:
            put(image, visible=True)  # hidden in three dimensions
        for layer in self._adopted:
            layer.events.visible.disconnect(self._on_visible)

    def owns(self, layer: Any) -> bool:
        """Whether a layer is one of these, and no copy of one."""
        return layer in self._by_role.values()

    def image_layer(self, sequence: MrSequence | None) -> Any:
        """Return the layer of a sequence; None if there is none."""
        return None if sequence is None else self._get(sequence.value)

    def voxels_by_sequence(self) -> dict[MrSequence, tuple[NDArray[Any], Grid]]:
        """Return voxels and grid of each sequence, as acquired if known.

        Changes of a layer's transform by the user are ignored.
        """
        voxels: dict[MrSequence, tuple[NDArray[Any], Grid]] = {}
        for layer in self._image_layers():
            metadata = layer.metadata[KEY]
            sequence, acquired = MrSequence(metadata["sequence"]), metadata.get("acquired")
            if acquired is not None:
                voxels[sequence] = (acquired.data, acquired.grid)
            else:
                voxels[sequence] = (layer.data, grid_of(layer.data, *metadata["transform"]))
        return voxels

    def limits(self, sequence: MrSequence) -> Limits:
        """Return the values shown black and white; 0 and 1 without a layer."""
        layer = self._get(sequence.value)
        low, high = (0.0, 1.0) if layer is None else layer.contrast_limits
        return float(low), float(high)

    def choose_window(self, window: WindowPreset) -> None:
        """Apply a preset to every sequence."""
        for layer in self._image_layers():
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

    def _on_visible(self, event: Any) -> None:
        """Select the sequence of a layer that became visible, so that the caption matches."""
        sequence = MrSequence(event.source.metadata[KEY]["sequence"])
        if event.source.visible and self._sequence not in (None, sequence):
            self._session.choose_sequence(sequence)

    def remove_other_studies(self, study: Any, background: Any = None) -> None:
        """Remove the layers of any other study, and all overlays.

        The images of `background`, a study that is kept for later, are restored with it.
        """
        retained = []
        for layer in list(self._viewer.layers):
            metadata = layer.metadata.get(KEY)
            if metadata is None or metadata.get("study") is study:
                continue
            self._viewer.layers.remove(layer)
            is_of_background = background is not None and metadata.get("study") is background
            if is_of_background and "sequence" in metadata:
                retained.append(layer)
        restored = [b for b in self._background_layers if b.metadata[KEY]["study"] is study]
        if retained or background is None:
            self._background_layers = retained
        self._viewer.layers.extend(restored)
        self._overlays = self._study = None
        self._applied.clear()
        layers = self._viewer.layers
        self._by_role = {role: layer for role, layer in self._by_role.items() if layer in layers}

    def _get(self, role: str) -> Any:
        layer = self._by_role.get(role)
        return layer if layer is not None and layer in self._viewer.layers else None

    def show_overlays(self, overlays: Overlays | None, study: Any) -> None:
        """Show an analysis: replace overlays, and images of registered sequences.

        Images of other sequences stay unchanged.
        """
        if overlays is self._overlays:
            return
        previous, self._overlays, self._study = self._overlays, overlays, study
        if previous is not None and overlays is not None and previous.images is overlays.images:
            return
        self._remove_overlays()
        if overlays is not None:
            has_all_images = all(self._get(sequence.value) for sequence in overlays.images)
            for sequence in reversed(tuple(overlays.images)):
                self._show_image(sequence, overlays)
            if not has_all_images and self._sequence is not None:
                self._show_sequence(self._sequence)

    def _remove_overlays(self, *more: str) -> None:
        for role in (*_STACKING, *more):
            layer = self._get(role)
            if layer is not None:
                self._viewer.layers.remove(layer)
        self._applied.clear()

    def _show_image(self, sequence: MrSequence, overlays: Overlays) -> None:
        data = overlays.images[sequence]
        layer = self._get(sequence.value)
        if layer is None:
            metadata = {KEY: {"study": self._study, "sequence": sequence.value}}
            keywords = image_keywords(data, overlays.grid)
            layer = Image(data, name=sequence.display_name, metadata=metadata, **keywords)
            self.adopt(layer)
            self._viewer.layers.insert(0, layer)
        elif sequence in overlays.registered:
            geometry = geometry_keywords(overlays.grid)
            layer.metadata[KEY] |= {
                "transform": (geometry["scale"], geometry["translate"]),
                "acquired": None,
                "auto": contrast_limits(data),
            }
            layer.data = data
            layer.scale, layer.translate = geometry["scale"], geometry["translate"]
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
        self._apply_maps(new.maps, new.choices.opacity)
        self._apply_outline(new.outline)
        self._apply_transparency(new)

    def show_dimensions(self, scene: ShownScene) -> None:
        """Show the brain in three dimensions, or the slices in two."""
        if self._overlays is None or scene.sequence is None:
            return
        is_3d = self._viewer.dims.ndisplay == 3
        brain = self._get(BRAIN)
        if is_3d:
            brain = brain or self._add_brain(self._overlays.grid)
            self._fill_brain(brain, scene.sequence)
        if brain is not None:
            put(brain, visible=is_3d)
        image = self._get(scene.sequence.value)
        if image is not None:
            put(image, visible=not is_3d)
        self.apply(scene, scene)

    def _apply_transparency(self, scene: ShownScene) -> None:
        """Make candidates transparent in three dimensions if a map is shown."""
        layer = self._get(OUTLINE)
        is_transparent = self._viewer.dims.ndisplay == 3 and (
            scene.shows(ATTENTION) or scene.shows(EVIDENCE)
        )
        if layer is not None and self._applied.get("inside", False) != is_transparent:
            layer.opacity = 0.3 if is_transparent else _SOLID_OPACITY
            self._applied["inside"] = is_transparent

    def _add_brain(self, grid: Grid) -> Any:
        layer = Image(
            np.zeros((2, 2, 2), np.float32),
            rendering="attenuated_mip",
            attenuation=0.2,
            opacity=0.5,
            contrast_limits=(0.0, 1.0),
            **(self._keywords(BRAIN, grid) | {"name": "Brain"}),
        )
        return self._add(BRAIN, layer)

    def _fill_brain(self, layer: Any, sequence: MrSequence) -> None:
        if self._overlays is None or self._applied.get(BRAIN) is sequence:
            return
        image, mask = self._overlays.images[sequence], self._overlays.brain
        layer.data = np.where(mask, image, np.float32(0.0))
        layer.contrast_limits = contrast_limits(layer.data)
        self._applied[BRAIN] = sequence

    def _show_sequence(self, sequence: MrSequence) -> None:
        self._sequence = sequence
        shows_brain = self._viewer.dims.ndisplay == 3 and self._get(BRAIN) is not None
        layer_to_select, active = self._get(sequence.value), self._viewer.layers.selection.active
        for layer in self._image_layers():
            put(layer, visible=layer is layer_to_select and not shows_brain)
        if shows_brain:
            self._fill_brain(self._get(BRAIN), sequence)
        is_drawing = active is not None and active.metadata.get(KEY, {}).get("role") == "edit"
        if layer_to_select is not None and not is_drawing:  # else the brush would be deselected
            self._viewer.layers.selection.active = layer_to_select

    def _show_compared(
        self, compared: ComparisonImages | None, sequence: MrSequence | None
    ) -> None:
        """Show an image of another study over the sequence, or remove it."""
        layer, base_image = self._get(COMPARED), self.image_layer(sequence)
        if compared is None or sequence is None or base_image is None:
            if layer is not None:
                put(layer, visible=False)
            return
        if layer is not None and self._applied.get(COMPARED) == (compared, sequence):
            put(layer, visible=True)
            return
        if layer is not None:
            self._viewer.layers.remove(layer)
        volume = axis_aligned(compared.volumes[sequence])
        keywords = image_keywords(volume.data, volume.grid) | {"blending": "opaque"}
        study = base_image.metadata[KEY].get("study")
        metadata = {KEY: {"study": study, "role": COMPARED}}
        layer = Image(volume.data, name=compared.description, metadata=metadata, **keywords)
        self.tag(layer)
        active = self._viewer.layers.selection.active
        indices = [self._viewer.layers.index(image) for image in self._image_layers()]
        self._viewer.layers.insert(max(indices) + 1, layer)
        self._by_role[COMPARED] = layer
        self._applied[COMPARED] = (compared, sequence)
        self._viewer.layers.selection.active = active

    def _image_layers(self) -> list[Any]:
        layers = (self._get(sequence.value) for sequence in MrSequence)
        return [layer for layer in layers if layer is not None]

    def _apply_maps(self, maps: tuple[MapLayer, ...], opacity: float) -> None:
        """Show the map; one that is yet to be computed leaves the previous one."""
        shown = {layer.role: layer for layer in maps}
        is_awaited = any(layer.view is None for layer in maps)
        for role in () if is_awaited else (ATTENTION, EVIDENCE):
            self._apply_map(role, shown.get(role), opacity)

    def _apply_map(self, role: str, shown: MapLayer | None, opacity: float) -> None:
        layer, overlays = self._get(role), self._overlays
        if shown is None or shown.view is None or overlays is None:
            if layer is not None:
                put(layer, visible=False)
            return
        if layer is None:
            layer = self._add_map(role, shown.view, overlays.grid)
        elif self._applied.get(role) is not shown.view:
            layer.data = shown.view.data
            layer.contrast_limits = (shown.view.low, shown.view.top)
        self._applied[role] = shown.view
        put(layer, name=shown.title, opacity=opacity, visible=True)

    def _add_map(self, role: str, view: MapView, grid: Grid) -> Any:
        layer = Image(
            view.data,
            colormap=colours_of(role),
            contrast_limits=(view.low, view.top),
            blending="translucent_no_depth",
            rendering="mip",
            interpolation2d="linear",
            **self._keywords(role, grid),
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
            layer = self._add_outline(self._overlays, outline.region)
        elif self._applied.get(OUTLINE) != (outline.region, id(self._overlays.components)):
            layer.data = self._overlays.outline(outline.region)
        self._applied[OUTLINE] = (outline.region, id(self._overlays.components))
        if self._applied.get("colours") != outline.colours:
            layer.colormap = label_colours(dict(outline.colours))
            self._applied["colours"] = outline.colours
        is_whole_tumour = outline.region is Region.WT
        name = "Candidates" if is_whole_tumour else f"Candidates · {outline.region.display_name}"
        put(layer, name=name, visible=True)

    def _add_outline(self, overlays: Overlays, region: Region) -> Any:
        keywords = self._keywords(OUTLINE, overlays.grid) | {"blending": "translucent_no_depth"}
        layer = Labels(overlays.outline(region), opacity=_SOLID_OPACITY, **keywords)
        layer.editable = False
        self._applied.pop("colours", None)
        return self._add(OUTLINE, layer)

    def _keywords(self, role: str, grid: Grid) -> dict[str, Any]:
        metadata = {KEY: {"study": self._study, "role": role}}
        return geometry_keywords(grid) | {"name": role, "metadata": metadata}

    def _add(self, role: str, layer: Any) -> Any:
        """Add a layer above the images, in order, without selecting it."""
        layers = self._viewer.layers
        active = layers.selection.active
        position = _STACKING.index(role)
        above = [self._get(layer_above) for layer_above in _STACKING[position + 1 :]]
        indices = [layers.index(layer_above) for layer_above in above if layer_above is not None]
        layers.insert(min(indices, default=len(layers)), layer)
        self._by_role[role] = layer
        self.tag(layer)
        layers.selection.active = active
        return layer
