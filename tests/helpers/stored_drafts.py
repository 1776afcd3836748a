"""The first draft of a reader, which can also be read while a window holds it."""

from __future__ import annotations

from pathlib import Path

from lesionlens.base.records.analysis import Analysis
from lesionlens.results.review import drafts, store


def path_of(analysis: Analysis, reader: str | None = None) -> Path:
    """Return the path of the draft."""
    return store.sessions_folder() / f"{store.analysis_key(analysis.run, reader)}.draft.npz"


def read(analysis: Analysis, reader: str | None = None) -> drafts.OutlineDraft | None:
    """Read the draft; None if there is none."""
    return drafts.read_draft(analysis, path_of(analysis, reader))


def write(analysis: Analysis, draft: drafts.OutlineDraft, reader: str | None = None) -> None:
    """Write the draft."""
    drafts.write_draft(analysis, draft, path_of(analysis, reader))
