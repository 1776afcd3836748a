"""The archive's dialog: what a radiologist does with it, against a stand-in archive."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace

import pydicom
import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("dicomweb_client")

from qtpy.QtCore import QEvent, Qt
from qtpy.QtWidgets import QMessageBox
from tests.gui.window import PATIENCE_MS, control, question, wait
from tests.helpers.file_search import files_below
from tests.phantoms.headers import NOBODY

from lesionlens.base.codes import MANUFACTURER
from lesionlens.base.errors import PatientConflictError
from lesionlens.napari.controllers import archive_controller
from lesionlens.napari.model.studies import archive as model
from lesionlens.napari.qt.keyboard import main_window
from lesionlens.napari.qt.window_closing import WindowClosing
from lesionlens.results.documents import SENT
from lesionlens.site.pacs import send_result
from lesionlens.site.pacs.delivery import Delivery, DeliveryStoppedError
from lesionlens.site.pacs.peer import FoundStudy
from lesionlens.site.pacs.server import Server

ADDRESS = "https://pacs.example/dicom-web"
STUDIES = (
    FoundStudy("1.2.3", "7", "20250310", "Head", ("MR",), 30, "Doe^Jane"),
    FoundStudy("1.2.4", "7", "20260105", "<b>Head</b> follow-up", ("MR", "SR"), 31, "Doe^Jane"),
)


class StandIn:
    """An archive that answers as it is told, and notes what it was asked."""

    def __init__(self, folder):
        self.folder = folder
        self.asked, self.answer, self.connected = [], STUDIES, []
        self.notices = ()
        self.go_on = threading.Event()
        self.go_on.set()

    def connect(self, server):
        self.connected.append(server)
        return self

    def find(self, query, *, context):
        self.asked.append(("find", query, threading.current_thread()))
        self.hold(context)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def get(self, study_uid, target, *, listed, same_patient=False, context):
        assert listed in [study.patient for study in STUDIES]
        self.asked.append(("get", study_uid, threading.current_thread()))
        context.progress("fetch", 0.5)
        self.hold(context)
        if isinstance(self.answer, Exception):
            raise self.answer
        shutil.copytree(self.folder, target)
        return 1

    def send(self, files, *, same_patient, on_partial, context):
        self.asked.append(("send", tuple(f.name for f in files), threading.current_thread()))
        self.hold(context)
        if isinstance(self.answer, Exception):
            raise self.answer
        return Delivery(tuple(files), notices=self.notices)

    def objects_of(self, study_uid, matches, *, context):
        return ()

    def hold(self, context):
        while not self.go_on.wait(0.01):
            context.check("a test")


@pytest.fixture
def peer(monkeypatch, tmp_path, make_study):
    it = StandIn(make_study(dicom=True))
    monkeypatch.setattr(archive_controller, "connect", it.connect)
    monkeypatch.setattr(model, "servers_file", lambda: tmp_path / "config" / "archives.json")
    monkeypatch.setattr(model, "studies_folder", lambda: tmp_path / "studies")
    return it


@pytest.fixture
def dialog(peer, panel):
    panel.show_archive()
    panel.archive.server.show_server(Server(ADDRESS))
    return panel.archive


def search(dialog, qtbot, **reported):
    for name, text in (reported or {"patient_id": "7"}).items():
        dialog.form.fields[name].setText(text)
    control(dialog, "Search").click()
    wait(qtbot, dialog)


def shown(dialog):
    table = dialog.table
    return [
        [table.item(r, c).text() for c in range(table.columnCount())]
        for r in range(table.rowCount())
    ]


def test_studies_are_listed_the_newest_first_as_plain_text(dialog, peer, qtbot):
    search(dialog, qtbot, name="doe jane", first="2025-01-01", last="31.12.2026")
    assert [row[0] for row in shown(dialog)] == ["2026-01-05", "2025-03-10"]
    assert shown(dialog)[0][1:] == ["Doe, Jane", "7", "MR, SR", "<b>Head</b> follow-up", "31"]
    _, query, thread = peer.asked[0]
    assert (query.patient_name, query.study_date) == ("doe*jane*", "20250101-20261231")
    assert query.modality == "MR"
    assert thread is not threading.main_thread()


def test_a_study_is_retrieved_and_opened(dialog, peer, panel, qtbot, tmp_path):
    search(dialog, qtbot)
    assert not control(dialog, "Retrieve and open").isEnabled()
    dialog.table.selectRow(0)
    control(dialog, "Retrieve and open").click()
    qtbot.waitUntil(lambda: not (dialog.jobs.running or panel.jobs.running), timeout=PATIENCE_MS)
    assert peer.asked[1][:2] == ("get", "1.2.4")
    assert (tmp_path / "studies" / "2026-01-05 1.2.4").is_dir()
    assert {layer.name for layer in panel.viewer.layers} == {"T1", "T2", "FLAIR", "T1c"}
    assert "Retrieved completely" in dialog.session.state.message


def test_cancel_keeps_nothing_and_says_so(dialog, peer, panel, qtbot, tmp_path):
    search(dialog, qtbot)
    dialog.table.selectRow(0)
    peer.go_on.clear()
    control(dialog, "Retrieve and open").click()
    qtbot.waitUntil(control(dialog, "Cancel").isVisible, timeout=PATIENCE_MS)
    assert not control(dialog, "Search").isEnabled()
    control(dialog, "Cancel").click()
    wait(qtbot, dialog)
    assert "Nothing was changed" in dialog.session.state.message
    assert not (tmp_path / "studies").exists()
    assert not panel.viewer.layers


def test_a_search_for_everything_or_for_no_day_is_not_sent(dialog, peer, qtbot):
    for field, text in (("patient_id", " "), ("first", "2026-13-01"), ("last", "soon")):
        search(dialog, qtbot, **{field: text})
        assert dialog.problem.isVisibleTo(dialog), field
        assert not peer.connected
        control(dialog.problem, "Back").click()
        dialog.form.fields[field].setText("")


def test_the_password_goes_to_the_keyring_and_nowhere_else(
    dialog, peer, qtbot, tmp_path, monkeypatch, caplog
):
    kept = []
    monkeypatch.setattr("lesionlens.site.pacs.credentials.keep", lambda *words: kept.append(words))
    dialog.server.show_server(Server(ADDRESS, user="reader"))
    dialog.server.password.setText("hunter2")
    search(dialog, qtbot)
    assert kept == [(ADDRESS, "reader", "hunter2")]
    assert dialog.server.password.text() == ""
    for path in files_below(tmp_path):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()
    assert "hunter2" not in caplog.text + repr(peer.connected)
    assert model.stored_servers() == [Server(ADDRESS, user="reader")]


def test_an_address_with_a_secret_is_neither_used_nor_kept(dialog, peer, qtbot, tmp_path):
    dialog.server.show_server(Server("https://me:hunter2@pacs.example"))
    search(dialog, qtbot)
    assert dialog.problem.isVisibleTo(dialog)
    assert not peer.connected
    assert not (tmp_path / "config").exists()


def test_a_result_is_sent_only_when_the_user_agrees(dialog, peer, qtbot, tmp_path, monkeypatch):
    result = tmp_path / "result"
    shutil.copytree(peer.folder, result / "dicom")
    monkeypatch.setattr(dialog, "_agreed", lambda *_: False)
    dialog.send(result)
    assert not peer.connected
    monkeypatch.setattr(dialog, "_agreed", lambda *_: True)
    dialog.send(result)
    wait(qtbot, dialog)
    assert peer.asked[0][0] == "send"
    assert "stored" in dialog.session.state.message


def test_a_delivery_that_was_stopped_says_what_the_archive_confirmed(
    dialog, peer, qtbot, tmp_path, monkeypatch
):
    result = tmp_path / "result"
    shutil.copytree(peer.folder, result / "dicom")
    monkeypatch.setattr(dialog, "_agreed", lambda *_: True)
    peer.answer = DeliveryStoppedError(1, 3)
    dialog.send(result)
    wait(qtbot, dialog)
    assert "confirmed 1 of 3 files" in dialog.session.state.message
    assert "Nothing was changed" not in dialog.session.state.message


def test_the_question_before_sending_names_the_patient(dialog, peer, tmp_path, monkeypatch):
    """The folder that is offered may be the last patient's, and its name says little."""
    asked = []

    def answer(box):
        asked.append((box.text(), box.textFormat()))
        return QMessageBox.StandardButton.No

    monkeypatch.setattr(QMessageBox, "exec", answer)
    dialog.server.show_server(Server(ADDRESS))
    result, series = (
        tmp_path / "out",
        next(path for path in peer.folder.rglob("*") if path.is_file()),
    )
    (result / "dicom").mkdir(parents=True)
    report = pydicom.dcmread(series)
    report.PatientName, report.PatientID, report.StudyDate = "Doe^<b>Jane", "P7", "20260105"
    report.save_as(result / "dicom" / "sr.dcm")
    dialog.send(result)
    dialog.send(tmp_path / "nothing")
    assert not peer.connected
    (named, plain), (unnamed, _) = asked
    assert named == f"Send the DICOM objects of “out” to {ADDRESS}?\n" + (
        "Doe <b>Jane · ID P7 · 2026-01-05 · out"
    )
    assert plain is Qt.TextFormat.PlainText
    assert unnamed.endswith("\nnothing")


@pytest.fixture
def conflict(peer, monkeypatch):
    """Let the archive know the study under another patient until somebody confirms it."""
    words = "Birth date differs; a person confirmed that it is the same patient."

    def settled(done):
        def asked(*args, same_patient, **how):
            if not same_patient:
                raise PatientConflictError(
                    ("Birth date",), "Another patient.", hint="Find out.",
                    values=(("1950-01-01", "1951-01-01"),),
                )  # fmt: skip
            peer.notices = (words,)
            return done(*args, same_patient=same_patient, **how)

        return asked

    for name in ("send", "get"):
        monkeypatch.setattr(peer, name, settled(getattr(peer, name)))
    return words


def _answered(dialog, qtbot, words):
    asked = question(qtbot, dialog)
    assert "1950-01-01 / 1951-01-01" in asked.text()
    control(asked, words).click()
    wait(qtbot, dialog)


def test_another_patient_in_the_archive_is_confirmed_and_noted(
    dialog, peer, conflict, qtbot, tmp_path, monkeypatch
):
    result = tmp_path / "result"
    shutil.copytree(peer.folder, result / "dicom")
    (result / "run.json").write_text("{}")
    for path in (result / "dicom").rglob("*"):
        if path.is_file():
            data = pydicom.dcmread(path)
            data.Manufacturer = MANUFACTURER
            data.save_as(path)
    monkeypatch.setattr(send_result, "check_objects", lambda _: None)
    monkeypatch.setattr(dialog, "_agreed", lambda *_: True)
    dialog.send(result)
    _answered(dialog, qtbot, "Cancel")
    assert not peer.asked
    assert dialog.session.state.problem is None
    assert "until you confirm that it is one patient" in dialog.session.state.message
    dialog.send(result)
    _answered(dialog, qtbot, "It is one patient")
    assert conflict in dialog.session.state.message
    (noted,) = json.loads((result / SENT).read_text())["notices"]
    assert (noted["to"], noted["notice"]) == (ADDRESS, conflict)


def test_another_patient_in_what_is_fetched_is_confirmed(dialog, peer, conflict, qtbot):
    search(dialog, qtbot)
    dialog.table.selectRow(0)
    control(dialog, "Retrieve and open").click()
    _answered(dialog, qtbot, "It is one patient")
    assert "Retrieved completely" in dialog.session.state.message


@pytest.mark.parametrize("of_list", [False, True])
def test_a_window_is_not_closed_at_once_while_a_result_is_sent(
    dialog, dock, peer, panel, qtbot, tmp_path, monkeypatch, of_list
):
    """The cross ended the delivery without a word, and no window was left to say so."""
    if of_list:
        dock.ask_archive()
        dialog = dock.archive
        dialog.server.show_server(Server(ADDRESS))
    result = tmp_path / "result"
    shutil.copytree(peer.folder, result / "dicom")
    monkeypatch.setattr(dialog, "_agreed", lambda *_: True)
    monkeypatch.setattr(QEvent, "spontaneous", lambda _: True, raising=False)
    watch, close = panel.findChild(WindowClosing), QEvent(QEvent.Type.Close)

    def may_close():
        return not watch.eventFilter(main_window(panel), close)

    for _ in range(2):  # each delivery is noticed
        peer.go_on.clear()
        dialog.send(result)
        assert [may_close(), may_close()] == [False, True]
        assert "being sent to the archive" in panel.session.state.message
        peer.go_on.set()
        wait(qtbot, dialog)
        assert may_close()


@pytest.mark.slow
def test_the_file_menu_leads_to_the_dialog(panel, monkeypatch):
    from npe2 import PluginManager

    from lesionlens.napari import dock

    manifest = PluginManager.instance().get_manifest("lesionlens")
    items = [item.command for item in manifest.contributions.menus["napari/file/io_utilities"]]
    assert items == ["lesionlens.archive", "lesionlens.worklist"]
    command = next(c for c in manifest.contributions.commands if c.id == "lesionlens.archive")
    assert command.python_name == "lesionlens.napari.dock:open_archive"
    monkeypatch.setattr(dock.napari, "current_viewer", lambda: panel.viewer)
    monkeypatch.setattr(dock, "open_panel", lambda viewer: panel)
    dock.open_archive()
    assert panel.archive.isVisible()


@pytest.fixture
def dock(peer, panel, monkeypatch, tmp_path):
    from lesionlens.napari.widgets.worklist_dock import WorklistDock

    monkeypatch.setattr("lesionlens.site.worklist.sources.connect", peer.connect)
    monkeypatch.setattr(
        "qtpy.QtWidgets.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path / "list")
    )
    made = WorklistDock(panel.viewer, panel.actions_, panel.commands)
    panel.viewer.window.add_dock_widget(made, name="Worklist")
    yield made
    made.release()


def test_a_search_becomes_a_worklist_whose_studies_are_fetched_when_opened(
    dock, peer, panel, qtbot, tmp_path
):
    (entry,) = [a for a in dock._open.menu().actions() if "PACS" in a.text()]
    entry.trigger()
    dialog = dock.archive
    assert dialog.isVisible()
    assert not dialog._list.isEnabled()
    dialog.server.show_server(Server(ADDRESS))
    peer.answer = (replace(STUDIES[0], study_uid=NOBODY.uid("study")), STUDIES[1])
    search(dialog, qtbot)
    dialog._list.click()
    wait(qtbot, dock.controller)
    assert not dialog.isVisible()
    rows = dock.session.state.rows
    assert [(r.entry.patient, r.entry.date) for r in rows] == [
        ("7", "2025-03-10"),
        ("7", "2026-01-05"),
    ]
    assert {r.entry.place for r in rows} == {""}
    assert b"Doe" not in (tmp_path / "list" / "studies.sqlite").read_bytes()
    assert all(asked[0] == "find" for asked in peer.asked)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert peer.asked[-1][:2] == ("get", rows[0].entry.study_uid)
    assert panel.session.state.study is not None
    dock.session.refresh(always=True)
    assert dock.session.state.rows[0].entry.place
    assert dock.session.state.rows[0].entry.sequences
