"""Report sentences for one candidate or the study, from built-in or site templates.

A sentence is a Jinja template over the fields of `FIELDS`. A site's file holds the sentence of a
candidate, or blocks named `candidate` and `study`; the built-in block replaces a missing one.
Templates run in the sandbox of Jinja.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import StrictUndefined, Template, TemplateError, TemplateSyntaxError, meta
from jinja2.sandbox import SandboxedEnvironment

from lesionlens.analysis.findings.measure import Diameters, diameters_of_region
from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files import read_text
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Identity, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.records.followup import ChangeKind, Comparison, name_of
from lesionlens.base.text import capitalized
from lesionlens.results.export import wording
from lesionlens.results.review.saved_result import SavedResult

Line = tuple[Point, Point]
CANDIDATE_FIELDS = (
    "id", "place", "side", "lobe", "state", "rejected", "added", "score", "contrast",
    "sequence", "whole_longest_mm", "whole_perpendicular_mm", "enhancing_longest_mm",
    "enhancing_perpendicular_mm", "whole_ml", "core_ml", "enhancing_ml",
    "slice", "slices", "prior_date", "prior_ml", "change_percent", "new", "tangled", "doubtful",
)  # fmt: skip
"""Fields of a candidate's sentence. Unknown values are None (`is none`); lengths and volumes are
numbers, formatted by the filters `mm`, `ml` and `percent`.
"""
STUDY_FIELDS = (
    "conclusion", "candidates", "sentences", "contrast", "prior_date", "gone",
)  # fmt: skip
"""Fields of the study's sentence; `candidates` are the fields of each candidate that is not
rejected, `sentences` their sentences.
"""
FIELDS: Mapping[str, tuple[str, ...]] = {"candidate": CANDIDATE_FIELDS, "study": STUDY_FIELDS}
_MAX_TEMPLATE_BYTES = 64 * 1024
_BUILT_IN = """
{% block candidate %}
Candidate region {{ id }} ({{ state }}{% if added %}, added by a reader{% endif %}), {{ place }}:
whole {{ whole_longest_mm | mm }} × {{ whole_perpendicular_mm | mm }} mm, {{ whole_ml | ml }};
{% if not contrast or enhancing_ml is none %}
enhancing part unknown{% if not contrast %} without T1c{% endif %}
{% elif enhancing_ml == 0 %}
enhancing part 0 ml
{% else %}
enhancing {{ enhancing_longest_mm | mm }} × {{ enhancing_perpendicular_mm | mm }} mm,
{{ enhancing_ml | ml }}
{% endif %}
{%- if new %}; not flagged on {{ prior_date }}
{% elif tangled %}; merged with another region or split since {{ prior_date }}
{% elif change_percent is not none %}; volume {{ change_percent | percent }} since {{ prior_date }}
 ({{ prior_ml | ml }})
{% endif %}
{%- if doubtful %}; this comparison is doubtful
{% endif %}
{%- if slice is not none %}; {{ sequence }}, axial slice {{ slice }} of {{ slices }} from the feet
{%- endif %}.
{% endblock %}
{% block study %}
{{ conclusion }}{% if sentences %} {{ sentences | join(" ") }}{% endif %}
{% if gone %} Flagged on {{ prior_date }} and no longer: {{ gone }}.{% endif %}
{% endblock %}
"""


class Sentences:
    """Generates the sentences of one result.

    Parameters
    ----------
    template : str
        A site's template from `read_template`; empty for the built-in one.

    Raises
    ------
    UnusableInputError
        The template cannot be used.
    """

    def __init__(self, result: Analysis | SavedResult, template: str = "") -> None:
        self._result, self._template = result, template
        self._compared = result.compared
        self._fields_by_id: dict[int, dict[str, Any]] = {}

    def of(self, candidate: Candidate) -> str:
        """Return a candidate's sentence."""
        return _render(self._template, self._fields(candidate), "candidate")

    def of_study(self) -> str:
        """Return the study's sentence: how many candidates are not rejected, and each of them."""
        all_candidates = self._result.findings.candidates
        candidates = [c for c in all_candidates if not self._fields(c)["rejected"]]
        comparison = self._compared
        conclusion = wording.conclusion(
            candidates,
            rejected=[c for c in all_candidates if self._fields(c)["rejected"]],
            omitted=self._result.run.omitted,
        )
        values = {
            "conclusion": f"{conclusion.rstrip('.')}.",
            "candidates": [self._fields(candidate) for candidate in candidates],
            "sentences": [self.of(candidate) for candidate in candidates],
            "contrast": self._result.has_t1c,
            "prior_date": self._prior_date,
            "gone": None if comparison is None else _count_missing(comparison),
        }
        return _render(self._template, values, "study")

    @property
    def _prior_date(self) -> str | None:
        comparison = self._compared
        if comparison is None:
            return None
        prior_index = len(comparison.points) - 2
        if Identity.DATE in self._result.options.hidden:
            return f"examination {prior_index + 1}"
        return name_of(comparison.points, prior_index)

    def _fields(self, candidate: Candidate) -> dict[str, Any]:
        if candidate.id not in self._fields_by_id:
            self._fields_by_id[candidate.id] = self._compute_fields(candidate)
        return self._fields_by_id[candidate.id]

    def _compute_fields(self, candidate: Candidate) -> dict[str, Any]:
        result, labels = self._result, self._result.volumes.labels
        whole, enhancing = (self._diameters(candidate, r) for r in (Region.WT, Region.ET))
        ends = self._longest(candidate, enhancing or whole)
        number, count = (None, None) if ends is None else axial_slice(ends, labels.grid)
        whole_mm = _diameters_mm(candidate, Region.WT, whole)
        enhancing_mm = _diameters_mm(candidate, Region.ET, enhancing)
        state = result.review.state_of(candidate.tracking_uid)
        return {
            "id": candidate.id,
            "place": wording.location_text(candidate.location),
            "side": candidate.location.side or "",
            "lobe": candidate.location.region or "",
            "state": state.value,
            "rejected": state is ReviewState.REJECTED,
            "added": candidate.source is Source.READER,
            "score": candidate.score,
            "contrast": result.has_t1c,
            "sequence": result.reference.display_name,
            "whole_longest_mm": whole_mm[0],
            "whole_perpendicular_mm": whole_mm[1],
            "enhancing_longest_mm": enhancing_mm[0],
            "enhancing_perpendicular_mm": enhancing_mm[1],
            "whole_ml": candidate.volume_ml.get(Region.WT),
            "core_ml": candidate.volume_ml.get(Region.TC),
            "enhancing_ml": candidate.volume_ml.get(Region.ET),
            "slice": number,
            "slices": count,
            **self._change_fields(candidate),
        }

    def _diameters(self, candidate: Candidate, region: Region) -> Diameters | None:
        if region is Region.ET and not candidate.has_enhancing:
            return None
        return diameters_of_region(
            self._result.findings, self._result.volumes.labels, candidate, region
        )

    def _longest(self, candidate: Candidate, computed: Diameters | None) -> Line | None:
        """Return the ends of the longest diameter: as placed by a reader, else as computed."""
        reader_diameters = self._result.review.diameters_of(candidate.tracking_uid)
        if reader_diameters is not None:
            return max(reader_diameters, key=lambda line: float(np.linalg.norm(np.subtract(*line))))
        return None if computed is None else computed.ends_mm

    def _change_fields(self, candidate: Candidate) -> dict[str, Any]:
        comparison = self._compared
        change = None if comparison is None else comparison.change_of(candidate.tracking_uid)
        before = None if change is None else change.before
        is_tangled = (
            comparison is not None and change is not None and len(comparison.linked(change)) > 1
        )
        percentage = None if change is None or is_tangled else change.volume_percent
        return {
            "prior_date": self._prior_date,
            "prior_ml": None if before is None else before.whole_ml,
            "change_percent": percentage,
            "new": None if comparison is None else change is None or change.kind is ChangeKind.NEW,
            "tangled": is_tangled,
            "doubtful": comparison is not None and comparison.is_doubtful,
        }


def _count_missing(comparison: Comparison) -> int:
    """Count the lesions that are no longer flagged, as the report does."""
    lesions = [c.before for c in comparison.changes if c.kind is ChangeKind.GONE]
    return sum(lesion is not None and lesion.counts for lesion in lesions)


def axial_slice(ends_mm: Line, grid: Grid) -> tuple[int, int]:
    """Return the axial slice number of a diameter by its ends, and the number of slices.

    Slices are counted from 1 at the feet, as in the window.

    Examples
    --------
    >>> axial_slice(((0.0, 0.0, 4.0), (9.0, 0.0, 4.0)), Grid((10, 10, 20), np.eye(4)))
    (5, 20)
    """
    from_ras = grid.ras_order()
    count = grid.shape[int(np.abs(from_ras[:3, 2]).argmax())]
    voxel = geometry.apply(
        np.asarray(np.linalg.inv(from_ras)), grid.to_voxel(np.mean(ends_mm, axis=0))
    )
    return min(max(int(np.floor(voxel[2] + 0.5)), 0), count - 1) + 1, count


def _diameters_mm(
    candidate: Candidate, region: Region, computed: Diameters | None
) -> tuple[float | None, float | None]:
    """Return both diameters of a part, from the candidate if its diameters measure that part."""
    if region is candidate.measured_part:
        return candidate.longest_axial_diameter_mm, candidate.perpendicular_diameter_mm
    return (None, None) if computed is None else (computed.longest_mm, computed.perpendicular_mm)


def read_template(path: Path) -> str:
    """Read a site's template and check the names in it.

    Raises
    ------
    UnusableInputError
        The file is unreadable, not a template, or uses an unknown field.
    """
    try:
        text = read_text(path, _MAX_TEMPLATE_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnusableInputError(f"Cannot read the template {path.name!r}: {reason}.") from error
    _check_names(_compiled(text), text)
    return text


@cache
def _environment() -> SandboxedEnvironment:
    """Return an environment in which a template reaches nothing but its fields."""
    environment = SandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.clear()
    environment.filters |= {
        "mm": lambda value: wording.number(value, 0),
        "ml": wording.volume,
        "percent": wording.signed_percent,
        "number": wording.number,
        "capitalize": lambda value: capitalized(str(value)),
    }
    return environment


@cache
def _compiled(text: str) -> Template:
    """Compile a template; without blocks it is the sentence of a candidate."""
    try:
        template = _environment().from_string(text)
        if template.blocks or not text.strip():
            return template
        return _environment().from_string(f"{{% block candidate %}}{text}{{% endblock %}}")
    except TemplateSyntaxError as error:
        raise _refusal(f"line {error.lineno} is not valid Jinja ({error.message})") from error


def _check_names(template: Template, text: str) -> None:
    unknown = sorted(set(template.blocks) - set(FIELDS))
    if unknown:
        raise _refusal(f"it has a block {', '.join(unknown)}")
    known = {name for names in FIELDS.values() for name in names}
    unknown = sorted(meta.find_undeclared_variables(_environment().parse(text)) - known)
    if unknown:
        raise _refusal(f"it has an unknown name: {', '.join(unknown)}")


def _render(template: str, values: Mapping[str, Any], name: str) -> str:
    """Fill a block of a site's template, or the built-in one."""
    try:
        blocks = _compiled(template).blocks
        compiled = _compiled(template if name in blocks else _BUILT_IN)
        text = "".join(compiled.blocks[name](compiled.new_context(dict(values))))
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise _refusal(f"it cannot be filled in ({error})") from error
    return re.sub(r" ([;,.])", r"\1", " ".join(text.split()))


def _refusal(problem: str) -> UnusableInputError:
    return UnusableInputError(
        f"The sentence template cannot be used: {problem}.",
        hint="docs/how-to/report.md lists the fields, with an example.",
    )
