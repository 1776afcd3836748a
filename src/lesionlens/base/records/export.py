"""The user's options for the files of a result."""

from __future__ import annotations

from dataclasses import dataclass

from lesionlens.base.labels import Identity, MapExtent


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """Export options, read from `Analysis.options`."""

    maps: MapExtent = MapExtent.CUT
    """Field of view of attention maps in DICOM."""
    include_unaccepted: bool = False
    """Also export candidates of a reviewed result that were not accepted."""
    evidence: bool = False
    """Also write sequence contributions at every voxel and dismissed regions."""
    sentence_template: str = ""
    """A site's own Jinja template of the report sentence; empty for the built-in one."""
    hidden: frozenset[Identity] = frozenset()
    """Identifying items omitted from heading and provenance of the report."""
