"""Where a result goes, never in place of another study's, and what is printed of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import DrawingMethod, MrSequence
from lesionlens.base.records.review import Outline
from lesionlens.base.run_context import SILENT
from lesionlens.cli import options
from lesionlens.cli.analyze import summary
from lesionlens.results.review.log import ReviewLog
from lesionlens.testing import make_patient


def test_a_study_of_the_same_folder_name_does_not_replace_anothers_result(tmp_path):
    """Of two patients whose folders were both called `study`, the first was lost without a word."""
    head = make_patient(5, spacing_mm=8.0)
    study = write_study(head, tmp_path / "study", sequences=(MrSequence.T1C,))
    first = make_analysis(head, study)
    bids = options.ResultLayout.BIDS
    first = replace(first, run=replace(first.run, inputs=(("t1c.nii.gz", "11"),)))
    other = replace(first, run=replace(first.run, inputs=(("t1c.nii.gz", "22"),)))
    place, _, _ = options.save(first, tmp_path / "out", bids, SILENT)
    before = (place / "run.json").read_bytes()
    with pytest.raises(UnusableInputError, match="result of another study named 'study'"):
        options.save(other, tmp_path / "out", bids, SILENT)
    assert (place / "run.json").read_bytes() == before
    assert options.save(first, tmp_path / "out", bids, SILENT)[0] == place


@pytest.mark.parametrize("layout", options.ResultLayout)
def test_what_is_printed_is_what_was_written_with_a_review_that_goes_on(tmp_path, layout):
    """Analysed again, a result with an added lesion was printed as the network's one candidate."""
    head = make_patient(5, spacing_mm=8.0)
    study = write_study(head, tmp_path / "study", sequences=(MrSequence.T1C,))
    fresh = make_analysis(head, study)
    log = ReviewLog()
    one = Outline("2.25.77", (1, 1, 1), np.full((2, 2, 2), 2, np.uint8))
    log.add(one, DrawingMethod.MANUAL, reader="A. Reader")
    reviewed = replace(fresh, review=log.review)
    options.save(reviewed, tmp_path / "out", layout, SILENT)
    place, written, _ = options.save(fresh, tmp_path / "out", layout, SILENT)
    said = json.loads((place / "findings.json").read_text())["conclusion"]
    assert said.endswith("; added by a reader: 1")
    assert summary(written.findings, place)[0] == said.capitalize()
    assert len(written.findings.candidates) == len(fresh.findings.candidates) + 1
