"""A LesionLens server on a local socket, and a fast engine for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    PerturbedPrediction,
    Prediction,
    Trace,
)
from lesionlens.base.run_context import RunContext
from lesionlens.site.serving.admission import Admission
from lesionlens.site.serving.app import make_app
from lesionlens.site.serving.listen import BoundAddress, listen
from lesionlens.site.serving.sessions import Limits, Sessions


class Server:
    """A server in threads of this process."""

    def __init__(
        self,
        models: Mapping[str, Any],
        limits: Limits,
        keys: tuple[str, ...],
        where: BoundAddress,
        datastore: Path | None,
    ) -> None:
        self.sessions = Sessions(models, limits)
        self._stop, self._open = threading.Event(), threading.Event()
        self.app = app = make_app(self.sessions, Admission(keys, where.hosts), datastore)

        def report(address: str) -> None:
            self.url = address
            self._open.set()

        self._thread = threading.Thread(
            target=listen, args=(app, where, report, RunContext(cancel=self._stop))
        )
        self._thread.start()
        assert self._open.wait(20)

    def stop(self) -> None:
        """Stop the server and wait for its thread."""
        self._stop.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def serving(
    models: Mapping[str, Any],
    limits: Limits | None = None,
    keys: tuple[str, ...] = (),
    where: BoundAddress | None = None,
    datastore: Path | None = None,
) -> Iterator[Server]:
    """Serve models at a free port during the block; yield the server."""
    server = Server(models, limits or Limits(), keys, where or BoundAddress(port=0), datastore)
    try:
        yield server
    finally:
        server.stop()


STEP = 3


def coarse(values: Any) -> Any:
    """Return every third voxel along each axis."""
    return values[::STEP, ::STEP, ::STEP]


class QuickEngine:
    """A fast engine with all capabilities, whose probability is the intensity of FLAIR."""

    def __init__(
        self,
        hold: threading.Event | None = None,
        can: frozenset[Capability] = frozenset(Capability),
    ) -> None:
        self.hold, self.can = hold, can
        self.forgot = 0
        self.order: list[int] = []

    @property
    def info(self) -> EngineInfo:
        """The engine's identity and capabilities."""
        return EngineInfo("quick", "1", "ab" * 32, self.can, "cpu")

    def forget(self) -> None:
        """Count the calls."""
        self.forgot += 1

    def _brightness(self, prepared: Any) -> Any:
        flair = prepared.channels[3] * prepared.brain
        return (flair / max(float(flair.max()), 1.0)).astype(np.float32)

    def predict(self, prepared: Any, *, context: RunContext) -> Prediction:
        """Predict the intensity of FLAIR; wait for `hold` first."""
        context.progress("looking", 0.0)
        self.order.append(int(prepared.channels.sum(dtype=np.float64)))
        while self.hold is not None and not self.hold.wait(0.01):
            context.check("looking")
        context.check("looking")
        brightness = self._brightness(prepared)
        context.progress("looking", 1.0)
        probability = dict.fromkeys(Region, brightness * (brightness > 0.8))
        if self.can == {Capability.SEGMENT}:
            return Prediction(probability, self.info)
        weights = {
            r: brightness / max(float(brightness.sum(dtype=np.float64)), 1e-12) for r in Region
        }
        trace = Trace(
            weights,
            "brightness",
            ("one",),
            lambda voxel: (brightness * (1 + voxel[0])).astype(np.float32),
            (("one", 2),),
            lambda region, layer, head: (brightness * (head or 0)).astype(np.float32),
        )
        return Prediction(
            probability=probability,
            engine=self.info,
            trace=trace,
            unperturbed=PerturbedPrediction(
                coarse(brightness)[None], self.perturbation_grid(prepared)
            ),
        )

    def perturbation_grid(self, prepared: Any) -> Grid:
        """Return every third voxel of the working grid, as a grid."""
        affine = prepared.working.affine.copy()
        affine[:3, :3] *= STEP
        shape = coarse(prepared.brain).shape
        return Grid(shape, affine)

    def predict_perturbed(
        self, prepared: Any, variants: Any, *, context: RunContext
    ) -> PerturbedPrediction:
        """Predict without FLAIR or with hidden voxels."""
        context.check("looking again")
        context.progress("looking again", 1.0)
        brightness = coarse(self._brightness(prepared))
        probabilities = [
            brightness
            * perturbation.keep[3]
            * (1 if perturbation.hidden is None else ~perturbation.hidden)
            for perturbation in variants
        ]
        return PerturbedPrediction(
            np.stack(probabilities).astype(np.float32),
            self.perturbation_grid(prepared),
            thresholds=tuple(0.5 if perturbation.keep[3] else 0.8 for perturbation in variants),
        )

    def attribute(self, prepared: Any, target: Any, method: str) -> Any:
        """Refuse every method."""
        from lesionlens.base.errors import UnusableInputError

        raise UnusableInputError(
            found=f"the attribution method {method!r}", expected="none", next_step="Ask another"
        )


def becomes_true(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    """Return whether a condition becomes true within some seconds."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())
