"""A small analysed head with two candidates, for tests of the window and of its model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.geometry import Vec3
from lesionlens.base.labels import Region
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import Capability, Trace
from lesionlens.base.records.preliminary import PreliminaryCandidate, PreliminaryFindings
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.run_context import RunContext
from lesionlens.engines.testing.simple import Lesion, SyntheticPatient, make_patient

LEFT: Vec3 = (-28.0, 8.0, 26.0)
RIGHT: Vec3 = (34.0, -40.0, 30.0)


@pytest.fixture(scope="session")
def head() -> SyntheticPatient:
    """A head at 4 mm with a large lesion on the left and a small one on the right."""
    return make_patient(5, spacing_mm=4.0, lesions=(Lesion(LEFT, 18.0), Lesion(RIGHT, 10.0)))


@pytest.fixture(scope="session")
def analysis(head: SyntheticPatient, tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """The head's truth as an analysis: two candidates, uncertainty, a probe-able engine."""
    study = write_study(head, tmp_path_factory.mktemp("gui") / "head")
    made = make_analysis(head, study)
    doubt = Volume(np.full(made.prepared.native.shape, 0.1, np.float32), made.prepared.native)
    asked = {Capability.PROBE, Capability.PERTURB}
    engine = replace(made.run.engine, capabilities=made.run.engine.capabilities | asked)
    return replace(
        made,
        volumes=replace(made.volumes, uncertainty=doubt),
        run=replace(made.run, engine=engine),
    )


def without_right(analysis: Analysis) -> Analysis:
    """Return the analysis as of a network that missed the lesion on the right."""
    left, right = analysis.findings.candidates
    gone = analysis.findings.components == right.id

    def without(volume: Volume) -> Volume:
        return Volume(np.where(gone, 0, volume.data).astype(volume.data.dtype), volume.grid)

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
            components=np.where(gone, 0, analysis.findings.components).astype(np.int32),
            conclusion="1 candidate region",
        ),
    )


@dataclass
class FakeResult:
    """What Lens returns, as far as the window needs it."""

    analysis: Analysis

    @property
    def engine(self) -> Any:
        """Gradients find the lesion on the right."""
        grid = self.analysis.prepared.working
        weights = np.zeros(grid.shape, np.float32)
        weights[tuple(np.rint(grid.to_voxel(RIGHT)).astype(int))] = 1.0
        return SimpleNamespace(attribute=lambda prepared, target, method: Volume(weights, grid))

    def answer_prompts(self, question: PromptRequest) -> PromptResponse:
        """Answer a ball of 20 mm round the newest prompt, in it or out of it, and obey them all."""
        grid = self.analysis.prepared.working
        belongs = question.outline is None or not len(question.background)
        newest = (question.foreground if belongs else question.background)[-1]
        far = np.indices(grid.shape) - newest[:, None, None, None]
        ball = np.sqrt(((far.T * grid.spacing_mm) ** 2).sum(-1)).T <= 10
        outline = np.zeros(grid.shape, bool) if question.outline is None else question.outline
        whole = tuple(slice(0, n) for n in grid.shape)
        chance, settled = np.where(ball, float(belongs), outline).astype(np.float32), ~ball
        for points, value in ((question.foreground, 1.0), (question.background, 0.0)):
            chance[tuple(points.T)], settled[tuple(points.T)] = value, False
        nowhere = np.zeros(grid.shape, np.float32)
        return PromptResponse(whole, chance, nowhere, settled, "a stand-in")

    @property
    def trace(self) -> Trace:
        """Two looks: the first of two heads, where the second head sees the right lesion only."""
        prepared = self.analysis.prepared

        def layer_choice(region: Region, layer: int, head: int | None) -> Any:
            place = np.rint(prepared.working.to_voxel(RIGHT if head == 1 else LEFT)).astype(int)
            weights = np.zeros(prepared.working.shape, np.float32)
            weights[tuple(place)] = 1.0
            return weights

        def row(place: tuple[int, int, int]) -> Any:
            """Answer with a bright voxel where it was asked, and one in each lesion."""
            weights = np.zeros(prepared.working.shape, np.float32)
            for lesion in (LEFT, RIGHT):
                weights[tuple(np.rint(prepared.working.to_voxel(lesion)).astype(int))] = 0.5
            weights[place] = 1.0
            return weights

        return Trace(
            {},
            "a test",
            (),
            row,
            attention_layers=(("coarse", 2), ("fine", 1)),
            layer_attention=layer_choice,
        )

    def what_if(self, candidate: int, *, context: RunContext) -> Any:
        """Report what the real one would."""
        return SimpleNamespace(text=f"Without candidate {candidate} its score falls.")


@pytest.fixture
def result(analysis: Analysis) -> FakeResult:
    """The analysis as a result."""
    return FakeResult(analysis)


@pytest.fixture
def first(analysis: Analysis) -> PreliminaryFindings:
    """One region of a first pass, a box round the left lesion."""
    side = 10.0
    grid = analysis.prepared.native
    at = grid.to_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    inside = (np.abs(at - LEFT) <= side).all(axis=-1)
    low, high = (tuple(np.add(LEFT, sign * side).tolist()) for sign in (-1, 1))
    one = PreliminaryCandidate(1, 0.9, 8.0, LEFT, (low, high))
    return PreliminaryFindings((one,), inside.astype(np.int32), grid)
