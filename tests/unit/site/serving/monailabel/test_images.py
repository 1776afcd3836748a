"""Parameters of a request about an image count, or are refused."""

import io
import zipfile
from contextlib import suppress

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.run_context import SILENT
from lesionlens.site.serving.monailabel import images
from lesionlens.site.serving.monailabel.images import study_of, unpack


@pytest.fixture
def study(make_study):
    return make_study(name="study", sequences={"flair"})


@pytest.fixture
def archive(study, tmp_path):
    path = tmp_path / "study.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in study.iterdir():
            file.write(image, f"study/{image.name}")
    return path


@pytest.fixture
def scratch(tmp_path):
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def test_a_sequence_that_an_archive_or_a_folder_cannot_use_is_refused(study, archive, scratch):
    """A FLAIR in an archive, sent as T1, was analysed as FLAIR without a word."""
    for image in (study, archive):
        assert [*study_of(image, {"sequence": "auto"}, scratch, SILENT).series] == ["flair"]
        with pytest.raises(UnusableInputError, match="no effect"):
            study_of(image, {"sequence": "t1"}, scratch, SILENT)


def test_a_folder_of_several_studies_is_refused_without_options_of_the_command_line(
    make_study, tmp_path, scratch
):
    """`/infer` advised --study, which no client has."""
    for name in ("a", "b"):
        make_study(name=f"both/{name}", sequences={"flair"})
    with pytest.raises(UnusableInputError, match="2 studies") as refused:
        study_of(tmp_path / "both", {}, scratch, SILENT)
    assert "--" not in str(refused.value)
    assert "one examination" in refused.value.next_step


@pytest.mark.parametrize(
    ("name", "advice"), [("flair.nii", "Split it"), ("case.nii", "an archive with one for each")]
)
def test_a_file_of_several_volumes_is_refused(study, tmp_path, scratch, name, advice):
    """To name its sequence in the params, as it was asked to, was refused next."""
    (image,) = study.iterdir()
    first = nib.load(image)
    path = tmp_path / name
    nib.save(nib.Nifti1Image(np.stack([first.get_fdata()] * 2, -1), first.affine), path)
    with pytest.raises(UnusableInputError, match="2 volumes in one 4-D file") as refused:
        study_of(path, {}, scratch, SILENT)
    assert advice in refused.value.next_step


@pytest.mark.parametrize("limit", ["_MAX_FILES", "_MAX_UNPACKED_BYTES"])
def test_an_archive_larger_than_a_study_is_not_unpacked(archive, scratch, limit, monkeypatch):
    monkeypatch.setattr(images, limit, 0)
    with pytest.raises(UnusableInputError, match="larger than a study"):
        unpack(archive, scratch)
    assert not any(scratch.iterdir())


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_with_a_damaged_byte_is_refused(method, tmp_path, scratch):
    """A damaged stream was a defect of the server, as were names that cannot be decoded."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as file:
        file.writestr("study/flair_\u00e4.nii", bytes(range(200)) * 9)
    whole, path = content.getvalue(), tmp_path / "damaged.zip"
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        with suppress(UnusableInputError):  # unread bytes, such as times, may be anything
            unpack(path, scratch)
