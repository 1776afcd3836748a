"""report.html: one self-contained page for radiologists.

Text is escaped by Jinja2's autoescape; nothing is loaded from elsewhere and there are no scripts.
The content is collected in `page`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from jinja2 import Template

from lesionlens.base.labels import Identity, MrSequence
from lesionlens.base.records.analysis import Analysis
from lesionlens.results.export import pictures, wording
from lesionlens.results.export.html import environment
from lesionlens.results.export.page import Page, map_check_text
from lesionlens.results.export.written import UnconditionalExporter


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
    filters: dict[str, Callable[..., object]] = {
        "number": wording.number,
        "check_name": wording.check_name,
        "score": wording.score,
        "volume": wording.volume,
        "sequence": lambda key: MrSequence(key).display_name,
        "checked": lambda checks: map_check_text(checks),
    }
    return environment(filters=filters).get_template("report.html.j2")


class ReportExporter(UnconditionalExporter):
    """Writes report.html."""

    name = "report"

    def write(self, analysis: Analysis, staged: Path) -> tuple[Path, ...]:
        """Write the page."""
        path = staged / "report.html"
        path.write_text(report_html(analysis), encoding="utf-8")
        return (path,)
