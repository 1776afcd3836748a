"""From the choice of a study on nothing of the one before can be acted on; one name for all."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from tests.gui.conftest import LEFT, FakeResult
from tests.gui.window import PATIENCE_MS, names, read, reads, sign, wait
from tests.phantoms.analysis import make_analysis

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.labels import ReviewAct, ReviewState
from lesionlens.napari.controllers import next_study, opened_study, worklist_controller
from lesionlens.napari.model.choices.views import Layout
from lesionlens.results.review.reopen import is_result
from lesionlens.site.database.worklist_database import WorklistDatabase


def held_back(monkeypatch, module, name, gate):
    """Let a reading function of a module wait for the gate; the list holds its failures."""
    fails, plain = [], getattr(module, name)

    def wait_and_read(*given, **options):
        gate.wait(PATIENCE_MS / 1000)
        if fails:
            raise fails.pop()
        return plain(*given, **options)

    monkeypatch.setattr(module, name, wait_and_read)
    return fails


@pytest.fixture
def slow(monkeypatch):
    """Studies whose reading waits until the test lets it go on, or fail."""
    gate = threading.Event()
    gate.set()
    fails = held_back(monkeypatch, next_study, "read_entry", gate)
    monkeypatch.setattr(worklist_controller.WorklistController, "read_next", lambda _: None)
    return gate, fails


def opened(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    wait(qtbot, panel)
    assert panel.session.state.analysis is not None
    panel.session.step(1)


def highlighted(listed):
    rows = listed.table.selectionModel().selectedRows()
    return [listed.model.rows[index.row()].entry.name for index in rows]


def marks(dock, name):
    return [
        act for act in read(dock, name).acts if act.act not in (ReviewAct.BEGIN, ReviewAct.LEAVE)
    ]


def test_no_act_reaches_the_study_before_while_another_one_opens(panel, listed, slow, qtbot):
    gate, _ = slow
    opened(panel, listed, qtbot)
    session = panel.session
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    assert highlighted(listed) == ["b"]
    assert session.state.study is None
    assert [layer.name for layer in panel.viewer.layers] == []
    assert not panel.study.isVisibleTo(panel)
    panel.viewer.cursor.position = LEFT
    for name in ("mark_here", "accept", "reject", "sign", "edit_outline", "undo"):
        panel.commands.run(name)
    assert not panel.signing.isVisible()
    gate.set()
    wait(qtbot, panel)
    assert marks(listed, "a") == []
    assert marks(listed, "b") == []
    assert session.state.identity.text == "ID Pb · 2026-01-05 · b"  # as its row has it
    assert highlighted(listed) == ["b"]


@pytest.mark.parametrize("error", [ReadError(found="x", expected="y", next_step="z"), None])
def test_a_study_comes_back_as_it_was_where_the_other_does_not_open(
    panel, listed, slow, qtbot, error
):
    gate, fails = slow
    opened(panel, listed, qtbot)
    session = panel.session
    panel.commands.run("reject")
    panel.actions_.show_layout(Layout.SINGLE)
    panel.commands.run("measure_length")  # shows linked views, which are not remembered
    panel.commands.run("next_plane")
    before, layers = session.state, list(panel.viewer.layers)
    pictures = [layer for layer in layers if "sequence" in layer.metadata.get("lesionlens", {})]
    gate.clear()
    listed.controller.open_row(listed.model.rows[1])
    if error is not None:
        fails.append(error)
    else:
        panel.jobs.stop()
    gate.set()
    wait(qtbot, panel)
    assert session.state.study is before.study
    assert session.state.review == before.review
    assert session.state.choices == before.choices
    assert (session.state.problem is None) is (error is None)
    assert [layer for layer in panel.viewer.layers if layer in pictures] == pictures
    assert highlighted(listed) == ["a"]
    panel.commands.run("accept")
    (verdict,) = read(listed, "a").verdicts
    assert verdict.state is ReviewState.ACCEPTED


def test_a_study_dropped_beside_the_list_is_no_row_of_it(panel, listed, one, qtbot):
    opened(panel, listed, qtbot)
    assert highlighted(listed) == ["a"]
    panel.actions_.open(one / "head")
    assert panel.session.state.study is None
    wait(qtbot, panel)
    assert listed.session.state.current is None
    assert highlighted(listed) == []


def test_a_signature_names_patient_study_and_reader_before_it_counts(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    acts, session = panel.actions_, panel.session
    for _ in range(2):
        panel.commands.run("accept")
        panel.commands.run("next_candidate")
    acts.sign()
    assert session.state.review.signed is None
    words = reads(panel.signing)
    for line in session.state.identity.lines:
        assert line in words
    assert "as A. Reader" in words
    panel.signing.reject()
    assert session.state.review.signed is None
    sign(panel)
    assert session.state.review.signed == "nothing further seen, A. Reader"
    assert read(listed, "a").complete
    acts.mark_here()
    assert read(listed, "a").complete
    assert "withdraw" in session.state.message.lower()
    acts.withdraw()
    panel.signing._field.setText("wrong patient")
    panel.signing.accept()
    assert [act.act for act in marks(listed, "a")][-2:] == [ReviewAct.DECIDE, ReviewAct.WITHDRAW]


def test_what_changed_while_the_reader_was_asked_is_not_signed(panel, listed, qtbot):
    """A result that arrived meanwhile was signed with candidates that nobody had decided."""
    opened(panel, listed, qtbot)
    for _ in range(2):
        panel.commands.run("accept")
        panel.commands.run("next_candidate")
    panel.actions_.sign()
    panel.actions_.review_controller.undo()
    panel.signing.accept()
    assert panel.session.state.review.signed is None
    assert "Not decided yet" in reads(panel)


def test_a_study_of_a_list_that_cannot_be_written_opens_all_the_same(
    panel, listed, qtbot, monkeypatch
):
    """The panel named it, no image was shown, and the failure was called a defect."""

    def write(*_):
        raise ResourceError(found="a full disk", expected="free space", next_step="Free some")

    assert listed.controller.open(listed.list_folder)
    with monkeypatch.context() as patched:
        patched.setattr(WorklistDatabase, "write_note", write)
        listed.controller.open_row(listed.model.rows[0])
        wait(qtbot, panel)
    assert panel.session.state.analysis is not None
    assert panel.session.state.problem is None
    assert names() >= {"T1c"}
    assert "The list cannot be written now: Found a full disk" in reads(listed)
    assert highlighted(listed) == ["a"]
    panel.session.go_to_candidate(1)
    panel.commands.run("accept")
    listed.session.refresh()
    assert "cannot be written now" not in reads(listed), "the decision was stored in it"
    database = listed.session.database
    assert database.read_note("place A. Reader") == ["a", 0]


def test_a_mark_that_waits_for_its_click_goes_with_its_study(panel, listed, qtbot):
    """The first click in the next study set it there."""
    opened(panel, listed, qtbot)
    panel.actions_.show_layout(Layout.SINGLE)
    panel.actions_.mark_by_mouse()
    assert "Click the position to mark" in reads(panel)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert not panel.actions_.place_mark(panel.actions_.viewpoint.current.point_mm)
    assert panel.actions_.read_controller.marking.marks == ()


def test_a_signed_merge_stays_signed_and_is_logged_once_however_often_it_is_opened(
    panel, listed, qtbot
):
    """Each opening appended the merged candidate's decisions, which voided the signature."""
    opened(panel, listed, qtbot)
    panel.session.go_to_candidate(2)
    panel.commands.run("accept")
    panel.session.go_to_candidate(1)
    panel.commands.run("merge")
    wait(qtbot, panel)
    assert len(panel.session.state.analysis.findings.candidates) == 1
    sign(panel)
    decided = [(e.tracking_uid, e.state) for e in panel.session.state.review.events]
    assert panel.session.state.review.signed
    for _ in range(2):
        panel.actions_.close()
        opened(panel, listed, qtbot)
        review = panel.session.state.review
        assert [(e.tracking_uid, e.state) for e in review.events] == decided
        assert review.signed


def test_one_name_in_list_panel_and_picture(panel, listed, qtbot):
    opened(panel, listed, qtbot)
    assert "a" in reads(panel.study).splitlines()
    assert identity_texts(panel) == [*panel.session.state.identity.lines]


def identity_texts(panel):
    """The patient's identity over napari's image, line by line."""
    overlays = panel.viewer.canvas.overlays.items()
    shown = {name: getattr(one, "text", "").strip() for name, one in overlays if one.visible}
    return [text for name, text in shown.items() if "identity" in name and text]


def test_pictures_of_an_analysed_study_are_there_before_its_result_and_nothing_reaches_a_left_one(
    panel, listed, monkeypatch, qtbot
):
    """A result is prepared anew, which takes seconds: the reader looks at the scan meanwhile."""
    gate = threading.Event()
    plain = opened_study.reopen_result

    def wait_and_reopen(*given):
        gate.wait(PATIENCE_MS / 1000)
        return plain(*given)

    monkeypatch.setattr(opened_study, "reopen_result", wait_and_reopen)
    monkeypatch.setattr(worklist_controller.WorklistController, "read_next", lambda _: None)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    qtbot.waitUntil(lambda: panel.session.state.study is not None, timeout=PATIENCE_MS)
    assert panel.jobs.running
    assert panel.session.state.analysis is None
    assert [layer.name for layer in panel.viewer.layers]
    listed.controller.open_row(listed.model.rows[1])
    assert panel.session.state.study is None  # the first one is out of reach at once
    gate.set()
    wait(qtbot, panel)
    assert panel.session.state.identity.study == "b"
    assert panel.session.state.analysis is not None


def test_a_list_opens_where_the_reader_was(panel, listed, qtbot):
    """After a crash the study that was open had to be looked for."""
    opened(panel, listed, qtbot)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    listed.session.close()  # as the end of the process does
    panel.session.close()
    listed.session.state = type(listed.session.state)()
    assert listed.controller.open(listed.list_folder)
    assert highlighted(listed) == []
    assert listed.table.currentIndex().row() == 1
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert highlighted(listed) == ["b"]


def analysed_by_hand(panel, listed, head, monkeypatch, qtbot, on_load=lambda: None):
    """Press Analyse in the list's last study, and return its result's folder."""

    def load(choice):
        on_load()
        return lambda *given, **named: made

    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    made = FakeResult(make_analysis(head, panel.session.state.study))
    monkeypatch.setattr(panel.actions_.loaded_lens, "load", load)
    assert panel.actions_.analyse()
    wait(qtbot, panel)
    qtbot.waitUntil(
        lambda: not listed.controller._results._unstored, timeout=PATIENCE_MS
    )  # it polls
    return listed.list_folder / "c"


def test_an_analysis_made_in_the_window_is_there_when_its_study_is_opened_again(
    panel, listed, head, slow, monkeypatch, qtbot
):
    assert is_result(analysed_by_hand(panel, listed, head, monkeypatch, qtbot))
    assert listed.session.state.problem is None
    count = len(panel.session.state.analysis.findings.candidates)
    qtbot.waitUntil(
        lambda: listed.model.rows[2].entry.candidates == count, timeout=PATIENCE_MS
    )  # it is stored; the list polls once more
    panel.session.step(1)
    panel.commands.run("accept")
    uid = panel.session.state.focused.tracking_uid
    panel.commands.run("previous_study")
    wait(qtbot, panel)
    panel.commands.run("next_study")
    wait(qtbot, panel)
    assert listed.session.state.current == ("c", 0)
    assert panel.session.state.analysis is not None
    assert panel.session.state.review.state_of(uid) is ReviewState.ACCEPTED


def test_a_result_that_cannot_be_kept_in_the_list_is_said_and_shown_all_the_same(
    panel, listed, head, slow, monkeypatch, qtbot
):
    folder = listed.list_folder / "c"
    folder.mkdir()
    (folder / "findings.json").write_text("another program's")
    assert analysed_by_hand(panel, listed, head, monkeypatch, qtbot) == folder
    assert "'c' was not saved in the list" in listed.session.state.problem.title
    assert (folder / "findings.json").read_text() == "another program's"
    assert panel.session.state.analysis is not None


@pytest.fixture
def arriving(panel, listed, one, slow, monkeypatch, qtbot):
    """The last study of the list, open while the result that was analysed ahead is being read."""
    gate = threading.Event()
    fails = held_back(monkeypatch, worklist_controller, "reopen_result", gate)
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    (listed.list_folder / "c").symlink_to(one / "result")
    listed.controller._poll_database()
    assert panel.jobs.running
    return gate, fails


def test_a_result_of_other_series_is_refused_until_the_study_is_opened_again(
    panel, listed, arriving, qtbot, monkeypatch
):
    gate, _ = arriving
    reopen = opened_study.prepare_and_reopen

    def of_other_series(*arguments):
        analysed = reopen(*arguments)
        return replace(analysed, study=replace(analysed.study))

    with monkeypatch.context() as patched:
        patched.setattr(opened_study, "prepare_and_reopen", of_other_series)
        gate.set()
        wait(qtbot, panel)
    assert "other series of this study" in panel.session.state.problem.found
    assert panel.session.state.analysis is None
    listed.controller._poll_database()
    assert not panel.jobs.running
    listed.controller.open_row(listed.model.rows[2])
    wait(qtbot, panel)
    assert panel.session.state.problem is None
    assert panel.session.state.analysis is not None
