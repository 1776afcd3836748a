"""What is searched for in an archive, and where studies that were fetched are kept."""

import pytest

pytest.importorskip("pynetdicom")
pytest.importorskip("dicomweb_client")

from lesionlens.base.errors import UnusableInputError
from lesionlens.napari.model.studies import archive as model
from lesionlens.site.pacs.peer import FoundStudy

STUDY = FoundStudy("1.2.4", "7", "20260105", "", ("MR",))


def test_a_study_that_was_fetched_before_is_never_mixed_with_a_new_one(tmp_path):
    (tmp_path / "2026-01-05 1.2.4").mkdir()
    assert model.free_folder(tmp_path, STUDY).name == "2026-01-05 1.2.4 (2)"


@pytest.mark.parametrize("uid", ["../../x", "/etc", "1.2\\3"])
def test_no_archive_chooses_where_a_study_is_kept(tmp_path, uid):
    with pytest.raises(UnusableInputError):
        model.free_folder(tmp_path, FoundStudy(uid, "7", "20260105", "", ()))
    hostile = FoundStudy("1.2", "7", "../../ab", "", ())
    assert model.free_folder(tmp_path, hostile) == tmp_path / "undated 1.2"


@pytest.mark.parametrize(
    ("first", "last", "searched"),
    [
        ("", "", ""),
        ("2026-01-05", "2026-01-05", "20260105"),
        ("2026-01-05", "2026-02-01", "20260105-20260201"),
        ("2026-01-05", "", "20260105-"),
        ("", "2026-02-01", "-20260201"),
    ],
)
def test_two_days_of_a_form_are_a_day_a_range_or_any_date(first, last, searched):
    fields = {"patient_id": "7", "name": "", "first": first, "last": last, "modality": "MR"}
    assert model.query_of(fields).study_date == searched
    if not searched:
        with pytest.raises(UnusableInputError, match="every study of the archive"):
            model.query_of({**fields, "patient_id": " "})
