r"""Average the weights of runs, calibrate them, and add them to the package.

    python -m training.lens.release runs/fold? --share 0.7 --plus synthetic.safetensors=0.7 \
        --plus runs/first=-0.4 --folds --cases CASES --version 3 --patients 300 --workers 2

The mean of the runs, times `--share`, plus other weights times their coefficients. Fitted are a
temperature for each region, the score of a candidate (logistic in the mean logit of its voxels and
the logarithm of its volume), and its operating points: on synthetic patients and, with `--folds`,
on real ones, each examined with the weights of the run that left the patient out, mixed in the same
way. The same command resumes an interrupted calibration. The weights are written to
`src/lesionlens/network/weight_files/`, but with `--dry`.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lesionlens.analysis.evaluation.label_conventions import read_conventions
from lesionlens.base.errors import UnusableInputError, WeightsError
from lesionlens.base.labels import MrSequence
from lesionlens.network import weights
from lesionlens.network.lens_net import LensNetwork
from lesionlens.network.weights import DEFAULT_NAME, SHIPPED, WeightsNotes
from lesionlens.training.references import RealCase, find_real_cases
from training.lens.examine import (
    SUBSETS,
    TEMPERATURE,
    Examined,
    Floats,
    ScoredCandidate,
    append,
    examine_many,
    examine_real,
    read,
)
from training.run import WEIGHT_FILES

RIDGE = 0.2
"""Penalty on the square of a slope per standard deviation: a normal prior of deviation 2.2, wider
than any slope that was ever fitted, so that a few candidates cannot give an extreme fit."""
MIN_SLOPES = (0.1, 0.0)
"""Of the mean logit and of the logarithm of the volume: the score must depend on the network's
probability, or no omitted sequence and no occlusion could change it. Half of the slope fitted on
100 synthetic patients (0.19)."""
LEVELS = (0.02, *(round(0.05 * n, 2) for n in range(1, 20)), 0.98)
_MIN_OF_EACH = 5  # fewest correct and fewest false candidates for a fit


def fit_score(found: Sequence[ScoredCandidate]) -> Floats:
    """Fit intercept, slope of the logit and slope of the logarithm of the volume, (3,).

    The problem is convex, so its solution under the bounds `MIN_SLOPES` is the free one over some
    of the features with the others at their bounds: all choices are tried.

    Raises
    ------
    UnusableInputError
        There are too few candidates, or they are all correct or all false.
    """
    correct = np.array([f.correct for f in found], dtype=bool)
    if min(correct.sum(), (~correct).sum()) < _MIN_OF_EACH:
        raise UnusableInputError(
            f"A score cannot be fitted on {int(correct.sum())} correct and "
            f"{int((~correct).sum())} false candidates.",
            hint=f"Examine more patients: {_MIN_OF_EACH} of each are needed.",
        )
    features = _features(found)
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    x, bound = (features - mean) / scale, scale * np.array(MIN_SLOPES)
    best, slopes, intercept = np.inf, bound, 0.0
    for used in itertools.product((True, False), repeat=2):
        free = np.array(used, dtype=bool)
        cost, fitted = _newton(x[:, free], correct, x[:, ~free] @ bound[~free])
        cost += RIDGE * float((bound[~free] ** 2).sum()) / 2
        if cost < best and (fitted[1:] >= bound[free]).all():
            best, intercept = cost, float(fitted[0])
            slopes = bound.copy()
            slopes[free] = fitted[1:]
    slopes = slopes / scale
    return np.array([intercept - slopes @ mean, *slopes])


def _features(found: Sequence[ScoredCandidate]) -> Floats:
    return np.array([[f.logit, f.log_ml] for f in found], np.float64).reshape(-1, 2)


def _newton(x: Floats, correct: NDArray[np.bool_], offset: Floats) -> tuple[float, Floats]:
    """Minimise the penalised cross-entropy with an offset of the logits; return cost, weights."""
    columns = np.column_stack([np.ones(len(x)), x])
    penalty = np.diag([1e-3, *[RIDGE] * x.shape[1]])
    fitted = np.zeros(columns.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(offset + columns @ fitted)))
        slope = columns.T @ (p - correct) + penalty @ fitted
        curve = (columns * (p * (1 - p))[:, None]).T @ columns + penalty
        fitted = fitted - np.linalg.solve(curve, slope)
    sign = np.where(correct, -1.0, 1.0)
    entropy = np.logaddexp(0, sign * (offset + columns @ fitted)).sum()
    return float(entropy + fitted @ penalty @ fitted / 2), fitted


def operating_points(scans: Sequence[Examined], score: Floats) -> tuple[Mapping[str, float], ...]:
    """Return sensitivity and false candidates per scan at each of `LEVELS`, in ascending order."""
    lesions = sum(scan.lesions for scan in scans)
    logits = [score[0] + _features(scan.found) @ score[1:] for scan in scans]
    scored = [
        list(zip(1 / (1 + np.exp(-values)), scan.found, strict=True))
        for values, scan in zip(logits, scans, strict=True)
    ]
    points = []
    for level in LEVELS:
        flagged = [[f for value, f in some if value >= level] for some in scored]
        hits = sum(len({n for f in some for n in f.lesions}) for some in flagged)
        false = sum(not f.correct for some in flagged for f in some)
        points.append({
            "threshold": level,
            "sensitivity": round(hits / max(1, lesions), 4),
            "false_per_scan": round(false / max(1, len(scans)), 4),
        })  # fmt: skip
    return tuple(points)


def floor_of(points: Sequence[Mapping[str, float]], max_false: float) -> float:
    """Return the threshold of highest sensitivity with at most `max_false` false candidates.

    Of equal ones that with fewest false candidates; if there is none, the highest threshold.
    """
    rare = [point for point in points if point["false_per_scan"] <= max_false]
    best = min(
        rare or points[-1:],
        key=lambda point: (-point["sensitivity"], point["false_per_scan"], point["threshold"]),
    )
    return best["threshold"]


def fit_temperatures(scans: Sequence[Examined]) -> tuple[float, float, float]:
    """Return the temperatures with the least cross-entropy (Guo et al. 2017, section 4.2)."""
    grid = np.exp(np.linspace(np.log(0.4), np.log(4.0), 81))
    fitted = []
    for region in range(3):
        logits = np.concatenate([scan.logits[region] for scan in scans])
        sign = np.where(np.concatenate([scan.true[region] for scan in scans]), -1.0, 1.0)
        cost = [np.logaddexp(0, sign * logits / t).mean() for t in grid]
        fitted.append(round(float(grid[int(np.argmin(cost))]), 4))
    return fitted[0], fitted[1], fitted[2]


def mix(sources: Sequence[tuple[Path, float]]) -> LensNetwork:
    """Return the sum of weights of one architecture times their coefficients.

    Weights fine-tuned from common ones are in the same basin of the loss, and their mean is closer
    to its centre (Wortsman et al. 2022, arXiv 2203.05482).

    Raises
    ------
    WeightsError
        The networks differ, or the coefficients do not sum to one.
    """
    if abs(sum(coefficient for _, coefficient in sources) - 1) > 1e-6:
        raise WeightsError("The coefficients do not sum to one.", hint="Change --share or --plus.")
    network, info = weights.load(sources[0][0])
    total: dict[str, Tensor] = {}
    for path, coefficient in sources:
        loaded, other = weights.load(path)
        if info.config != other.config:
            raise WeightsError(f"{path.name} is of another network than {sources[0][0].name}.")
        state = loaded.state_dict()
        total = {n: total.get(n, torch.zeros(())) + coefficient * state[n] for n in state}
    network.load_state_dict(total)
    return network


class Calibration:
    """Weights to calibrate, with a folder for what is already examined."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        sources = b"".join(path.read_bytes() for path, _ in self.sources_of(options.run))
        settings = repr((
            options.share, options.plus, options.spacing, options.focus, options.thresholds,
            options.folds, options.warm_up,
        ))  # fmt: skip
        key = hashlib.sha256(sources + settings.encode()).hexdigest()
        self.folder = options.run[0] / "calibration" / key[:12]
        self.folder.mkdir(parents=True, exist_ok=True)
        info = weights.load(self.sources_of(options.run)[0][0])[1]
        mixed = f"{options.share:g} of the mean of {len(options.run)} runs"
        mixed += "".join(f", {c:g} of {path.name}" for path, c in options.plus)
        self.notes = WeightsNotes(
            version=options.version,
            spacing_mm=options.spacing,
            focus_spacing_mm=options.focus,
            thresholds=(options.thresholds[0], options.thresholds[1], options.thresholds[2]),
            trained_on=self._trained_on(),
            provenance=dict(info.provenance) | {"mean": mixed},
            score=(0.0, 1.0, 0.0),
            score_floor=0.0,
        )

    def sources_of(self, runs: Sequence[Path]) -> list[tuple[Path, float]]:
        """Return the weights that are mixed, with their coefficients."""
        share = self._options.share / len(runs)
        pairs = [*((run, share) for run in runs), *self._options.plus]
        return [(p / "weights.safetensors" if p.is_dir() else p, c) for p, c in pairs]

    def _trained_on(self) -> tuple[str, ...]:
        """Return the digests of all scans that one of the weights was trained on."""
        known = [weights.load(path)[1].trained_on for path, _ in self.sources_of(self._options.run)]
        return tuple(sorted({scan for scans in known for scan in scans}))

    def write(self, runs: Sequence[Path]) -> Path:
        """Write the mixture of runs with the present notes, for an examination."""
        name = "-".join(run.name for run in runs)
        path: Path = self.folder / f"{name}.safetensors"
        network = mix(self.sources_of(runs))
        weights.save(path, network.config, network.state_dict(), self.notes)
        return path

    def real(self, subsets: Sequence[frozenset[MrSequence]] = SUBSETS) -> list[Examined]:
        """Examine the real cases, each with the run that left it out."""
        options = self._options
        if not options.folds:
            return []
        conventions = read_conventions(None, options.cases)
        cases = find_real_cases(options.cases, convention=conventions.of).cases
        scans: list[Examined] = []
        for run in options.run:
            scans += examine_real(self.write([run]), left_out(run, cases), subsets)
        return scans

    def synthetic(self, numbers: Iterable[int]) -> Iterator[Examined]:
        """Examine synthetic patients."""
        options = self._options
        spacing = min(options.spacing, options.focus or options.spacing)
        return examine_many(self.write(options.run), spacing, list(numbers), options.workers)

    def fit(self) -> None:
        """Fit temperatures, then score and operating points with them."""
        options, stored = self._options, self.folder / "temperature.json"
        if not stored.is_file():
            scans = list(self.synthetic(range(TEMPERATURE, TEMPERATURE + options.warm_up)))
            temperatures = fit_temperatures([*scans, *self.real(SUBSETS[:1])])
            stored.write_text(json.dumps(temperatures), "utf-8")
        whole, core, enhancing = json.loads(stored.read_text("utf-8"))
        self.notes = dataclasses.replace(self.notes, temperature=(whole, core, enhancing))
        cache = self.folder / "patients.jsonl"
        scans = read(cache)[: options.patients]
        for scan in self.synthetic(range(len(scans), options.patients)):
            append(cache, scan)
            scans.append(scan)
            print(f"{len(scans)} of {options.patients} patients", flush=True)
        scans += self.real()
        score = np.round(fit_score([f for scan in scans for f in scan.found]), 4)
        points = operating_points(scans, score)
        self.notes = dataclasses.replace(
            self.notes,
            score=(float(score[0]), float(score[1]), float(score[2])),
            score_floor=floor_of(points, options.max_false),
            operating_points=points,
        )


def left_out(run: Path, cases: Sequence[RealCase]) -> list[RealCase]:
    """Return the cases that a run did not train on, by its split.json."""
    record = json.loads((run / "split.json").read_text("utf-8"))["validation"]
    names = {name for some in record.values() for name in some}
    return [case for case in cases if case.name in names]


def release(network: LensNetwork, notes: WeightsNotes, name: str) -> str:
    """Write ``NAME.safetensors`` in half precision and ``NAME.json``; return the SHA-256."""
    path = WEIGHT_FILES / f"{name}.safetensors"
    digest = weights.save(path, network.config, network.state_dict(), notes, dtype=torch.float16)
    record = {"file": path.name, "sha256": digest, "version": notes.version}
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return digest


def _weighted(text: str) -> tuple[Path, float]:
    path, _, coefficient = text.rpartition("=")
    return Path(path), float(coefficient)


def main() -> None:
    """Calibrate and release."""
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    add = parser.add_argument
    add("run", type=Path, nargs="+", help="folder of a run")
    add("--share", type=float, default=1.0, help="coefficient of the mean of the runs")
    add("--plus", type=_weighted, action="append", default=[], metavar="WEIGHTS=COEFFICIENT")
    add("--version", required=True)
    add("--name", default=DEFAULT_NAME, choices=SHIPPED)
    add("--spacing", type=float, default=2.0, help="mm, of the first pass")
    add("--focus", type=float, help="mm, of the refined patches; none by default")
    add("--folds", action="store_true", help="the runs left out cases; examine them, too")
    add("--cases", type=Path, help="folder of the cases of the folds")
    add("--patients", type=int, default=300)
    add("--warm-up", type=int, default=24, help="patients for temperatures")
    add("--workers", type=int, default=1, help="processes of one thread")
    add("--thresholds", type=float, nargs=3, default=(0.5, 0.4, 0.3), help="WT, TC, ET")
    add("--max-false", type=float, default=0.1, help="false candidates per scan")
    add("--dry", action="store_true", help="fit and print only")
    options = parser.parse_args()
    torch.set_num_threads(1)
    calibration = Calibration(options)
    calibration.fit()
    print(json.dumps(dataclasses.asdict(calibration.notes), indent=1))
    if not options.dry:
        network = mix(calibration.sources_of(options.run))
        print(release(network, calibration.notes, options.name))


if __name__ == "__main__":
    main()
