"""Derivatives that the official validator of BIDS accepts, and that a review goes on from."""

import json
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.helpers.file_search import files_below
from tests.phantoms.acquire import Acquisition
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import DrawingMethod, Source
from lesionlens.base.records.study import StudyKind
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.export import bids
from lesionlens.results.export.bids import save_bids
from lesionlens.results.review.reopen import read_result

MERELY_RECOMMENDED = {"TOO_FEW_AUTHORS"}
STEM = "sub-01/ses-2/anat/sub-01_ses-2_space-orig"


@pytest.fixture
def analysis(tmp_path, two_lesions):
    """A session of a BIDS dataset, analysed."""
    anat = tmp_path / "ds" / "sub-01" / "ses-2" / "anat"
    study = write_study(two_lesions, tmp_path / "flat", how=Acquisition("LPS", None, 6))
    anat.mkdir(parents=True)
    suffixes = {"t1": "T1w", "t1c": "ce-gd_T1w", "t2": "T2w", "flair": "FLAIR"}
    for sequence, series in study.series.items():
        name = f"sub-01_ses-2_{suffixes[sequence.value]}.nii.gz"
        series.files[0].path.rename(anat / name)
    about = {"Name": "Ours", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (tmp_path / "ds" / "dataset_description.json").write_text(json.dumps(about))
    return make_analysis(two_lesions, open_study(anat.parent))


def validated(dataset):
    """What the official validator says, by severity."""
    pytest.importorskip("bids_validator_deno", reason="the BIDS validator is not installed")
    command = [sys.executable, "-c", "from bids_validator_deno import cli; cli()"]
    done = subprocess.run(
        [*command, str(dataset), "--json"], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout, done.stderr
    issues = json.loads(done.stdout)["issues"]["issues"]
    return {
        level: [i["code"] for i in issues if i["severity"] == level]
        for level in ("error", "warning")
    }


def test_the_official_validator_finds_no_error(analysis, two_lesions, tmp_path):
    out = tmp_path / "out"
    save_bids(analysis, out)
    other = write_study(two_lesions, tmp_path / "Mr. X (2)", kind=StudyKind.DICOM)
    for _ in range(2):
        save_bids(make_analysis(two_lesions, other), out)
    assert (out / "sub-MrX2" / "anat" / "sub-MrX2_space-orig_dseg.nii.gz").is_file()
    reported = validated(out)
    assert reported["error"] == []
    assert set(reported["warning"]) <= MERELY_RECOMMENDED
    links = json.loads((out / "dataset_description.json").read_text())["DatasetLinks"]
    assert set(links) == {"ds", tmp_path.name.replace("_", "")}
    assert links["ds"] == "../ds"


def test_volumes_are_those_of_the_result(analysis, tmp_path):
    out = tmp_path / "out"
    save_bids(analysis, out)
    labels = nib.load(out / f"{STEM}_dseg.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), analysis.volumes.labels.data)
    np.testing.assert_allclose(labels.affine, analysis.prepared.native.affine, atol=1e-4)
    mask = nib.load(out / f"{STEM}_label-L_mask.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(mask.dataobj), analysis.volumes.labels.data > 0)
    own = out / "lesionlens" / "sub-01_ses-2"
    for region in ("wt", "tc", "et"):
        for name, ending in (("probability", "probseg"), ("attention", "desc-attention_map")):
            there = out / f"{STEM}_label-{region.upper()}_{ending}.nii.gz"
            assert there.read_bytes() == (own / f"{name}_{region}.nii.gz").read_bytes()
    assert len(read_result(own).findings.candidates) == 2


@pytest.mark.parametrize(
    ("drawn", "manual"),
    [(None, None), (DrawingMethod.MANUAL, True), (DrawingMethod.AUTOMATIC, False)],
)
def test_the_outlines_of_an_opened_mask_are_not_called_the_engines(
    analysis, tmp_path, drawn, manual
):
    """An expert's mask was said to be outlined by the engine, without a hand."""
    candidates = tuple(
        replace(c, source=Source.SEGMENTATION, drawn=drawn) for c in analysis.findings.candidates
    )
    opened = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    save_bids(opened, tmp_path / "out")
    for name in ("dseg", "desc-candidates_dseg", "label-L_mask"):
        sidecar = json.loads((tmp_path / "out" / f"{STEM}_{name}.json").read_text())
        assert sidecar.get("Manual") is manual, name
    sidecar = json.loads((tmp_path / "out" / f"{STEM}_dseg.json").read_text())
    assert sidecar["Description"].endswith("as in the segmentation that was opened.")


def test_sidecars_name_their_sources(analysis, tmp_path):
    out = tmp_path / "out"
    save_bids(analysis, out)
    anat = "bids:ds:sub-01/ses-2/anat/sub-01_ses-2"
    for place in files_below(out / "sub-01", "*.json"):
        reported = json.loads(place.read_text())
        assert reported["SpatialReference"] == f"{anat}_ce-gd_T1w.nii.gz"
        assert set(reported["Sources"]) == {
            f"{anat}_{s}.nii.gz" for s in ("T1w", "ce-gd_T1w", "T2w", "FLAIR")
        }
        assert reported["Description"]
    mask = json.loads((out / f"{STEM}_label-L_mask.json").read_text())
    assert mask["Type"] == "Lesion"
    assert mask["Manual"] is False
    table = (out / f"{STEM}_desc-candidates_dseg.tsv").read_text().splitlines()
    rows = [line.split("\t")[:3] for line in table[1:]]
    found = analysis.findings.candidates
    assert rows == [[str(c.id), c.location.text, c.tracking_uid] for c in found]
    assert {line.split("\t")[-1] for line in table} == {"prompts", "n/a"}


def test_a_second_run_replaces_the_first_and_leaves_other_subjects(analysis, tmp_path):
    out = tmp_path / "out"
    save_bids(analysis, out)
    save_bids(analysis, out, "sub-02")
    (out / STEM).parent.joinpath("mine.txt").write_text("mine")
    empty = replace(analysis, volumes=replace(analysis.volumes, attention={}))
    save_bids(empty, out)
    names = {p.name for p in (out / STEM).parent.iterdir()}
    assert "mine.txt" in names
    assert not any("attention" in name for name in names)
    assert (out / "sub-02/anat/sub-02_space-orig_label-WT_desc-attention_map.nii.gz").is_file()


def test_what_a_user_added_to_the_dataset_s_own_files_is_kept(analysis, tmp_path):
    """Authors, licence and further programs were gone after the next study, without a word."""
    save_bids(analysis, tmp_path)
    description = tmp_path / "dataset_description.json"
    stored = json.loads(description.read_text("utf-8"))
    own, added = stored["GeneratedBy"], {"Authors": ["A. Reader"], "Name": "Trial"}
    edited = stored | added | {"GeneratedBy": [*own, {"Name": "curation"}], "BIDSVersion": "1.9.0"}
    description.write_text(json.dumps(edited), "utf-8")
    with (tmp_path / ".bidsignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/notes\n")
    save_bids(analysis, tmp_path, "sub-02")
    assert json.loads(description.read_text("utf-8")) == edited | {"BIDSVersion": bids.VERSION}
    assert "/notes" in (tmp_path / ".bidsignore").read_text("utf-8").splitlines()


def test_a_file_of_another_is_refused_before_anything_is_written(analysis, tmp_path):
    other = tmp_path / "out" / f"{STEM}_dseg.nii.gz"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    with pytest.raises(UnusableInputError, match="dseg"):
        save_bids(analysis, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").rglob("*") if p.is_file()] == [other.name]


def test_a_subject_that_differs_by_case_alone_is_refused(analysis, tmp_path):
    """On Windows and macOS two patients would share one folder."""
    save_bids(analysis, tmp_path / "d", "case-A")
    with pytest.raises(UnusableInputError, match=r"'sub-caseA' there.*'sub-CASEA'"):
        save_bids(analysis, tmp_path / "d", "CASE_A")
    assert not list((tmp_path / "d").glob("sub-CASE*"))


def test_a_dataset_of_others_is_left_alone(analysis, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "ds").rglob("*")}
    with pytest.raises(UnusableInputError, match="a BIDS dataset of another program"):
        save_bids(analysis, tmp_path / "ds")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "ds").rglob("*")} == before


def test_derivatives_that_would_lie_among_the_images_of_the_study_are_refused(analysis, tmp_path):
    """Without a description the folder was no dataset of others, and the study was written to."""
    (tmp_path / "ds" / "dataset_description.json").unlink()
    before = files_below(tmp_path / "ds")
    with pytest.raises(UnusableInputError, match="within the study"):
        save_bids(analysis, tmp_path / "ds")
    assert files_below(tmp_path / "ds") == before
