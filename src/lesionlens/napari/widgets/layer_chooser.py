"""Lists for the part of the attention: candidate, layer and head."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtWidgets import QComboBox, QWidget

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.choices.choices import SecondOpinion
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.widgets.parts import combo_box, row, show_items


class LayerChooser(QWidget):
    """Three lists; None is all candidates, all layers, the mean of the heads."""

    def __init__(self, acts: Actions) -> None:
        super().__init__()
        self._session = acts.session
        self.candidate = _combo_box(
            "The attention given to all candidates, or to one of them alone"
        )
        self.layer = _combo_box(
            "All layers of the network combined, or one of them, coarse to fine; or a second "
            "opinion, computed on request: Grad-CAM (features that led to the region) and rollout "
            "(where the candidate's peak attended, through all layers of self-attention)"
        )
        self.head = _combo_box("The mean of a layer's heads, or one of them")
        self.candidate.activated.connect(lambda _: acts.show_alone(self.candidate.currentData()))
        self.layer.activated.connect(lambda _: self._choose_layer(None))
        self.head.activated.connect(lambda _: self._choose_layer(self.head.currentData()))
        layout = row(self.candidate, self.layer, self.head)
        layout.setStretch(1, 1)
        self.setLayout(layout)

    def show_screen(self, screen: Screen) -> None:
        """Show the options and the current choice."""
        maps, choices = screen.maps, screen.choices
        self.setVisible(maps.has_attention)
        focus = next((row.id for row in screen.candidates if row.focus), None)
        _fill(
            self.candidate,
            "all",
            [(f"only {c.id}", c.id) for c in screen.candidates],
            focus if maps.alone else None,
        )
        names = [name for name, _ in maps.attention_layers]
        layers: list[tuple[str, object]] = [
            (f"{n + 1} · {name.removesuffix(' resolution')}", n) for n, name in enumerate(names)
        ]
        layers += [(second.display_name, second) for second in maps.second_opinions]
        _fill(self.layer, "all layers", layers, choices.layer)
        heads = maps.attention_layers[choices.layer][1] if isinstance(choices.layer, int) else 0
        numbers = [(f"head {n + 1}", n) for n in range(heads)]
        _fill(self.head, "mean", numbers if heads > 1 else [], choices.head)

    def _choose_layer(self, head: int | None) -> None:
        layer = self.layer.currentData()  # Qt returns a StrEnum as its text
        self._session.choose_layer(SecondOpinion(layer) if isinstance(layer, str) else layer, head)


def _combo_box(tooltip: str) -> QComboBox:
    box = combo_box(tooltip, letters=5)
    box.setToolTip(tooltip)
    return box


def _fill(
    box: QComboBox, all_text: str, items: Sequence[tuple[str, object]], current: object
) -> None:
    """Fill a list and select the current choice; a list of one is disabled."""
    show_items(box, [(all_text, None), *items], current)
    box.setEnabled(bool(items))
