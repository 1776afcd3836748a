"""Two whole results, the sample patient (NIfTI) and the synthetic head (DICOM), as they were.

`make golden` renews the stored summaries and prints what changed: read it before committing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.command import digests, lesionlens_process
from tests.golden.summary import differences, outlines_of, summary_of

HERE = Path(__file__).parent
SAMPLES = HERE.parents[1] / "sample_data"
STUDIES = ("study", "study_dicom")


def analysed(study: str, out: Path) -> Path:
    """Analyse a sample with the shipped network, as a user does."""
    before = digests(SAMPLES)
    ended = lesionlens_process("analyze", SAMPLES / study, "--out", out, timeout=900)
    assert ended.status == 0, ended.stderr
    assert digests(SAMPLES) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    return out


def stored(study: str) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the stored summary and outlines of a sample."""
    text = (HERE / f"{study}.json").read_text("utf-8")
    with np.load(HERE / f"{study}.npz") as outlines:
        return json.loads(text), dict(outlines)


def renew(study: str, folder: Path) -> None:
    """Store what a result is now."""
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in summary_of(folder).items()]
    text = "{" + ",\n".join(lines) + "}\n"
    (HERE / f"{study}.json").write_text(text, encoding="utf-8")
    np.savez_compressed(HERE / f"{study}.npz", **outlines_of(folder))


@pytest.fixture(scope="module", params=STUDIES)
def result(request, tmp_path_factory) -> tuple[str, Path]:
    return request.param, analysed(request.param, tmp_path_factory.mktemp("golden") / "out")


def test_a_sample_gives_the_result_that_it_gave(result):
    study, folder = result
    summary, outlines = stored(study)
    changed = differences(summary, summary_of(folder), outlines, outlines_of(folder))
    assert not changed, "\n".join([*changed, "If this is wanted: make golden"])


def test_the_tumour_is_found_where_it_is(result):
    """Against the reference, which nobody renews."""
    study, folder = result
    found = nib.load(folder / "segmentation.nii.gz")
    reference = nib.load(SAMPLES / f"{study}_reference" / "segmentation.nii.gz")
    assert found.shape == reference.shape
    np.testing.assert_allclose(found.affine, reference.affine, atol=2e-3)
    ours, theirs = np.asarray(found.dataobj) > 0, np.asarray(reference.dataobj) > 0
    assert 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum()) > 0.6
    first = json.loads((folder / "findings.json").read_text("utf-8"))["candidates"][0]
    centre = nib.affines.apply_affine(reference.affine, np.argwhere(theirs).mean(axis=0))
    midline = nib.affines.apply_affine(reference.affine, np.array(theirs.shape) / 2)[0]
    assert first["location"]["side"] == ("left" if centre[0] < midline else "right")
    np.testing.assert_allclose(first["centroid_mm"], centre, atol=8)


def main() -> None:
    """Renew both, and print what changed."""
    for study in STUDIES:
        with tempfile.TemporaryDirectory() as place:
            folder = analysed(study, Path(place) / "out")
            now, outlines = summary_of(folder), outlines_of(folder)
            if (HERE / f"{study}.json").exists():
                was, before = stored(study)
                changed = differences(was, now, before, outlines)
                lines = [f"{study}: {line}" for line in changed or ["nothing changed"]]
                sys.stdout.write("\n".join(lines) + "\n")
            renew(study, folder)


if __name__ == "__main__":
    main()
