"""LesionLens: attention that flags candidate tumour regions in brain MRI, for review.

Research use only. The names below load what they need when they are first used, so that
importing the package (as napari does to list plugins) imports neither numpy, torch nor Qt.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lesionlens.analysis.evaluation.evaluation import Evaluation, evaluate
    from lesionlens.base.labels import MrSequence, Region
    from lesionlens.base.records.findings import Candidate
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext
    from lesionlens.imaging.reading.readers import open_study
    from lesionlens.results.lens import Lens
    from lesionlens.results.result import Result
    from lesionlens.site.cohort.batch import batch

__version__ = "0.5.0"
_MODULE_OF_NAME = {
    "Candidate": "lesionlens.base.records.findings",
    "Evaluation": "lesionlens.analysis.evaluation.evaluation",
    "Lens": "lesionlens.results.lens",
    "MrSequence": "lesionlens.base.labels",
    "Region": "lesionlens.base.labels",
    "Result": "lesionlens.results.result",
    "Study": "lesionlens.base.records.study",
    "batch": "lesionlens.site.cohort.batch",
    "evaluate": "lesionlens.analysis.evaluation.evaluation",
    "RunContext": "lesionlens.base.run_context",
    "open_study": "lesionlens.imaging.reading.readers",
}
__all__ = [
    "Candidate",
    "Evaluation",
    "Lens",
    "MrSequence",
    "Region",
    "Result",
    "RunContext",
    "Study",
    "__version__",
    "batch",
    "evaluate",
    "open_study",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF_NAME:
        raise AttributeError(f"module 'lesionlens' has no attribute {name!r}")
    return getattr(import_module(_MODULE_OF_NAME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
