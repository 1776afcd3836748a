"""A quick look at the names, before anything is registered."""

import tracemalloc
from itertools import combinations
from pathlib import Path

import numpy as np

from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.brain_extraction import reading_grid
from lesionlens.imaging.preparation.checks.early_name_check import swapped_before_registration
from lesionlens.imaging.reading.readers import open_study

T1, T1C, T2, FLAIR = MrSequence
SAMPLE = Path(__file__).parents[5] / "sample_data" / "study_dicom"


def test_swapped_names_are_found_as_read_and_right_ones_are_not_accused():
    scans = {s: (v.data, v.grid) for s, v in make_patient(spacing_mm=4.0).sequences.items()}
    assert swapped_before_registration(scans) == ()
    assert swapped_before_registration({T2: scans[T2]}) == ()
    found = swapped_before_registration({**scans, T2: scans[FLAIR], FLAIR: scans[T2]})
    assert found == (T2, FLAIR)


def test_swapped_names_of_heads_are_found_within_the_brain():
    scans = {s: (series.load(), series.grid) for s, series in open_study(SAMPLE).series.items()}
    assert swapped_before_registration(scans) == ()
    swapped = {**scans, T1C: scans[FLAIR], FLAIR: scans[T1C]}
    assert swapped_before_registration(swapped) == (T1C, FLAIR)


def test_one_scan_at_a_time_is_converted():
    study = make_patient(spacing_mm=2.0).sequences
    scans = {s: (v.data.astype(np.int16), v.grid) for s, v in study.items()}
    swapped_before_registration({s: scans[s] for s in (T1, T2)})  # what is loaded once
    peaks = []
    for there in ((T1, T2), (T1, T1C, T2, FLAIR)):
        tracemalloc.start()
        swapped_before_registration({s: scans[s] for s in there})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    coarse = np.prod(reading_grid(scans[T1][1]).shape) * 4
    assert peaks[1] - peaks[0] < 2 * (coarse + scans[T1][0].size)  # two more images, no more floats


def test_the_rim_of_stripped_scans_is_not_mixed_with_the_background():
    """Interpolated onto the coarse grid, it made T1, T1c and FLAIR look alike."""
    study = make_patient(spacing_mm=1.5).sequences
    scans = {s: (study[s].data, study[s].grid) for s in (T1, T1C, FLAIR)}
    assert swapped_before_registration(scans) == ()
    for one, other in combinations(scans, 2):
        swapped = {**scans, one: scans[other], other: scans[one]}
        assert swapped_before_registration(swapped) == (one, other)
