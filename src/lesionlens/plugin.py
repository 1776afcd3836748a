"""All that a package with an engine or an exporter imports.

Names load their module when they are first used: importing this one loads neither numpy nor torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.base.errors import (
        CancelledError,
        LesionLensError,
        ReadError,
        ResourceError,
        UnusableInputError,
        WeightsError,
    )
    from lesionlens.base.geometry import Box, Shape3
    from lesionlens.base.grid import Grid
    from lesionlens.base.labels import LesionClass, MrSequence, Region
    from lesionlens.base.records.analysis import Analysis
    from lesionlens.base.records.arrays import Volume
    from lesionlens.base.records.prediction import (
        ClassProbabilities,
        EngineInfo,
        InputPerturbation,
        PerturbedPrediction,
        Prediction,
        Trace,
    )
    from lesionlens.base.records.prompts import Points, PromptRequest, PromptResponse
    from lesionlens.base.records.study import PreparedStudy, Study
    from lesionlens.base.run_context import SILENT, RunContext
    from lesionlens.engines.device import choose as choose_device
    from lesionlens.engines.device import describe as describe_device
    from lesionlens.engines.device import interruptible
    from lesionlens.engines.engine import Engine
    from lesionlens.engines.grid import make_network_input
    from lesionlens.engines.lens import LensEngine
    from lesionlens.imaging.preparation.resampling import resample
    from lesionlens.network.weights import load as load_network
    from lesionlens.results.export.exporter import Exporter
    from lesionlens.results.export.written import Written

__getattr__ = lazy_exports(
    __name__,
    {
        "lesionlens.base.errors": "CancelledError LesionLensError ReadError "
        "ResourceError UnusableInputError WeightsError",
        "lesionlens.base.geometry": "Box Shape3",
        "lesionlens.base.grid": "Grid",
        "lesionlens.base.labels": "LesionClass MrSequence Region",
        "lesionlens.base.records.analysis": "Analysis",
        "lesionlens.base.records.arrays": "Volume",
        "lesionlens.base.records.prediction": "ClassProbabilities EngineInfo "
        "InputPerturbation PerturbedPrediction Prediction Trace",
        "lesionlens.base.records.prompts": "Points PromptRequest PromptResponse",
        "lesionlens.base.records.study": "PreparedStudy Study",
        "lesionlens.base.run_context": "SILENT RunContext",
        "lesionlens.engines.device": "choose:choose_device describe:describe_device interruptible",
        "lesionlens.engines.engine": "Engine",
        "lesionlens.engines.lens": "LensEngine",
        "lesionlens.engines.grid": "make_network_input",
        "lesionlens.imaging.preparation.resampling": "resample",
        "lesionlens.network.weights": "load:load_network",
        "lesionlens.results.export.exporter": "Exporter",
        "lesionlens.results.export.written": "Written",
    },
)
__all__ = [
    "SILENT",
    "Analysis",
    "Box",
    "CancelledError",
    "ClassProbabilities",
    "Engine",
    "EngineInfo",
    "Exporter",
    "Grid",
    "InputPerturbation",
    "LensEngine",
    "LesionClass",
    "LesionLensError",
    "MrSequence",
    "PerturbedPrediction",
    "Points",
    "Prediction",
    "PreparedStudy",
    "PromptRequest",
    "PromptResponse",
    "ReadError",
    "Region",
    "ResourceError",
    "RunContext",
    "Shape3",
    "Study",
    "Trace",
    "UnusableInputError",
    "Volume",
    "WeightsError",
    "Written",
    "choose_device",
    "describe_device",
    "interruptible",
    "load_network",
    "make_network_input",
    "resample",
]


def __dir__() -> list[str]:
    return __all__
