"""The small analysed head, and a session that shows it, without a window."""

import pytest
from tests.helpers.analysed_head import analysis, first, head, result

from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.maps import overlays_of

__all__ = ["analysis", "first", "head", "result"]


@pytest.fixture
def session(result):
    """The session of a reader after the analysis was shown."""
    made = ReviewSession(reader="A. Reader")
    made.open(result.analysis.study)
    made.analysed(result, overlays_of(result.analysis))
    return made
