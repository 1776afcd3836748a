"""Heads with half as many slices, as most of the time of these tests is input and output."""

import pytest
from tests.conftest import SyntheticPatient, make_patient


@pytest.fixture(scope="session")
def patient() -> SyntheticPatient:
    """A head at 8 mm with one lesion on the patient's left."""
    return make_patient(spacing_mm=8.0)


@pytest.fixture(scope="session")
def fine_patient() -> SyntheticPatient:
    """A head at 4 mm, for tests of positions."""
    return make_patient(spacing_mm=4.0)
