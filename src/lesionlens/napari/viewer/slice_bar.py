"""A slider below the views, with one step per acquired slice.

It replaces napari's sliders, which count steps of the finest voxel on the canvas.
"""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QMouseEvent, QWheelEvent
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QStyle, QWidget

from lesionlens.napari.model.acts.views import ViewActs
from lesionlens.napari.model.geometry.slices import Slices
from lesionlens.napari.model.geometry.viewpoint import Viewpoint
from lesionlens.napari.model.overlays.maps import AXIS_LABELS
from lesionlens.napari.model.screen.board import Board
from lesionlens.napari.viewer.wheel import NOTCH, WheelSteps

_STYLE = """
QSlider::groove:horizontal { height: 4px; border-radius: 2px; background: rgba(128, 140, 160, 90); }
QSlider::handle:horizontal { width: 14px; margin: -6px 0; border-radius: 7px; background: #2F6FB5; }
"""


class _Slider(QSlider):
    """Slider that jumps to the clicked position and leaves the wheel to the bar."""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Move the handle under the pointer, ready to be dragged."""
        if event.button() is Qt.MouseButton.LeftButton:
            handle = self.style().pixelMetric(QStyle.PixelMetric.PM_SliderLength, None, self)
            x, range_px = round(event.position().x() - handle / 2), self.width() - handle
            self.setValue(
                QStyle.sliderValueFromPosition(self.minimum(), self.maximum(), x, range_px)
            )
        super().mousePressEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Leave the event to the bar."""
        event.ignore()


class SliceBar(QWidget):
    """A slider of the slices in the plane of Up and Down."""

    def __init__(self, acts: ViewActs, parent: QWidget) -> None:
        super().__init__(parent)
        self._acts = acts
        self._slices: Slices | None = None
        self._wheel_steps = WheelSteps()
        self._napari_sliders = next(
            (w for w in parent.children() if w.metaObject().className() == "QtDims"), None
        )
        self.axis, self.caption = QLabel(), QLabel()
        self.slider = _Slider(Qt.Orientation.Horizontal)
        self.slider.setAccessibleName("Slice (Up, Down)")
        self.slider.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.slider.setMinimum(1)
        self.slider.setPageStep(1)
        self.slider.valueChanged.connect(acts.show_slice)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 1, 8, 1)
        row.setSpacing(8)
        row.addWidget(self.axis)
        row.addWidget(self.slider, 1)
        row.addWidget(self.caption)
        self.setStyleSheet(_STYLE)
        self.hide()
        acts.viewpoint.changed.connect(self._on_viewpoint)

    def release(self) -> None:
        """Disconnect from the viewpoint, and show napari's sliders."""
        self._acts.viewpoint.changed.disconnect(self._on_viewpoint)
        self._show_napari_sliders(visible=True)

    def show_board(self, board: Board, *, is_2d: bool) -> None:
        """Show the slices of the plane; hidden in three dimensions and without a study."""
        plane = board.scene.choices.plane
        self._slices = board.slices(plane) if is_2d else None
        if self._slices is not None:
            self.axis.setText(AXIS_LABELS[plane.through])
            self._set_silently(self.slider.setMaximum, self._slices.count)
            self._on_viewpoint(self._acts.viewpoint.current)
        self._show_napari_sliders(visible=self._slices is None)
        self.setVisible(self._slices is not None)

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Go one slice further per notch, as over the image."""
        delta = event.angleDelta()
        self._acts.scroll(self._wheel_steps.add((delta.y() or delta.x()) / NOTCH))
        event.accept()

    def _on_viewpoint(self, viewpoint: Viewpoint) -> None:
        slices = self._slices
        if slices is not None:
            number = slices.number(viewpoint.point_mm)
            self._set_silently(self.slider.setValue, number)
            suffix = ", interpolated" if slices.interpolated else ""
            self.caption.setText(f"slice {number} of {slices.count}{suffix}")

    def _set_silently(self, setter: Callable[[int], None], value: int) -> None:
        with QSignalBlocker(self.slider):
            setter(value)

    def _show_napari_sliders(self, *, visible: bool) -> None:
        """Show or hide napari's sliders."""
        if isinstance(self._napari_sliders, QWidget):
            self._napari_sliders.setVisible(visible)
