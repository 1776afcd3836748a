"""What the system refuses to read is named; it is never missing without a word."""

import errno
import os
from pathlib import Path

import nibabel as nib
import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.imaging.reading.readers import open_study


@pytest.fixture
def forbid(monkeypatch):
    """Let the system refuse a file or a folder by its name, as it does not to an administrator."""
    opened, builtin, listed = Path.open, open, os.scandir

    def forbidden(name):
        def refuse(path):
            if not isinstance(path, int) and Path(path).name == name:
                raise PermissionError(errno.EACCES, "Permission denied", str(path))

        def open_file(path, *how, **more):
            refuse(path)
            return opened(path, *how, **more)

        def scan_folder(path="."):
            refuse(path)
            return listed(path)

        def open_any(path, *how, **more):
            refuse(path)
            return builtin(path, *how, **more)

        monkeypatch.setattr(Path, "open", open_file)
        monkeypatch.setattr("builtins.open", open_any)
        monkeypatch.setattr(os, "scandir", scan_folder)

    return forbidden


@pytest.mark.filterwarnings("ignore")
def test_a_slice_that_may_not_be_read_is_named(make_study, forbid):
    study = make_study(sequences={"t1c"}, dicom=True, spacing_mm=(8, 8, 12))
    last = max(path for path in study.rglob("*") if path.is_file())
    forbid(last.name)
    with pytest.raises(UnusableInputError, match=f"no permission to read '{last.name}'"):
        open_study(study)


@pytest.mark.parametrize("read", ["header", "voxels"])
def test_a_nifti_file_on_a_failing_disk_is_not_called_damaged(make_study, monkeypatch, read):
    """It was to be converted again from its DICOM files, or downloaded."""
    place = make_study(sequences={"t1c"})
    (series,) = open_study(place).series.values()
    file = series.files[0].path

    def fail(*args, **options):
        raise OSError(errno.EIO, "Input/output error", str(file))

    monkeypatch.setattr(nib, "load", fail)
    refusal = rf"the system's refusal \(Input/output error\) to read '{file.name}'"
    with pytest.raises(UnusableInputError, match=refusal):
        open_study(place) if read == "header" else series.load()


@pytest.mark.parametrize("dicom", [True, False])
def test_a_folder_that_may_not_be_read_is_named(make_study, forbid, dicom):
    study = make_study(sequences={"t1c"}, dicom=dicom, spacing_mm=(8, 8, 12))
    (study / "more").mkdir()
    forbid("more")
    with pytest.raises(UnusableInputError, match="no permission to read 'more'"):
        open_study(study)


@pytest.mark.parametrize("whole", [True, False])
def test_a_pair_of_header_and_image_is_called_that(tmp_path, whole):
    for name in ("t1c.hdr", "t1c.img"):
        (tmp_path / name).write_bytes(b"a" * 348)
    with pytest.raises(UnusableInputError, match=r"pair \(.hdr, .img\)"):
        open_study(tmp_path if whole else tmp_path / "t1c.img")


@pytest.mark.parametrize("where", ["the folder itself", "a folder above it"])
def test_a_study_that_may_not_be_read_is_named_with_what_to_do(tmp_path, monkeypatch, where):
    """Under a forbidden folder its spelling and the disk were suspected."""
    secret, stat = tmp_path / "secret", Path.stat
    secret.mkdir()

    def refuse(path, **how):
        if path == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, **how)

    if where == "the folder itself":
        monkeypatch.setattr(os, "access", lambda path, _: path != secret)
    else:
        monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(UnusableInputError, match=r"no permission to read 'secret'.*Ask its owner"):
        open_study(secret)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_as_a_study_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "t1c.nii")
    with pytest.raises(UnusableInputError, match="a pipe or device"):
        open_study(tmp_path / "t1c.nii")


def test_an_empty_file_of_no_kind_is_called_that(tmp_path):
    (tmp_path / "scan.txt").write_bytes(b"")
    with pytest.raises(UnusableInputError, match=r"an empty file, 0 bytes, named 'scan\.txt'"):
        open_study(tmp_path / "scan.txt")
