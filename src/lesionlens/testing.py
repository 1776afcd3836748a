"""Checks of an engine, and synthetic heads to try one on, for the tests of other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lesionlens.base.lazy import lazy_exports

if TYPE_CHECKING:
    from lesionlens.engines.engine import Engine
    from lesionlens.engines.testing.heads import healthy_head, prepared_head
    from lesionlens.engines.testing.simple import Lesion, SyntheticPatient, make_patient
    from lesionlens.imaging.preparation.prepare import PrepareOptions
    from lesionlens.imaging.samples import STUDY as SAMPLE_STUDY

__getattr__ = lazy_exports(
    __name__,
    {
        "lesionlens.engines.testing.heads": "healthy_head prepared_head",
        "lesionlens.engines.testing.simple": "Lesion SyntheticPatient make_patient",
        "lesionlens.imaging.preparation.prepare": "PrepareOptions",
        "lesionlens.imaging.samples": "STUDY:SAMPLE_STUDY",
    },
)
__all__ = [
    "SAMPLE_STUDY",
    "Lesion",
    "PrepareOptions",
    "SyntheticPatient",
    "check_engine",
    "healthy_head",
    "make_patient",
    "prepared_head",
]


def check_engine(engine: Engine, **limits: Any) -> None:
    """Check that an engine keeps the contract; docs/how-to/engines.md lists what is checked.

    How well it finds tumours is not checked.

    Parameters
    ----------
    engine : Engine
        Ready to predict on its device.
    **limits
        `patience_s`, seconds within which it must stop after a cancellation; `growth_mib`, by which
        the process may grow over two studies; `study`, another `PreparedStudy` to predict.

    Raises
    ------
    AssertionError
        One line for each broken requirement.
    """
    from lesionlens.engines.testing import engine_contract

    broken = engine_contract.failures(engine, **limits)
    if broken:
        lines = "\n".join(f"{check}: {requirement}" for check, requirement in broken.items())
        raise engine_contract.ContractBrokenError(lines)


def __dir__() -> list[str]:
    return __all__
