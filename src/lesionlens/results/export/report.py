"""report.html: one self-contained page for radiologists.

Text is escaped by Jinja2's autoescape; nothing is loaded from elsewhere and there are no scripts.
The content is collected in `page`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from lesionlens.base.labels import RESEARCH_USE_NOTICE, Identity, MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export import pictures, wording
from lesionlens.results.export.page import Page
from lesionlens.results.export.written import UnconditionalExporter

_OVERRIDES = re.compile("[\u202a-\u202e]")


def report_html(analysis: Analysis) -> str:
    """Return the whole page."""
    page = Page(analysis)
    return _template().render(
        page=page,
        run=page.run,
        regions=page.colours,
        attention_colour=pictures.ATTENTION_COLOUR,
        heat_stops=pictures.HEAT_STOPS,
        attention=analysis.maps,
        files_shown=Identity.SERIES not in page.hidden,
        uid=None if Identity.PATIENT in page.hidden else analysis.study.uid,
    )


@cache
def _template() -> Template:
    """Return the template; compiling it takes longer than rendering."""
    env = Environment(
        loader=PackageLoader("lesionlens.results.export"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_remove_overrides,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.globals["research_use_notice"] = RESEARCH_USE_NOTICE
    env.filters |= {
        "number": wording.number,
        "check_name": wording.check_name,
        "score": wording.score,
        "volume": wording.volume,
        "sequence": lambda key: MrSequence(key).display_name,
    }
    return env.get_template("report.html.j2")


def _remove_overrides(value: object) -> object:
    """Remove direction overrides from text: an unclosed one reverses the text after it."""
    return _OVERRIDES.sub("", value) if type(value) is str else value


class ReportExporter(UnconditionalExporter):
    """Writes report.html."""

    name = "report"

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the page."""
        path = staged / "report.html"
        path.write_text(report_html(analysis), encoding="utf-8")
        return (path,)
