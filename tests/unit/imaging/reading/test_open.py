"""Opening: what is named, chosen, noticed, or refused because it cannot be read."""

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.imaging import open_study
from lesionlens.imaging.reading.bids import mixed_names
from lesionlens.imaging.reading.open import choose, distinct_names

T2, FLAIR = MrSequence.T2, MrSequence.FLAIR


def test_a_name_that_means_a_file_of_the_study_and_one_of_the_working_folder_is_refused(
    make_study, monkeypatch
):
    study, other = (make_study(name=name, sequences={"flair", "t1"}) for name in "ab")
    monkeypatch.chdir(other)
    with pytest.raises(UnusableInputError, match="both in the study and in the working folder"):
        open_study(study, named={T2: "flair.nii.gz"})


def test_series_of_one_description_are_told_apart_by_their_files(make_study):
    study = open_study(make_study(dicom=True, sequences={"t1", "t2", "flair"}), named={})
    t1, flair = study.series[MrSequence.T1], study.series[FLAIR]
    again = replace(flair, files=(replace(flair.files[0], name="S09/IM0001"),))
    names = distinct_names([t1, flair, again])
    assert names[2] == f"{flair.description}, S09/IM0001"
    chosen, (set_aside,), (notice,) = choose([flair, again], {})
    assert chosen[FLAIR] is flair
    assert set_aside is again
    assert names[1] in notice
    assert names[2] in notice


@pytest.mark.parametrize(
    ("names", "noticed"),
    [
        (["BraTS2021_00006_t1c", "BraTS2021_00006_t2", "BraTS2021_00009_flair"], True),
        (["P001_t1c", "P002_t2"], True),
        (["sub-01_ses-1_T1w", "sub-01_ses-2_FLAIR"], True),
        (["t1", "t1c", "t2", "flair"], False),
        (["301_T1W", "401_T2W", "501_FLAIR", "601_T1W_GD"], False),
        (["5_t1_mprage", "6_t2_tse_p2", "7_flair_p2"], False),
        (["3d_t1", "3d_flair", "2d_t2"], False),
        (["s3_t1", "s4_t2", "s5_flair"], False),
        (["sub-01_run-1_T1w", "sub-01_acq-2024_FLAIR", "sub-01_run-1_T2w"], False),
    ],
)
def test_names_that_begin_with_different_numbers_are_noticed(names, noticed):
    assert bool(mixed_names([f"{name}.nii.gz" for name in names])) is noticed


def test_two_sessions_of_one_subject_are_noticed_however_they_were_opened(make_study):
    folder = make_study(sequences={"t1c", "flair"})
    files = []
    for number, name in enumerate(("t1c", "flair")):
        files.append(folder.parent / f"{number}" / f"sub-01_ses-{number}_{name}.nii.gz")
        files[number].parent.mkdir()
        (folder / f"{name}.nii.gz").rename(files[number])
    assert not open_study(files[0]).notices
    for study in (open_study(files), open_study(files[0].parent, named={FLAIR: files[1]})):
        assert len(study.series) == 2
        assert any("different sessions" in notice for notice in study.notices)


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
    with pytest.raises(UnusableInputError, match=f"Cannot read '{last.name}'"):
        open_study(study)


@pytest.mark.parametrize("dicom", [True, False])
def test_a_folder_that_may_not_be_read_is_named(make_study, forbid, dicom):
    study = make_study(sequences={"t1c"}, dicom=dicom, spacing_mm=(8, 8, 12))
    (study / "more").mkdir()
    forbid("more")
    with pytest.raises(UnusableInputError, match="Cannot read 'more'"):
        open_study(study)


def test_a_study_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _: path != secret)
    with pytest.raises(UnusableInputError, match="Cannot read 'secret'"):
        open_study(secret)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: (folder / "t1c.img").write_bytes(b"a" * 348), r"pair \(.hdr, .img\)"),
        (lambda folder: (folder / "scan.txt").write_bytes(b""), "empty, 0 bytes"),
        (lambda folder: (folder / "t1c.nii").symlink_to("nowhere"), "link|does not exist"),
        (lambda folder: os.mkfifo(folder / "t1c.nii"), "a pipe or device"),
    ],
)
def test_what_a_path_holds_instead_of_scans_is_said(tmp_path, make, words):
    make(tmp_path)
    for path in (tmp_path, *tmp_path.iterdir()):
        with pytest.raises(UnusableInputError, match=words):
            open_study(path)
