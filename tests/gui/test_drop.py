"""Scans dropped on napari's window, as Qt delivers a drop: every kind, several, none."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from napari.settings import get_settings
from qtpy.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from qtpy.QtGui import QDragEnterEvent, QDropEvent
from qtpy.QtWidgets import QApplication, QTableWidget
from tests.gui.window import PATIENCE_MS, control, question, reads, wait
from tests.phantoms.files import DicomLayout
from tests.phantoms.headers import PatientIdentity

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.arrays import Volume
from lesionlens.napari.loading import KEY
from lesionlens.napari.model.overlays.maps import axis_aligned, contrast_limits
from lesionlens.napari.preferences import FOLDERS, use_for_folders
from lesionlens.results.export.exporter import save

NAPARIS_OWN = "napari._qt.qt_viewer.QtViewer._qt_open"
ALL = {"T1", "T1c", "T2", "FLAIR"}
TWO = {"T1c", "FLAIR"}


def drop(widget, *places):
    """Send what Qt sends when files are let go over a widget; False where it was not wanted."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(place)) for place in places])
    how = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier(0))
    enter = QDragEnterEvent(QPoint(20, 20), *how)
    QApplication.sendEvent(widget, enter)
    assert enter.isAccepted()
    let_go = QDropEvent(QPointF(20, 20), *how)
    QApplication.sendEvent(widget, let_go)


@pytest.fixture
def window(panel, qtbot):
    """Return what holds the canvas, once the panel listens there; kept, it would be a leak."""
    qtbot.waitUntil(lambda: panel.drops is not None, timeout=PATIENCE_MS)
    return lambda: panel.viewer.window._qt_viewer


@pytest.fixture
def no_question(monkeypatch):
    """Napari's question which reader to use is never asked: it would wait for ever."""
    monkeypatch.setattr(
        "napari._qt.qt_viewer.handle_gui_reading", lambda *_, **__: pytest.fail("napari asked")
    )


def settled(panel, qtbot):
    wait(qtbot, panel)


def check_layers(viewer, names):
    """Names, units, axes, place and window of every layer are those of its series."""
    assert {layer.name for layer in viewer.layers} == names
    for layer in viewer.layers:
        ours = layer.metadata[KEY]
        series = ours["study"].series[MrSequence(ours["sequence"])]
        expected = axis_aligned(Volume(series.load(), series.grid))
        assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
        assert layer.axis_labels == ("left–right", "back–front", "bottom–top")
        np.testing.assert_allclose(layer.scale, expected.grid.spacing_mm)
        np.testing.assert_allclose(layer.translate, expected.grid.affine[:3, 3])
        np.testing.assert_allclose(ours["affine"], series.grid.affine)
        np.testing.assert_array_equal(layer.data, expected.data)
        np.testing.assert_allclose(layer.contrast_limits, contrast_limits(expected.data))
    assert sum(layer.visible for layer in viewer.layers) == 1


def nifti_folder(make_study):
    return [make_study(orientation="LPS")], ALL


def nifti_file(make_study):
    return [make_study(sequences={"t1c", "flair"}) / "t1c.nii.gz"], {"T1c"}


def nifti_files(make_study):
    folder = make_study(sequences={"t1c", "t2", "flair"})
    return [folder / "t2.nii.gz", folder / "flair.nii.gz"], {"T2", "FLAIR"}


def nifti_files_of_two_folders(make_study):
    first, second = make_study(name="a"), make_study(name="b", orientation="LAS")
    return [first / "t1.nii.gz", second / "t1c.nii.gz"], {"T1", "T1c"}


def dicom_folder(make_study):
    return [make_study(dicom=True)], ALL


def dicom_oblique(make_study):
    return [make_study(dicom=True, tilt_deg=12.0, sequences={"t1c", "flair"})], TWO


def dicom_one_slice(make_study):
    layout = DicomLayout(flat=True, suffix=".dcm")
    folder = make_study(dicom=True, layout=layout, sequences={"t1c", "flair"})
    return [min(folder.iterdir())], TWO


def dicom_directory(make_study):
    folder = make_study(dicom=True, sequences={"t1c", "flair"})
    index = folder / "DICOMDIR"
    shutil.copy(next(p for p in folder.rglob("*") if p.is_file()), index)
    return [index], TWO


def dicom_files(make_study):
    folder = make_study(dicom=True, sequences={"t2"})
    return [p for p in sorted(folder.rglob("*")) if p.is_file()], {"T2"}


def dicom_series_folders(make_study):
    """Two of the four series of a study: the others, beside them, are not meant."""
    series = sorted(p for p in make_study(dicom=True).iterdir() if p.is_dir())
    assert len(series) == 4
    return series[:2], {"T1", "T1c"}


def make_in(make_study, home, *, name="study", **how):
    return make_study(name=f"{home}/{name}", **how)


KINDS = [
    nifti_folder,
    nifti_file,
    nifti_files,
    nifti_files_of_two_folders,
    dicom_folder,
    dicom_oblique,
    dicom_one_slice,
    dicom_directory,
    dicom_files,
    dicom_series_folders,
]


def test_every_kind_of_study_opens_by_a_drop(panel, window, qtbot, make_study, no_question):
    """One after the other, as in a reader's day: each takes the place of the one before."""
    for kind in KINDS:
        places, names = kind(partial(make_in, make_study, kind.__name__))
        drop(window(), *places)
        assert panel.jobs.running, kind.__name__
        settled(panel, qtbot)
        assert panel.session.state.problem is None, kind.__name__
        check_layers(panel.viewer, names)


def test_welcome_page_and_panel_take_a_drop_and_a_second_one_waits_for_nothing(
    panel, window, qtbot, make_study, no_question, tmp_path
):
    drop(window()._welcome_widget, make_study())
    drop(window(), make_study(name="other", sequences={"t2"}))
    assert "cancel it" in panel.session.state.message
    settled(panel, qtbot)
    check_layers(panel.viewer, ALL)
    (tmp_path / "notes.txt").write_text("no scan")
    drop(panel, tmp_path / "notes.txt")
    settled(panel, qtbot)
    assert panel.session.state.problem.next_step
    drop(panel, tmp_path / "other")
    settled(panel, qtbot)
    check_layers(panel.viewer, {"T2"})


def test_with_alt_held_napari_opens_what_is_dropped(panel, window, monkeypatch, tmp_path):
    opened = []
    monkeypatch.setattr(NAPARIS_OWN, lambda _, names, **__: opened.extend(names))
    alt = Qt.KeyboardModifier.AltModifier
    monkeypatch.setattr("qtpy.QtGui.QGuiApplication.keyboardModifiers", lambda: alt)
    (tmp_path / "cat.png").write_bytes(b"\x89PNG")
    drop(window(), tmp_path / "cat.png")
    assert opened == [str(tmp_path / "cat.png")]
    assert not panel.jobs.running


def test_once_the_panel_is_closed_napari_gets_every_drop(panel, window, monkeypatch, make_study):
    opened = []
    panel.release()
    monkeypatch.setattr(NAPARIS_OWN, lambda _, names, **__: opened.extend(names))
    folder = make_study()
    drop(window(), folder)
    assert opened == [str(folder)]


def test_a_dropped_result_is_shown_again(
    panel, window, analysis, qtbot, no_question, tmp_path: Path
):
    save(analysis, tmp_path / "out")
    drop(window(), analysis.study.root)
    settled(panel, qtbot)
    drop(window(), tmp_path / "out")
    settled(panel, qtbot)
    assert panel.session.state.problem is None
    assert panel.candidates.model.rowCount() == 2


def test_napari_opens_a_dropped_folder_without_the_panel(
    viewer, make_study, qtbot, no_question, monkeypatch, tmp_path
):
    """With the preference that the panel offers, napari's own drop asks nothing either."""
    use_for_folders(True)
    assert get_settings().plugins.extension2reader[FOLDERS] == "lesionlens"
    drop(viewer.window._qt_viewer, make_study(dicom=True))
    check_layers(viewer, ALL)
    qtbot.waitUntil(lambda: bool(viewer.window.dock_widgets), timeout=PATIENCE_MS)


def shown_studies(panel):
    table = panel.studies.findChild(QTableWidget)
    return [table.item(row, 0).text() for row in range(table.rowCount())]


def two_dates(make_study):
    for study, date, names in (("1", "20240229", {"t1c"}), ("2", "20260105", {"t1c", "t2"})):
        who = PatientIdentity(study=study, date=date)
        folder = make_study(name=f"all/{date}", dicom=True, identity=who, sequences=names)
    return folder.parent


def test_of_two_dates_the_reader_chooses_one(panel, window, qtbot, make_study, no_question):
    drop(window(), two_dates(make_study))
    settled(panel, qtbot)
    assert panel.session.state.problem is None
    assert panel.studies.isVisible()
    assert shown_studies(panel) == ["2024-02-29", "2026-01-05"]
    panel.studies.findChild(QTableWidget).selectRow(0)
    panel.studies.accept()
    settled(panel, qtbot)
    assert not panel.studies.isVisible()
    check_layers(panel.viewer, {"T1c"})
    assert "2024-02-29" in reads(panel.study)


def test_choosing_none_of_them_leaves_everything_as_it_was(loaded, qtbot, make_study):
    study = loaded.session.state.study
    loaded.actions_.open(two_dates(make_study))
    settled(loaded, qtbot)
    loaded.studies.reject()
    assert loaded.session.state.query is None
    assert loaded.session.state.study is study


def test_two_patients_together_are_not_opened_unless_a_person_confirms(
    panel, window, qtbot, make_study, no_question
):
    for patient in ("A", "B"):
        who = PatientIdentity(patient_id=patient, study=patient)
        folder = make_study(name=f"all/{patient}", dicom=True, identity=who, sequences={"t2"})
    drop(window(), folder.parent)
    settled(panel, qtbot)
    assert not panel.studies.isVisible()
    asked = question(qtbot, panel)
    assert "differ" in asked.text()
    asked.reject()
    assert panel.session.state.study is None
    assert panel.session.state.problem is None


def test_napari_itself_leaves_the_question_of_the_patient_to_the_panel(panel, qtbot, make_study):
    """`lesionlens open` ended, and advised an option that it does not have."""
    for patient in ("A", "B"):
        who = PatientIdentity(patient_id=patient)
        folder = make_study(name=f"all/{patient}", dicom=True, identity=who, sequences={"t2"})
    assert panel.viewer.open(str(folder.parent), plugin="lesionlens") == []
    asked = question(qtbot, panel)
    assert "differ" in asked.text()
    control(asked, "It is one patient").click()
    settled(panel, qtbot)
    assert "There is more than one study here" in reads(panel)
    panel.studies.accept()
    settled(panel, qtbot)
    assert panel.session.state.study is not None


def test_where_no_sequence_is_known_the_reader_names_them(
    panel, window, qtbot, tmp_path, monkeypatch
):
    """Those of this study, also where napari runs in a folder with files of the same names."""
    noise = np.random.default_rng(7).normal(100.0, 5.0, (24, 24, 24)).astype(np.float32)
    folder, other = tmp_path / "unknown", tmp_path / "other"
    for place in (folder, other):
        place.mkdir()
        for name in ("scan_a", "scan_b"):
            nib.save(nib.Nifti1Image(noise, np.diag([8.0, 8, 8, 1])), place / f"{name}.nii.gz")
    monkeypatch.chdir(other)
    drop(window(), folder)
    settled(panel, qtbot)
    state = panel.session.state
    assert state.study is None
    assert "--" not in state.problem.next_step
    assert panel.assign.isVisibleTo(panel)
    box = control(panel.assign, "Series to use as FLAIR")
    box.setCurrentIndex(box.findText("scan_b", Qt.MatchFlag.MatchStartsWith))
    control(panel.assign, "Use these").click()
    settled(panel, qtbot)
    assert not panel.assign.isVisibleTo(panel)
    check_layers(panel.viewer, {"FLAIR"})
    assert panel.session.state.study["flair"].files[0].path == folder / "scan_b.nii.gz"
