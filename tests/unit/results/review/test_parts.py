"""A result whose parts are not those that were written together is refused by name."""

import os
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.helpers.json_files import edited_json
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ReadError
from lesionlens.base.labels import MrSequence, ReviewState
from lesionlens.base.records.review import WHOLE_STUDY
from lesionlens.results.export.exporter import save
from lesionlens.results.export.result_files import write_list
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog
from lesionlens.results.review.reopen import read_result
from lesionlens.results.review.saved_parts import AlteredResultError
from lesionlens.site.pacs.send_result import check_objects
from lesionlens.testing import Lesion, make_patient

TWO = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


def written(folder, lesions, seed=0):
    head = make_patient(seed, spacing_mm=4.0, lesions=lesions)
    study = write_study(head, folder / "study", sequences=(MrSequence.T1C,))
    plain = make_analysis(head, study)
    log = ReviewLog()
    for candidate in plain.findings.candidates:
        log.decide(candidate.tracking_uid, ReviewState.ACCEPTED, reader="A. Reader")
    log.decide(WHOLE_STUDY, ReviewState.ACCEPTED, reader="A. Reader", reason="nothing further")
    analysis = replace(plain, review=log.review)
    save(analysis, folder / "out")
    return folder / "out"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two signed results of different heads."""
    folder = tmp_path_factory.mktemp("results")
    return written(folder / "a", TWO), written(
        folder / "b", (Lesion((-30.0, 20.0, 10.0), 14.0),), 7
    )


@pytest.fixture
def result(results, tmp_path):
    shutil.copytree(results[0], tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def other(results):
    return results[1]


def edit(path, change):
    with edited_json(path) as content:
        change(content)


def mirror(path):
    image = nib.load(path)
    data = np.asarray(image.dataobj)[::-1]
    nib.save(nib.Nifti1Image(data, image.affine, image.header), path)


def candidates(change):
    return lambda result: edit(result / "findings.json", lambda f: change(f["candidates"]))


def text(old, new):
    def change(result):
        path = result / "findings.json"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return change


def voxels(name, value):
    def change(result):
        image = nib.load(result / name)
        data = np.asarray(image.dataobj).astype(np.float64)
        data[0, 0, 0] = value
        nib.save(nib.Nifti1Image(data, image.affine), result / name)

    return change


TAMPERED = {
    "mirrored masks": lambda r: [
        mirror(r / n) for n in ("segmentation.nii.gz", "candidates.nii.gz")
    ],
    "mirrored labels": lambda r: mirror(r / "segmentation.nii.gz"),
    "mirrored numbers": lambda r: mirror(r / "candidates.nii.gz"),
    "negative volume": candidates(lambda c: c[0]["volume_ml"].update(wt=-5)),
    "huge volume": candidates(lambda c: c[0]["volume_ml"].update(wt=1e308)),
    "another volume": candidates(
        lambda c: c[0]["volume_ml"].update(wt=c[0]["volume_ml"]["wt"] + 1)
    ),
    "another enhancing volume": candidates(lambda c: c[0]["volume_ml"].update(et=0.1)),
    "another place": candidates(
        lambda c: c[0].update(centroid_mm=[-v for v in c[0]["centroid_mm"]])
    ),
    "a place beyond": candidates(lambda c: c[0].update(peak_mm=[1e9, 0, 0])),
    "score 5": candidates(lambda c: c[0].update(score=5)),
    "score below 0": candidates(lambda c: c[0].update(score=-0.1)),
    "uncertainty 2": candidates(lambda c: c[0].update(uncertainty=2)),
    "negative diameter": candidates(lambda c: c[0].update(longest_axial_diameter_mm=-3)),
    "one id twice": candidates(lambda c: c[1].update(id=c[0]["id"])),
    "one uid twice": candidates(lambda c: c[1].update(tracking_uid=c[0]["tracking_uid"])),
    "id 0": candidates(lambda c: c[0].update(id=0)),
    "id beyond": candidates(lambda c: c[0].update(id=2**40)),
    "swapped ids": candidates(lambda c: (c[0].update(id=2), c[1].update(id=1))),
    "a candidate less": candidates(lambda c: c.pop()),
    "a candidate more": candidates(lambda c: c.append({**c[0], "id": 3, "tracking_uid": "2.25.3"})),
    "a field more": candidates(lambda c: c[0].update(grade="IV")),
    "a field less": candidates(lambda c: c[0].pop("score")),
    "no candidates": candidates(lambda c: c.clear()),
    "NaN": text('"score":', '"score": NaN, "was":'),
    "infinity": text('"score":', '"score": 1e999, "was":'),
    "a key twice": text('"score":', '"score": 0.9, "score":'),
    "nested without end": lambda r: (r / "findings.json").write_text("[" * 200_000),
    "no JSON": lambda r: (r / "findings.json").write_bytes(b"\xff\xfe{"),
    "empty": lambda r: (r / "findings.json").write_bytes(b""),
    "40 MiB": lambda r: (r / "findings.json").write_bytes(b" " * (40 * 2**20) + b"{}"),
    "a folder": lambda r: ((r / "findings.json").unlink(), (r / "findings.json").mkdir()),
    "a pipe": lambda r: ((r / "findings.json").unlink(), os.mkfifo(r / "findings.json")),
    "a pipe for a mask": lambda r: (
        (r / "segmentation.nii.gz").unlink(),
        os.mkfifo(r / "segmentation.nii.gz"),
    ),
    "NaN in a map": voxels("probability_wt.nii.gz", np.nan),
    "infinity in a map": voxels("attention_wt.nii.gz", np.inf),
    "fractions in a mask": voxels("segmentation.nii.gz", 0.5),
    "label 9": voxels("segmentation.nii.gz", 9),
    "number 70000": voxels("candidates.nii.gz", 70_000),
    "a mask cut short": lambda r: (r / "segmentation.nii.gz").write_bytes(
        (r / "segmentation.nii.gz").read_bytes()[:200]
    ),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_what_was_changed_is_refused_by_name(result, what):
    TAMPERED[what](result)
    if not any(path.is_fifo() for path in result.iterdir()):
        write_list(result)
    with pytest.raises(ReadError, match=r"\.json|\.nii\.gz") as caught:
        read_result(result)
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    "name", ["findings.json", "segmentation.nii.gz", "candidates.nii.gz", "review.json"]
)
def test_a_part_of_another_result_is_refused(result, other, name):
    shutil.copy(other / name, result / name)
    write_list(result)
    with pytest.raises(ReadError, match=name.split(".")[0]):
        read_result(result)


@pytest.mark.parametrize("key", ["study_uid", "inputs_sha256"])
def test_a_signature_on_another_study_signs_nothing(result, key):
    edit(result / "review.json", lambda r: r.update({key: "1.2.3"}))
    with pytest.raises(AlteredResultError, match="review"):
        read_result(result)


def test_decisions_on_other_candidates_are_refused(result):
    edit(result / "review.json", lambda r: r["events"][0].update(tracking_uid="2.25.9"))
    with pytest.raises(AlteredResultError, match="review"):
        read_result(result)


def test_edited_files_are_named(result):
    (result / "findings.csv").write_text("opened elsewhere and saved\n")
    assert "findings.csv" in " ".join(read_result(result).run.notices)


def test_decisions_after_writing_are_no_change(result):
    edit(
        result / "review.json",
        lambda r: r["events"].append({**r["events"][0], "state": "rejected"}),
    )
    (result / "sent.json").write_text("{}")
    assert not read_result(result).review.signed


def test_objects_that_were_changed_are_not_sent(result):
    (result / "dicom").mkdir()
    (result / "dicom" / "seg.dcm").write_bytes(b"object")
    write_list(result)
    check_objects(result)
    check_objects(result / "dicom")
    (result / "dicom" / "seg.dcm").write_bytes(b"another")
    for place in (result, result / "dicom"):
        with pytest.raises(ReadError, match=r"dicom/seg\.dcm"):
            check_objects(place)
    write_list(result)
    (result / "dicom" / "more.dcm").write_bytes(b"added")
    with pytest.raises(ReadError, match=r"dicom/more\.dcm"):
        check_objects(result)
    check_objects(result.parent)


def test_objects_that_do_not_state_the_review_as_it_is_now_are_not_sent(result):
    (result / "dicom").mkdir()
    (result / "dicom" / "sr.dcm").write_bytes(b"object")
    write_list(result)
    check_objects(result)
    edit(
        result / "review.json",
        lambda r: r["events"].append({**r["events"][0], "state": "rejected"}),
    )
    for place in (result, result / "dicom"):
        with pytest.raises(ReadError):
            check_objects(place)


def test_an_outline_that_is_a_bomb_is_refused(result):
    name = "0" * 64
    row = {"sha256": name, "tracking_uid": "2.25.1", "corner": [0, 0, 0]}
    edit(result / "review.json", lambda r: r["outlines"].append(row))
    (result / "review_edits").mkdir()
    image = nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4))
    image.header["dim"][1:4] = (32_000, 32_000, 32_000)
    with (result / "review_edits" / f"{name}.nii").open("wb") as stream:
        stream.write(image.header.binaryblock + bytes(8))
    import gzip

    raw = (result / "review_edits" / f"{name}.nii").read_bytes()
    (result / "review_edits" / f"{name}.nii.gz").write_bytes(gzip.compress(raw))
    with pytest.raises(ReadError):
        store.load(result)
