"""Serialise studies, requests and predictions as messages.

A study is sent as the input of an engine: channels within the brain, brain mask, grid. No name, no
date, no UID, no path, nothing outside the brain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from lesionlens.base.errors import GeometryError, ServerError
from lesionlens.base.grid import Grid
from lesionlens.base.labels import MrSequence, Region
from lesionlens.base.records.arrays import Volume
from lesionlens.base.records.prediction import (
    ClassProbabilities,
    EngineInfo,
    FirstPass,
    InputPerturbation,
    PerturbedPrediction,
    Prediction,
    QuestionTime,
    Scoring,
    SlightEnhancement,
    Trace,
)
from lesionlens.base.records.study import PreparedStudy
from lesionlens.base.text import encodable
from lesionlens.engines.remote.packing import pack, unpack

Header = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]
Parts = dict[str, bytes]
BYTES_PER_VOXEL = 4 * len(MrSequence) + 1
"""Bytes per voxel of an engine's input: channels and brain mask."""
_INFO, _SCORING, _TIME = TypeAdapter(EngineInfo), TypeAdapter(Scoring), TypeAdapter(QuestionTime)
_SLIGHT = TypeAdapter(SlightEnhancement)
_UNPERTURBED = "unperturbed_"
_MALFORMED = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class SerialisedStudy:
    """A serialised study: parts identified by their content, and a manifest of them."""

    manifest: Header
    """Dict. Grid, which sequences, and the digests of the parts."""
    parts: Parts
    """Dict of str to bytes. SHA-256 to message: the brain mask, and each available sequence within
    it."""

    @property
    def name(self) -> str:
        """SHA-256 of the manifest."""
        return study_name(self.manifest)


def study_name(manifest: Header) -> str:
    """Return a study's content-based identifier."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def digest_of(part: bytes) -> str:
    """Return a part's content-based identifier."""
    return hashlib.sha256(part).hexdigest()


def serialise_study(prepared: PreparedStudy) -> SerialisedStudy:
    """Serialise a prepared study."""
    parts: Parts = {}

    def add(values: NDArray[Any]) -> str:
        part = pack({}, {"values": values})
        name = digest_of(part)
        parts[name] = part
        return name

    brain = np.asarray(prepared.brain, dtype=bool)
    channels = [
        add(np.asarray(channel[brain], np.float32)) if is_present else None
        for channel, is_present in zip(prepared.channels, prepared.present, strict=True)
    ]
    manifest = {
        "grid": serialise_grid(prepared.working),
        "reference": prepared.reference.value,
        "brain": add(brain),
        "channels": channels,
    }
    return SerialisedStudy(manifest, parts)


def part_digests(manifest: Header) -> list[str]:
    """Return the digests of the parts in a manifest."""
    with readable("a manifest of a study"):
        names = [manifest["brain"], *(c for c in manifest["channels"] if c is not None)]
        return [str(name) for name in names]


def deserialise_study(
    manifest: Header, parts: Mapping[str, bytes], limit_bytes: int
) -> PreparedStudy:
    """Deserialise a study from its manifest and parts.

    Raises
    ------
    ServerError
        The parts are inconsistent, or the study would exceed `limit_bytes`.
    """
    with readable("the parts of a study"):
        grid, voxels = deserialise_grid(manifest["grid"]), voxels_of(manifest)
        if voxels * BYTES_PER_VOXEL > limit_bytes:
            raise _unreadable("a study too large for the server's memory")
        brain = _only_array(parts[manifest["brain"]], voxels)
        channels = np.zeros((len(MrSequence), *grid.shape), np.float32)
        present = np.zeros(len(MrSequence), bool)
        for index, name in zip(range(len(MrSequence)), manifest["channels"], strict=True):
            if name is not None:
                channels[index][brain] = _only_array(parts[name], 4 * voxels)
                present[index] = True
        reference = MrSequence(manifest["reference"])
        return PreparedStudy(
            channels=channels,
            present=present,
            brain=brain,
            working=grid,
            native=grid,
            to_native=np.eye(4),
            reference=reference,
        )


def _only_array(part: bytes, limit_bytes: int) -> NDArray[Any]:
    return unpack(part, limit_bytes=limit_bytes)[1]["values"]


def serialise_perturbations(perturbations: Sequence[InputPerturbation]) -> tuple[Header, Arrays]:
    """Serialise perturbations."""
    names = ("keep", "mirrored", "alone", "fine")
    fields = [
        {name: getattr(perturbation, name) for name in names} for perturbation in perturbations
    ]
    hidden = {
        str(n): perturbation.hidden
        for n, perturbation in enumerate(perturbations)
        if perturbation.hidden is not None
    }
    return {"variants": fields}, hidden


def deserialise_perturbations(header: Header, arrays: Arrays) -> list[InputPerturbation]:
    """Deserialise perturbations."""
    perturbations = []
    for index, fields in enumerate(header["variants"]):
        t1, t1c, t2, flair = (bool(keep) for keep in fields["keep"])
        perturbations.append(
            InputPerturbation(
                (t1, t1c, t2, flair),
                bool(fields["mirrored"]),
                arrays.get(str(index)),
                bool(fields["alone"]),
                bool(fields.get("fine", False)),
            )
        )
    return perturbations


def serialise_info(info: EngineInfo) -> Header:
    """Serialise an engine's identity as JSON fields."""
    fields = _INFO.dump_python(info, mode="json")
    fields["capabilities"].sort()
    return dict(fields)


def deserialise_info(fields: Any) -> EngineInfo:
    """Deserialise an engine's identity."""
    with readable("an engine's description"):
        return _INFO.validate_python(fields)


def serialise_prediction(prediction: Prediction) -> tuple[Header, dict[str, NDArray[Any]]]:
    """Serialise a prediction; callbacks of its trace stay on the server."""
    arrays = {f"probability_{region}": values for region, values in prediction.probability.items()}
    header: Header = {
        "engine": serialise_info(prediction.engine),
        "notices": prediction.notices,
        "unsegmented": prediction.unsegmented,
        "thresholds": {region.value: value for region, value in prediction.thresholds.items()},
        "slight_enhancement": _SLIGHT.dump_python(prediction.slight_enhancement),
        "scoring": _SCORING.dump_python(prediction.scoring),
        "question_time": _TIME.dump_python(prediction.question_time),
        "trace": None,
    }
    optional_volumes = {"uncertainty": prediction.uncertainty, "cavity": prediction.cavity}
    arrays |= {name: values for name, values in optional_volumes.items() if values is not None}
    if prediction.unperturbed is not None:
        header["unperturbed"], unperturbed_arrays = serialise_perturbed(prediction.unperturbed)
        arrays |= {_UNPERTURBED + name: values for name, values in unperturbed_arrays.items()}
    if prediction.class_probabilities is not None:
        header["classes"] = serialise_grid(prediction.class_probabilities.grid)
        header["classes_apart"] = prediction.class_probabilities.apart
        arrays["classes"] = prediction.class_probabilities.share
    trace = prediction.trace
    if trace is not None:
        arrays |= {f"cross_{region}": weights for region, weights in trace.cross.items()}
        header["trace"] = {
            "method": trace.method,
            "layers": trace.layers,
            "spacing_mm": trace.spacing_mm,
            "probes": trace.probe_row is not None,
            "attention_layers": trace.attention_layers,
            "shows_layers": trace.layer_attention is not None,
        }
    return header, arrays


Probe = Callable[[tuple[int, int, int]], NDArray[np.float32]]
LayerAttention = Callable[[Region, int, int | None], NDArray[np.float32]]


def deserialise_prediction(
    header: Header, arrays: Arrays, device: str, probe: Probe, layer: LayerAttention
) -> Prediction:
    """Deserialise a prediction.

    Parameters
    ----------
    device : str
        Device of the engine in words, including the server.
    probe, layer : callable
        Callbacks to the server for `Trace.probe_row` and `Trace.layer_attention`.
    """
    unperturbed, classes = header.get("unperturbed"), header.get("classes")
    return Prediction(
        probability=_of_regions(arrays, "probability_"),
        engine=deserialise_info(header["engine"] | {"device": device}),
        uncertainty=arrays.get("uncertainty"),
        cavity=arrays.get("cavity"),
        trace=_trace_in(header["trace"], arrays, probe, layer),
        notices=tuple(encodable(str(notice)) for notice in header["notices"]),
        unsegmented=tuple(Region(region) for region in header.get("unsegmented", ())),
        unperturbed=None
        if unperturbed is None
        else deserialise_perturbed(
            unperturbed,
            {
                name.removeprefix(_UNPERTURBED): values
                for name, values in arrays.items()
                if name.startswith(_UNPERTURBED)
            },
        ),
        thresholds={Region(key): float(v) for key, v in header["thresholds"].items()},
        slight_enhancement=_SLIGHT.validate_python(header["slight_enhancement"]),
        scoring=_SCORING.validate_python(header["scoring"]),
        class_probabilities=None
        if classes is None
        else ClassProbabilities(
            arrays["classes"], deserialise_grid(classes), float(header.get("classes_apart", 0.0))
        ),
        question_time=_TIME.validate_python(header["question_time"]),
    )


@contextmanager
def readable(subject: str = "an answer") -> Iterator[None]:
    """Turn the exceptions that invalid content leads to into a ServerError."""
    try:
        yield
    except (*_MALFORMED, GeometryError) as error:
        raise _unreadable(subject) from error


def _trace_in(fields: Any, arrays: Arrays, probe: Probe, layer: LayerAttention) -> Trace | None:
    if fields is None:
        return None
    return Trace(
        cross=_of_regions(arrays, "cross_"),
        method=encodable(str(fields["method"])),
        layers=tuple(encodable(str(name)) for name in fields["layers"]),
        probe_row=probe if fields["probes"] else None,
        attention_layers=tuple(
            (encodable(str(name)), int(heads)) for name, heads in fields["attention_layers"]
        ),
        layer_attention=layer if fields["shows_layers"] else None,
        spacing_mm=float(fields.get("spacing_mm", 0.0)),
    )


def _of_regions(arrays: Arrays, prefix: str) -> dict[Region, NDArray[np.float32]]:
    return {region: arrays[prefix + region] for region in Region if prefix + region in arrays}


def serialise_perturbed(predictions: PerturbedPrediction) -> tuple[Header, Arrays]:
    """Serialise perturbed predictions."""
    arrays = {"probability": predictions.probability}
    if predictions.inner is not None:
        arrays["inner"] = predictions.inner
    if predictions.lesion_scores is not None:
        arrays["lesion_scores"] = predictions.lesion_scores
    header: Header = {"grid": serialise_grid(predictions.grid)}
    if predictions.thresholds is not None:
        header["thresholds"] = list(predictions.thresholds)
    return header, arrays


def deserialise_perturbed(header: Header, arrays: Arrays) -> PerturbedPrediction:
    """Deserialise perturbed predictions."""
    thresholds = header.get("thresholds")
    return PerturbedPrediction(
        arrays["probability"],
        deserialise_grid(header["grid"]),
        arrays.get("inner"),
        None if thresholds is None else tuple(float(value) for value in thresholds),
        arrays.get("lesion_scores"),
    )


def serialise_first_pass(first_pass: FirstPass) -> tuple[Header, Arrays]:
    """Serialise a first pass."""
    header, arrays = serialise_perturbed(first_pass.seen)
    scoring = _SCORING.dump_python(first_pass.scoring)
    return header | {"threshold": first_pass.threshold, "scoring": scoring}, arrays


def deserialise_first_pass(header: Header, arrays: Arrays) -> FirstPass:
    """Deserialise a first pass."""
    scoring = _SCORING.validate_python(header["scoring"])
    return FirstPass(deserialise_perturbed(header, arrays), float(header["threshold"]), scoring)


def serialise_volume(volume: Volume) -> tuple[Header, Arrays]:
    """Serialise a volume."""
    return {"grid": serialise_grid(volume.grid)}, {"values": volume.data}


def serialise_grid(grid: Grid) -> Header:
    """Serialise a grid as header fields."""
    return {"shape": grid.shape, "affine": np.asarray(grid.affine, np.float64).tolist()}


def deserialise_grid(fields: Any) -> Grid:
    """Deserialise a grid."""
    i, j, k = (int(n) for n in fields["shape"])
    if min(i, j, k) < 1:
        raise ValueError("an empty grid")
    return Grid((i, j, k), np.array(fields["affine"], np.float64))


def _unreadable(subject: str) -> ServerError:
    return ServerError(
        found=f"{subject} that cannot be read",
        expected="one as LesionLens sends it",
        next_step="Compare the versions of LesionLens on both sides",
    )


def voxels_of(manifest: Header) -> int:
    """Return the number of voxels in the grid of a study."""
    with readable("a manifest of a study"):
        return int(np.prod(deserialise_grid(manifest["grid"]).shape, dtype=np.int64))
