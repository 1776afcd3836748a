"""A morning's reading: the list, unaided first, study after study, and what a crash leaves."""

from __future__ import annotations

import shutil
import time
from contextlib import closing
from dataclasses import replace
from math import dist

import numpy as np
import pytest
from qtpy.QtWidgets import QListWidget, QSpinBox
from tests.gui.conftest import LEFT, RIGHT, FakeResult
from tests.gui.window import (
    PATIENCE_MS,
    answer,
    control,
    question,
    read,
    reads,
    sign,
    wait,
)
from tests.helpers.analysed_head import without_right
from tests.phantoms.headers import PatientIdentity

from lesionlens.analysis.followup.patient import Examination, Prior
from lesionlens.base.labels import MrSequence, Phase, ReviewState, Source
from lesionlens.base.records.followup import (
    Alignment,
    Change,
    Comparison,
    LesionMeasurement,
    TimePoint,
)
from lesionlens.base.records.patient import Patient
from lesionlens.imaging.reading.open import name_for_reader
from lesionlens.napari.controllers import (
    current_read,
    worklist_controller,
)
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.preferences import Preferences
from lesionlens.site.database.records import Arm, StudyEntry, StudyState
from lesionlens.site.database.worklist_database import open_worklist_database


def test_two_hundred_studies_open_in_a_second(panel, tmp_path, prefer, qtbot):
    from lesionlens.napari.widgets.worklist_dock import WorklistDock

    database = open_worklist_database(tmp_path / "list")
    database.add_studies(
        StudyEntry(f"s{n:03d}", "/x", f"P{n}", "2026-01-05", ("t1c", "flair"), "", n % 4, 0.9)
        for n in range(200)
    )
    database.close()
    dock = WorklistDock(panel.viewer, panel.actions_, panel.commands)
    panel.viewer.window.add_dock_widget(dock, name="Worklist")
    begun = time.process_time()
    assert dock.controller.open(tmp_path / "list")
    dock.table.repaint()
    assert time.process_time() - begun < 1.0
    assert dock.model.rowCount() == 200
    dock.filter.setText("s19 -s199")
    assert dock.model.rowCount() == 9
    dock.release()


def test_what_a_reader_signed_elsewhere_is_signed_in_the_list_once_it_is_open(
    panel, listed, one, qtbot
):
    """The panel showed the signature, and the row said *analysed*."""
    assert panel.actions_.open(one / "head")
    wait(qtbot, panel)
    assert panel.actions_.reopen(one / "result")
    wait(qtbot, panel)
    for _ in range(2):
        panel.commands.run("next_candidate")
        panel.commands.run("reject")
    sign(panel)
    assert panel.session.state.review.signed
    panel.actions_.close()
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    wait(qtbot, panel)
    assert panel.session.state.review.signed
    listed.session.refresh()
    assert listed.session.row(("a", 0)).state is StudyState.SIGNED
    states = {verdict.state for verdict in read(listed, "a").verdicts}
    assert states == {ReviewState.REJECTED}
    panel.actions_.withdraw()
    answer(panel, "too early")
    listed.session.refresh()
    assert listed.session.row(("a", 0)).state is StudyState.IN_REVIEW


def test_another_list_leaves_the_study_of_the_one_before(panel, listed, tmp_path, qtbot):
    """Its log was closed under it, and a study of the same name was taken for the next one."""
    day = listed.controller
    assert day.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.commands.run("next_candidate")
    panel.commands.run("accept")
    place = listed.session.row(("a", 0)).entry.place
    assert day.open(listed.list_folder)  # again, as when studies are added to it
    assert listed.session.state.current == ("a", 0)
    assert panel.session.state.study is not None
    database = open_worklist_database(tmp_path / "other")
    database.add_studies([StudyEntry("b", place, sequences=("t1c",))])
    database.close()
    assert day.open(tmp_path / "other")
    assert panel.session.state.study is None
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("b", 0)
    assert panel.session.state.analysis is None, "the result is of the other list's study"
    assert day.open(listed.list_folder)
    (verdict,) = read(listed, "a").verdicts
    assert verdict.state is ReviewState.ACCEPTED


def test_a_study_opens_with_its_result_and_keys_go_on(panel, listed, qtbot):
    day = listed.controller
    assert day.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    state = panel.session.state
    assert listed.session.state.current == ("a", 0)
    assert len(state.analysis.findings.candidates) == 2
    panel.commands.run("next_candidate")
    panel.commands.run("accept")
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("b", 0)
    (verdict,) = read(listed, "a").verdicts
    assert verdict.state is ReviewState.ACCEPTED
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    assert panel.session.state.review.state_of(verdict.tracking_uid) is ReviewState.ACCEPTED
    listed.session.refresh(always=True)
    assert listed.session.row(("a", 0)).state is StudyState.IN_REVIEW
    panel.commands.run("next_study")
    panel.commands.run("next_study")  # while the one before it still opens
    qtbot.waitUntil(lambda: listed.session.state.current == ("c", 0), timeout=PATIENCE_MS)
    wait(qtbot, panel)
    assert panel.session.state.analysis is None
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert "last study" in panel.session.state.message


def test_keys_go_past_a_study_whose_folder_is_gone(panel, listed, one, tmp_path, qtbot):
    day, gone = listed.controller, tmp_path / "gone"
    database = open_worklist_database(tmp_path / "own")
    database.add_studies(
        StudyEntry(name, str(gone if name == "b" else one / "head"), sequences=("t1c",))
        for name in "abc"
    )
    database.close()
    assert day.open(tmp_path / "own")
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert "does not exist" in panel.session.state.problem.found
    assert listed.session.state.current == ("a", 0)
    assert panel.session.state.study is not None, "the study before it is there again"
    panel.commands.run("previous_study")  # back is counted from the study that is shown
    wait(qtbot, panel)
    assert "first study" in panel.session.state.message
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("c", 0)
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("c", 0)
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("a", 0)
    shutil.copytree(one / "head", gone)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("b", 0), "it is tried anew, once another was opened"


def test_a_reader_study_that_another_reader_opens_leaves_the_study_of_the_first(
    panel, listed, qtbot, monkeypatch
):
    """The row was shown as the second reader's, and marks went into the read of the first."""
    (listed.list_folder / "protocol.toml").write_text(
        "title = 'x'\nseed = 3\nreaders = ['A. Reader', 'B. Reader']\ncases = ['a', 'b']\n"
    )
    named(monkeypatch, "A. Reader")
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[1])
    wait(qtbot, panel)
    named(monkeypatch, "B. Reader")
    assert listed.controller.open(listed.list_folder)
    assert panel.session.state.study is None
    assert listed.session.state.current is None
    assert listed.controller.step(1)
    wait(qtbot, panel)
    key = panel.actions_.read_controller.read_session.key
    assert (key.reader, listed.session.state.current) == ("B. Reader", listed.model.rows[0].key)


def named(monkeypatch, reader):
    for module in (current_read, worklist_controller):
        monkeypatch.setattr(module, "read_preferences", lambda: Preferences(reader_name=reader))


@pytest.fixture
def unaided(panel, loaded, prefer):
    """The panel of a reader who reads before the analysis is shown."""
    prefer(unaided_first=True)
    study = panel.session.state.study
    panel.session.close()
    panel.session.open(study)
    return panel.actions_, panel.session


def test_nothing_of_the_analysis_is_in_the_window_before_the_reader_signed(panel, unaided, result):
    acts, session = unaided
    acts.show_result(result, overlays_of(result.analysis))
    assert acts.read_controller.withheld is not None
    assert session.state.analysis is None
    assert session.state.overlays is None
    assert session.state.listed == ()
    names = {layer.name.lower() for layer in panel.viewer.layers}
    assert not names & {"candidates", "attention", "uncertainty"}
    assert not panel.candidates.isVisibleTo(panel)
    acts.toggle_overlay()
    panel.commands.run("next_candidate")
    assert session.state.analysis is None
    panel.viewer.cursor.position = LEFT
    acts.mark_here()
    assert panel.model.board.marks == (LEFT,)
    acts.unmark()
    assert panel.model.board.marks == ()
    panel.read_block.findChild(QSpinBox).setValue(80)
    panel.viewer.cursor.position = LEFT
    acts.mark_here()
    assert control(panel.read_block, "Sign 1 mark ⇧A")
    sign(panel)
    assert session.state.analysis is not None
    (unaided,) = session.state.review.unaided
    assert unaided.statement == "1 marked"
    assert unaided.reader == "A. Reader"
    assert unaided.marks[0].at_mm == LEFT
    assert unaided.marks[0].confidence == 80
    panel.commands.run("next_candidate")
    panel.commands.run("reject")
    own = acts.read_controller.read_session.read
    assert [mark.phase for mark in own.marks] == [Phase.UNAIDED]
    assert [verdict.state for verdict in own.verdicts] == [ReviewState.REJECTED]
    acts.unmark()
    assert len(acts.read_controller.marking.marks) == 1  # what was signed stays


def test_an_unaided_read_that_cannot_be_logged_shows_no_analysis(
    panel, one, prefer, tmp_path, qtbot
):
    """The study opened without images, and its result was shown at once."""
    prefer(unaided_first=True)
    (tmp_path / "own").write_text("a file where the folder of the log should be")
    panel.actions_.open(one / "head")
    wait(qtbot, panel)
    assert {layer.name for layer in panel.viewer.layers} == {"T1c"}
    problem = panel.session.state.problem
    assert problem.title == "The read could not be started"
    assert "until then its analysis is not shown" in problem.next_step
    panel.actions_.reopen(one / "result")
    wait(qtbot, panel)
    assert panel.session.state.analysis is None
    assert "could not be started, so its analysis is not shown" in panel.session.state.message
    panel.actions_.sign()
    assert not panel.signing.isVisible()
    (tmp_path / "own").unlink()
    panel.actions_.open(one / "head")
    wait(qtbot, panel)
    assert panel.actions_.read_controller.read_session.is_analysis_hidden


def test_a_mark_of_the_unaided_read_becomes_a_candidate_by_one_key_or_button(
    panel, unaided, analysis, qtbot
):
    acts, session = unaided
    panel.viewer.cursor.position = LEFT  # the network finds it too
    acts.mark_here()
    panel.viewer.cursor.position = RIGHT  # it does not find this one
    acts.mark_here()
    acts.mark_to_candidate()
    assert "Sign your own read first" in session.state.message
    found = without_right(analysis)
    acts.show_result(FakeResult(found), overlays_of(found))
    assert not control(panel.read_block, "Make it a candidate").isVisibleTo(panel)
    sign(panel)
    assert control(panel.read_block, "Make it a candidate").isVisibleTo(panel)
    control(panel.read_block, "Make it a candidate").click()  # the mark that lies in no candidate
    wait(qtbot, panel)
    first, second = session.state.analysis.findings.candidates
    assert second.source is Source.READER
    assert dist(second.centroid_mm, RIGHT) < 8
    assert session.state.choices.candidate == second.id
    panel.read_block.findChild(QListWidget).setCurrentRow(0)
    control(panel.read_block, "Make it a candidate").click()
    assert len(session.state.analysis.findings.candidates) == 2
    assert session.state.choices.candidate == first.id
    assert "lies in candidate 1" in session.state.message
    panel.commands.run("undo")
    wait(qtbot, panel)
    assert len(session.state.analysis.findings.candidates) == 1


def unchanged(now, examination, prior, *, context):
    """Compare an examination with itself: at rest, every lesion as it was; no search, no sums."""
    lesions = tuple(LesionMeasurement.of(one) for one in now.findings.candidates)
    points = (
        TimePoint(prior.examination.date, None, lesions),
        TimePoint(examination.date, None, lesions),
    )
    at_rest = tuple(tuple(row) for row in np.eye(4).tolist())
    found = Comparison(
        points, tuple(map(Change, lesions, lesions)), Alignment(at_rest, 0.0, 0.0, False, "t1c")
    )
    return replace(now, followup=found)


def test_an_earlier_examination_shows_its_pictures_alone_until_the_reader_signed(
    panel, loaded, analysis, prefer, monkeypatch, qtbot
):
    prefer(unaided_first=True)
    prior = Prior(Examination(Patient("x"), "2026-01-05"), analysis)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.compare", unchanged)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", lambda *_, **__: None)
    monkeypatch.setattr(
        "lesionlens.napari.controllers.comparing.open_prior", lambda *_, **__: prior
    )
    acts, session = panel.actions_, panel.session
    study = session.state.study
    monkeypatch.setattr(acts.dialogs, "ask_path", lambda then, _: then(study.root))
    session.close()
    session.open(study)
    assert not acts.compare(study.root)
    assert "Analyse the study first" in session.state.message
    panel.commands.run("compare")
    assert session.state.message == "Analyse the study first."
    acts.show_result(FakeResult(analysis), overlays_of(analysis))
    others = ("next_candidate", "accept", "toggle_overlay", "toggle_rulers", "export")
    for name in (*others, "next_considered"):
        panel.commands.run(name)
        assert session.state.message == "The analysis is hidden during your own read.", name
    panel.commands.run("hold_prompt", True)
    assert session.state.message == "The analysis is hidden during your own read."
    panel.commands.run("hold_prompt", False)
    panel.commands.run("compare")
    assert panel.jobs.running
    panel.commands.run("compare")
    assert "Comparing: wait until it finishes" in session.state.message
    wait(qtbot, panel)
    there = session.state.choices.views.compared
    assert set(there.volumes) >= {MrSequence.T1C}
    assert there.components is None
    assert session.state.analysis is None
    assert not panel.followup.isVisibleTo(panel)
    sign(panel)
    assert acts.compare(study.root)
    wait(qtbot, panel)
    assert session.state.choices.views.compared.components is not None
    assert session.state.analysis.compared is not None


def test_an_arm_shows_no_more_than_it_says(panel, listed, prefer, tmp_path, qtbot):
    folder = listed.list_folder
    (folder / "protocol.toml").write_text(
        'title = "drawn"\nseed = 3\nreaders = ["A. Reader"]\ncases = ["a", "b"]\nwashout_days = 0\n'
    )
    assert listed.controller.open(folder)
    rows = listed.model.rows
    assert {row.entry.candidates for row in rows} == {None}
    seen = set()
    for wanted in rows:
        if wanted.arm in seen:
            continue
        seen.add(wanted.arm)
        listed.controller.open_row(wanted)
        wait(qtbot, panel)
        state = panel.session.state
        if wanted.arm is Arm.UNAIDED:
            assert state.analysis is None
            sign(panel)
            assert panel.session.state.analysis is None
            key = {"session": wanted.session, "arm": wanted.arm}
            assert read(listed, wanted.entry.name, **key).complete
        else:
            maps = wanted.arm is Arm.MAPS
            assert state.review.events == ()  # nothing of another session
            assert bool(state.overlays.attention) is maps
            assert bool(state.analysis.volumes.attention) is maps
            assert (state.analysis.findings.candidates[0].sequence_relevance is not None) is maps
            panel.commands.run("next_candidate")
            panel.commands.run("accept")
            if not maps:
                result = folder / wanted.entry.name
                before = {path: path.read_bytes() for path in result.iterdir() if path.is_file()}
                assert not panel.actions_.export(result)
                assert "choose a folder outside the list" in panel.session.state.message
                assert {path: path.read_bytes() for path in before} == before
                assert panel.actions_.export(tmp_path / "elsewhere")
                wait(qtbot, panel)
                assert "Saved in elsewhere." in panel.session.state.message
    assert seen == set(Arm)


def test_closing_the_list_puts_the_study_away(panel, listed, prefer, qtbot):
    prefer(unaided_first=True)
    assert listed.controller.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert panel.actions_.read_controller.withheld is not None
    listed.release()
    assert panel.session.state.study is None
    assert panel.actions_.read_controller.withheld is None


def test_an_outline_drawn_as_the_list_is_closed_is_kept_in_it(panel, listed, qtbot):
    """It is measured in a thread, and the list was closed before that had ended."""
    assert listed.controller.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.session.go_to_candidate(1)
    panel.commands.run("edit_outline")
    (layer,) = (x for x in panel.viewer.layers if x.metadata["lesionlens"].get("role") == "edit")
    layer.brush_size = 5
    layer.paint(tuple(np.rint(layer.world_to_data(np.add(LEFT, [0, 40.0, 0]))).astype(int)), 3)
    listed.release()
    qtbot.waitUntil(lambda: panel.session.state.study is None, timeout=PATIENCE_MS)
    with closing(open_worklist_database(listed.list_folder)) as database:
        (found,) = (one for one in database.reads() if one.key.study == "a")
    (verdict,) = found.verdicts
    assert verdict.state is ReviewState.EDITED


def test_the_panel_opens_the_worklist_once(panel):
    from lesionlens.napari.dock import WORKLIST

    docked = panel.viewer.window.dock_widgets
    for _ in range(2):
        panel.worklist_requested.emit()
    assert [name for name in docked if name == WORKLIST] == [WORKLIST]
    docked[WORKLIST].release()


def test_a_panel_that_is_closed_takes_its_worklist_with_it(panel, qtbot, listed):
    """Its studies went on to open for the closed panel, and decisions missed the list."""
    from lesionlens.napari.dock import WORKLIST, open_panel, open_worklist

    listed.release()
    docked = panel.viewer.window.dock_widgets
    panel.worklist_requested.emit()
    worklist = docked[WORKLIST]
    assert worklist.controller.open(listed.list_folder)
    worklist.controller.open_row(worklist.model.rows[0])
    wait(qtbot, panel)
    panel.parentWidget().destroyOnClose()  # the cross in its title
    assert worklist.session.database is None
    qtbot.waitUntil(lambda: WORKLIST not in docked, timeout=PATIENCE_MS)
    again = open_panel(panel.viewer)
    open_worklist()
    assert docked[WORKLIST].controller.actions is again.actions_
    docked[WORKLIST].release()
    again.parentWidget().destroyOnClose()


def test_the_tables_of_a_list_are_written_from_its_menu(
    panel, listed, qtbot, tmp_path, monkeypatch
):
    """The same two files as from the command line, with what was marked in them."""
    menu = control(listed, "List").menu()
    (entry,) = [one for one in menu.actions() if "tables" in one.text()]
    assert not entry.isEnabled()  # no list is open
    assert listed.controller.open(listed.list_folder)
    assert entry.isEnabled()
    panel.commands.run("next_study")
    wait(qtbot, panel)
    panel.commands.run("next_candidate")
    panel.commands.run("accept")
    out = tmp_path / "tables"
    monkeypatch.setattr(
        "lesionlens.napari.widgets.dialogs.QFileDialog.getExistingDirectory",
        lambda *_: str(out),
    )
    entry.trigger()
    wait(qtbot, listed.controller)
    assert "0 of 1 reads complete" in reads(listed)
    assert "accepted" in (out / "marks.csv").read_text()
    assert (out / "reads.csv").read_text().count("A. Reader") == 1


def test_a_study_opened_again_with_other_series_stays_in_its_list(
    panel, listed, prefer, qtbot, monkeypatch
):
    """Swapping names, or choosing others, ended the read: what it hides could be analysed."""
    (listed.list_folder / "protocol.toml").write_text(
        'title = "t"\nseed = 1\nreaders = ["A. Reader"]\narms = ["unaided"]\n', encoding="utf-8"
    )
    assert listed.controller.open(listed.list_folder)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    state, current = panel.session.state, listed.session.state.current
    read_session = panel.actions_.read_controller.read_session
    series = state.study.series[MrSequence.T1C]
    for sequence in (MrSequence.FLAIR, MrSequence.T1C):
        study = panel.session.state.study
        assert panel.actions_.assign_sequences({sequence: name_for_reader(series, study)})
        wait(qtbot, panel)
        assert set(panel.session.state.study.series) == {sequence}
        assert panel.session.state.identity == state.identity
        assert state.identity.number == f"P{current[0]}"
        assert listed.session.state.current == current
        assert panel.actions_.read_controller.read_session.key == read_session.key
        assert panel.actions_.read_controller.closed
        assert control(panel.run, "Analyse").isHidden()
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current not in (None, current)


def test_a_row_of_two_patients_opens_once_a_person_confirmed_that_it_is_one(
    panel, listed, make_study, tmp_path, qtbot
):
    """It was refused, though the same folder opened elsewhere after a question."""
    place = make_study(name="head", dicom=True, sequences={"t1c"})
    other = make_study(
        name="other", dicom=True, sequences={"t2"}, identity=PatientIdentity(name="Other^Person")
    )
    shutil.copytree(other, place / "t2")
    database = open_worklist_database(tmp_path / "list_of_one")
    database.add_studies([StudyEntry("x", str(place), study_uid=PatientIdentity().uid("study"))])
    database.close()
    assert listed.controller.open(tmp_path / "list_of_one")
    for answer_of_reader in ("Cancel", "It is one patient"):
        assert listed.controller.open_row(listed.model.rows[0])
        wait(qtbot, panel)
        asked = question(qtbot, panel)
        assert "differ" in asked.text()
        assert (panel.session.state.study, panel.session.state.problem) == (None, None)
        control(asked, answer_of_reader).click()
        wait(qtbot, panel)
    study = panel.session.state.study
    assert set(study.series) == {MrSequence.T1C, MrSequence.T2}
    assert any("a person confirmed" in notice for notice in study.notices)
    assert listed.session.state.current == ("x", 0)
    assert panel.actions_.assign_sequences({})  # opened again, without another question
    wait(qtbot, panel)
    assert panel.session.state.study not in (None, study)
    assert listed.session.state.current == ("x", 0)
