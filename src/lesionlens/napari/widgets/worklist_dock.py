"""The worklist dock: studies, their review state and the analysis ahead."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from napari.settings import get_settings
from qtpy.QtCore import QEvent, QItemSelectionModel, QModelIndex, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import (
    QDockWidget,
    QFileDialog,
    QHeaderView,
    QLineEdit,
    QMenu,
    QTableView,
    QWidget,
)

from lesionlens.napari.commands.command import Commands
from lesionlens.napari.commands.table import BY_NAME
from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.worklist_controller import WorklistController
from lesionlens.napari.model.studies import recent_paths
from lesionlens.napari.model.studies.worklist import WorklistScreen, WorklistSession
from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.waiting import when_idle
from lesionlens.napari.qt.window_closing import WindowClosing
from lesionlens.napari.qt.worklist_model import COLUMNS, WorklistModel
from lesionlens.napari.widgets.dialogs import ask_path
from lesionlens.napari.widgets.pacs_dialog import PacsDialog
from lesionlens.napari.widgets.parts import (
    flat_button,
    label,
    push_button,
    row,
    show_rows,
    show_text,
    stack,
)
from lesionlens.napari.widgets.study_menus import recent_menu
from lesionlens.napari.widgets.style import style_sheet
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server

_KEEP_HERE = "Keep the list and its results here"
_DOCK_HEIGHT = 220
_MAX_COLUMN_WIDTH = 260
_COLUMN_WIDTHS = (90, 82, 150, 110, 86, 90, 48, 48, 200)
_SELECT = QItemSelectionModel.SelectionFlag


class _StudiesTable(QTableView):
    """A table whose highlight is the open study: a click moves only the frame that Enter opens."""

    def selectionCommand(
        self, _index: Any, _event: QEvent | None = None
    ) -> QItemSelectionModel.SelectionFlag:
        """Keep the highlight, whatever is clicked or stepped to."""
        return _SELECT.NoUpdate

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the framed row in sight: a dock becomes lower after its list is shown."""
        super().resizeEvent(event)
        self.scrollTo(self.currentIndex())


class WorklistDock(QWidget):
    """A table of studies with a filter; a double click or Enter opens a study."""

    def __init__(self, viewer: Any, actions: Actions, commands: Commands) -> None:
        super().__init__()
        self.setObjectName("lesionlens")
        self._viewer = viewer
        self.session = WorklistSession()
        self.controller = WorklistController(self.session, actions, self)
        self.archive: PacsDialog | None = None
        self._followed: tuple[object, object, str] = (None, None, "")
        self.model = WorklistModel(self)
        self.table = _StudiesTable()
        self.table.setObjectName("studies")
        self._set_up_table()
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("filter: words, -word to exclude")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter the list")
        self.filter.textChanged.connect(self.session.filter)
        self._open = flat_button("List ▾", menu=self._menu())
        tip = "Analyse studies without a result in the background, starting with the next ones"
        self._ahead = push_button("Analyse ahead", self.controller.toggle_ahead, tip)
        text = BY_NAME["previous_study"].captioned("◀")
        self._before = push_button(text, partial(commands.run, "previous_study"))
        text = f"{BY_NAME['next_study'].shown_key} ▶"
        self._next = push_button(text, partial(commands.run, "next_study"))
        self._title = label("", "title")
        self._summary = label("", "dim", wrap=True)
        self._problem = label("", "warn", wrap=True)
        title = row(self._title, None, self._open)
        tools = row(self.filter, self._before, self._next, self._ahead)
        parts = (title, tools, self.table, self._summary, self._problem)
        stack(self, *parts, margins=(10, 8, 10, 8)).setStretchFactor(self.table, 1)
        self.session.changed.connect(self.show_screen)
        viewer.events.theme.connect(self._show_theme)
        self._active = True
        when_idle(self._move_down)
        when_idle(self._open_last)
        self._show_theme()
        self.show_screen(self.session.screen)

    def _set_up_table(self) -> None:
        table = self.table
        show_rows(table, self.model, "Studies of the worklist")
        table.verticalHeader().setDefaultSectionSize(table.fontMetrics().height() + 10)
        header = table.horizontalHeader()
        for number, width in enumerate(_COLUMN_WIDTHS):
            header.resizeSection(number, width)
        header.setSectionResizeMode(len(COLUMNS) - 1, QHeaderView.ResizeMode.Stretch)
        table.activated.connect(self._on_activated)

    def _menu(self) -> QMenu:
        menu, ask = QMenu(self), partial(ask_path, self)
        for title, slot in (
            ("Open a list…", partial(ask, self.controller.open, "Open the list in this folder")),
            (
                "New list of a folder or BIDS dataset…",
                partial(ask, self._ask_target, "Studies: one sub-folder each, or BIDS"),
            ),
            (
                "New list of a CSV table…",
                partial(ask, self._ask_target, "Table of studies", "CSV (*.csv)"),
            ),
            ("New list from an archive (PACS)…", self.ask_archive),
        ):
            menu.addAction(title).triggered.connect(lambda _=False, slot=slot: slot())
        menu.addMenu(recent_menu(self, "Recent lists", recent_paths.LISTS, self.controller.open))
        menu.addSeparator()
        self._tables = menu.addAction("Write the tables of all reads…")
        self._tables.setToolTip("reads.csv and marks.csv, ready for a FROC analysis")
        title = "Write reads.csv and marks.csv here"
        self._tables.triggered.connect(lambda _=False: ask(self.controller.write_tables, title))
        return menu

    # --- shown ----------------------------------------------------------------------------

    def show_screen(self, screen: WorklistScreen) -> None:
        """Show a screen."""
        before = len(self.model.rows)
        self.model.show(screen.rows, screen.focus)
        self._follow(screen)
        if len(self.model.rows) != before:
            self._fit_columns()
        self._title.setText(screen.title or "No list is open")
        for widget in (self.filter, self._before, self._next, self._ahead, self._tables):
            widget.setEnabled(screen.folder is not None)
        self._ahead.setText("Stop" if screen.ahead else "Analyse ahead")
        self._summary.setText(screen.summary)
        show_text(self._problem, screen.failure)

    def _follow(self, screen: WorklistScreen) -> None:
        """Highlight the row in focus, and go to it or else to the row opened last.

        If a filter hides that row, the list begins with its first row.
        """
        key = screen.focus or screen.last_opened
        open_row, target = self._index_of(screen.focus), self._index_of(key)
        highlight = self.table.selectionModel()
        highlighted = highlight.selectedRows() == ([open_row] if open_row.isValid() else [])
        followed, previous = (screen.focus, key, screen.filter_text), self._followed
        if highlighted and followed == previous:
            return
        self._followed = followed
        highlight.select(open_row, _SELECT.ClearAndSelect | _SELECT.Rows)
        highlight.setCurrentIndex(target, _SELECT.NoUpdate)
        if target.isValid():
            self.table.scrollTo(target)
        elif screen.filter_text != previous[-1]:
            self.table.scrollToTop()

    def _index_of(self, key: tuple[str, int] | None) -> QModelIndex:
        number = next((n for n, row in enumerate(self.model.rows) if row.key == key), None)
        return QModelIndex() if number is None else self.model.index(number, 0)

    def _fit_columns(self) -> None:
        """Fit the columns of patients, studies and sequences to their texts, within limits."""
        for column in (COLUMNS.index(name) for name in ("Patient", "Study", "Sequences")):
            text_width = self.table.sizeHintForColumn(column) * 9 // 8 + 12  # bold where open
            width = min(max(text_width, _COLUMN_WIDTHS[column]), _MAX_COLUMN_WIDTH)
            self.table.horizontalHeader().resizeSection(column, width)

    def _show_theme(self, _: Any = None) -> None:
        size = float(get_settings().appearance.font_size)
        self.setStyleSheet(style_sheet(self._viewer.theme, size))

    def _move_down(self) -> None:
        """Dock below the image, where rows have room; the panel stays visible at the side."""
        window, dock = main_window(self), self.parentWidget()
        if self._active and window is not None and isinstance(dock, QDockWidget):
            window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
            window.resizeDocks([dock], [_DOCK_HEIGHT], Qt.Orientation.Vertical)
            dock.show()
            WindowClosing(window, self).closing.connect(self.controller.ahead.stop)

    def _open_last(self) -> None:
        """Open the last list again, also after a crash."""
        if self._active:
            self.controller.open_last()

    # --- dialogs --------------------------------------------------------------------------

    def ask_archive(self) -> None:
        """Open the archive's dialog, which makes a list of the studies found."""
        if self.archive is None:
            self.archive = PacsDialog(self, self.controller.actions, self._list_archived)
        self.archive.show()
        self.archive.raise_()

    def _list_archived(self, studies: tuple[FoundStudy, ...], server: Server) -> bool:
        chosen = QFileDialog.getExistingDirectory(self, _KEEP_HERE)
        return bool(chosen) and self.controller.list_archived(studies, server, Path(chosen))

    def _ask_target(self, source: Path) -> None:
        ask_path(self, partial(self.controller.scan, source), _KEEP_HERE)

    # --- acts -----------------------------------------------------------------------------

    def _on_activated(self, index: QModelIndex) -> None:
        if index.isValid():
            self.controller.open_row(self.model.rows[index.row()])

    # --- end ------------------------------------------------------------------------------

    def release(self) -> None:
        """Close the list and disconnect from the viewer; further calls do nothing."""
        if self._active:
            self._active = False
            if self.archive is not None:
                self.archive.release()
            self.session.changed.disconnect(self.show_screen)
            self._viewer.events.theme.disconnect(self._show_theme)
            self.controller.release()

    def changeEvent(self, event: QEvent) -> None:
        """Release everything when the dock is closed: napari then removes the widget from it."""
        super().changeEvent(event)
        removed = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if removed and getattr(self, "_active", False):
            self.release()
            self.deleteLater()
