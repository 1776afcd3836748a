"""Parameters of a request about an image count, or are refused."""

import io
import zipfile
from contextlib import suppress

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("fastapi")

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
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


@pytest.mark.parametrize("params", [{"sequence": "t1"}, {"channels": ["t1"]}])
def test_params_that_an_archive_or_a_folder_cannot_use_are_refused(params, study, archive, scratch):
    """A FLAIR in an archive, sent as T1, was analysed as FLAIR without a word."""
    for image in (study, archive):
        assert [*study_of(image, {"sequence": "auto"}, scratch, SILENT).series] == ["flair"]
        with pytest.raises(UnusableInputError, match="no effect"):
            study_of(image, params, scratch, SILENT)


def test_channels_of_a_3d_file_are_refused(study, scratch):
    (image,) = study.iterdir()
    with pytest.raises(UnusableInputError, match="no effect"):
        study_of(image, {"channels": ["t1"]}, scratch, SILENT)
    assert [*study_of(image, {"channels": []}, scratch, SILENT).series] == ["flair"]
    assert [*study_of(image, {"sequence": "t1"}, scratch, SILENT).series] == [MrSequence.T1]


@pytest.mark.parametrize(
    ("channels", "says"),
    [
        (None, "2 volumes and no names"),
        ("", "2 volumes and no names"),
        ("flair,t9", "the sequence 't9'"),
        (5, "the sequence '5'"),
        ("flair", "1 name for 2 volumes"),
        (["t1", "t1"], "2 names for 2 volumes"),
    ],
)
def test_channels_that_do_not_name_each_volume_are_refused(
    channels, says, study, tmp_path, scratch
):
    path = four_dimensional(study, tmp_path)
    with pytest.raises(UnusableInputError, match=says):
        study_of(path, {"channels": channels}, scratch, SILENT)


@pytest.mark.parametrize("channels", ["t2, FLAIR", ["t2", "flair"]])
@pytest.mark.parametrize("axes", [(), (3,), (4,)])
def test_each_volume_is_read_as_the_sequence_that_is_named_for_it(
    channels, axes, study, tmp_path, scratch
):
    path = four_dimensional(study, tmp_path, axes)
    opened = study_of(path, {"channels": channels}, scratch, SILENT)
    assert float(opened.series[MrSequence.T2].load().max()) == 1.0
    assert float(opened.series[MrSequence.FLAIR].load().max()) == 2.0


def four_dimensional(study, folder, axes=()):
    """Write a file of two volumes, of ones and of twos, with further axes of length 1."""
    (image,) = study.iterdir()
    affine, shape = nib.load(image).affine, nib.load(image).shape
    path = folder / "four.nii"
    voxels = np.stack([np.ones(shape, np.float32), np.full(shape, 2, np.float32)], -1)
    nib.save(nib.Nifti1Image(np.expand_dims(voxels, axes), affine), path)
    return path


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
