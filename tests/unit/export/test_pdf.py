"""report.pdf: whole, the same twice, and unmoved by hostile names."""

import importlib.util
import re
from dataclasses import replace

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.export.pdf import PdfExporter
from lesionlens.records.findings import Agreement, Location

reportlab = pytest.importorskip("reportlab", reason="the extra pdf is not installed")

HOSTILE = "<script>alert('x')</script><font size=99>&nbsp;</para>"


def _pages(document):
    return len(re.findall(rb"/Type /Page\b", document))


@pytest.mark.parametrize("lesions", [None, ()])
def test_it_is_a_document_of_a_few_pages(make, tmp_path, lesions):
    (path,) = PdfExporter().write(make(lesions=lesions), tmp_path)
    document = path.read_bytes()
    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")
    assert _pages(document) == (1 if lesions == () else 2)
    assert len(document) < 3_000_000


def test_the_same_analysis_gives_the_same_bytes(make, tmp_path):
    analysis = make(sequences=(MrSequence.FLAIR,))
    documents = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        documents.append(PdfExporter().write(analysis, tmp_path / name)[0].read_bytes())
    assert documents[0] == documents[1]


def test_hostile_texts_stay_texts(make, tmp_path):
    analysis = make(sequences=(MrSequence.FLAIR,))
    candidates = tuple(
        replace(c, location=Location(HOSTILE, HOSTILE), attention=Agreement(False, None))
        for c in analysis.findings.candidates
    )
    hostile = replace(
        analysis,
        study=replace(analysis.study, name=HOSTILE, notices=(HOSTILE,)),
        findings=replace(analysis.findings, candidates=candidates),
        run=replace(analysis.run, device=HOSTILE, inputs=((HOSTILE, "0" * 64),)),
    )
    assert PdfExporter().write(hostile, tmp_path)[0].stat().st_size > 10_000


def test_without_the_extra_it_says_how_to_get_it(make, monkeypatch):
    analysis = make(sequences=(MrSequence.FLAIR,))
    assert PdfExporter().missing(analysis) is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "lesionlens[pdf]" in PdfExporter().missing(analysis)
