"""Fit the model of what candidates look like (`analysis/findings/kinds.json`), and evaluate it.

    python -m research.kinds.synthetic_scans --patients 200 --kept SCANS --weights default
    python -m research.kinds.measure SCANS
    python -m research.kinds.real_scans --data CASES --kept REAL --weights default
    python -m research.kinds.fit --scans SCANS --real REAL

Needs scikit-learn, which LesionLens itself does not. There is one model for each set of sequences;
every figure is of patients that the model was not fitted on. Real scans are only used to evaluate.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from lesionlens.analysis.findings import anatomy, kinds
from lesionlens.analysis.findings.kind_features import (
    CoarseBrain,
    Features,
    depth_of,
    features_of,
    lattice_of,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import LesionKind, MrSequence

KINDS = list(LesionKind)
SHARES = {
    LesionKind.GLIOMA: 0.3,
    LesionKind.METASTASIS: 0.15,
    LesionKind.MENINGIOMA: 0.15,
    LesionKind.PLAQUE: 0.12,
    LesionKind.VASCULAR: 0.13,
    LesionKind.CAVITY: 0.05,
    LesionKind.OTHER: 0.1,
}
"""Assumed prevalence of each kind, on which the probabilities depend."""
FOLDS, STRENGTH, ROUNDS = 5, 0.05, 500
MIN_CORRECT, MIN_SHOWN, MIN_PATIENTS = 0.85, 10, 5
"""Fraction of a kind's labels that must be correct, and fewest labelled candidates and patients;
else the kind is not offered with those sequences."""
BOUNDS, NOT_OFFERED = (0.8, 0.85, 0.9, 0.95), 1.01
CONFIRMED, UNCONFIRMED_FROM = (LesionKind.GLIOMA, LesionKind.PLAQUE), 0.9
"""Kinds confirmed on real scans are offered from the first bound on, the others only from .9,
whatever synthetic patients allow, because real scans differ."""
MODEL_FILE = Path(kinds.__file__).with_name(kinds.MODEL)
SUBSETS = [frozenset(c) for n in range(4, 0, -1) for c in combinations(MrSequence, n)]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """All candidates, as a table."""

    names: list[str]
    values: Floats
    kind: NDArray[np.intp]
    weight: Floats
    patient: NDArray[np.str_]
    sort: NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate of a synthetic patient, as stored by `kinds/measure.py`."""

    patient: str
    kind: LesionKind
    sort: str
    features: Features


def rows_of(scans: Path) -> list[Row]:
    """Return the candidates of every measured patient."""
    return [
        Row(file.stem, LesionKind(kind), sort, features)
        for file in sorted(scans.glob("????.json"))
        for kind, sort, features in json.loads(file.read_text(encoding="utf-8"))
    ]


def samples_of(rows: list[Row]) -> Samples:
    """Return rows as a table; patients of a kind have equal weights, kinds those of `SHARES`."""
    names = sorted({name for row in rows for name in row.features})
    values = np.array([[row.features[name] for name in names] for row in rows])
    kind = np.array([KINDS.index(row.kind) for row in rows])
    patient = np.array([row.patient for row in rows])
    sort = np.array([row.sort for row in rows])
    weight = np.zeros(len(rows))
    for index, kind_value in enumerate(KINDS):
        of_kind = kind == index
        _, patient_index, counts = np.unique(
            patient[of_kind], return_inverse=True, return_counts=True
        )
        weight[of_kind] = SHARES[kind_value] / np.sqrt(counts[patient_index])
        weight[of_kind] *= SHARES[kind_value] / max(weight[of_kind].sum(), 1e-9)
    return Samples(names, values, kind, weight * len(rows), patient, sort)


def is_measurable(name: str, sequences: frozenset[MrSequence]) -> bool:
    """Return whether the feature of this name can be measured with these sequences."""
    first, _, second = name.partition(".")
    if not second:
        return True
    needed = {
        "uptake": {MrSequence.T1, MrSequence.T1C},
        "bright": {MrSequence.T1C},
        "fluid": {MrSequence.FLAIR, *([MrSequence(second)] if first == "fluid" else [])},
    }.get(first) or {MrSequence(first)}
    return needed <= sequences


def columns_of(samples: Samples, subset: frozenset[MrSequence]) -> list[int]:
    """Return the columns of the features that can be measured with these sequences."""
    return [n for n, name in enumerate(samples.names) if is_measurable(name, subset)]


def empty_model(samples: Samples, columns: list[int]) -> kinds.KindModel:
    """Return a model with the scale of its features and no weights."""
    values = samples.values[:, columns]
    fractions = samples.weight / samples.weight.sum()
    mean = fractions @ values
    scale = np.sqrt(fractions @ (values - mean) ** 2) + 1e-6
    names = [samples.names[n] for n in columns]
    no_weights = np.zeros((1 + 2 * len(columns), len(KINDS)))
    return kinds.KindModel(names, mean, scale, no_weights, np.full(len(KINDS), NOT_OFFERED))


def logistic_weights(design: Floats, samples: Samples, rows: NDArray[np.intp]) -> Floats:
    """Return the (1 + 2 F, K) weights of a logistic regression on some of the rows."""
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(C=STRENGTH, max_iter=ROUNDS).fit(
        design[rows, 1:], samples.kind[rows], sample_weight=samples.weight[rows]
    )
    weights = np.full((design.shape[1], len(KINDS)), 0.0)
    weights[0] = -50.0
    weights[0, regression.classes_] = regression.intercept_
    weights[1:, regression.classes_] = regression.coef_.T
    return weights


@dataclass(frozen=True, slots=True, eq=False)
class KindFit:
    """A model, and its probabilities for patients it was not fitted on."""

    model: kinds.KindModel
    held_out: Floats
    """(rows, kinds) calibrated probabilities."""


def fit(samples: Samples, subset: frozenset[MrSequence]) -> KindFit:
    """Fit the model of a subset; the temperature is fitted on held-out patients."""
    from sklearn.model_selection import GroupKFold

    columns = columns_of(samples, subset)
    model, values = empty_model(samples, columns), samples.values[:, columns]
    design, logits = model.design(values), np.zeros((len(values), len(KINDS)))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    for training, held_out in folds.split(design, groups=samples.patient):
        logits[held_out] = design[held_out] @ logistic_weights(design, samples, training)

    def cost(temperature: float) -> float:
        log_probability = log_softmax(logits / np.exp(temperature), axis=1)
        return float(
            -samples.weight @ log_probability[np.arange(len(log_probability)), samples.kind]
        )

    temperature = float(np.exp(minimize_scalar(cost, bounds=(-1.5, 2.5), method="bounded").x))
    held_out = np.exp(log_softmax(logits / temperature, axis=1))
    weights = logistic_weights(design, samples, np.arange(len(design))) / temperature
    min_probability = min_probabilities_of(samples, held_out)
    fitted_model = kinds.KindModel(model.names, model.mean, model.scale, weights, min_probability)
    return KindFit(fitted_model, held_out)


def min_probabilities_of(samples: Samples, held_out: Floats) -> Floats:
    """Return the lowest bound of each kind from which enough of its labels are correct."""
    return np.array(
        [_min_probability_of(samples, held_out, number) for number in range(len(KINDS))]
    )


def _min_probability_of(samples: Samples, held_out: Floats, number: int) -> float:
    is_named, kind = held_out.argmax(1) == number, KINDS[number]
    first = BOUNDS[0] if kind in CONFIRMED else UNCONFIRMED_FROM
    for bound in BOUNDS if kind is not LesionKind.OTHER else ():
        if bound < first:
            continue
        is_shown = is_named & (held_out[:, number] >= bound)
        patients = len(set(samples.patient[is_shown & (samples.kind == number)]))
        if is_shown.sum() < MIN_SHOWN or patients < MIN_PATIENTS:
            break
        weight, is_correct = samples.weight[is_shown], samples.kind[is_shown] == number
        if weight @ is_correct >= MIN_CORRECT * weight.sum():
            return round(float(bound), 2)
    return NOT_OFFERED


def without_unoffered_kinds(fits: dict[str, KindFit]) -> dict[str, KindFit]:
    """Return the fits without the kinds that even all four sequences cannot distinguish."""
    is_never_offered = fits[kinds.key_of(tuple(MrSequence))].model.min_probability > 1
    return {
        name: replace(
            kind_fit,
            model=replace(
                kind_fit.model,
                min_probability=np.where(
                    is_never_offered, NOT_OFFERED, kind_fit.model.min_probability
                ),
            ),
        )
        for name, kind_fit in fits.items()
    }


def labels_of(kind_fit: KindFit) -> NDArray[np.intp]:
    """Return the index of the kind offered for each candidate; `len(KINDS)` for none."""
    likeliest = kind_fit.held_out.argmax(1)
    is_shown = kind_fit.held_out.max(1) >= kind_fit.model.min_probability[likeliest]
    return np.where(is_shown, likeliest, len(KINDS))


def as_json(fits: dict[str, KindFit]) -> str:
    """Return the content of the model's file."""
    content: dict[str, Any] = {
        "kinds": [kind.value for kind in KINDS],
        "shares": {kind.value: share for kind, share in SHARES.items()},
        "models": {
            name: {
                "features": list(kind_fit.model.names),
                "mean": [float(f"{v:.5g}") for v in kind_fit.model.mean],
                "scale": [float(f"{v:.5g}") for v in kind_fit.model.scale],
                "weights": [[float(f"{v:.4g}") for v in row] for row in kind_fit.model.weights],
                "least": kind_fit.model.min_probability.tolist(),
            }
            for name, kind_fit in fits.items()
        },
    }
    return json.dumps(content, separators=(",", ":")) + "\n"


def calibration_error(samples: Samples, held_out: Floats, rows: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of the highest probability, in ten bins."""
    probability, is_correct = held_out.max(1)[rows], (held_out.argmax(1) == samples.kind)[rows]
    weight = samples.weight[rows] / samples.weight[rows].sum()
    bin_index = np.minimum((probability * 10).astype(int), 9)
    bin_errors = [
        abs(float((weight * (probability - is_correct))[bin_index == n].sum())) for n in range(10)
    ]
    return float(sum(bin_errors))


def report_held_out(samples: Samples, fits: dict[str, KindFit]) -> Iterator[str]:
    """Yield the table by subset of the sequences, and confusion tables of some subsets."""
    offered_kinds = [kind for kind in KINDS if kind is not LesionKind.OTHER]
    yield (
        "| sequences | most likely is correct | calibration error | kind offered | and correct "
        f"| {' | '.join(kind.value for kind in offered_kinds)} |"
    )
    yield "|---" * (5 + len(offered_kinds)) + "|"
    all_rows, weight = np.ones(len(samples.kind), bool), samples.weight
    lesion = samples.kind != KINDS.index(LesionKind.OTHER)
    for name, kind_fit in fits.items():
        is_correct, label = kind_fit.held_out.argmax(1) == samples.kind, labels_of(kind_fit)
        is_shown = label < len(KINDS)
        correct_fraction = (
            weight[is_shown] @ is_correct[is_shown] / max(weight[is_shown].sum(), 1e-9)
        )
        bounds = " | ".join(
            "not offered" if min_probability > 1 else f"{min_probability:.2f}"
            for kind, min_probability in zip(KINDS, kind_fit.model.min_probability, strict=True)
            if kind in offered_kinds
        )
        yield (
            f"| {name} | {weight @ is_correct / weight.sum():.2f} "
            f"| {calibration_error(samples, kind_fit.held_out, all_rows):.3f} "
            f"| {weight[is_shown & lesion].sum() / weight[lesion].sum():.2f} "
            f"| {correct_fraction:.2f} | {bounds} |"
        )
    for name in ("t1 t1c t2 flair", "t1 t2 flair", "t1c", "flair"):
        yield f"\n{name}: rows true, columns offered\n"
        yield f"| | {' | '.join(k.value for k in offered_kinds)} | none |"
        yield "|---" * (len(offered_kinds) + 2) + "|"
        label = labels_of(fits[name])
        columns = [*(KINDS.index(kind) for kind in offered_kinds), len(KINDS)]
        for n, kind in enumerate(KINDS):
            of_kind = samples.kind == n
            counts = [str(int((label[of_kind] == m).sum())) for m in columns]
            yield f"| {kind.value} ({of_kind.sum()}) | {' | '.join(counts)} |"
    for sort in ("true", "found", "dismissed"):
        rows = np.char.startswith(samples.sort, sort)
        if rows.any():
            error = calibration_error(samples, fits["t1 t1c t2 flair"].held_out, rows)
            yield f"\noutlines {sort}: {rows.sum()}, calibration error {error:.3f}"


def real_case(file: Path) -> tuple[CoarseBrain, dict[str, NDArray[np.int32]]]:
    """Return the brain of a stored case and its outlines by name."""
    with np.load(file) as stored:
        grid = Grid(stored["brain"].shape, stored["affine"])
        head = anatomy.Head(stored["midline"], stored["offset"], stored["scale"])
        images = {
            s: stored[s.value].astype(np.float32) for s in MrSequence if s.value in stored.files
        }
        depth = depth_of(stored["brain"], grid)
        coarse = CoarseBrain(images, stored["brain"], depth, grid, head, np.eye(4))
        outlines = {n.removeprefix("of_"): stored[n] for n in stored.files if n.startswith("of_")}
        return coarse, outlines


def report_real(real: Path, fits: dict[str, KindFit]) -> Iterator[str]:
    """Yield the table of kinds of real candidates, by subset of the sequences."""
    yield "| case | outline | ml | sequences | looks like | probabilities |"
    yield "|---|---|---|---|---|---|"
    for file in sorted(real.glob("*.npz")):
        coarse, outlines = real_case(file)
        for outline, numbers in outlines.items():
            lattice = lattice_of(coarse, numbers)
            for number in range(1, int(numbers.max()) + 1):
                features = features_of(lattice, number)
                if features is None:
                    continue
                ml = float((numbers == number).sum() * coarse.grid.voxel_ml)
                for subset in SUBSETS:
                    if not subset <= frozenset(coarse.images):
                        continue
                    name = kinds.key_of(subset)
                    appearance = kinds.appearance_of(features, fits[name].model)
                    ranking = ", ".join(f"{k.value} {v:.2f}" for k, v in appearance.ranked[:3])
                    yield (
                        f"| {file.stem} | {outline} | {ml:.1f} | {name} "
                        f"| {appearance.looks_like or 'none'} | {ranking} |"
                    )


def main() -> None:
    """Fit, store the model and evaluate it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scans", type=Path, required=True)
    parser.add_argument("--real", type=Path)
    options = parser.parse_args()
    samples = samples_of(rows_of(options.scans))
    fits = without_unoffered_kinds(
        {kinds.key_of(subset): fit(samples, subset) for subset in SUBSETS}
    )
    MODEL_FILE.write_text(as_json(fits), encoding="utf-8")
    lines = [*report_held_out(samples, fits)]
    if options.real is not None:
        lines += ["", *report_real(options.real, fits)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
