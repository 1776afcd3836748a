"""Files of several patients or examinations in one folder are told apart by their names."""

from pathlib import Path

import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.imaging.reading.nifti.names import group_by_examination, mixed_study_notice
from lesionlens.imaging.reading.readers import open_study


def groups(names):
    return {
        key: sorted(p.name for p in paths)
        for key, paths in group_by_examination(paths_of(names)).items()
    }


def paths_of(names):
    return [Path("folder") / f"{name}.nii.gz" for name in names]


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        (["P001_t1c", "P001_flair", "P002_t1c", "P002_flair", "P002_seg"], {"p001", "p002"}),
        (["p1_T1w", "p1_T2w", "p2_T1w", "p2_T2w", "notes_t1"], {"p1", "p2", "."}),
        (
            ["GLI-00001-000-t1c", "GLI-00001-000-t2f", "GLI-00001-001-t1c", "GLI-00001-001-t2f"],
            {"00001-000", "00001-001"},
        ),
        (["t1c_2024-01-05", "flair_2024-01-05", "t1c_20250301", "flair_20250301"],
         {"20240105", "20250301"}),
        (["t1_x_20240105101500_5", "t2_x_20240105101500_7", "t1_x_20250301101500_5",
          "t2_x_20250301101500_6"], {"20240105", "20250301"}),
        (["A_0000", "A_0001", "A_0002", "B_0000", "B_0001", "B_0002", "flair"], {"A", "B", "."}),
        (["t1c_case12", "flair_case12", "t1c_case13", "flair_case13"], {"case12", "case13"}),
    ],
)  # fmt: skip
def test_figures_that_several_sequences_share_are_of_an_examination(names, keys):
    assert set(groups(names)) == keys
    assert sum(len(found) for found in groups(names).values()) == len(names)


@pytest.mark.parametrize(
    "names",
    [
        ["t1", "t1c", "t2", "flair"],
        ["301_T1W", "401_T2W", "501_FLAIR", "601_T1W_GD"],
        ["5_t1_mprage", "6_t2_tse_p2", "7_flair_p2", "8_t1_mprage_p2"],
        ["ax_t1", "ax_t2", "sag_t1", "sag_t2"],
        ["3d_t1", "3d_flair", "2d_t1", "2d_flair"],
        ["t1_1mm", "t2_1mm", "t1_2mm", "t2_2mm"],
        ["t1_run-1", "flair_run-1", "t1_run-2", "flair_run-2"],
        ["t1", "t2", "t1_n4", "t2_n4"],
        ["t1_raw", "t2_raw", "t1_bet", "t2_bet"],
        ["x_t1_20240105101500_5", "x_t2_20240105101500_6", "x_t1_20240105101500_7"],
        ["P001_t1c", "P001_t1", "P001_flair", "P001_t1c_2"],
        ["P001_0000", "P001_0001", "P001_0002", "P001_0003"],
        ["s3_t1", "s4_t2", "s5_flair"],
        ["Miller_brain_t1", "Miller_t2", "Miller_sag_flair", "t1c"],
        ["mprage_t1", "tse_t2", "ax_flair", "whole_t1c"],
    ],
)
def test_series_numbers_planes_and_processing_part_nothing(names):
    assert set(groups(names)) == {"."}
    assert mixed_study_notice(names) is None


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["BraTS2021_00006_t1c", "BraTS2021_00006_t2", "BraTS2021_00009_flair"], "one patient"),
        (["t1c_2024-01-05", "flair_2025-03-01"], "'20240105', '20250301'"),
        (["P001_t1c", "P002_t2"], "('p001', 'p002')"),
        (["Miller_t1", "Miller_t2", "Smith_ax_flair"], "different words ('miller', 'smith')"),
        (["P001_t1c", "P002_0003"], "one patient"),
    ],
)
def test_names_that_begin_or_date_differently_are_noticed(names, words):
    assert words in (mixed_study_notice(names) or "")


@pytest.mark.parametrize("opened", ["dropped", "named"])
def test_two_sessions_of_one_subject_are_noticed_however_they_were_opened(make_study, opened):
    """Only DICOM files of two days were noticed, and a folder of two sessions refused."""
    folder = make_study(sequences={"t1c", "flair"})
    paths = {s: series.files[0].path for s, series in open_study(folder).series.items()}
    files = {}
    for number, (sequence, path) in enumerate(paths.items()):
        files[sequence] = folder.parent / f"{number}" / f"sub-01_ses-{number}_{sequence}.nii.gz"
        files[sequence].parent.mkdir()
        path.rename(files[sequence])
    named = {MrSequence.FLAIR: files[MrSequence.FLAIR]}
    alone = open_study(files[MrSequence.T1C])
    both = (
        open_study([*files.values()])
        if opened == "dropped"
        else open_study(files[MrSequence.T1C].parent, named=named)
    )
    assert set(both.series) == set(files)
    assert any("different sessions ('0', '1')" in notice for notice in both.notices)
    assert not any("sessions" in notice for notice in alone.notices)
