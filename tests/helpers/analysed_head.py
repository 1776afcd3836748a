"""A small analysed head with two candidates, for tests of the window and of its model."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.geometry import Vec3
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.findings import PreliminaryCandidate, PreliminaryFindings
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.testing import Lesion, SyntheticPatient, make_patient

LEFT: Vec3 = (-28.0, 8.0, 26.0)
RIGHT: Vec3 = (34.0, -40.0, 30.0)


@pytest.fixture(scope="session")
def head() -> SyntheticPatient:
    """A head at 4 mm with a large lesion on the left and a small one on the right."""
    return make_patient(5, spacing_mm=4.0, lesions=(Lesion(LEFT, 18.0), Lesion(RIGHT, 10.0)))


@pytest.fixture(scope="session")
def analysis(head: SyntheticPatient, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """The analysis of a perfect engine: two candidates, uncertainty, probes, perturbations."""
    study = write_study(head, tmp_path_factory.mktemp("gui") / "head")
    made = make_analysis(head, study)
    uncertainty = Volume(np.full(made.prepared.native.shape, 0.1, np.float32), made.prepared.native)
    return replace(made, volumes=replace(made.volumes, uncertainty=uncertainty))


def without_right(analysis: Analysis) -> Analysis:
    """Return the analysis of an engine that missed the lesion on the right."""
    left, right = analysis.findings.candidates
    removed = analysis.findings.components == right.id

    def without(volume: Volume) -> Volume:
        return Volume(np.where(removed, 0, volume.data).astype(volume.data.dtype), volume.grid)

    volumes = analysis.volumes
    return replace(
        analysis,
        volumes=replace(
            volumes,
            labels=without(volumes.labels),
            probability={r: without(v) for r, v in volumes.probability.items()},
        ),
        findings=replace(
            analysis.findings,
            candidates=(left,),
            components=np.where(removed, 0, analysis.findings.components).astype(np.int32),
            conclusion="1 candidate region",
        ),
    )


@dataclass
class FakeResult:
    """A stand-in for `Result`, with the parts that the window uses."""

    analysis: Analysis

    trace = engine = None
    can_explain = False

    def answer_prompts(self, question: PromptRequest) -> PromptResponse:
        """Return a ball of 20 mm around the latest prompt, added or removed; all prompts hold."""
        grid = self.analysis.prepared.working
        is_foreground = question.outline is None or not len(question.background)
        newest = (question.foreground if is_foreground else question.background)[-1]
        offset = np.indices(grid.shape) - newest[:, None, None, None]
        ball = np.sqrt(((offset.T * grid.spacing_mm) ** 2).sum(-1)).T <= 10
        outline = np.zeros(grid.shape, bool) if question.outline is None else question.outline
        box = tuple(slice(0, n) for n in grid.shape)
        probability, settled = (
            np.where(ball, float(is_foreground), outline).astype(np.float32),
            ~ball,
        )
        for points, value in ((question.foreground, 1.0), (question.background, 0.0)):
            probability[tuple(points.T)], settled[tuple(points.T)] = value, False
        no_attention = np.zeros(grid.shape, np.float32)
        return PromptResponse(box, probability, no_attention, settled, "a stand-in")


@pytest.fixture
def result(analysis: Analysis) -> FakeResult:
    """The analysis as a result."""
    return FakeResult(analysis)


@pytest.fixture
def first(analysis: Analysis) -> PreliminaryFindings:
    """The findings of a first pass: a box around the left lesion."""
    half_edge = 10.0
    grid = analysis.prepared.native
    positions_mm = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    inside = (np.abs(positions_mm - LEFT) <= half_edge).all(axis=-1)
    low, high = (tuple(np.add(LEFT, sign * half_edge).tolist()) for sign in (-1, 1))
    one = PreliminaryCandidate(1, 0.9, 8.0, LEFT, (low, high))
    return PreliminaryFindings((one,), inside.astype(np.int32), grid)
