"""Only the files that a result lists are replaced or removed by the next one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.provenance import sha256_of
from lesionlens.results.export.bids import save_bids
from lesionlens.results.export.exporter import save
from lesionlens.results.export.result_files import check_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Where the result lies that `out` copies, once it is written."""
    return tmp_path_factory.mktemp("saved") / "out"


@pytest.fixture
def out(make, saved, tmp_path) -> Path:
    """A result of DICOM, the test's own."""
    if not saved.exists():
        save(make(dicom=True), saved)
    shutil.copytree(saved, tmp_path / "out")
    return tmp_path / "out"


def test_run_json_lists_every_other_file_with_its_digest(out):
    rows = json.loads((out / "run.json").read_text())["files"]
    assert {row["file"] for row in rows} == {*tree(out)} - {"run.json"}
    assert all(sha256_of(out / row["file"]) == row["sha256"] for row in rows)


@pytest.mark.parametrize(
    "name",
    ["report.html", "attention_wt.nii.gz", "followup.json", "evidence_t1c.nii.gz"],
)
def test_a_users_own_file_with_a_name_of_ours_is_refused_by_name(make, tmp_path, name):
    """Beside those that only opening reads, a result could be neither opened nor exported."""
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    with pytest.raises(UnusableInputError, match=name):
        save(make(), out)
    assert tree(out) == {name: b"mine"}


@pytest.mark.parametrize(
    "name",
    ["review_edits/a.txt", "dicom/x.dcm"],
)
def test_what_a_user_adds_to_a_result_stays(make, out, name):
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    save(make(name="nifti"), out)  # lacks what DICOM has
    assert (out / name).read_text() == "mine"
    assert not (out / "dicom" / "seg.dcm").exists()


@pytest.mark.parametrize("name", ["segmentation.nii.gz", "report.html", "dicom/seg.dcm"])
def test_a_result_that_was_changed_by_hand_is_refused_by_name(make, out, name):
    (out / name).write_text("drawn by hand")
    before = tree(out)
    with pytest.raises(UnusableInputError, match=name):
        save(make(name="nifti"), out)
    assert tree(out) == before


@pytest.mark.parametrize(
    "run",
    ['{"files": [', '{"files": []}', '{"schema": "other/1", "files": []}', "[1]", "null"],
)
def test_a_run_json_that_is_not_ours_makes_no_file_ours(make, tmp_path, run):
    (tmp_path / "run.json").write_text(run)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(UnusableInputError, match=r"report\.html"):
        check_folder(tmp_path)
    with pytest.raises(UnusableInputError, match=r"report\.html"):
        save(make(), tmp_path)
    assert (tmp_path / "report.html").read_text() == "mine"


def test_a_list_cannot_name_what_lies_outside(make, tmp_path, out):
    victims = [tmp_path / "victim", out / "link" / "victim"]
    (tmp_path / "elsewhere").mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    for victim in victims:
        victim.write_text("mine")
    run = json.loads((out / "run.json").read_text())
    named = ["../victim", str(victims[0]), "..\\victim", "link/victim", "/", "", 7]
    run["files"] += [{"file": name, "sha256": sha256_of(victims[0])} for name in named]
    (out / "run.json").write_text(json.dumps(run))
    save(make(name="nifti"), out)
    assert all(victim.read_text() == "mine" for victim in victims)


def test_another_study_in_a_dataset_of_ours_stays_and_a_users_file_is_refused(make, tmp_path):
    dataset = tmp_path / "derivatives"
    save_bids(make(), dataset, "sub-01")
    first = tree(dataset)
    mine = dataset / "sub-02" / "anat" / "sub-02_space-orig_dseg.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(UnusableInputError, match=mine.name):
        save_bids(make(), dataset, "sub-02")
    assert mine.read_text() == "mine"
    save_bids(make(), dataset, "sub-01")
    assert tree(dataset).keys() == {*first, mine.relative_to(dataset).as_posix()}


@pytest.mark.parametrize("name", [".bidsignore", "descriptions.tsv"])
def test_a_folder_with_files_of_another_dataset_is_refused(make, tmp_path, name):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / name).write_text("mine")
    with pytest.raises(UnusableInputError, match=name):
        save_bids(make(), tmp_path / "other", "sub-01")
    assert tree(tmp_path / "other") == {name: b"mine"}
