"""The session of a reader who has opened an analysed study."""

import pytest

from lesionlens.napari.model.acts.session import ReviewSession
from lesionlens.napari.model.overlays.maps import overlays_of


@pytest.fixture
def session(result):
    """The session after the analysis was shown."""
    made = ReviewSession(reader="A. Reader")
    made.open(result.analysis.study)
    made.analysed(result, overlays_of(result.analysis))
    return made
