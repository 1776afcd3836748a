"""The archive's dialog: search, retrieve and open, send a result.

No request is sent before a button is pressed. Closing the dialog stops the running job; while a
result is sent, it stays open.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import QSize
from qtpy.QtWidgets import (
    QDialog,
    QHeaderView,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QWidget,
)

from lesionlens.napari.controllers.actions import Actions
from lesionlens.napari.controllers.archive_controller import ArchiveController
from lesionlens.napari.model.state.identity import identity_of_result
from lesionlens.napari.model.studies import archive
from lesionlens.napari.widgets.dialogs import ask_path, confirm_patient, message_box
from lesionlens.napari.widgets.pacs_form import SearchForm, ServerForm
from lesionlens.napari.widgets.parts import (
    flat_button,
    label,
    push_button,
    row,
    show_text,
    show_texts,
    stack,
    text_table,
    verbatim,
)
from lesionlens.napari.widgets.run_block import JobProgress, ProblemBlock
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server

_STILL_SENDING = "A result is being sent: wait until it finishes, or press Cancel to stop it."


class PacsDialog(QDialog):
    """Paints the archive's screen and forwards what the reader does; modeless, one per panel.

    Parameters
    ----------
    acts : Actions
        Open a study that was retrieved; know the folder of the last export.
    make_list : callable or None
        Makes a worklist of the studies found; returns False if cancelled. None if studies are
        opened one at a time.
    """

    def __init__(
        self,
        parent: QWidget,
        acts: Actions,
        make_list: Callable[[tuple[FoundStudy, ...], Server], bool] | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("lesionlens")
        self.setWindowTitle("LesionLens: archive (PACS)")
        self.resize(QSize(760, 560).boundedTo(self.screen().availableSize() * 0.9))
        self._acts, self._make_list = acts, make_list
        ask_patient = partial(confirm_patient, self)
        self.controller = ArchiveController(acts.open, ask_patient, self)
        self.session, self.jobs = self.controller.session, self.controller.jobs
        self._screen = self.session.screen
        self._build()
        self.session.changed.connect(self.show_screen)
        self.session.type_address(self.server.server().address)

    def _build(self) -> None:
        self.server, self.form = ServerForm(archive.stored_servers()), SearchForm()
        self.server.changed.connect(lambda: self.session.type_address(self.server.server().address))
        self.form.search_requested.connect(self.search)
        self._search = self._button("Search", self.search, "primary")
        self.table = _table()
        self.table.itemSelectionChanged.connect(lambda: self.session.choose(self._chosen()))
        self.table.itemDoubleClicked.connect(lambda _: self.retrieve())
        self.problem = ProblemBlock(self.session.dismiss)
        self._message = label("", "good", wrap=True)
        self._progress = JobProgress(self.jobs.stop, self, staged=False)
        self._folder_button = flat_button("")
        self._folder_button.clicked.connect(lambda _=False: self._ask_folder())
        self._send = self._button("Send a result…", self.ask_send)
        self._retrieve = self._button("Retrieve and open", self.retrieve, "primary")
        self._list = self._button("Make a list of these…", self.make_list, "primary")
        self._list.setVisible(self._make_list is not None)
        notice = "Nothing is sent to an archive before you press Search, Retrieve or Send."
        layout = stack(
            self,
            label("ARCHIVE", "heading"),
            self.server,
            label("SEARCH", "heading"),
            row(self.form, self._search),
            self.table,
            self.problem,
            self._message,
            self._progress.bar,
            self._progress.line,
            row(self._folder_button, None, self._send, self._retrieve, self._list),
            label(notice, "notice"),
            margins=None,
            spacing=8,
        )
        layout.setStretchFactor(self.table, 1)

    def _button(self, text: str, act: Callable[[], Any], role: str = "") -> QPushButton:
        button = push_button(text, act, role=role)
        button.setAutoDefault(False)  # Return in a field searches, and nothing else
        return button

    # --- shown ----------------------------------------------------------------------------

    def show_screen(self, screen: archive.ArchiveScreen) -> None:
        """Show a screen."""
        before, self._screen = self._screen, screen
        self._progress.show_activity(screen.activity)
        self.problem.show_problem(screen.problem)
        show_text(self._message, screen.message)
        for button in (self._search, self._send):
            button.setEnabled(screen.ready)
        self._retrieve.setEnabled(screen.ready and screen.chosen is not None)
        self._list.setEnabled(screen.ready and bool(screen.studies))
        self._folder_button.setText(verbatim(f"Keep studies in: {screen.folder}"))
        self._folder_button.setEnabled(screen.activity is None)
        if screen.studies != before.studies:
            self._show_rows([archive.cells(study) for study in screen.studies])

    def _show_rows(self, rows: Sequence[tuple[str, ...]]) -> None:
        self.table.clearSelection()
        show_texts(self.table, rows)
        if len(rows) == 1:
            self.table.selectRow(0)

    # --- forwarded ------------------------------------------------------------------------

    def search(self) -> None:
        """Query the archive for the studies that match the form."""
        server = self._server()
        if server is not None:
            self.controller.search(server, self.form.query_fields())

    def retrieve(self) -> None:
        """Retrieve the selected study and open it."""
        server = self._server()
        if server is not None:
            self.controller.retrieve(server)

    def make_list(self) -> None:
        """Make a worklist of all studies found, oldest first."""
        server, studies = self._server(), self._screen.studies[::-1]
        if server is None or self._make_list is None or not studies:
            return
        if self._make_list(studies, server):
            self.hide()

    def ask_send(self) -> None:
        """Ask for a result, and send it once the user agrees."""
        start = str(self._acts.exported or Path())
        ask_path(self, self.send, "Send the result in this folder", start=start)

    def send(self, result: Path) -> None:
        """Send the DICOM objects of a result once the user agrees."""
        server = self._server()
        if server is not None and self._agreed(result, server.address):
            self.controller.send(server, result)

    def _agreed(self, result: Path, address: str) -> bool:
        question = f"Send the DICOM objects of “{result.name}” to {address}?"
        text = f"{question}\n{identity_of_result(result).text}"
        box = message_box(self, "Send a result", text)
        box.setStandardButtons(QMessageBox.StandardButton.Yes | QMessageBox.StandardButton.No)
        return bool(box.exec() == QMessageBox.StandardButton.Yes)

    def _server(self) -> Server | None:
        """Return the server of the form; None if it cannot be used."""
        server = self.server.server()
        if not self.controller.accept(server, self.server.password.text()):
            return None
        self.server.password.clear()
        self.server.show_server(server)
        return server

    def _chosen(self) -> int | None:
        items = self.table.selectedItems()
        return items[0].row() if items else None

    def _ask_folder(self) -> None:
        start = str(self._screen.folder.parent)
        ask_path(self, self.session.choose_folder, "Keep studies in", start=start)

    def release(self) -> None:
        """Stop the running job and disconnect: the panel is being closed."""
        self.session.changed.disconnect(self.show_screen)
        self._progress.show_activity(None)
        self.jobs.abandon()
        self._stop_and_close()

    def reject(self) -> None:
        """Stop the running job and close, unless a result is being sent; also called by Escape."""
        if self.controller.sending:
            self.session.notify(_STILL_SENDING)
        else:
            self._stop_and_close()

    def _stop_and_close(self) -> None:
        self.jobs.stop()
        super().reject()


def _table() -> QTableWidget:
    table = text_table(archive.HEADINGS, "Studies found")
    header = table.horizontalHeader()
    for column, width in enumerate((90, 170, 110, 90, 0, 60)):
        stretch = width == 0
        header.setSectionResizeMode(
            column,
            QHeaderView.ResizeMode.Stretch if stretch else QHeaderView.ResizeMode.Interactive,
        )
        if not stretch:
            header.resizeSection(column, width)
    return table
