"""Where studies that were fetched are kept."""

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
