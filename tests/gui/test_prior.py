"""An earlier examination beside this one, in a real window; on synthetic heads."""

from dataclasses import replace

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtWidgets import QApplication, QToolButton
from tests.gui.window import PATIENCE_MS, control, question, reads, wait

from lesionlens.analysis.followup import compare
from lesionlens.analysis.followup.patient import Examination, Prior, check_same_patient
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.patient import Patient
from lesionlens.base.records.review import ReviewEvent
from lesionlens.imaging.preparation.registration import Registration
from lesionlens.napari.model.choices.views import ComparisonImages, Layout
from lesionlens.napari.model.screen.board import tiles_of
from lesionlens.napari.viewer.tile import PromptPath
from lesionlens.results.review.drafts import OutlineDraft
from lesionlens.results.review.prior import PriorImagesError
from lesionlens.site.worklist import reader_log


@pytest.fixture
def compared(start_comparing):
    """The panel while the study is compared with itself, as of two months before."""
    return start_comparing()


@pytest.fixture
def start_comparing(reviewed, analysis, monkeypatch):
    """Start that comparison."""
    candidates = tuple(
        replace(c, tracking_uid=f"2.25.{c.id}") for c in analysis.findings.candidates
    )
    before = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    prior = Prior(Examination(Patient("x"), "2026-01-05"), before)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", lambda *_, **__: None)
    monkeypatch.setattr("lesionlens.napari.controllers.comparing.open_prior", lambda *_: prior)
    laid = Registration(np.eye(4), 0.0, 0.0, information=1.0, peak_height=1.0)
    monkeypatch.setattr(compare, "align", lambda *_, **__: (laid, MrSequence.T1C))

    def start():
        assert reviewed.actions_.compare(analysis.study.root)
        return reviewed, prior

    return start


def test_the_prior_stands_beside_this_examination(compared, qtbot):
    panel, _ = compared
    qtbot.waitUntil(
        lambda: panel.session.state.choices.views.compared is not None, timeout=PATIENCE_MS
    )
    state = panel.session.state
    assert state.choices.views.layout is Layout.PRIOR
    assert [tile.prior for tile in tiles_of(state, Layout.PRIOR)] == [True, False]
    lines = panel.followup.lines.shown
    assert len(lines) == len(state.analysis.findings.candidates)
    assert all("+0.0%" in words for _, _, words in lines)
    panel.followup.lines.findChildren(QToolButton)[1].click()
    assert panel.session.state.choices.candidate == lines[1][0]
    panel.session.go_to_candidate(1)
    panel.commands.run("accept")
    assert panel.session.state.analysis.followup is not None
    changes = panel.session.state.analysis.compared.changes
    assert changes[0].now.state is ReviewState.ACCEPTED
    if panel.views.linked is not None:
        tiles = panel.views.linked.tiles
        then, now = (panel.views.linked.drawing(view.tile) for view in tiles)
        assert "2026-01-05" in then.lines[0] and "2026-01-05" not in now.lines[0]  # noqa: PT018
        assert then.image.data.shape == now.image.data.shape
    panel.actions_.toggle_prior()
    assert panel.session.state.choices.views.layout is Layout.SINGLE


def test_what_is_pointed_at_in_the_priors_view_is_not_drawn_in_this_examination(
    compared, qtbot, monkeypatch
):
    """It was outlined in the open study, where the lesion of then need not be."""
    panel, _ = compared
    qtbot.waitUntil(
        lambda: panel.session.state.choices.views.compared is not None, timeout=PATIENCE_MS
    )
    linked, acts = panel.views.linked, []
    linked.pointed.connect(acts.append)
    monkeypatch.setattr(panel.actions_, "add_lesion_at", acts.append)
    monkeypatch.setattr(panel.actions_.prompting, "add_gesture", acts.append)
    then, now = (view.tile for view in linked.tiles)
    for tile, expected in ((then, 0), (now, 3)):
        panel.session.notify("")
        linked.hovered(tile, (10.0, 5.0))
        linked.lesion_added(tile, (10.0, 5.0))
        linked.prompt_drawn(PromptPath(tile, QPointF(), [(10.0, 5.0)], set(), (0.0, 0.0, 0.0)))
        assert len(acts) == expected
        assert ("another examination" in panel.session.state.message) is (tile is then)
    panel.session.go_to_candidate(1)
    panel.session.begin_edit()
    assert linked.brush_mm(then) is None
    before = panel.actions_.viewpoint.current
    linked.pressed(then, (10.0, 5.0))
    linked.released()
    assert "another examination" in panel.session.state.message
    assert panel.actions_.viewpoint.current == before
    panel.session.choose_tools(points=())
    linked.pressed(then, (10.0, 5.0))
    linked.released()
    assert panel.session.state.tools.points == ()
    assert linked.brush_mm(now) is None, "the pointer sets points of a split"
    panel.session.end_edit()
    panel.viewer.window.show()
    qtbot.waitUntil(linked.isVisible, timeout=PATIENCE_MS)
    for view in linked.tiles:  # for the keys, too, the pointer is on no slice there
        monkeypatch.setattr(QApplication, "widgetAt", lambda _, under=view: under)
        assert panel.views.update_pointer() is (view.tile is now)


def test_decisions_on_the_prior_count_that_its_result_does_not_hold(
    start_comparing, monkeypatch, qtbot
):
    """What the reader rejected there and had not exported counted as tumour."""
    asked = []

    def recovered(analysis, key, _):
        asked.append(key.reader)
        event = ReviewEvent("2.25.1", ReviewState.REJECTED, "A. Reader", "2026-01-06T10:00:00Z")
        return reader_log.Recovered(replace(analysis.review, events=(event,)))

    monkeypatch.setattr(
        "lesionlens.napari.controllers.comparing.reader_log.recover_review", recovered
    )
    panel, _ = start_comparing()
    qtbot.waitUntil(
        lambda: panel.session.state.choices.views.compared is not None, timeout=PATIENCE_MS
    )
    before, now = panel.session.state.analysis.followup.points
    assert [one.state for one in before.lesions] == [ReviewState.REJECTED, ReviewState.UNREVIEWED]
    assert {one.state for one in now.lesions} == {ReviewState.UNREVIEWED}
    assert asked == [panel.actions_.read_controller.current.reader or ""]


def test_a_decision_made_while_it_is_compared_stays_and_so_does_the_comparison(compared, qtbot):
    """Reading went on meanwhile, and with the first decision the comparison was discarded."""
    panel, _ = compared
    panel.session.go_to_candidate(1)
    panel.commands.run("accept")
    wait(qtbot, panel)
    state = panel.session.state
    assert state.choices.views.layout is Layout.PRIOR
    first, second = state.analysis.findings.candidates
    assert first.tracking_uid == "2.25.1"
    assert state.review.state_of(first.tracking_uid) is ReviewState.ACCEPTED
    assert state.review.state_of(second.tracking_uid) is ReviewState.UNREVIEWED
    panel.commands.run("undo")
    assert panel.session.state.review.state_of(first.tracking_uid) is ReviewState.UNREVIEWED


def test_decisions_after_a_comparison_come_back_with_the_result_as_it_was(
    compared, analysis, qtbot
):
    """They were kept under the prior's identifiers, which the saved result does not know."""
    panel, _ = compared
    panel.session.go_to_candidate(2)
    panel.commands.run("accept")
    wait(qtbot, panel)
    panel.session.go_to_candidate(1)
    panel.commands.run("reject")
    panel.commands.run("undo")
    panel.commands.run("defer")
    found, _ = panel.actions_.read_controller.decision_log.recovered(analysis)
    states = [found.state_of(c.tracking_uid) for c in analysis.findings.candidates]
    assert states == [ReviewState.DEFERRED, ReviewState.ACCEPTED]
    assert {event.tracking_uid for event in found.events} == {
        c.tracking_uid for c in analysis.findings.candidates
    }


def test_what_was_typed_and_drawn_before_a_comparison_stays_with_its_lesion(
    compared, analysis, qtbot
):
    """Both were kept under the identifier that the prior's replaces."""
    panel, _ = compared
    session = panel.session
    session.go_to_candidate(2)
    session.type_reason("touches the falx")
    drawn = np.zeros(analysis.prepared.working.shape, np.uint8)
    drawn[5:8, 5:8, 5:8] = 1
    session.offer(OutlineDraft(session.state.focused.tracking_uid, drawn))
    wait(qtbot, panel)
    after = session.state.focused
    assert after.tracking_uid == "2.25.2"
    assert session.state.reason_of(after.tracking_uid) == "touches the falx"
    session.go_to_candidate(1)
    session.resume()
    assert session.state.editing == 2
    session.end_edit()
    session.go_to_candidate(2)
    panel.commands.run("reject")
    assert session.state.review.of(after.tracking_uid).reason == "touches the falx"


def test_a_saved_comparison_is_opened_again_with_what_was_decided_since(compared, qtbot):
    """The log has the result's own identifiers, its saved review has the prior's."""
    panel, _ = compared
    wait(qtbot, panel)
    panel.session.go_to_candidate(1)
    panel.commands.run("accept")
    saved = panel.session.state.analysis
    saved = replace(saved, review=panel.session.state.review)
    reads_of = panel.actions_.read_controller
    assert reads_of.decision_log.recovered(saved) == (saved.review, "")
    panel.session.go_to_candidate(2)
    panel.commands.run("reject")
    found, words = reads_of.decision_log.recovered(saved)
    assert found.events == panel.session.state.review.events
    assert "saved in" not in words


def test_a_comparison_ends_no_edit(compared, qtbot):
    """The strokes drawn meanwhile were lost."""
    panel, _ = compared
    panel.session.go_to_candidate(1)
    panel.commands.run("edit_outline")
    wait(qtbot, panel)
    assert panel.session.state.editing == 1
    assert panel.session.state.analysis.followup is None
    assert "an outline is being drawn" in reads(panel)


def test_a_sequence_that_the_prior_lacks_is_named(reviewed):
    """Key and button did nothing; while I was held, this examination stood for the earlier one."""
    session, shown = reviewed.session, reviewed.session.state.choices.sequence
    others = tuple(s for s in session.state.study.series if s is not shown)
    overlays = session.state.overlays
    image = Volume(overlays.images[others[0]], overlays.grid)
    lacking = ComparisonImages("prior", {others[0]: image})
    session.choose_views(compared=lacking)
    words = f"The earlier examination has no {shown.display_name}"
    for act in (
        reviewed.actions_.toggle_prior,
        lambda: reviewed.commands.run("layout_prior"),
        lambda: reviewed.actions_.hold_comparison(True),
    ):
        session.notify("")
        act()
        assert f"{words}. Show one that both have: {others[0].display_name}." in reads(reviewed)
    assert not session.state.choices.views.swapped
    assert session.state.choices.views.layout is not Layout.PRIOR
    session.choose_sequence(others[0])
    session.notify("")
    session.choose_views(layout=Layout.PRIOR)
    session.choose_sequence(shown)  # one view took the place of both without a word
    assert f"{words}. Show one that both have: {others[0].display_name}." in reads(reviewed)
    assert not tiles_of(session.state, Layout.PRIOR)


def test_where_the_earlier_images_lie_is_asked_in_the_window(
    reviewed, analysis, monkeypatch, tmp_path, qtbot
):
    asked = []

    def find(place, now, study=None, **_):
        asked.append(study)
        raise PriorImagesError(
            found="x", expected="y", next_step="--prior-study", in_window="choose the folder"
        )

    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", find)
    answers = [str(tmp_path), ""]
    monkeypatch.setattr(
        "lesionlens.napari.widgets.dialogs.QFileDialog.getExistingDirectory",
        lambda *_: answers.pop(0),
    )
    assert reviewed.actions_.compare(analysis.study.root)
    qtbot.waitUntil(lambda: not answers and not reviewed.jobs.running, timeout=PATIENCE_MS)
    assert asked == [None, tmp_path]
    assert reviewed.session.state.problem is None
    assert reviewed.session.state.activity is None
    assert "until you choose the folder of the earlier examination's images" in reads(reviewed)


def test_a_prior_of_another_identity_is_compared_once_a_person_confirmed_it(
    reviewed, analysis, monkeypatch, tmp_path, qtbot
):
    """Cancel is the default; the values are on the screen, and in no message."""
    asked = []

    def find(place, now, study=None, *, same_patient=False):
        asked.append(same_patient)
        there = Examination(Patient("1", name="Roe^Jane"))
        now = Examination(Patient("1", name="Doe^Jane"))
        check_same_patient(now, there, same_patient=same_patient)
        raise UnusableInputError(found="gone on", expected="y", next_step="z")

    monkeypatch.setattr("lesionlens.napari.controllers.comparing.find_prior", find)
    assert reviewed.actions_.compare(tmp_path)
    box = question(qtbot, reviewed)
    assert "name: Doe^Jane / Roe^Jane" in box.text()
    assert box.textFormat() == Qt.TextFormat.PlainText
    assert reviewed.session.state.problem is None
    assert "until you confirm that it is one patient" in reviewed.session.state.message
    assert "Jane" not in reviewed.session.state.message
    control(box, "It is one patient").setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Return)
    assert not box.isVisible()
    assert reviewed.session.state.problem is None
    assert asked == [False]
    assert reviewed.actions_.compare(tmp_path)
    control(question(qtbot, reviewed), "It is one patient").click()
    qtbot.waitUntil(lambda: len(asked) == 3 and not reviewed.jobs.running, timeout=PATIENCE_MS)
    assert asked == [False, False, True]
    assert reviewed.session.state.problem.found == "gone on"
