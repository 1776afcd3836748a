"""Report sentences for one candidate or the study, from built-in or site templates.

A sentence is a Jinja template over the fields of `FIELDS`. A site's file holds the sentence of a
candidate, or blocks named `candidate` and `study`; the built-in block replaces a missing one.
Templates are untrusted: they can read fields and call a few filters, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, UndefinedError, meta, nodes
from jinja2.environment import Template
from jinja2.exceptions import SecurityError
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from typing_extensions import override

from lesionlens.analysis.findings.measure import Diameters, diameters_of_region
from lesionlens.base import geometry
from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.bounded_read import read_text
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Identity, Region, ReviewState, Source
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.findings import Candidate, Point
from lesionlens.base.records.followup import ChangeKind, Comparison, name_of
from lesionlens.base.text import capitalized
from lesionlens.results.export.report_texts import ReportTexts, load
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
_MAX_CHARACTERS = 20_000
"""Maximum length of a candidate's sentence, and of a study's for each of its candidates."""
_FILTERS = (
    "default", "first", "int", "join", "last", "length", "list", "lower", "map",
    "reject", "rejectattr", "round", "select", "selectattr", "sort", "sum", "trim", "upper",
)  # fmt: skip
_BLOCK = re.compile(r"\{%-?\s*block\s+(\w+)\s*-?%\}(.*?)\{%-?\s*endblock\b[^%]*%\}", re.DOTALL)
_SINGLE_BRACES = re.compile(r"\{\s*[^\W\d]\w*[^{}]*\}")


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
        self._result, self._texts = result, load()
        self._compared = result.compared
        self._blocks = _blocks(template, self._texts)
        self._fields_by_id: dict[int, dict[str, Any]] = {}

    def of(self, candidate: Candidate) -> str:
        """Return a candidate's sentence."""
        return _render(self._blocks["candidate"], self._fields(candidate), "candidate")

    def of_study(self) -> str:
        """Return the study's sentence: how many candidates are not rejected, and each of them."""
        all_candidates = self._result.findings.candidates
        candidates = [c for c in all_candidates if not self._fields(c)["rejected"]]
        comparison = self._compared
        conclusion = self._texts.conclusion(
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
        return _render(self._blocks["study"], values, "study")

    @property
    def _prior_date(self) -> str | None:
        comparison = self._compared
        if comparison is None:
            return None
        prior_index = len(comparison.points) - 2
        if Identity.DATE in self._result.options.hidden:
            return self._texts("fu_examination", n=prior_index + 1)
        return name_of(comparison.points, prior_index)

    def _fields(self, candidate: Candidate) -> dict[str, Any]:
        if candidate.id not in self._fields_by_id:
            self._fields_by_id[candidate.id] = self._compute_fields(candidate)
        return self._fields_by_id[candidate.id]

    def _compute_fields(self, candidate: Candidate) -> dict[str, Any]:
        result, texts, labels = self._result, self._texts, self._result.volumes.labels
        whole, enhancing = (self._diameters(candidate, r) for r in (Region.WT, Region.ET))
        ends = self._longest(candidate, enhancing or whole)
        number, count = (None, None) if ends is None else axial_slice(ends, labels.grid)
        whole_mm = _diameters_mm(candidate, Region.WT, whole)
        enhancing_mm = _diameters_mm(candidate, Region.ET, enhancing)
        state = result.review.state_of(candidate.tracking_uid)
        return {
            "id": candidate.id,
            "place": texts.location_text(candidate.location),
            "side": candidate.location.side or "",
            "lobe": candidate.location.region or "",
            "state": texts.entry("states", state),
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
    """Read a site's template and test it.

    Raises
    ------
    UnusableInputError
        The file is unreadable, not a template, or uses an unknown field.
    """
    try:
        text = read_text(path, _MAX_TEMPLATE_BYTES)
    except (OSError, ValueError) as error:
        expected = f"a text file in UTF-8, of at most {_MAX_TEMPLATE_BYTES // 1024} kB"
        _refuse(f"that cannot be read ({getattr(error, 'strerror', None) or error})", expected)
    blocks = _blocks(text, load())
    for values in _example_values():
        for name in FIELDS:
            _render(blocks[name], values[name], name)
    return text


def _example_values() -> Iterator[dict[str, dict[str, Any]]]:
    """Yield fields that are all known, then all unknown: a template must work with both."""
    numbers = [name for name in CANDIDATE_FIELDS if name.endswith(("_mm", "_ml", "_percent"))]
    all_known: dict[str, Any] = dict.fromkeys(CANDIDATE_FIELDS, "x") | dict.fromkeys(numbers, 12.3)
    all_known |= {"id": 1, "slice": 7, "slices": 20, "score": 0.9, "contrast": True, "new": False,
              "tangled": False, "doubtful": False}  # fmt: skip
    unknown = all_known | dict.fromkeys(numbers) | {"slice": None, "score": None, "contrast": False}
    for values in (all_known, unknown):
        rows = [values, values]
        study = {"candidates": rows, "sentences": ["x", "x"], "conclusion": "x", "gone": 0,
                 "contrast": values["contrast"], "prior_date": values["prior_date"]}  # fmt: skip
        yield {"candidate": values, "study": study}


class _Environment(ImmutableSandboxedEnvironment):
    """Sandbox that allows fields and a few filters; no methods, no calls, bounded output."""

    intercepted_binops = frozenset({"*", "**", "%"})

    @override
    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return isinstance(obj, LoopContext) and not attr.startswith("_")

    @override
    def is_safe_callable(self, obj: Any) -> bool:
        return False

    @override
    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError(f"{operator} of a value that is not a number")
        if operator == "**":
            raise SecurityError("a power")
        return super().call_binop(context, operator, left, right)


def _environment(texts: ReportTexts) -> _Environment:
    environment = _Environment(undefined=StrictUndefined, autoescape=False, trim_blocks=True,
                        lstrip_blocks=True)  # fmt: skip
    environment.filters = {name: environment.filters[name] for name in _FILTERS}
    environment.filters |= {"mm": lambda value: texts.number(value, 0), "ml": texts.volume,
                     "percent": texts.signed_percent, "number": texts.number,
                     "capitalize": lambda value: capitalized(str(value))}  # fmt: skip
    environment.globals.clear()
    environment.loader = None
    return environment


def _blocks(template: str, texts: ReportTexts) -> dict[str, Template]:
    """Return the template of each block: the site's, else the built-in one."""
    return {name: _compile(template, texts, name) for name in FIELDS}


@cache
def _compile(template: str, texts: ReportTexts, name: str) -> Template:
    environment = _environment(texts)
    try:
        blocks = _blocks_of(template)
        source = blocks.get(name) or texts.entry("sentences", name)
        tree = environment.parse(source)
        unknown = sorted(meta.find_undeclared_variables(tree) - set(FIELDS[name]))
        if unknown:
            _refuse(
                f"with an unknown name for {name}: {', '.join(unknown)}",
                f"names of {name}: {', '.join(FIELDS[name])}",
            )
        literal_text = "\n".join(data.data for data in tree.find_all(nodes.TemplateData))
        if printed := _SINGLE_BRACES.search(literal_text):
            _refuse(
                f"that would print {printed[0]} literally, for {name}",
                f"fields in double braces, such as {{{{ {FIELDS[name][0]} }}}}",
            )
        return environment.from_string(source)
    except TemplateSyntaxError as error:
        _refuse(
            f"whose line {error.lineno} is not valid Jinja ({error.message})", "a template of Jinja"
        )


def _blocks_of(template: str) -> dict[str, str]:
    """Return the blocks of a template by name; without blocks, that of a candidate."""
    blocks = {match[1]: match[2] for match in _BLOCK.finditer(template)}
    unknown = sorted(set(blocks) - set(FIELDS))
    if unknown:
        _refuse(f"with a block {', '.join(unknown)}", f"blocks {' and '.join(FIELDS)}, or none")
    return blocks or ({"candidate": template} if template.strip() else {})


def _render(template: Template, values: Mapping[str, Any], name: str) -> str:
    try:
        pieces: list[str] = []
        size, max_size = 0, _MAX_CHARACTERS * max(1, len(values.get("candidates", ())))
        for piece in template.generate(**values):
            size += len(piece)
            if size > max_size:
                _refuse(f"whose text is longer than {max_size} characters", "a sentence")
            pieces.append(piece)
    except UndefinedError as error:
        field_names = ", ".join(FIELDS[name])
        _refuse(f"with an unknown name ({error.message})", f"the fields of {name}: {field_names}")
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        _refuse(f"that cannot be filled in ({error})", "fields, conditions and plain filters")
    return re.sub(r" ([;,.])", r"\1", " ".join("".join(pieces).split()))


def _refuse(problem: str, expected: str) -> NoReturn:
    raise UnusableInputError(
        found=f"a sentence template {problem}",
        expected=expected,
        next_step="Correct the file; docs/how-to/report.md lists the fields, with an example",
    )
