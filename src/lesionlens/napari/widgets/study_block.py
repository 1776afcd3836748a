"""The study: name, sequences, their assignment, and the quality checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from qtpy.QtWidgets import QComboBox, QFormLayout, QFrame, QMenu, QSizePolicy, QWidget

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Study
from lesionlens.imaging.reading.open import distinct_names, name_for_reader
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.model.screen.screen import Screen
from lesionlens.napari.qt.rows_model import plain_tooltip
from lesionlens.napari.widgets.parts import (
    ElidedLabel,
    Section,
    Segments,
    combo_box,
    flat_button,
    label,
    push_button,
    row,
    show_text,
    stack,
)


class StudyBlock(Section):
    """Shows the study, its sequences and their assignment."""

    def __init__(self, menu: QMenu, acts: Actions) -> None:
        more = flat_button("Open…", menu=menu)
        super().__init__("STUDY", more)
        self._more, self._assign = more, acts.assign_sequences
        self._title = ElidedLabel("title")
        self._patient = ElidedLabel("dim")
        self._subtitle = label("", "dim", wrap=True)
        self._chips = Segments(
            [(sequence, f"{sequence.display_name} ✓", "") for sequence in MrSequence]
        )
        self._chips.chosen.connect(acts.session.choose_sequence)
        self._change = flat_button("change…")
        self._change.setToolTip("Assign the sequences yourself")
        self._change.setCheckable(True)
        self._editor = AssignmentEditor(self._apply)
        self._editor.hide()
        self._change.toggled.connect(self._editor.setVisible)
        self._notices = label("", "warn", wrap=True)
        chips = row(self._chips, None, self._change, spacing=-1)
        self.add(self._title, self._patient, self._subtitle, chips, self._editor)
        self.add(self._notices)

    def stops(self) -> tuple[QWidget, ...]:
        """Return the tab stops: the sequences are one stop, with arrows between them."""
        return self._more, *self._chips.buttons.values(), self._change

    def show_screen(self, screen: Screen, study: Study | None) -> None:
        """Show the study of a screen."""
        shown = screen.study
        self._title.show_text(shown.title)
        self._patient.show_text(shown.patient)
        self._patient.setVisible(bool(shown.patient))
        self._subtitle.setText(shown.subtitle)
        for item in shown.sequences:
            button = self._chips.buttons[item.sequence]
            sign = " ✓" if item.present else ""
            button.setText(f"{item.sequence.display_name}{sign}")
            button.setEnabled(item.present)
            button.setToolTip(plain_tooltip(item.evidence))
            if item.shown:
                self._chips.show_choice(item.sequence)
        show_text(self._notices, "\n".join(shown.notices))
        self._editor.show_study(study)
        self._change.setEnabled(screen.activity is None)

    def _apply(self, named: dict[MrSequence, str | Path]) -> None:
        self._change.setChecked(False)
        self._assign(named)


class AssignmentEditor(QFrame):
    """One list per sequence, with all series of the study; `assign` takes the chosen ones."""

    def __init__(self, assign: Callable[[dict[MrSequence, str | Path]], object]) -> None:
        super().__init__()
        self.setProperty("role", "card")
        self._study: Study | None = None
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 4)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        self._boxes: dict[MrSequence, QComboBox] = {}
        for sequence in MrSequence:
            box = combo_box(f"Series to use as {sequence.display_name}", letters=10)
            box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
            self._boxes[sequence] = box
            form.addRow(label(sequence.display_name), box)
        button = push_button("Use these", lambda: assign(self.assignment()))
        stack(self, form, button, margins=(8, 8, 8, 8))

    def show_study(self, study: Study | None) -> None:
        """List the series of a study."""
        if study is self._study:
            return
        self._study = study
        all_series = () if study is None else study.all_series
        names = distinct_names(all_series)
        values = [] if study is None else [name_for_reader(s, study) for s in all_series]
        for sequence, box in self._boxes.items():
            box.clear()
            box.addItem("none", None)
            for name, value in zip(names, values, strict=True):
                box.addItem(name, value)
            assigned = None if study is None else study.series.get(sequence)
            box.setCurrentIndex(0 if assigned is None else 1 + all_series.index(assigned))

    def assignment(self) -> dict[MrSequence, str | Path]:
        """Return the chosen series by sequence."""
        return {
            sequence: box.currentData()
            for sequence, box in self._boxes.items()
            if box.currentData() is not None
        }


class QualityBlock(Section):
    """The quality checks: passed ones on one line, warnings and undecided ones on one line each."""

    def __init__(self) -> None:
        super().__init__("QUALITY")
        self._passed = label("", "good", wrap=True)
        self._warned = label("", "warn", wrap=True)
        self._undecided = label("", "dim", wrap=True)
        self.add(self._passed, self._warned, self._undecided)

    def show_screen(self, screen: Screen) -> None:
        """Show the checks; hidden if there are none."""
        passed = [fact for fact in screen.study.quality if fact.good]
        warned = [fact for fact in screen.study.quality if fact.good is False]
        undecided = [fact for fact in screen.study.quality if fact.good is None]
        show_text(self._passed, "   ".join(f"✓\N{NO-BREAK SPACE}{fact.text}" for fact in passed))
        self._passed.setToolTip(plain_tooltip("\n".join(fact.tooltip for fact in passed)))
        show_text(self._warned, "\n".join(f"⚠ {fact.text}: {fact.tooltip}" for fact in warned))
        show_text(
            self._undecided, "\n".join(f"– {fact.text}: {fact.tooltip}" for fact in undecided)
        )
        self.setVisible(bool(screen.study.quality))


def empty_state(menu_actions: Sequence[tuple[str, Callable[[], object]]]) -> QWidget:
    """Return the content of an empty panel, with a button for each (text, act)."""
    widget = QFrame()
    widget.setProperty("role", "card")
    hint = label("Drop a study here, use Open… or try the sample.", "dim", wrap=True)
    buttons = [push_button(text, callback) for text, callback in menu_actions]
    stack(widget, label("Open a study", "title"), hint, *buttons, margins=(14, 14, 14, 14))
    return widget
