"""The layer in which an outline is drawn, without a window."""

import numpy as np
import pytest

pytest.importorskip("napari")

from napari.components import ViewerModel

from lesionlens.napari.controllers.editor import OutlineEditor
from lesionlens.results.review.drafts import OutlineDraft


@pytest.mark.parametrize("is_known", [True, False])
def test_strokes_of_a_draft_are_kept_by_later_prompts(session, is_known):
    """Those of a draft of an earlier release counted as computed, which prompts change."""
    (first, _) = session.state.analysis.findings.candidates
    editor = OutlineEditor(ViewerModel())
    session.changed.connect(editor.apply)
    overlays = session.state.overlays
    painted = np.zeros(overlays.grid.shape, bool)
    painted[0, 0, :3] = True
    labels = np.where(overlays.components == first.id, overlays.labels, 0)
    drawn = np.where(painted, 2, labels).astype(np.uint8)
    session.offer(OutlineDraft(first.tracking_uid, drawn, by_hand=painted if is_known else None))
    session.resume()
    np.testing.assert_array_equal(editor.by_hand, painted)
