"""LesionLens: attention that flags candidate tumour regions in brain MRI, for review.

Research use only. The names below load what they need when they are first used, so that
importing the package (as napari does to list plugins) imports neither numpy, torch nor Qt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.analysis.evaluation.evaluation import Evaluation, evaluate
    from lesionlens.base.labels import MrSequence, Region
    from lesionlens.base.records.findings import Candidate
    from lesionlens.base.records.study import Study
    from lesionlens.base.run_context import RunContext
    from lesionlens.imaging.reading.open import open_study
    from lesionlens.results.lens import Lens
    from lesionlens.results.result import Result
    from lesionlens.site.cohort.batch import batch

__version__ = "0.5.0"
__getattr__ = lazy_exports(
    __name__,
    {
        "lesionlens.analysis.evaluation.evaluation": "Evaluation evaluate",
        "lesionlens.base.labels": "MrSequence Region",
        "lesionlens.base.records.findings": "Candidate",
        "lesionlens.base.records.study": "Study",
        "lesionlens.base.run_context": "RunContext",
        "lesionlens.imaging.reading.open": "open_study",
        "lesionlens.results.lens": "Lens",
        "lesionlens.results.result": "Result",
        "lesionlens.site.cohort.batch": "batch",
    },
)
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


def __dir__() -> list[str]:
    return __all__
