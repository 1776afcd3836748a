"""Where a result goes, never in place of another study's, and what is printed of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import DrawingMethod, MrSequence, Region
from lesionlens.base.records.review import Outline
from lesionlens.base.run_context import SILENT
from lesionlens.cli import options
from lesionlens.cli.analyze import summary
from lesionlens.cli.review import _candidate_lines
from lesionlens.engines.testing.simple import make_patient
from lesionlens.results.review.log import ReviewLog


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


@pytest.mark.parametrize("enhancing", [True, False])
def test_a_printed_size_names_the_part_that_was_measured(tmp_path, enhancing):
    """Beside the volume of the whole, the diameters of the enhancing part looked like its own."""
    head = make_patient(5, spacing_mm=8.0)
    analysis = make_analysis(head, write_study(head, tmp_path, sequences=(MrSequence.T1C,)))
    candidates = tuple(
        replace(c, volume_ml=c.volume_ml | ({} if enhancing else {Region.ET: 0.0}))
        for c in analysis.findings.candidates
    )
    analysis = replace(analysis, findings=replace(analysis.findings, candidates=candidates))
    assert {c.has_enhancing for c in candidates} == {enhancing}
    console = Console(width=80)
    with console.capture() as shown:
        console.print(summary(analysis.findings, tmp_path)[1])
    long, short = candidates[0].longest_axial_diameter_mm, candidates[0].perpendicular_diameter_mm
    size = f"{long:.0f} × {short:.0f}"
    assert f"{size} {'enh.' if enhancing else 'whole'}" in shown.get()
    assert f", {candidates[0].measured} {size} mm" in _candidate_lines(analysis)[1]
