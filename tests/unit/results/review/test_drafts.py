"""Strokes that are not kept yet lie on disk, whole, for the voxels that they were drawn on."""

from dataclasses import replace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ResourceError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import PromptKind, Region
from lesionlens.base.records.followup import Alignment, Comparison
from lesionlens.base.records.prompts import PromptRound
from lesionlens.results.review import drafts, store
from lesionlens.testing import make_patient


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    patient = make_patient(5, spacing_mm=8.0)
    return make_analysis(patient, write_study(patient, tmp_path_factory.mktemp("drafts") / "s"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "sessions_folder", lambda: tmp_path / "reviews")
    return tmp_path / "reviews"


def draft(analysis, uid="2.25.5"):
    drawn = np.zeros(analysis.prepared.working.shape, np.uint8)
    drawn[3:6, 4:5, 2:9] = 3
    drawn[-1, -1, -1] = 1
    asked = PromptRound(PromptKind.POINT, ((3, 4, 2),), (), Region.WT, 2, 4.5)
    by_hand = np.zeros(drawn.shape, bool)
    by_hand[4, 5:7, 3] = True
    return drafts.OutlineDraft(uid, drawn, True, (asked,), by_hand, drawn == 1)


def write(analysis, draft, reader=None):
    path = drafts.interrupted_draft(analysis, reader) or drafts.free_path(analysis, reader)
    drafts.write_draft(analysis, draft, path)


def read(analysis, reader=None):
    return drafts.read_draft(analysis, drafts.interrupted_draft(analysis, reader))


def delete(analysis, reader=None):
    drafts.delete_draft(drafts.interrupted_draft(analysis, reader))


def test_what_was_drawn_comes_back_voxel_for_voxel_until_it_is_forgotten(analysis):
    assert read(analysis) is None
    made = draft(analysis)
    write(analysis, made)
    back = read(analysis)
    assert (back.tracking_uid, back.assisted) == ("2.25.5", True)
    np.testing.assert_array_equal(back.drawn, made.drawn)
    assert back.prompts == made.prompts
    np.testing.assert_array_equal(back.by_hand, made.by_hand)
    np.testing.assert_array_equal(back.changed, made.changed)
    empty = replace(made, drawn=np.zeros_like(made.drawn))
    write(analysis, empty)
    assert not read(analysis).drawn.any()
    delete(analysis)
    assert read(analysis) is None


def test_strokes_are_continued_on_the_outline_of_now(analysis):
    """Another window had merged a second candidate into it, which continuing removed."""
    began, painted = draft(analysis).drawn, np.zeros(analysis.prepared.working.shape, bool)
    painted[3, 4, 2] = True
    edited = np.where(painted, np.uint8(0), began)
    write(analysis, drafts.OutlineDraft("2.25.5", edited, changed=edited != began))
    merged = began.copy()
    merged[0, 0] = 2
    continued = read(analysis).continued_from(merged)
    np.testing.assert_array_equal(continued, np.where(painted, 0, merged))
    write(analysis, drafts.OutlineDraft("2.25.5", edited))  # as an earlier release wrote it
    np.testing.assert_array_equal(read(analysis).continued_from(merged), edited)


def test_strokes_belong_to_their_candidate_with_and_without_a_comparison(analysis):
    """It renames the candidate after the prior's; a crash forgets the comparison."""
    one = analysis.findings.candidates[0]
    alignment = Alignment(((1.0, 0.0, 0.0, 0.0),) * 4, 0.0, 0.0, False, "T1c")
    followup = Comparison((), (), alignment, {"2.25.7": one.tracking_uid})
    compared = replace(analysis, followup=followup)
    write(compared, draft(compared, "2.25.7"))
    assert read(analysis).tracking_uid == one.tracking_uid
    assert read(compared).tracking_uid == "2.25.7"


def test_strokes_on_other_voxels_or_damaged_ones_are_not_shown(analysis, home):
    write(analysis, draft(analysis))
    affine = analysis.prepared.working.affine.copy()
    affine[0, 3] += 5.0
    grid = Grid(analysis.prepared.working.shape, affine)
    moved = replace(analysis, prepared=replace(analysis.prepared, working=grid))
    assert read(moved) is None
    (place,) = home.iterdir()
    whole = place.read_bytes()
    for damaged in (b"", b"not a zip", whole[: len(whole) // 2]):
        place.write_bytes(damaged)
        assert read(analysis) is None


def test_strokes_that_cannot_be_written_say_so_and_leave_the_earlier_ones(analysis, monkeypatch):
    write(analysis, draft(analysis))

    def refused(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refused)
    with pytest.raises(ResourceError, match="strokes"):
        write(analysis, draft(analysis, "2.25.6"))
    assert read(analysis).tracking_uid == "2.25.5"
