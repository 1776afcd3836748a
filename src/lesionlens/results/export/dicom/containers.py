"""Continuity of content in the containers of reports and selections."""

from __future__ import annotations

from pydicom.dataset import Dataset


def mark_separate(content: Dataset) -> None:
    """Mark every container of a content tree, root included, as SEPARATE; in place.

    highdicom (0.28) marks them as CONTINUOUS, one running text, in which DCMTK shows values without
    their names; TID 2010 requires SEPARATE.
    """
    if content.ValueType == "CONTAINER":
        content.ContinuityOfContent = "SEPARATE"
    for item in content.get("ContentSequence", ()):
        mark_separate(item)
