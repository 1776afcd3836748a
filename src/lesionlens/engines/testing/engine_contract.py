"""The contract of engines, as checks that the author of an engine runs.

In a test suite::

    @pytest.mark.parametrize("check", engine_contract.CHECKS, ids=engine_contract.name_of)
    def test_it_keeps_the_contract(check, trial):
        check(trial)

with `trial = engine_contract.Trial(MyEngine("cpu"))`, created once; or all at once by
`engine_contract.failures(MyEngine("cpu"))`. How well an engine finds tumours is not checked.
"""

from __future__ import annotations

import mmap
import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lesionlens.base import plugins
from lesionlens.base.errors import CancelledError, LesionLensError, UnusableInputError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.prediction import Capability, InputPerturbation, Prediction, Trace
from lesionlens.base.records.prompts import PromptRequest, PromptResponse
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines import plugin_engines
from lesionlens.engines.defects import defects_of_weights
from lesionlens.engines.engine import (
    Engine,
    SupportsFirstPass,
    SupportsForgetting,
    SupportsPerturbation,
    SupportsPrompts,
)
from lesionlens.engines.plugin_engines import engine_errors, validated
from lesionlens.engines.testing.heads import healthy_head, prepared_head
from lesionlens.engines.testing.simple import make_patient

SUBSETS = (("flair",), ("t1c",), ("t1", "t2"))
_CLOSE = 1e-5


class ContractBrokenError(AssertionError):
    """An engine breaks the contract; the message is the broken requirement."""


def _require(holds: bool, requirement: str) -> None:
    if not holds:
        _fail(requirement)


def _fail(requirement: str) -> NoReturn:
    raise ContractBrokenError(requirement)


@dataclass
class Trial:
    """One engine under test, with its cached prediction."""

    engine: Engine
    """Engine under test, ready to predict on its device."""
    patience_s: float = 10.0
    """Seconds within which the engine must stop after a cancellation."""
    growth_mib: float = 64.0
    """MiB by which the process may grow from the second to the fourth study."""
    study: PreparedStudy = field(default_factory=prepared_head)

    def predict(
        self, study: PreparedStudy | None = None, context: RunContext = SILENT
    ) -> Prediction:
        """Predict a study, which must not change."""
        study = study or self.study
        with engine_errors(self.engine, study, "when it predicted"):
            return self.engine.predict(study, context=context)

    @cached_property
    def prediction(self) -> Prediction:
        """The engine's prediction for `study`."""
        return self.predict()

    @property
    def can(self) -> frozenset[Capability]:
        """The capabilities that the engine declares."""
        return self.engine.info.capabilities


Check = Callable[[Trial], None]


def identity(trial: Trial) -> None:
    """Check that the engine has a name and a version, and that the prediction names it."""
    info = trial.engine.info
    _require(bool(info.name and info.version), "a name and a version")
    _require(bool(info.capabilities), "at least one capability")
    named = trial.prediction.engine
    _require(
        (named.name, named.version, named.weights_sha256)
        == (info.name, info.version, info.weights_sha256),
        "a prediction that names its engine, version and weights",
    )
    hexadecimal = info.weights_sha256 is None or re.fullmatch("[0-9a-f]{64}", info.weights_sha256)
    _require(bool(hexadecimal), "the weights' SHA-256 in 64 digits, or None")


def outputs(trial: Trial) -> None:
    """Check the probability of each region: float32, 0 to 1, nested, on the working grid."""
    validated(trial.engine, trial.prediction, trial.study)
    outer = np.ones(trial.study.working.shape, np.float32)
    _require(set(trial.prediction.probability) == set(Region), "a probability of each region")
    for region in Region:
        probability = trial.prediction.probability[region]
        _require(probability.shape == trial.study.working.shape, f"{region} on the working grid")
        _require(probability.dtype == np.float32, f"{region} as float32, not {probability.dtype}")
        _require(bool(np.isfinite(probability).all()), f"{region} without NaN or infinity")
        _require(
            bool(probability.min() >= 0 and (probability <= outer + 1e-6).all()),
            f"{region} nested, 0 to 1",
        )
        outer = probability


def positions(trial: Trial) -> None:
    """Check that probabilities are 0 outside the brain, and independent of the head's position."""
    for region, probability in trial.prediction.probability.items():
        _require(not probability[~trial.study.brain].any(), f"{region} zero outside the brain")
    shifted_affine = trial.study.working.affine.copy()
    shifted_affine[:3, 3] += (17.0, -31.0, 44.0)
    grid = Grid(trial.study.working.shape, shifted_affine)
    shifted = trial.predict(replace(trial.study, working=grid, native=grid))
    _same(shifted, trial.prediction, "the same prediction for a shifted head")
    _check_sides(trial)


def _check_sides(trial: Trial) -> None:
    """Check that a prediction changes where the images change, and not at a mirrored position."""
    lesion = make_patient(spacing_mm=4.0).labels.data > 0
    with_lesion, without = (
        trial.predict(head).probability[Region.WT] for head in (prepared_head(), healthy_head())
    )
    change = np.abs(with_lesion - without)
    for axis in range(3):
        mirrored = np.flip(lesion, axis) & ~lesion
        _require(
            float(change[mirrored].mean()) <= float(change[lesion].mean()) + _CLOSE,
            f"a prediction that changes where the images change, not mirrored along axis {axis}",
        )


def _same(prediction: Prediction, expected: Prediction, requirement: str) -> None:
    for region in Region:
        close = np.allclose(
            prediction.probability[region], expected.probability[region], atol=_CLOSE
        )
        _require(close, requirement)


def honesty(trial: Trial) -> None:
    """Check that the engine has exactly the capabilities that it declares."""
    trace = trial.prediction.trace
    _require(
        (trace is not None) == (Capability.ATTEND in trial.can),
        "a trace exactly if it declares `attend`",
    )
    perturbs = isinstance(trial.engine, SupportsPerturbation)
    _require(
        perturbs == (Capability.PERTURB in trial.can),
        "perturbation_grid and predict_perturbed exactly if it declares `perturb`",
    )
    prompts = isinstance(trial.engine, SupportsPrompts)
    _require(
        prompts == (Capability.PROMPT in trial.can),
        "answer_prompts exactly if it declares `prompt`",
    )
    if trace is None:
        _require(Capability.PROBE not in trial.can, "no `probe` without a trace")
        return
    _require(
        (trace.probe_row is not None) == (Capability.PROBE in trial.can),
        "probe_row exactly if it declares `probe`",
    )
    for region, weights in trace.cross.items():
        _require(weights.shape == trial.study.working.shape, f"{region}: attention on the grid")
        _require(bool(weights.min() >= 0), f"{region}: attention that is not negative")
        total = float(weights.sum(dtype=np.float64))
        _require(total == 0 or abs(total - 1) < 1e-3, f"{region}: attention with sum one")
    _check_traced(trial, trace)


def _check_traced(trial: Trial, trace: Trace) -> None:
    """Check the attention of one voxel, which is computed on request."""
    if trace.probe_row is None:
        return
    inside = np.argwhere(trial.study.brain)
    i, j, k = (int(index) for index in inside[len(inside) // 2])
    weights = plugin_engines.traced_weights(trace.probe_row, trial.study, (i, j, k))
    for defect, _ in defects_of_weights(weights, trial.study.working.shape):
        _fail(f"finite, non-negative weights on the grid for {(i, j, k)}, not {defect}")


def repeatable(trial: Trial) -> None:
    """Check that a study gives the same prediction again, after another one that gives its own.

    The head has a lesion: an engine that gives all voxels of both studies one value, even 0, fails.
    """
    study, first = trial.study, trial.prediction
    channels = np.where(study.brain, study.channels[:, ::-1, ::-1], 0).astype(np.float32)
    other = trial.predict(replace(study, channels=channels))
    if isinstance(trial.engine, SupportsForgetting):
        trial.engine.forget()
    _same(trial.predict(), first, "the same prediction for the same study")
    values = first.probability[Region.WT][study.brain]
    is_same = np.array_equal(other.probability[Region.WT][study.brain], values)
    if values.min() == values.max():
        _require(
            not is_same,
            f"a prediction that depends on the images, not {values[0]:g} everywhere in the brain",
        )
    _require(not is_same, "a prediction of its own for another study of the same shape")


def subsets(trial: Trial) -> None:
    """Check that a subset of sequences is predicted, or refused with an UnusableInputError."""
    for present in SUBSETS:
        study = prepared_head(present)
        try:
            prediction = trial.predict(study)
        except UnusableInputError:
            continue
        validated(trial.engine, prediction, study)
        _require(
            set(prediction.probability) == set(Region), f"each region from {', '.join(present)}"
        )


def cancelling(trial: Trial) -> None:
    """Check that a cancelled prediction is not started, or stops soon."""
    stop = threading.Event()
    stop.set()
    _require(
        _stopped(trial, RunContext(cancel=stop)), "CancelledError if cancelled before the start"
    )
    stop = threading.Event()
    report_times: list[float] = []

    def report(stage: str, fraction: float) -> None:
        del stage, fraction
        report_times.append(time.monotonic())
        stop.set()

    _stopped(trial, RunContext(report, stop))  # a nearly finished prediction may end normally
    _require(bool(report_times), "progress reports")
    delay_s = time.monotonic() - report_times[0]
    _require(delay_s < trial.patience_s, f"a stop within {trial.patience_s:g} s, not {delay_s:.1f}")


def _stopped(trial: Trial, context: RunContext) -> bool:
    try:
        trial.predict(context=context)
    except CancelledError:
        return True
    return False


def progress(trial: Trial) -> None:
    """Check that progress reports have the name of a stage and a fraction from 0 to 1."""
    reported: list[tuple[str, float]] = []
    trial.predict(context=RunContext(lambda stage, fraction: reported.append((stage, fraction))))
    _require(bool(reported), "progress reports")
    _require(
        all(stage and 0 <= value <= 1 for stage, value in reported),
        "stages with a name and a fraction from 0 to 1",
    )


def preliminary(trial: Trial) -> None:
    """Check that a first pass, if the engine has one, holds probabilities of one input."""
    if isinstance(trial.engine, SupportsFirstPass):
        plugin_engines.first_pass(trial.engine, trial.study, context=SILENT)


def perturbing(trial: Trial) -> None:
    """Check predictions of perturbed inputs: their grid, what was perturbed, and `unperturbed`."""
    engine = trial.engine
    if not isinstance(engine, SupportsPerturbation):
        return
    grid = engine.perturbation_grid(trial.study)
    occluded = InputPerturbation(hidden=np.ones(grid.shape, bool))
    perturbations = [
        InputPerturbation(),
        InputPerturbation(mirrored=True),
        InputPerturbation.showing(()),
        occluded,
        InputPerturbation.showing((MrSequence.FLAIR,)),
    ]
    probability = _perturbed(engine, trial.study, perturbations)
    _require(
        probability.shape == (len(perturbations), *grid.shape),
        "a prediction of each input on perturbation_grid",
    )
    first = trial.prediction.unperturbed
    _require(first is not None, "Prediction.unperturbed, from which scores are taken")
    if first is not None:
        close = np.allclose(probability[0], first.probability[0], atol=1e-4)
        _require(close, "unperturbed equal to the prediction of the unchanged input")
    if probability[0].min() < probability[0].max():
        for index, perturbation in ((2, "without any sequence"), (3, "with all voxels occluded")):
            differs = not np.array_equal(probability[index], probability[0])
            _require(differs, f"another prediction {perturbation}")
    _check_mirrored(trial, engine, probability[1])


def _perturbed(
    engine: SupportsPerturbation, study: PreparedStudy, perturbations: list[InputPerturbation]
) -> NDArray[np.float32]:
    return plugin_engines.predict_perturbed(
        engine, study, perturbations, context=SILENT
    ).probability


def _check_mirrored(
    trial: Trial, engine: SupportsPerturbation, mirrored: NDArray[np.float32]
) -> None:
    """Check a prediction of the mirrored input by that of a mirrored head, mirrored back."""
    study = trial.study
    head = replace(study, channels=study.channels[:, ::-1].copy(), brain=study.brain[::-1].copy())
    expected = _perturbed(engine, head, [InputPerturbation()])[0][::-1]
    if expected.shape == mirrored.shape:
        distance, other = (
            float(np.abs(one - expected).mean()) for one in (mirrored, mirrored[::-1])
        )
        _require(distance <= other, "a prediction of the mirrored input that is mirrored back")


def prompting(trial: Trial) -> None:
    """Check that prompts are binding and reproducible, and refused if contradictory."""
    if not isinstance(trial.engine, SupportsPrompts):
        return
    inside = np.argwhere(trial.study.brain)
    foreground, background = inside[len(inside) // 2][None], inside[len(inside) // 3][None]
    outline = np.zeros(trial.study.brain.shape, bool)
    outline[tuple(background[0])] = True
    request = PromptRequest(foreground, background, outline)
    probability = trial.prediction.probability
    response, repeated = (
        _prompted(trial.engine, trial.study, request, probability) for _ in range(2)
    )
    shape = trial.study.working.shape
    part = np.zeros(shape, bool)[response.box].shape
    for name, array in (("probability", response.probability), ("attention", response.attention)):
        _require(array.shape == part and array.dtype == np.float32, f"{name} in a box of the grid")
        _require(
            bool(np.isfinite(array).all() and array.min() >= 0), f"{name} that is not negative"
        )
    _require(float(response.probability.max()) <= 1, "a probability of at most 1")
    mask = response.mask_over(outline, shape)
    _require(bool(mask[tuple(foreground[0])]), "a foreground prompt inside the mask")
    _require(not mask[tuple(background[0])], "a background prompt outside the mask")
    _require(
        np.array_equal(response.probability, repeated.probability),
        "the same response to the same prompts",
    )
    is_allowed = (mask == outline)[response.box] | ~response.settled
    _require(bool(is_allowed.all()), "an unchanged outline in voxels that are settled")
    with suppress(UnusableInputError):  # a first click, before the study was analysed
        _prompted(trial.engine, trial.study, PromptRequest(foreground, background[:0]), None)
    try:
        _prompted(trial.engine, trial.study, PromptRequest(foreground, foreground), probability)
    except UnusableInputError:
        return
    _fail("an UnusableInputError if a voxel is both foreground and background")


def _prompted(
    engine: SupportsPrompts,
    study: PreparedStudy,
    request: PromptRequest,
    probability: Mapping[Region, NDArray[np.float32]] | None,
) -> PromptResponse:
    return plugin_engines.answer_prompts(engine, study, request, probability, context=SILENT)


def memory(trial: Trial) -> None:
    """Check that memory does not grow with the number of studies; on Linux only."""
    if not Path("/proc/self/statm").is_file():
        return
    sizes: list[float] = []
    for seed in range(4):
        head = make_patient(seed, spacing_mm=4.0)
        trial.predict(prepared_head(patient=head))
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        sizes.append(pages * mmap.PAGESIZE / 2**20)  # resident, MiB
    growth = sizes[3] - sizes[1]
    _require(
        growth < trial.growth_mib, f"constant memory, not {growth:.0f} MiB more after two studies"
    )


CHECKS: tuple[Check, ...] = (
    identity, outputs, positions, honesty, repeatable, subsets, cancelling, progress,
    preliminary, perturbing, prompting, memory,
)  # fmt: skip
"""All checks; each takes a `Trial` and raises `ContractBrokenError`, or what an analysis raises."""


def name_of(check: Check) -> str:
    """Return a check's name."""
    return str(getattr(check, "__name__", check))


def failures(engine: Engine, **trial_fields: Any) -> dict[str, str]:
    """Run all checks; `trial_fields` are further fields of `Trial`.

    Returns
    -------
    dict of str to str
        The requirement that each failed check states; empty if the engine keeps the contract.
    """
    trial = Trial(engine, **trial_fields)
    broken: dict[str, str] = {}
    for check in CHECKS:
        name = name_of(check)
        try:
            with plugins.plugin_errors(engine, f"engine {type(engine).__name__!r}", f"in {name}"):
                try:
                    check(trial)
                except ContractBrokenError as error:  # not a failure of the engine's code
                    broken[name] = f"requires {error}"
        except LesionLensError as error:
            broken[name] = f"requires {error.expected}; found {error.found}"
    return broken


__all__ = ["CHECKS", "Check", "ContractBrokenError", "Trial", "failures", "name_of",
           "prepared_head"]  # fmt: skip
