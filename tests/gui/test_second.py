"""Two results of one study in a window: gone through, and taken from one by one."""

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from tests.gui.window import PATIENCE_MS, control, reads, wait

from lesionlens.analysis.evaluation.agreement import Disagreement
from lesionlens.base.labels import Label, Region, ReviewState, Source
from lesionlens.napari.controllers import second_result
from lesionlens.napari.model.choices.choices import Overlay
from lesionlens.napari.model.choices.views import Layout
from lesionlens.napari.model.screen.drawing import SECOND_COLOUR
from lesionlens.results.export.exporter import save


@pytest.fixture
def second(reviewed, qtbot, tmp_path):
    """The panel with a second result: without the left lesion, and with a larger right one."""
    analysis = reviewed.session.state.analysis
    right = analysis.findings.components == 2
    labels = np.where(right, analysis.volumes.labels.data, np.uint8(0))
    labels[ndimage.binary_dilation(right, iterations=2) & ~right] = Label.OEDEMA
    place = tmp_path / "other_seg.nii.gz"
    nib.save(nib.Nifti1Image(labels, analysis.volumes.labels.grid.affine), place)
    assert reviewed.actions_.second.open(place)
    wait(qtbot, reviewed)
    return reviewed


def agreement(panel):
    return panel.session.state.second.agreement


def test_both_outlines_are_drawn_and_their_agreement_is_read(second, qtbot):
    second.commands.run("next_candidate")
    colours = [name for name, _ in second.views.linked.drawing(tile(second)).outlines]
    assert colours[0] == SECOND_COLOUR, "below the reader's own, which it would hide"
    assert len(set(colours)) > 1
    words = reads(second.second)
    assert "Light blue: other_seg.nii.gz" in words
    assert "Dice" in words
    assert [one.by_first for one in agreement(second).disagreements] == [True, False]


def test_a_result_of_the_other_side_says_so(reviewed, qtbot, tmp_path):
    """It only had Dice 0, as a result that shares nothing has."""
    analysis = reviewed.session.state.analysis
    for keep, name in ((1, "one"), (2, "other")):
        labels = np.where(analysis.findings.components == keep, analysis.volumes.labels.data, 0)
        place = tmp_path / f"{name}_seg.nii.gz"
        grid = analysis.volumes.labels.grid
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), grid.affine), place)
        assert reviewed.actions_.second.open(place)
        wait(qtbot, reviewed)
        assert "may be mirrored" not in reads(reviewed.second), "the open result has both sides"
    reviewed.session.go_to_candidate(2)
    reviewed.session.decide(ReviewState.REJECTED)
    wait(qtbot, reviewed)
    sides = {c.id: c.location.side for c in analysis.findings.candidates}
    words = (
        f"All on the {sides[1]} in this result, all on the {sides[2]} in the other: "
        "one of them may be mirrored"
    )
    qtbot.waitUntil(lambda: words in reads(reviewed.second), timeout=PATIENCE_MS)


def test_a_mask_from_the_result_of_another_study_says_so(reviewed, analysis, qtbot, tmp_path):
    """Its outlines could be adopted without a word; opened for review it asked."""
    run = replace(analysis.run, inputs=(("t1c.nii.gz", "f" * 64),))
    save(replace(analysis, run=run), tmp_path / "other")
    assert reviewed.actions_.second.open(tmp_path / "other" / "segmentation.nii.gz")
    wait(qtbot, reviewed)
    assert "Is it a mask of this study?" in reads(reviewed.second)
    save(analysis, tmp_path / "own")
    assert reviewed.actions_.second.open(tmp_path / "own")
    wait(qtbot, reviewed)
    assert reviewed.session.state.second.notices == ()


@pytest.mark.parametrize("step", ["reopen_folder", "applied"])
def test_a_second_result_that_is_cancelled_is_not_shown(second, qtbot, tmp_path, monkeypatch, step):
    """The window ignored *Cancel*, and put it beside the first."""
    shown, real = second.session.state.second, getattr(second_result, step)

    def and_cancel(*of):
        second.jobs._cancel.set()
        return real(*of)

    monkeypatch.setattr(second_result, step, and_cancel)
    assert second.actions_.second.open(tmp_path / "other_seg.nii.gz")
    wait(qtbot, second)
    assert second.session.state.message == "Stopped. Nothing was changed."
    assert second.session.state.second is shown


def test_no_outline_is_adopted_unseen(second, qtbot):
    choices = second.session.state.choices
    assert choices.overlay is Overlay.OFF
    assert not choices.overlay_chosen
    second.commands.run("next_disagreement")
    assert second.session.state.choices.overlay is Overlay.CONTOUR
    second.commands.run("toggle_overlay")  # now the reader has switched it off
    second.commands.run("next_disagreement")
    assert second.session.state.choices.overlay is Overlay.OFF
    before = second.session.state.review
    second.commands.run("take_second")
    assert "The outlines are not shown" in second.session.state.message
    assert second.session.state.review is before
    second.commands.run("toggle_overlay")
    second.commands.run("take_second")
    wait(qtbot, second)
    assert len(agreement(second).disagreements) == 1


def test_no_outline_is_adopted_in_three_dimensions(second, qtbot):
    """The outlines are drawn on slices only, so that nobody had seen what was adopted."""
    second.actions_.show_layout(Layout.SINGLE)
    second.commands.run("next_disagreement")
    second.viewer.dims.ndisplay = 3
    before = second.session.state.review
    second.commands.run("take_second")
    assert "It was out of view" in second.session.state.message
    assert (second.session.state.review, second.viewer.dims.ndisplay) == (before, 2)
    second.commands.run("take_second")
    wait(qtbot, second)
    assert len(agreement(second).disagreements) == 1


def tile(panel):
    panel.commands.run("four_views")
    return panel.views.linked.tiles[0].tile


def test_either_side_is_taken_until_both_agree(second, qtbot):
    before = [c.volume_ml for c in second.session.state.analysis.findings.candidates]
    for _ in range(2):
        second.commands.run("next_disagreement")
        number = agreement(second).parts[here(second)]
        assert number, "the views stand in the disagreement"
        second.commands.run("take_second")
        wait(qtbot, second)
    assert agreement(second).disagreements == ()
    assert all(row.dice == 1.0 for row in agreement(second).regions)
    for _ in range(2):
        second.commands.run("undo")
        wait(qtbot, second)
    after = [c.volume_ml for c in second.session.state.analysis.findings.candidates]
    assert after == before
    assert len(agreement(second).disagreements) == 2


@pytest.mark.parametrize("before", ["take_second", "reject"])
def test_nothing_is_adopted_that_the_views_do_not_show(second, qtbot, before):
    """The numbers of the others change with an outline: another one was adopted, out of sight."""
    for _ in range(2):
        second.commands.run("next_disagreement")
    if before == "reject":
        second.commands.run("next_disagreement")  # the first again, whose candidate goes
        second.session.go_to_candidate(1)
    second.commands.run(before)
    wait(qtbot, second)
    (left,) = agreement(second).disagreements
    review = second.session.state.review
    second.commands.run("take_second")
    wait(qtbot, second)
    assert second.session.state.review is review
    assert "Go to a disagreement first" in second.session.state.message
    second.commands.run("next_disagreement")
    assert agreement(second).parts[here(second)] == left.number
    second.commands.run("take_second")
    wait(qtbot, second)
    assert agreement(second).disagreements == ()


def test_a_disagreement_that_the_reader_has_left_is_shown_again_before_it_is_adopted(second, qtbot):
    """F8 adopted the one that was gone to last, wherever the views were by then."""
    second.actions_.show_layout(Layout.ONE)
    second.commands.run("next_disagreement")
    review, there = second.session.state.review, here(second)
    for _ in range(40):
        second.commands.run("next_slice")
    second.commands.run("take_second")
    wait(qtbot, second)
    assert second.session.state.review is review
    assert "It was out of view. 1 of 2" in second.session.state.message
    assert here(second) == there
    second.commands.run("take_second")
    wait(qtbot, second)
    assert len(agreement(second).disagreements) == 1


@pytest.mark.parametrize("layout", [Layout.ONE, Layout.SINGLE])
def test_a_disagreement_that_was_panned_out_of_view_is_shown_again_first(second, qtbot, layout):
    """On the slice shown, but outside of the zoomed view: F8 adopted it unseen."""
    second.viewer.window.show()
    second.actions_.show_layout(layout)
    second.commands.run("next_disagreement")
    review, there = second.session.state.review, here(second)
    aside = (there[0] + 60.0, there[1] + 60.0, there[2])
    second.actions_.viewpoint.move(centre_mm=aside, zoom=20.0)
    camera = second.viewer.scene.camera
    camera.center, camera.zoom = (aside[2], aside[1], aside[0]), 20.0
    second.commands.run("take_second")
    wait(qtbot, second)
    assert second.session.state.review is review
    assert "It was out of view. 1 of 2" in second.session.state.message
    second.commands.run("take_second")
    wait(qtbot, second)
    assert len(agreement(second).disagreements) == 1


def test_the_disagreement_at_the_crosshair_is_adopted(second, qtbot):
    """A reader who clicked on another one meanwhile got the one that was gone to last."""
    second.actions_.show_layout(Layout.PLANES)
    second.commands.run("next_disagreement")
    left, clicked = agreement(second).disagreements
    second.actions_.viewpoint.move(point_mm=clicked.point_mm)
    second.commands.run("take_second")
    wait(qtbot, second)
    (now,) = agreement(second).disagreements
    assert (now.by_first, now.point_mm) == (left.by_first, left.point_mm)


def here(panel):
    grid = panel.session.state.analysis.volumes.labels.grid
    return tuple(np.rint(grid.to_voxel(panel.actions_.viewpoint.current.point_mm)).astype(int))


def test_the_second_result_goes_by_a_click_and_with_its_study(second):
    control(second.second, "✕").click()
    assert second.session.state.second is None
    assert not second.second.isVisibleTo(second)


def test_a_stroke_on_one_slice_is_no_agreement(second):
    """Both were said to agree, with the stroke in sight."""
    shown = second.session.state.second
    thin = replace(shown.agreement, disagreements=(), unlisted_ml=0.42)
    second.session.show_second_result(replace(shown, agreement=thin))
    second.commands.run("next_disagreement")
    assert "outlines differ: 0.42 ml in parts" in second.session.state.message
    assert "0.42 ml in parts that are one voxel thick" in reads(second.second)
    whole = replace(thin, unlisted_ml=0.0)
    second.session.show_second_result(replace(shown, agreement=whole))
    second.commands.run("next_disagreement")
    assert "Both results agree" in second.session.state.message


def test_a_reason_stays_beside_the_adopted_outline(second, qtbot):
    second.session.go_to_candidate(2)
    second.session.type_reason("haemorrhage")
    for _ in range(2):
        second.commands.run("next_disagreement")
    second.commands.run("take_second")
    wait(qtbot, second)
    found = second.session.state.analysis.findings.candidates[1]
    event = second.session.state.review.of(found.tracking_uid)
    assert event.reason.startswith("haemorrhage; ")
    assert event.reason.endswith("ml as in other_seg.nii.gz")


def test_of_a_rejected_candidate_only_what_the_other_outlines_comes_back(reviewed, qtbot, tmp_path):
    """The whole rejected outline came back with the half that the other reader drew."""
    analysis = reviewed.session.state.analysis
    grid, right = analysis.volumes.labels.grid, analysis.findings.components == 2
    labels = np.where(right, np.uint8(0), analysis.volumes.labels.data)
    half = right & (np.indices(right.shape)[2] < np.argwhere(right)[:, 2].mean())
    labels[ndimage.binary_dilation(half, iterations=2) & (labels == 0)] = Label.OEDEMA
    place = tmp_path / "other_seg.nii.gz"
    nib.save(nib.Nifti1Image(labels, grid.affine), place)
    reviewed.session.go_to_candidate(2)
    reviewed.commands.run("reject")
    reviewed.actions_.second.open(place)
    wait(qtbot, reviewed)
    (part,) = agreement(reviewed).disagreements
    reviewed.commands.run("next_disagreement")
    reviewed.commands.run("take_second")
    wait(qtbot, reviewed)
    assert all(row.dice == 1.0 for row in agreement(reviewed).regions)
    taken = next(c for c in reviewed.session.state.analysis.findings.candidates if c.id == 2)
    assert taken.volume_ml[Region.WT] == pytest.approx(part.volume_ml, abs=0.01)
    assert f"{part.volume_ml:.1f} ml adopted" in reviewed.session.state.message
    assert "No longer rejected: 2." in reviewed.session.state.message


def test_a_part_belongs_to_the_rejected_candidate_that_holds_it_not_to_its_neighbour():
    """The neighbour around it has more voxels beside the part: it was marked as edited, in vain."""
    components = np.ones((9, 9, 9), np.int32)
    inside = np.zeros(components.shape, bool)
    inside[3:6, 3:6, 3:6] = True
    components[inside] = 2
    candidates = (SimpleNamespace(id=1), SimpleNamespace(id=2))
    findings = SimpleNamespace(components=components, candidates=candidates)
    part = Disagreement(1, False, 0.1, (0.0, 0.0, 0.0))
    assert second_result._candidate_of(SimpleNamespace(findings=findings), part, inside).id == 2


ABSENT_MM = (-30.0, -45.0, 30.0)
"""In the brain, far from both candidates."""


@pytest.fixture
def three(second, qtbot, tmp_path):
    """The panel with a second result that also has a lesion that the first lacks."""
    grid = second.session.state.analysis.volumes.labels.grid
    labels = np.asarray(nib.load(tmp_path / "other_seg.nii.gz").dataobj, np.uint8)
    box = tuple(slice(voxel - 2, voxel + 3) for voxel in grid.nearest_voxel(ABSENT_MM))
    assert not labels[box].any()
    labels[box] = Label.OEDEMA
    place = tmp_path / "three_seg.nii.gz"
    nib.save(nib.Nifti1Image(labels, grid.affine), place)
    assert second.actions_.second.open(place)
    wait(qtbot, second)
    assert len(agreement(second).disagreements) == 3
    return second


def test_disagreements_are_gone_through_in_both_directions_and_by_a_click(three, qtbot):
    """Backwards the first key went to the last but one, and after an adoption it skipped one."""

    def after(command):
        three.commands.run(command)
        wait(qtbot, three)
        return three.session.state.message

    assert after("previous_disagreement").startswith("Disagreement 3 of 3")
    assert after("next_disagreement").startswith("Disagreement 1 of 3")
    assert after("previous_disagreement").startswith("Disagreement 3 of 3")
    control(three.second, "2").click()
    assert three.session.state.message.startswith("Disagreement 2 of 3")
    assert agreement(three).parts[here(three)] == 2
    assert "adopted; U undoes that." in after("take_second")
    assert after("previous_disagreement").startswith("Disagreement 1 of 2")
    assert after("next_disagreement").startswith("Disagreement 2 of 2")
    assert "adopted; U undoes that." in after("take_second")
    assert after("next_disagreement").startswith("Disagreement 1 of 1")


@pytest.mark.parametrize("way", ["key", "row"])
def test_a_disagreement_asked_for_while_an_undo_is_measured_is_shown_afterwards(three, qtbot, way):
    """The views went back to the candidate of the undo, and what was said of the place was gone."""
    three.commands.run("next_disagreement")
    three.commands.run("take_second")
    wait(qtbot, three)
    three.commands.run("undo")
    assert three.actions_.review_controller.busy
    if way == "key":
        three.commands.run("previous_disagreement")
    else:
        second = three.actions_.second
        second.go_to_disagreement(agreement(three).disagreements[1].point_mm)
    assert "the disagreement is shown once it finishes" in reads(three)
    wait(qtbot, three)
    assert three.session.state.message.startswith("Disagreement ")
    number = int(three.session.state.message.split()[1])
    assert agreement(three).parts[here(three)] == number


def test_a_lesion_of_the_second_result_alone_becomes_a_candidate(three, qtbot):
    grid = three.session.state.analysis.volumes.labels.grid
    part = agreement(three).parts[tuple(grid.nearest_voxel(ABSENT_MM))]
    while agreement(three).parts[here(three)] != part:
        three.commands.run("next_disagreement")
    three.commands.run("take_second")
    wait(qtbot, three)
    *_, added = three.session.state.analysis.findings.candidates
    assert added.source is Source.READER
    assert added.centroid_mm == pytest.approx(ABSENT_MM, abs=2.0)
    event = three.session.state.review.of(added.tracking_uid)
    assert event.reason.endswith("ml as in three_seg.nii.gz")
    assert len(agreement(three).disagreements) == 2
    three.commands.run("undo")
    wait(qtbot, three)
    assert len(three.session.state.analysis.findings.candidates) == 2


def test_an_adopted_outline_says_which_parts_the_second_result_does_not_distinguish(three, qtbot):
    """It got a tumour core of 0 ml, although nothing had looked for one."""
    whole = replace(three.session.state.second, regions=(Region.WT,))
    three.session.show_second_result(whole)
    three.commands.run("next_disagreement")  # outlined in the first result alone
    three.commands.run("take_second")
    wait(qtbot, three)
    assert "does not outline" not in three.session.state.message
    three.commands.run("next_disagreement")
    three.commands.run("take_second")
    wait(qtbot, three)
    parts = "tumour core and enhancing tumour"
    assert f"three_seg.nii.gz does not outline {parts}: paint them" in three.session.state.message
