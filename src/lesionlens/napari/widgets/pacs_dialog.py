"""The archive's dialog: search, retrieve and open, send a result back.

Nothing is asked of an archive before a button is pressed. What takes time runs in a thread; closing
the dialog stops it, and a study that did not come whole is not kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from lesionlens.base.errors import CancelledError, LesionLensError, PatientConflictError
from lesionlens.napari.model.studies import archive
from lesionlens.napari.qt.jobs import Jobs, problem_of
from lesionlens.napari.widgets.pacs_form import SearchForm, ServerForm
from lesionlens.napari.widgets.parts import ElidedLabel, label, row
from lesionlens.napari.widgets.patient_dialog import PatientDialog
from lesionlens.napari.widgets.run_block import ProblemBlock
from lesionlens.site.pacs import credentials
from lesionlens.site.pacs.peer import FoundStudy, check_address
from lesionlens.site.pacs.server import Server


class PacsDialog(QDialog):
    """Modeless, one a panel.

    Parameters
    ----------
    parent : QWidget
        The panel; gives the style.
    open_study : callable
        Opens a folder in the window; False if something else runs.
    exported : callable
        The folder that was exported to last, or None.
    make_list : callable or None
        Makes a worklist of the studies found in an archive; False if that was put off. None if
        studies are opened one at a time.
    """

    def __init__(
        self,
        parent: QWidget,
        open_study: Callable[[Path], bool],
        exported: Callable[[], Path | None],
        make_list: Callable[[tuple[FoundStudy, ...], Server], bool] | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("lesionlens")
        self.setWindowTitle("LesionLens: archive (PACS)")
        self.resize(760, 560)
        self._open_study, self._exported, self._make_list = open_study, exported, make_list
        self.session = archive.ArchiveSession()
        self.jobs = Jobs(self.session, self)
        self.patient = PatientDialog(self)
        self._folder = archive.studies_folder()
        self._began = 0.0
        self._build()
        self.session.changed.connect(self._show)
        self._show(self.session.state)

    def _build(self) -> None:
        self.server, self.form = ServerForm(archive.kept_servers()), SearchForm()
        self.server.changed.connect(self._show_buttons)
        self.form.asked.connect(self.search)
        self._search = self._button("Search", self.search, "primary")
        self.table = _table()
        self.table.itemSelectionChanged.connect(self._show_buttons)
        self.table.itemDoubleClicked.connect(lambda _: self.retrieve())
        self.problem = ProblemBlock()
        self.problem.dismissed.connect(self.session.dismiss)
        self._message, self._stage = label("", "good", wrap=True), ElidedLabel("dim")
        self._bar = QProgressBar()
        self._bar.setRange(0, 1000)
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(6)
        self._cancel = self._button("Cancel", self.jobs.stop)
        self._build_buttons()
        running = QHBoxLayout()
        running.addWidget(self._stage, 1)
        running.addWidget(self._cancel)
        layout = QVBoxLayout(self)
        layout.setSpacing(8)
        for title, item, button in (
            ("ARCHIVE", self.server, None),
            ("SEARCH", self.form, self._search),
        ):
            layout.addWidget(label(title, "heading"))
            if button is None:
                layout.addWidget(item)
            else:
                layout.addLayout(row(item, button))
        layout.addWidget(self.table, 1)
        for block in (self.problem, self._message, self._bar):
            layout.addWidget(block)
        layout.addLayout(running)
        layout.addLayout(row(self._keep, None, self._send, self._retrieve, self._list))
        notice = "Nothing is sent to an archive before you press Search, Retrieve or Send."
        layout.addWidget(label(notice, "notice"))
        self._clock = QTimer(self)
        self._clock.setInterval(500)
        self._clock.timeout.connect(self._tick)

    def _build_buttons(self) -> None:
        self._keep = QToolButton()
        self._keep.setProperty("role", "flat")
        self._keep.clicked.connect(lambda _=False: self._ask_folder())
        self._send = self._button("Send a result…", self.ask_send)
        self._retrieve = self._button("Retrieve and open", self.retrieve, "primary")
        self._list = self._button("Make a list of these…", self.make_list, "primary")
        self._list.setVisible(self._make_list is not None)

    def _button(self, words: str, act: Callable[[], Any], role: str = "") -> QPushButton:
        button = QPushButton(words)
        button.setAutoDefault(False)  # Return in a field searches, and nothing else
        if role:
            button.setProperty("role", role)
        button.clicked.connect(lambda _=False: act())
        return button

    # --- shown ----------------------------------------------------------------------------

    def _show(self, state: archive.ArchiveState) -> None:
        running = state.activity is not None
        if running and not self._clock.isActive():
            self._began = time.monotonic()
            self._clock.start()
        if not running:
            self._clock.stop()
        for widget in (self._bar, self._stage, self._cancel):
            widget.setVisible(running)
        self.problem.show_problem(state.problem)
        self._message.setText(state.message)
        self._message.setVisible(bool(state.message))
        if self.table.property("shown") is not state.studies:
            self._show_studies(state)
        self._tick()
        self._show_buttons()

    def _show_studies(self, state: archive.ArchiveState) -> None:
        self.table.setProperty("shown", state.studies)
        self.table.setRowCount(len(state.studies))
        for number, study in enumerate(state.studies):
            for column, text in enumerate(archive.cells(study)):
                self.table.setItem(number, column, QTableWidgetItem(text))
        if len(state.studies) == 1:
            self.table.selectRow(0)

    def _show_buttons(self) -> None:
        running = self.session.state.activity is not None
        idle = not running and bool(self.server.server().address)
        self._search.setEnabled(idle)
        self._send.setEnabled(idle)
        self._retrieve.setEnabled(idle and self._chosen() is not None)
        self._list.setEnabled(idle and bool(self.session.state.studies))
        self._keep.setText(f"Keep studies in: {self._folder}")
        self._keep.setEnabled(not running)

    def _tick(self) -> None:
        activity = self.session.state.activity
        if activity is None:
            return
        words = "Stopping…" if activity.stopping else activity.words
        self._stage.show_text(f"{words} · {time.monotonic() - self._began:.0f} s")
        self._bar.setRange(0, 1000 if activity.fraction else 0)
        self._bar.setValue(round(1000 * min(max(activity.fraction, 0.0), 1.0)))
        self._cancel.setEnabled(not activity.stopping)

    # --- done -----------------------------------------------------------------------------

    def search(self) -> None:
        """Ask the archive for the studies of the form."""
        server = self._server()
        if server is None:
            return
        try:
            query = archive.query_of(self.form.query_fields())
        except LesionLensError as refusal:
            self.session.failed(problem_of(refusal))
            return
        self.session.found(())
        self.jobs.start(
            "Searching",
            lambda context: archive.search(server, query, context),
            self.session.found,
        )

    def retrieve(self) -> None:
        """Fetch the chosen study and open it."""
        study, server = self._chosen(), self._server()
        if study is None or server is None:
            return
        target = archive.free_folder(self._folder, study)
        task = archive.Fetching(server, study.study_uid, target)
        self._settled("Retrieving", task, self._opened)

    def make_list(self) -> None:
        """Make a worklist of all studies that were found, in the archive's order of days."""
        server = self._server()
        studies = tuple(reversed(self.session.state.studies))
        if server is None or self._make_list is None or not studies:
            return
        if self._make_list(studies, server):
            self.hide()

    def _opened(self, folder: Path) -> str:
        if self._open_study(folder):
            return f"Retrieved completely into {folder}. It opens in the window."
        return f"Retrieved completely into {folder}. Open it when the other job is done."

    def ask_send(self) -> None:
        """Ask which result, show what goes where, and send it when the user agrees."""
        start = self._exported() or Path()
        chosen = QFileDialog.getExistingDirectory(
            self, "Send the result in this folder", str(start)
        )
        if chosen:
            self.send(Path(chosen))

    def send(self, result: Path) -> None:
        """Send the DICOM objects of a result, when the user agrees."""
        server = self._server()
        if server is None or not self._agreed(result, server.address):
            return
        self._settled("Sending", archive.Sending(server, result), lambda words: words)

    def _settled(
        self, words: str, task: archive.Fetching | archive.Sending, done: Callable[[Any], str]
    ) -> None:
        """Run a task; where patients contradict each other, run it again if a person confirms."""

        def refused(error: BaseException) -> None:
            if not isinstance(error, CancelledError):
                self.session.failed(problem_of(error))
            if isinstance(error, PatientConflictError):
                confirmed = replace(task, same_patient=True)
                self.patient.ask(error, lambda: self._settled(words, confirmed, done))

        self.jobs.start(words, task, done, refused)

    def _agreed(self, result: Path, address: str) -> bool:
        words = f"Send the DICOM objects of “{result.name}” to {address}?"
        answer = QMessageBox.question(self, "Send a result", words)
        return bool(answer == QMessageBox.StandardButton.Yes)

    def _server(self) -> Server | None:
        """Return the server, its password put into the keyring; None, and why, if that fails."""
        server, password = self.server.server(), self.server.password.text()
        if self.jobs.running or not server.address:
            return None
        try:
            server.access()
            check_address(server.address)
            if password:
                credentials.keep(server.address, server.user, password)
        except LesionLensError as refusal:
            self.session.failed(problem_of(refusal))
            return None
        self.server.password.clear()
        archive.keep_server(server)
        self.server.show_server(server)
        return server

    def _chosen(self) -> FoundStudy | None:
        chosen = self.table.selectedItems()
        return self.session.state.studies[chosen[0].row()] if chosen else None

    def _ask_folder(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Keep studies in", str(self._folder.parent))
        if chosen:
            self._folder = Path(chosen)
            self._show_buttons()

    def release(self) -> None:
        """Stop, and hear no more of what runs: the panel goes."""
        self.session.changed.disconnect(self._show)
        self._clock.stop()
        self.jobs.abandon()
        self.reject()

    def reject(self) -> None:
        """Stop what runs, and close; Escape and the window's cross lead here."""
        self.jobs.stop()
        super().reject()


def _table() -> QTableWidget:
    table = QTableWidget(0, len(archive.HEADINGS))
    table.setHorizontalHeaderLabels(list(archive.HEADINGS))
    table.setAccessibleName("Studies found")
    table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
    table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
    table.setTabKeyNavigation(False)
    table.setShowGrid(False)
    table.setWordWrap(False)
    table.verticalHeader().hide()
    header = table.horizontalHeader()
    header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
    for column, width in enumerate((90, 170, 110, 90, 0, 60)):
        stretch = width == 0
        header.setSectionResizeMode(
            column,
            QHeaderView.ResizeMode.Stretch if stretch else QHeaderView.ResizeMode.Interactive,
        )
        if not stretch:
            header.resizeSection(column, width)
    return table
