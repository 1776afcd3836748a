"""A quick look at the names, before anything is registered."""

from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.names_before import exchanged_as_read

T1, T1C, T2, FLAIR = MrSequence


def test_exchanged_names_are_found_as_read_and_right_ones_are_not_accused():
    scans = {s: (v.data, v.grid) for s, v in make_patient(spacing_mm=4.0).sequences.items()}
    assert exchanged_as_read(scans) is None
    assert exchanged_as_read({T2: scans[T2]}) is None
    found = exchanged_as_read({**scans, T2: scans[FLAIR], FLAIR: scans[T2]})
    assert found is not None
    assert found.pair == (T2, FLAIR)
