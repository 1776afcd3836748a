"""What a user asks of the files of a result, beside the result itself."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.labels import Extra, Identity, MapExtent


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Choices that exporters read from `Analysis.options`."""

    surfaces: bool = False
    """Write the candidates' surfaces too, for 3-D viewers and printers."""
    maps: MapExtent = MapExtent.CUT
    """Of attention maps in DICOM."""
    rest: bool = False
    """Send of a reviewed result also what was not accepted."""
    also: frozenset[Extra] = frozenset()
    """DICOM objects that are written on request alone."""
    evidence: bool = False
    """Write what each sequence adds at every voxel too, and what was considered and dismissed."""
    language: str = "en"
    """Of the report: a key of `export.words.LANGUAGES`."""
    sentence_template: str = ""
    """A site's own sentence to paste, Jinja; empty for that of the language."""
    hidden: frozenset[Identity] = frozenset()
    """What the report leaves out of its heading and provenance."""
