"""Where a result of a BIDS dataset goes: never in place of another study's."""

from dataclasses import replace

import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.labels import MrSequence
from lesionlens.base.run_context import SILENT
from lesionlens.cli import options
from lesionlens.engines.testing.simple import make_patient


def test_a_study_of_the_same_folder_name_does_not_replace_anothers_result(tmp_path):
    """Of two patients whose folders were both called `study`, the first was lost without a word."""
    head = make_patient(5, spacing_mm=8.0)
    study = write_study(head, tmp_path / "study", sequences=(MrSequence.T1C,))
    first = make_analysis(head, study)
    bids = options.ResultLayout.BIDS
    first = replace(first, run=replace(first.run, inputs=(("t1c.nii.gz", "11"),)))
    other = replace(first, run=replace(first.run, inputs=(("t1c.nii.gz", "22"),)))
    place, _ = options.save(first, tmp_path / "out", bids, SILENT)
    before = (place / "run.json").read_bytes()
    with pytest.raises(UnusableInputError, match="result of another study named 'study'"):
        options.save(other, tmp_path / "out", bids, SILENT)
    assert (place / "run.json").read_bytes() == before
    assert options.save(first, tmp_path / "out", bids, SILENT)[0] == place
