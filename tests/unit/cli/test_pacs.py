"""The listing of an archive's studies."""

from types import SimpleNamespace

from lesionlens.cli import pacs
from lesionlens.site.pacs.peer import FoundStudy


def test_a_description_with_line_breaks_adds_no_row(monkeypatch):
    """A row of its own would show another patient's study."""
    study = FoundStudy(
        study_uid="1.2.3",
        patient_id="7",
        study_date="20260104",
        modalities=("MR",),
        patient_name="Doe^Jane",
        description="HEAD\r\n20260105  1.2.4  9 images  8  Roe^Jane",
    )
    archive = SimpleNamespace(find=lambda *_, **__: (study,))
    monkeypatch.setattr(pacs, "connect", lambda *_: archive)
    rows = pacs.find("http://127.0.0.1/dicom-web").output
    assert len(rows) == 2
    assert all("\n" not in row for row in rows)
