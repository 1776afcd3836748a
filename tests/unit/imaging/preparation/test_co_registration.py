"""A registration is doubted by limits that fit the pair: of two heads, or of a head and a brain."""

import numpy as np
import pytest

from lesionlens.base.labels import MrSequence
from lesionlens.base.records.study import Series, Study, StudyKind
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import make_patient
from lesionlens.imaging.preparation import co_registration
from lesionlens.imaging.preparation.prepare import PrepareOptions, prepare
from lesionlens.imaging.preparation.registration import Registration

T1C, FLAIR = MrSequence.T1C, MrSequence.FLAIR
OPTIONS = PrepareOptions(edge_mm=4.0, strip=False, sides=False, cache=False)


@pytest.fixture(scope="module")
def head():
    """Return a head with scalp, and air that is no constant."""
    patient = make_patient(spacing_mm=4.0, skull=True)
    air = np.abs(np.random.default_rng(0).normal(0, 20, patient.brain.data.shape))
    images = {s: (patient.sequences[s].data + air).astype(np.float32) for s in (T1C, FLAIR)}
    return images, patient.brain


@pytest.mark.parametrize("stripped", [(), (T1C,), (FLAIR,)])
@pytest.mark.parametrize("pronounced", [0.08, 0.15, 0.3])
def test_one_stripped_sequence_is_not_of_another_patient(head, monkeypatch, stripped, pronounced):
    images, brain = head
    found = Registration(np.eye(4), 0.0, 0.0, 0.4, pronounced)
    monkeypatch.setattr(co_registration, "register", lambda *_, **__: found)
    series = {}
    for sequence, image in images.items():
        values = np.where(brain.data, image, np.float32(0)) if sequence in stripped else image
        name = f"{sequence}.nii.gz"
        series[sequence] = Series(sequence, "x", 1.0, brain.grid, (), lambda v=values: v, name)
    study = Study("x", StudyKind.NIFTI, series, root=None)
    prepared = prepare(study, RunContext(), OPTIONS)
    doubtful = pronounced < (0.125 if stripped else 0.2)
    assert any("different patients" in notice for notice in prepared.notices) is doubtful
    checks = {check.check: check for check in prepared.quality}
    assert checks["registration"].passed is not doubtful
