"""What every installed exporter must hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base import plugins
from lesionlens.base.labels import MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.written import Written

EXPORTERS = plugins.names(plugins.EXPORTERS)
KINDS = tuple(StudyKind)


@pytest.fixture(scope="module")
def analyses(tmp_path_factory, patient) -> dict[StudyKind, Analysis]:
    """One finished analysis of each kind of study, on a grid that is no cube."""
    found = {}
    for kind in KINDS:
        how = Acquisition("LPS", (4.0, 4.0, 6.0))
        folder = tmp_path_factory.mktemp(kind.value)
        study = write_study(patient, folder, kind=kind, sequences=tuple(MrSequence), how=how)
        found[kind] = make_analysis(patient, study)
    return found


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def files_of(written: tuple[Path, ...] | Written) -> tuple[Path, ...]:
    return written.files if isinstance(written, Written) else written


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", EXPORTERS)
def test_it_writes_what_it_says_or_says_why_not(name, kind, analyses, tmp_path):
    """And it touches no file of the study, nor names this machine's folders in its own."""
    analysis = analyses[kind]
    root = analysis.study.root
    before = {path: path.stat().st_mtime_ns for path in files_below(root)}
    exporter = plugins.load(plugins.EXPORTERS, name)()
    reason = exporter.missing(analysis)
    if reason is not None:
        assert len(reason.split()) > 2
        return
    written = files_of(exporter.write(analysis, tmp_path))
    assert {path: path.stat().st_mtime_ns for path in files_below(root)} == before
    assert written
    assert set(written) == files_below(tmp_path)
    assert all(path.stat().st_size > 0 for path in written)
    assert not [path for path in written if str(root).encode() in path.read_bytes()]
