"""Perturbed predictions of an engine within a time limit."""

from __future__ import annotations

from collections.abc import Sequence

from lesionlens.base.records.prediction import (
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    QuestionTime,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext, TimeLimit
from lesionlens.engines.engine import predict_subsets

NO_LIMIT = QuestionTime()


class PerturbationRunner:
    """Requests perturbed predictions about one study, and records those skipped for lack of time.

    The time limit is that of all requests, from the first one on.
    """

    def __init__(
        self,
        engine: object,
        prepared: PreparedStudy,
        time: QuestionTime = NO_LIMIT,
        context: RunContext = SILENT,
    ) -> None:
        self.prepared = prepared
        self._engine, self._context, self._time = engine, context, time
        self._limit: TimeLimit | None = None
        self._skipped: list[str] = []

    @property
    def skipped(self) -> tuple[str, ...]:
        """Descriptions of the requests skipped for lack of time, in order."""
        return tuple(self._skipped)

    def predict(
        self, purpose: str, perturbations: Sequence[InputPerturbation]
    ) -> PerturbedPrediction | None:
        """Return predictions for perturbations of the study, if the remaining time suffices.

        Parameters
        ----------
        purpose : str
            Purpose of the predictions, for the notice if there is no time.

        Returns
        -------
        PerturbedPrediction or None
            None if too little time is left.

        Raises
        ------
        CancelledError
            The user asked to stop.
        """
        if self._limit is None:
            self._limit = TimeLimit(self._time.seconds, self._context)
        needed_s = len(perturbations) * self._time.seconds_per_pass
        if needed_s <= self._limit.seconds_left:
            with self._limit:
                return predict_subsets(
                    self._engine, self.prepared, perturbations, context=self._limit.context
                )
        if purpose not in self._skipped:
            self._skipped.append(purpose)
        return None


def perturbation_runner(
    engine: object, prepared: PreparedStudy, prediction: Prediction, context: RunContext
) -> PerturbationRunner | None:
    """Return the runner of an engine's perturbed predictions; None if it makes none."""
    if prediction.unperturbed is None or not hasattr(engine, "predict_subsets"):
        return None
    return PerturbationRunner(engine, prepared, prediction.question_time, context)
