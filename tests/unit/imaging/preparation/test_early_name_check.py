"""A quick look at the names, before anything is registered."""

from lesionlens.base.labels import MrSequence
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation.early_name_check import exchanged_before_registration

T1, T1C, T2, FLAIR = MrSequence


def test_exchanged_names_are_found_as_read_and_right_ones_are_not_accused():
    scans = {s: (v.data, v.grid) for s, v in make_patient(spacing_mm=4.0).sequences.items()}
    assert exchanged_before_registration(scans) is None
    assert exchanged_before_registration({T2: scans[T2]}) is None
    found = exchanged_before_registration({**scans, T2: scans[FLAIR], FLAIR: scans[T2]})
    assert found == (T2, FLAIR)
