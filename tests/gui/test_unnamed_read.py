"""Two readers without a name do not become one: the second is asked before the read begins."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from tests.gui.conftest import LEFT, FakeResult
from tests.gui.window import control, reads, sign, visible, wait
from tests.helpers import stored_drafts

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.napari import dock, preferences
from lesionlens.napari.controllers import (
    current_read,
    sign_acts,
    unnamed_read_acts,
    worklist_controller,
)
from lesionlens.napari.model.overlays.maps import overlays_of
from lesionlens.napari.preferences import Preferences
from lesionlens.results.review import drafts, store
from lesionlens.site.database.records import ReadKey


@pytest.fixture
def name(monkeypatch):
    """The reader's name in the preferences, empty at first."""
    kept = {"reader": None}
    for module in (current_read, worklist_controller):
        monkeypatch.setattr(
            module, "read_preferences", lambda: Preferences(reader_name=kept["reader"])
        )
    for module in (sign_acts, unnamed_read_acts, preferences):
        monkeypatch.setattr(module, "store_reader", lambda reader: kept.update(reader=reader))
    return kept


def opened(panel, listed, qtbot):
    assert listed.controller.open(listed.list_folder)
    listed.controller.open_row(listed.model.rows[0])
    wait(qtbot, panel)


def next_session(panel):
    """As in a window that was just started."""
    panel.actions_.close()
    panel.actions_.read_controller.unnamed_reads._local_reads.clear()


@pytest.fixture
def script(panel, monkeypatch):
    """`show(result)` as a script calls it, which opens this window instead of another one."""
    monkeypatch.setattr(dock.napari, "Viewer", lambda **_: panel.viewer)
    return SimpleNamespace(show=partial(dock.show, block=False))


def verdicts(listed, reader):
    return [v.state for v in listed.session.database.read(ReadKey("a", reader)).verdicts]


@pytest.fixture
def decided(panel, listed, qtbot, name):
    """A study that a reader without a name decided on and marked, in an earlier session."""
    opened(panel, listed, qtbot)
    panel.session.step(1)
    panel.commands.run("reject")
    panel.viewer.cursor.position = LEFT
    panel.commands.run("mark_here")
    assert verdicts(listed, "") == [ReviewState.REJECTED]
    assert len(panel.actions_.read_controller.marking.marks) == 1
    assert not panel.read_owner.isVisible()
    next_session(panel)
    return name


def answer(panel, reader, words):
    QTest.keyClicks(panel.read_owner._field, reader)
    control(panel.read_owner, words).click()


def test_a_second_reader_is_asked_and_reads_alone(panel, listed, qtbot, decided):
    opened(panel, listed, qtbot)
    assert panel.read_owner.isVisible()
    words = reads(panel.read_owner)
    assert all(line in words for line in panel.session.state.identity.lines)
    assert "unnamed reader" in words
    assert panel.session.state.analysis is None, "decisions of another were shown"
    assert panel.actions_.read_controller.marking.marks == ()
    assert not control(panel.read_owner, "Not mine").isEnabled()
    QTest.keyClicks(panel.read_owner._field, "B. Reader")
    QTest.keyClick(panel.read_owner, Qt.Key.Key_Return)
    assert decided["reader"] == "B. Reader"
    assert panel.session.state.analysis is not None
    assert panel.session.state.review.events == ()
    assert panel.actions_.read_controller.marking.marks == ()
    panel.session.step(1)
    panel.commands.run("accept")
    assert verdicts(listed, "B. Reader") == [ReviewState.ACCEPTED]
    assert verdicts(listed, "") == [ReviewState.REJECTED]
    assert panel.session.state.review.events[-1].reader == "B. Reader"


def test_who_continues_has_all_that_was_decided(panel, listed, qtbot, decided):
    opened(panel, listed, qtbot)
    answer(panel, "A. Reader", "Mine")
    assert [e.state for e in panel.session.state.review.events] == [ReviewState.REJECTED]
    assert len(panel.actions_.read_controller.marking.marks) == 1
    panel.session.step(1)
    panel.commands.run("accept")
    assert verdicts(listed, "A. Reader") == [ReviewState.ACCEPTED]
    names = {read.key.reader for read in listed.session.database.reads("a")}
    assert names == {"A. Reader"}, "one read became two"


def test_a_list_that_is_refreshed_during_the_question_leaves_it_its_decisions(
    panel, listed, qtbot, name
):
    opened(panel, listed, qtbot)
    analysis = panel.session.state.analysis
    panel.actions_.close()
    shown(panel, analysis)  # outside the list
    panel.session.step(1)
    panel.commands.run("reject")
    next_session(panel)
    opened(panel, listed, qtbot)
    assert panel.read_owner.isVisible()
    listed.controller._poll_database()
    assert not panel.jobs.running, "the withheld result is read again"
    answer(panel, "A. Reader", "Mine")
    assert [e.state for e in panel.session.state.review.events] == [ReviewState.REJECTED]
    assert verdicts(listed, "A. Reader") == [ReviewState.REJECTED]


def test_who_stays_unnamed_is_told_whose_decisions_are_shown(panel, listed, qtbot, decided):
    opened(panel, listed, qtbot)
    QTest.keyClick(panel.read_owner, Qt.Key.Key_Escape)
    assert decided["reader"] is None
    assert [e.state for e in panel.session.state.review.events] == [ReviewState.REJECTED]
    assert "An unnamed reader's decisions" in panel.session.state.message
    panel.actions_.close()
    opened(panel, listed, qtbot)
    assert not panel.read_owner.isVisible(), "asked twice in one session"


def test_a_name_that_cannot_be_stored_leaves_the_read_unnamed(
    panel, listed, qtbot, decided, tmp_path
):
    """The answer ended in a traceback, and the result was never shown."""
    opened(panel, listed, qtbot)
    listed.list_folder.rename(tmp_path / "unreachable")
    answer(panel, "B. Reader", "Mine")
    problem = panel.session.state.problem
    assert (problem.title, decided["reader"]) == ("This action was not saved", None)
    assert problem.next_step.endswith("you are asked again when you open the study")
    assert panel.session.state.analysis is not None
    (tmp_path / "unreachable").rename(listed.list_folder)
    next_session(panel)
    opened(panel, listed, qtbot)
    answer(panel, "B. Reader", "Mine")
    assert verdicts(listed, "B. Reader") == [ReviewState.REJECTED]


def test_a_read_that_cannot_begin_under_a_name_shows_no_analysis(
    panel, listed, qtbot, decided, monkeypatch
):
    opened(panel, listed, qtbot)
    damaged = ReadError(found="a damaged list", expected="a list", next_step="Restore it")
    monkeypatch.setattr(current_read, "ReadSession", Mock(side_effect=damaged))
    answer(panel, "B. Reader", "Not mine")
    assert panel.session.state.analysis is None
    assert "until then its analysis is not shown" in panel.session.state.problem.next_step
    assert "could not be started" in panel.session.state.message


def test_a_name_that_cannot_be_stored_signs_nothing(panel, listed, qtbot, name, tmp_path):
    opened(panel, listed, qtbot)
    for _ in range(2):
        panel.commands.run("next_candidate")
        panel.commands.run("accept")
    panel.actions_.sign()
    listed.list_folder.rename(tmp_path / "unreachable")
    panel.signing._field.setText("A. Reader")
    panel.signing.accept()
    assert panel.session.state.problem.title == "This action was not saved"
    assert panel.session.state.review.signed is None
    (tmp_path / "unreachable").rename(listed.list_folder)
    sign(panel, "A. Reader")
    assert panel.session.state.review.signed == "nothing further seen, A. Reader"
    assert len(verdicts(listed, "A. Reader")) == 2


def test_nobody_is_asked_who_has_a_name(panel, listed, qtbot, decided):
    decided["reader"] = "B. Reader"
    opened(panel, listed, qtbot)
    assert not panel.read_owner.isVisible()
    assert panel.session.state.review.events == ()


def shown(panel, analysis):
    if panel.session.state.study is None:
        panel.session.open(analysis.study)
    panel.actions_.show_result(FakeResult(analysis), overlays_of(analysis))


def test_who_continues_and_leaves_it_as_it_is_finds_it_again(loaded, analysis, name):
    panel, show = loaded, partial(shown, loaded, analysis)
    show()
    panel.session.step(1)
    panel.commands.run("reject")
    next_session(panel)
    show()
    answer(panel, "A. Reader", "Mine")
    next_session(panel)
    show()
    assert not panel.read_owner.isVisible()
    assert [e.state for e in panel.session.state.review.events] == [ReviewState.REJECTED]


@pytest.fixture
def under_two_names(loaded, analysis, name):
    """All candidates were rejected as A. Reader, and in a later session accepted without a name."""
    for reader, command in (("A. Reader", "reject"), (None, "accept")):
        next_session(loaded)
        name["reader"] = reader
        shown(loaded, analysis)
        for _ in analysis.findings.candidates:
            loaded.session.step(1)
            loaded.commands.run(command)
    return loaded


def check_set_aside(panel, analysis):
    """The other decisions are in the folder that the message names; the signature is kept."""
    folder = Path(panel.session.state.message.rsplit("saved in ", 1)[1].rstrip("."))
    review = store.load(folder)
    assert {event.state for event in review.events} == {ReviewState.REJECTED}
    signed = "nothing further seen, A. Reader"
    assert panel.session.state.review.signed == signed
    next_session(panel)
    shown(panel, analysis)
    assert panel.session.state.review.signed == signed


def test_who_signs_under_a_name_with_other_decisions_is_told(under_two_names, analysis):
    panel = under_two_names
    panel.actions_.sign()
    QTest.keyClicks(panel.signing._field, "A. Reader")
    panel.signing.accept()
    check_set_aside(panel, analysis)


def test_who_continues_under_a_name_with_other_decisions_can_sign(under_two_names, analysis):
    """The signature was refused as if another window had decided meanwhile."""
    panel = under_two_names
    next_session(panel)
    shown(panel, analysis)
    answer(panel, "A. Reader", "Mine")
    assert {e.state for e in panel.session.state.review.events} == {ReviewState.ACCEPTED}
    message = panel.session.state.message
    panel.actions_.sign()
    panel.signing.accept()
    panel.session.notify(message)
    check_set_aside(panel, analysis)


def test_decisions_outside_a_list_are_asked_about_too(loaded, analysis, name):
    """A result is shown again in two later sessions, with strokes that a crash interrupted."""
    panel, show = loaded, partial(shown, loaded, analysis)
    show()
    panel.session.step(1)
    panel.commands.run("reject")
    drawn = np.zeros(analysis.prepared.working.shape, np.uint8)
    drawn[5:8, 5:8, 5:8] = 1
    draft = drafts.OutlineDraft(analysis.findings.candidates[0].tracking_uid, drawn)
    next_session(panel)
    stored_drafts.write(analysis, draft)
    show()
    assert panel.read_owner.isVisible()
    assert panel.session.state.analysis is None
    answer(panel, "B. Reader", "Not mine")
    assert panel.session.state.review.events == ()
    assert panel.session.state.draft is None, "another's strokes were offered"
    next_session(panel)
    name["reader"] = None
    show()
    answer(panel, "A. Reader", "Mine")
    assert [e.state for e in panel.session.state.review.events] == [ReviewState.REJECTED]
    assert panel.session.state.draft.tracking_uid == draft.tracking_uid
    assert stored_drafts.read(analysis, None) is None


def test_one_read_has_one_reader_where_the_name_changes_meanwhile(panel, listed, qtbot, name):
    """Decisions of A's read were signed as B, in A's log."""
    name["reader"] = "A. Reader"
    opened(panel, listed, qtbot)
    panel.session.step(1)
    panel.commands.run("accept")
    name["reader"] = "B. Reader"
    panel.commands.run("next_candidate")
    panel.commands.run("reject")
    assert {e.reader for e in panel.session.state.review.events} == {"A. Reader"}
    panel.actions_.sign()
    assert "as A. Reader" in reads(panel.signing)
    panel.signing.accept()
    assert panel.session.state.review.signed == "nothing further seen, A. Reader"
    assert verdicts(listed, "B. Reader") == []
    listed.controller.open_row(listed.model.rows[1])
    wait(qtbot, panel)
    panel.session.step(1)
    panel.commands.run("accept")
    assert {e.reader for e in panel.session.state.review.events} == {"B. Reader"}


def test_what_another_reader_decides_on_the_open_study_is_found_again_under_that_name(
    reviewed, name
):
    """B's decisions lay in A's log: who reopened the study as B found none."""
    name["reader"] = "A. Reader"
    reviewed.session.step(1)
    reviewed.commands.run("accept")
    name["reader"] = "B. Reader"
    reviewed.session.step(1)
    reviewed.commands.run("reject")
    analysis, reads_ = reviewed.session.state.result.analysis, reviewed.actions_.read_controller
    decided = [("A. Reader", ReviewState.ACCEPTED), ("B. Reader", ReviewState.REJECTED)]
    found, _ = reads_.decision_log.recovered(analysis)
    assert [(e.reader, e.state) for e in found.events] == decided
    name["reader"] = "A. Reader"
    found, _ = reads_.decision_log.recovered(analysis)
    assert [(e.reader, e.state) for e in found.events] == decided[:1]


def test_a_result_shown_by_a_script_shows_the_sequence_of_its_caption(panel, result, script):
    """All four images were visible: FLAIR lay on top, under the caption T1c."""
    script.show(result)
    assert panel.session.state.analysis.findings is result.analysis.findings
    assert visible() == {"T1c"}
    assert panel.viewer.layers.selection.active.name == "T1c"
    panel.session.choose_sequence(MrSequence.FLAIR)
    assert visible() == {"FLAIR"}


def test_a_result_shown_by_a_script_asks_whose_its_decisions_are(reviewed, result, name, script):
    """The window stayed empty: of a study that was not open nothing was asked."""
    reviewed.session.step(1)
    reviewed.commands.run("reject")
    next_session(reviewed)
    script.show(result)
    assert reviewed.session.state.analysis is None
    assert visible() == {"T1c"}
    assert reviewed.read_owner.isVisible()
    control(reviewed.read_owner, "Stay unnamed").click()
    first, _ = reviewed.candidates.model.rows
    assert first.state is ReviewState.REJECTED
    assert reviewed.session.state.analysis is not None


def test_a_result_shown_by_a_script_is_hidden_until_an_unaided_read_is_signed(
    panel, result, prefer, script
):
    """The findings were shown, and then signed for as not seen."""
    prefer(unaided_first=True)
    script.show(result)
    assert panel.session.state.analysis is None
    assert visible() == {"T1c"}
    assert panel.actions_.read_controller.withheld is result.analysis
    sign(panel)
    assert panel.session.state.analysis.findings is result.analysis.findings
