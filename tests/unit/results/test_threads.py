"""One engine in several threads, as a service or notebook uses it: no study gets another's part."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tests.phantoms.files import write_nifti

from lesionlens.base.errors import CancelledError
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    EngineInfo,
    PerturbedPrediction,
    Prediction,
)
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import in_turn
from lesionlens.imaging.reading.open import open_study
from lesionlens.results.lens import Lens
from lesionlens.testing import Lesion, make_patient

pytestmark = pytest.mark.usefixtures("coarse")
LESIONS = ((-28.0, 8.0, 26.0), (30.0, -20.0, 30.0), (-30.0, -30.0, 20.0))


class Caching:
    """Keeps its last study, as every engine of ours does, and takes its time."""

    info = EngineInfo("caching", "1", None)

    def __init__(self):
        self.last, self.mixed = None, 0

    def _bright(self):
        flair = self.last.channels[3]
        bright = flair > np.percentile(flair[self.last.brain], 98)
        return np.where(bright & self.last.brain, 0.9, 0.05).astype(np.float32)

    def predict(self, prepared, *, context):
        self.last = prepared
        time.sleep(0.3)
        whole = self._bright()
        self.mixed += self.last is not prepared
        seen = PerturbedPrediction(whole[None], prepared.working)
        return Prediction(dict.fromkeys(Region, whole), self.info, unperturbed=seen)

    def predict_subsets(self, prepared, inputs, *, context):
        self.last = prepared
        time.sleep(0.05)
        self.mixed += self.last is not prepared
        return PerturbedPrediction(np.stack([self._bright()] * len(inputs)), prepared.working)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """One head with a lesion at three positions: the arrays have the same shape."""
    place = tmp_path_factory.mktemp("heads")
    for number, at in enumerate(LESIONS):
        head = make_patient(5, spacing_mm=4.0, lesions=(Lesion(at, 18.0),))
        write_nifti(head, place / str(number))
    return [open_study(place / str(number)) for number in range(len(LESIONS))]


def test_studies_at_the_same_time_are_analysed_one_after_the_other(studies):
    """The evidence by sequence of one was that of the other, now and then, without a word."""
    engine = Caching()
    lens = Lens(engine=engine)
    with ThreadPoolExecutor(len(studies)) as threads:
        together = list(threads.map(lens, studies))
    assert not engine.mixed
    for result, study in zip(together, studies, strict=True):
        alone = Lens(engine=Caching())(study)
        assert result.candidates == alone.candidates
        np.testing.assert_array_equal(result.labels.data, alone.labels.data)


def test_who_waits_can_stop(studies):
    engine, stopped = Caching(), threading.Event()
    with in_turn(SILENT):
        wait = ThreadPoolExecutor(1).submit(
            Lens(engine=engine), studies[0], context=RunContext(cancel=stopped)
        )
        time.sleep(0.5)
        assert not wait.done()
        stopped.set()
        with pytest.raises(CancelledError):
            wait.result(timeout=60)
    assert engine.last is None
