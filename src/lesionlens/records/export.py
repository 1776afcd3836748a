"""What a user asks of the files of a result, beside the result itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Choices that exporters read from `Analysis.options`.

    Parameters
    ----------
    surfaces : bool
        Write the candidates' surfaces too, for 3-D viewers and printers.
    """

    surfaces: bool = False
