"""What was said survives the program, the power and a damaged file."""

import errno
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import ReadError, ResourceError
from lesionlens.base.labels import ReviewState
from lesionlens.base.records.review import Outline, Review
from lesionlens.results.review import store
from lesionlens.results.review.log import ReviewLog
from lesionlens.testing import make_patient


@pytest.fixture(scope="module")
def analysis(tmp_path_factory):
    patient = make_patient(spacing_mm=4.0)
    study = write_study(patient, tmp_path_factory.mktemp("study"))
    plain = make_analysis(patient, study)
    log = ReviewLog()
    uid = plain.findings.candidates[0].tracking_uid
    log.decide(uid, ReviewState.ACCEPTED, reader="Ä. Reader", reason="ring\n=1+1 <b>")
    log.decide(uid, ReviewState.REJECTED)
    log.undo()
    return replace(plain, review=log.review)


def test_a_review_reads_back_as_it_was(analysis, tmp_path):
    store.save(analysis, tmp_path)
    assert store.load(tmp_path) == analysis.review
    content = json.loads((tmp_path / "review.json").read_text())
    assert content["schema"] == "lesionlens/review/1"
    assert content["candidates"][0]["place"].startswith("left")


@pytest.fixture
def edited(analysis):
    candidate = analysis.findings.candidates[0]
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[1, 1:3, 2] = 3
    log = ReviewLog(analysis.review)
    outline = Outline(candidate.tracking_uid, (2, 0, 7), labels)
    log.decide(candidate.tracking_uid, ReviewState.EDITED, outline=outline)
    return replace(analysis, review=log.review)


def test_an_outline_reads_back_voxel_for_voxel_and_lies_in_the_patient(edited, tmp_path):
    store.save(edited, tmp_path)
    again = store.load(tmp_path)
    assert again == edited.review
    (outline,) = edited.review.outlines.values()
    image = nib.load(tmp_path / "review_edits" / f"{outline.sha256}.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj), outline.labels)
    native = edited.volumes.labels.grid
    np.testing.assert_allclose(
        image.affine @ [1, 2, 2, 1], [*native.to_mm((3, 2, 9)), 1], atol=1e-4
    )


def test_a_damaged_or_missing_outline_is_named_not_swallowed(edited, tmp_path):
    store.save(edited, tmp_path)
    (outline,) = (tmp_path / "review_edits").iterdir()
    whole = outline.read_bytes()
    outline.write_bytes(whole[:-20])
    with pytest.raises(ReadError, match=r"\.nii\.gz"):
        store.load(tmp_path)
    outline.unlink()
    with pytest.raises(ReadError, match=r"\.nii\.gz"):
        store.load(tmp_path)


def test_another_outline_under_the_name_of_a_digest_is_refused(edited, tmp_path):
    store.save(edited, tmp_path)
    (outline,) = (tmp_path / "review_edits").iterdir()
    image = nib.load(outline)
    labels = np.asarray(image.dataobj)
    for other in (np.roll(labels, 1), labels.astype(np.float32), labels[0]):
        nib.save(nib.Nifti1Image(np.array(other), image.affine), outline)
        with pytest.raises(ReadError, match=r"\.nii\.gz"):
            store.load(tmp_path)


def test_a_response_that_cannot_be_written_leaves_the_earlier_review(
    analysis, tmp_path, monkeypatch
):
    store.save(analysis, tmp_path)
    before = (tmp_path / "review.json").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store, "write_atomically", full)
    with pytest.raises(ResourceError, match="No space left"):
        store.change_response(tmp_path, lambda _: None)
    assert (tmp_path / "review.json").read_bytes() == before


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_a_review_that_the_system_does_not_read_is_not_to_be_moved_away(
    analysis, tmp_path, monkeypatch, number
):
    """The advice would have lost the decisions, which are read again once the share is back."""
    store.save(analysis, tmp_path)

    def refuse(path, _):
        raise OSError(number, "Input/output error", str(path))

    monkeypatch.setattr(store, "read_model", refuse)
    with pytest.raises(ReadError, match=r"review\.json") as refusal:
        store.load(tmp_path)
    assert "Move" not in refusal.value.next_step


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", '{"schema": "other/1"}', "\udcff"])
def test_a_damaged_review_is_named_not_swallowed(tmp_path, text):
    (tmp_path / "review.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    if text == "\udcff":
        (tmp_path / "review.json").write_bytes(b"\xff\xfe{")
    found = "of another version" if "schema" in text else "that cannot be read"
    with pytest.raises(ReadError, match=rf"review\.json {found}"):
        store.load(tmp_path)


def test_a_write_that_fails_leaves_the_earlier_one(analysis, tmp_path, monkeypatch):
    store.save(analysis, tmp_path)
    before = (tmp_path / "review.json").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ResourceError, match="space"):
        store.save(replace(analysis, review=Review()), tmp_path)
    assert (tmp_path / "review.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["review.json"]


def test_what_only_a_log_has_is_not_in_the_file_that_travels(analysis, tmp_path):
    (first, *rest) = analysis.review.events
    rated = replace(first, confidence=80, seconds=4.5, at_mm=(1.0, 2.0, 3.0))
    store.save(replace(analysis, review=replace(analysis.review, events=(rated, *rest))), tmp_path)
    assert store.load(tmp_path) == analysis.review
    assert "confidence" not in (tmp_path / "review.json").read_text()
