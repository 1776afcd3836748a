"""Content of a report, independent of its format: collected once, in one language.

In the order of a radiology report: patient, technique, findings, impression; checks and provenance
follow as an annex.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from lesionlens.base.dates import ISO_DATE, iso_date
from lesionlens.base.labels import Identity, Label, MrSequence, Region, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.files import FindingsFile, RunFile
from lesionlens.base.records.findings import SEQUENCE_KEYS
from lesionlens.base.records.review import ReviewEvent
from lesionlens.base.records.study import QualityCheck, Series, Study, StudyKind
from lesionlens.base.text import isolated
from lesionlens.imaging.reading.dicom.bounded import DAMAGED, is_of, quiet_header
from lesionlens.results.export import pictures
from lesionlens.results.export.followup import FollowupSection, section_of
from lesionlens.results.export.names import names_of, replace_names
from lesionlens.results.export.pictures import ReportPicture
from lesionlens.results.export.report_texts import ReportTexts, load, moment
from lesionlens.results.export.run import run_file
from lesionlens.results.export.sections import CandidateSection, sections_of
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.slices import SliceScene
from lesionlens.results.export.tables import display_name_of_series, findings_file

_STATEMENTS = {"nothing further seen": "statement_further", "nothing seen": "statement_nothing"}
"""Key of the text of each statement that the window offers to sign."""


@dataclass(frozen=True, slots=True)
class SequenceLine:
    """One sequence."""

    name: str
    reference: bool
    file: str
    """Empty if hidden."""
    evidence: str
    """How it was recognised; empty if hidden."""
    voxels: str
    edges: str


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """Content of a report."""

    texts: ReportTexts
    study: Study
    regions: tuple[Region, ...]
    hidden: frozenset[Identity]
    heading: tuple[tuple[str, str], ...]
    """Names and values: patient and date."""
    technique: str
    """The sequences in one line."""
    content: FindingsFile
    run: RunFile
    candidate_sections: tuple[CandidateSection, ...]
    cavity: str
    """Volume of the resection cavity; empty without one."""
    overview: tuple[ReportPicture, ...]
    """Only without a candidate."""
    impression: tuple[str, ...]
    """The lines at the end."""
    sentence: str
    """The study in one sentence to paste."""
    response: tuple[str, ...]
    """The signed response; empty without one."""
    sequences: tuple[SequenceLine, ...]
    missing_sequences: tuple[str, ...]
    set_aside: str
    """Series that were set aside; empty if hidden."""
    checks: Mapping[Region, MapChecks]
    """Of the attention maps; empty if there are none."""
    scale: str
    """Meaning of the colours of the attention maps."""
    quality_checks: tuple[QualityCheck, ...]
    """Of the input images."""
    warnings: tuple[str, ...]
    followup: FollowupSection | None

    def without_hidden(self, text: str) -> str:
        """Return a sentence without the file names and dates that are hidden."""
        if Identity.DATE in self.hidden:
            text = ISO_DATE.sub("…", text)
        if not self.hidden & {Identity.PATIENT, Identity.SERIES}:
            return text
        return replace_names(text, dict.fromkeys(names_of(self.study), "…"))

    @property
    def colours(self) -> tuple[tuple[str, str], ...]:
        """The outlines' names and colours."""
        regions = [(self.texts.entry("regions", region), region.colour) for region in self.regions]
        if self.cavity:
            regions.append((self.texts("cavity_name"), Label.CAVITY.colour))
        return tuple(regions)

    @property
    def conclusion(self) -> str:
        """How many candidates were flagged, and added by readers."""
        rows = (section.row for section in self.candidate_sections)
        return self.texts.conclusion(rows, omitted=self.run.omitted)

    @property
    def analysed(self) -> str:
        """When the study was analysed; empty if hidden."""
        if Identity.DATE in self.hidden:
            return ""
        return self.texts("analysed", time=moment(self.run.started))

    @property
    def engine(self) -> str:
        """Engine and device."""
        run = self.run
        return self.texts(
            "engine_on",
            engine=run.engine,
            version=run.engine_version,
            device=self.texts.message(run.device),
        )

    @property
    def legend(self) -> str:
        """What sizes, scores and dashes in the table of candidates mean."""
        rows = [section.row for section in self.candidate_sections]
        score = "score_calibrated" if self.run.calibrated else "score_plain"
        figures = [
            (*row.volume_ml.values(), row.score, row.rano_measurable, row.uncertainty)
            for row in rows
        ]
        keys = {
            "size_said": True,
            score: any(row.score is not None for row in rows),
            "dash_said": any(None in values for values in figures),
        }
        return " ".join(self.texts(key) for key, applies in keys.items() if applies)

    @property
    def quality(self) -> str:
        """Outcome of the quality checks in one sentence."""
        checks = self.quality_checks
        failed = sum(not check.passed for check in checks)
        passed = sum(check.outcome is True for check in checks)
        if not checks:
            return self.texts("checks_none")
        if failed:
            return self.texts("checks_failed", n=failed, all=len(checks))
        if passed < len(checks):
            return self.texts("checks_open", n=passed, all=len(checks))
        return self.texts("checks_passed", n=len(checks))


_page_cache: ContextVar[dict[Analysis, Page] | None] = ContextVar("pages by analysis", default=None)


@contextmanager
def cached_pages() -> Iterator[None]:
    """Cache each analysis's page within the block."""
    token = _page_cache.set({})
    try:
        yield
    finally:
        _page_cache.reset(token)


def page_of(analysis: Analysis) -> Page:
    """Return the report content of an analysis; cached within `cached_pages`."""
    pages = _page_cache.get()
    if pages is None:
        return _collect(analysis)
    if analysis not in pages:
        pages[analysis] = _collect(analysis)
    return pages[analysis]


def _collect(analysis: Analysis) -> Page:
    """Collect the report content; rendering images takes most of the time."""
    texts, hidden = load(analysis.options.language), analysis.options.hidden
    content, scene = findings_file(analysis), SliceScene(analysis)
    options = analysis.options
    sentences = Sentences(analysis, options.language, options.sentence_template)
    unsorted = sections_of(analysis, content, scene, sentences, texts)
    sections = tuple(sorted(unsorted, key=lambda section: section.row.apart))
    followup, cavity = section_of(analysis, texts), analysis.volumes.cavity_ml
    messages = {check.message for check in content.quality}
    reference = analysis.prepared.reference
    sequences = _sequence_lines(analysis, texts)
    absent = tuple(s.display_name for s in MrSequence if s not in analysis.study.series)
    series_hidden = Identity.SERIES in hidden
    set_aside_names = () if series_hidden else (s.description for s in analysis.study.set_aside)
    return Page(
        texts=texts,
        study=analysis.study,
        regions=tuple(filter(analysis.findings.distinguishes, analysis.prepared.regions)),
        hidden=hidden,
        heading=_heading(analysis.study, hidden, texts),
        technique=_technique(sequences, absent, texts),
        content=content,
        run=run_file(analysis),
        candidate_sections=sections,
        cavity=texts("cavity", volume=texts.volume(cavity)) if cavity else "",
        overview=() if sections else pictures.overview_pictures(scene, reference, texts),
        impression=_impression_lines(analysis, sections, texts, followup),
        sentence=sentences.of_study(),
        response=_response_lines(analysis, texts),
        sequences=sequences,
        missing_sequences=absent,
        set_aside="; ".join(set_aside_names),
        checks={} if analysis.maps is None else analysis.maps.checks,
        scale=_scale_text(scene.full_scale(Region.WT), texts),
        quality_checks=tuple(
            replace(check, message=texts.message(check.message))
            for check in analysis.findings.quality
        ),
        warnings=tuple(
            texts.message(warning) for warning in content.warnings if warning not in messages
        ),
        followup=followup,
    )


def _heading(
    study: Study, hidden: frozenset[Identity], texts: ReportTexts
) -> tuple[tuple[str, str], ...]:
    """Return names and values of patient and examination; some state that they are hidden."""
    header = _dicom_header(study)
    patient, date = Identity.PATIENT not in hidden, Identity.DATE not in hidden
    representations = str(header.get("PatientName") or "").split("=")
    name = " · ".join(", ".join(filter(None, part.split("^"))) for part in representations if part)
    name, number = isolated(name), isolated(str(header.get("PatientID") or ""))
    study_name = isolated(str(header.get("StudyDescription") or "") or study.name)
    lines = (  # with None the value is stated as hidden, with "" there is no line
        (
            texts("patient"),
            " · ".join(filter(None, dict.fromkeys((name, number)))) if patient else None,
        ),
        (texts("born"), _day(header.get("PatientBirthDate")) if patient else ""),
        (texts("sex"), str(header.get("PatientSex") or "") if patient else ""),
        (texts("examined"), _day(header.get("StudyDate")) if date else None),
        (texts("study"), study_name if patient else None),
    )
    hidden_text = texts("not_shown")
    return tuple(
        (key, hidden_text if value is None else value) for key, value in lines if value != ""
    )


def _dicom_header(study: Study) -> Mapping[str, object]:
    """Return the header of one of the study's files.

    Empty if the file is missing, was replaced, or now names another patient.
    """
    file = study.header_file
    if study.kind is not StudyKind.DICOM or file is None:
        return {}
    keys = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate")
    keywords = [*keys, "StudyDescription", "SpecificCharacterSet", "SOPInstanceUID"]
    try:
        with quiet_header(file.path, force=True, specific_tags=keywords) as header:
            if not is_of(file.sop_instance_uid, header) or file.other_patient(header.get):
                return {}
            return {key: header.get(key) for key in keywords}
    except (OSError, *DAMAGED):
        return {}  # a header that pydicom cannot read completely


def _day(value: object) -> str:
    """Format a DICOM date with hyphens; other text is unchanged."""
    text = str(value or "")
    return iso_date(text) or text


def _technique(
    sequences: tuple[SequenceLine, ...], absent: tuple[str, ...], texts: ReportTexts
) -> str:
    lines = ", ".join(
        texts(
            "voxels_of_reference" if line.reference else "voxels_of",
            sequence=line.name,
            edges=line.edges,
        )
        for line in sequences
    )
    missing = f" {texts('not_there', sequences=', '.join(absent))}" if absent else ""
    return f"{lines}.{missing}"


def _sequence_lines(analysis: Analysis, texts: ReportTexts) -> tuple[SequenceLine, ...]:
    hidden = Identity.SERIES in analysis.options.hidden
    lines = []
    for key in SEQUENCE_KEYS:
        series = analysis.study.series.get(key)
        if series is None:
            continue
        lines.append(
            SequenceLine(
                name=key.display_name,
                reference=key is analysis.prepared.reference,
                file="" if hidden else _file_text(series, texts),
                evidence="" if hidden else texts.message(series.detected_by),
                voxels="×".join(str(n) for n in series.grid.shape),
                edges="×".join(
                    f"{e:.2g}".replace(".", texts("decimal")) for e in series.grid.spacing_mm
                ),
            )
        )
    return tuple(lines)


def _file_text(series: Series, texts: ReportTexts) -> str:
    """Return a series' file, or its folder and number of files; names are not translated."""
    name = display_name_of_series(series)
    return name if name in {file.name for file in series.files} else texts.message(name)


def _impression_lines(
    analysis: Analysis,
    sections: tuple[CandidateSection, ...],
    texts: ReportTexts,
    followup: FollowupSection | None,
) -> tuple[str, ...]:
    """Return the impression: findings, review progress and reader, responsibility."""
    lines = [f"{section.row.id}: {section.summary}" for section in sections]
    decided, total = analysis.review_counts
    if total:
        states = [analysis.review.state_of(section.row.tracking_uid) for section in sections]
        review = texts("reviewed", n=decided, all=total)
        if deferred := states.count(ReviewState.DEFERRED):
            review += " " + texts("deferred_too", n=deferred)
        readers = dict.fromkeys(event.reader for event in analysis.review.events if event.reader)
        if readers:
            review += " " + texts("by_readers", names=", ".join(map(isolated, readers)))
        lines.append(review)
    if analysis.review.signed is not None:
        lines.append(_signature_line(analysis.review.events[-1], texts))
    compared = texts("no_comparison") if followup is None else followup.summary
    return (*lines, compared, texts("physician"))


def _signature_line(event: ReviewEvent, texts: ReportTexts) -> str:
    """Return the signature; a statement that the window offers is in the report's language."""
    reader = isolated(event.reader or texts("unknown"))
    if not event.reason:
        return texts("signed_by", reader=reader)
    statement_key = _STATEMENTS.get(event.reason)
    statement = (
        isolated(event.reason.rstrip(".")) if statement_key is None else texts(statement_key)
    )
    return texts("signed", reader=reader, statement=statement.rstrip("."))


def _response_lines(analysis: Analysis, texts: ReportTexts) -> tuple[str, ...]:
    """Return the signed response and its computation; empty without one."""
    response = analysis.review.response
    if response is None:
        return ()
    hidden = Identity.DATE in analysis.options.hidden
    category = texts.entry("responses", response.category)
    signed = texts(
        "response_outdated" if analysis.response_outdated else "response_signed",
        category=f"{response.category} ({category})",
        reader=isolated(response.reader),
        time="" if hidden else moment(response.time),
        criterion=texts.entry("entered", response.criterion),
        disease=texts.entry("entered", response.disease),
        steroids=texts.entry("entered", response.steroids),
        clinical=texts.entry("entered", response.clinical),
        proposed=response.proposed or texts("unknown"),
    )
    signed = re.sub(" +(?=[ ;])", "", signed)  # where a hidden time would stand
    if hidden or analysis.response_outdated:
        return (signed,)
    return (signed, *map(texts.step, response.steps))


def _scale_text(scale: float, texts: ReportTexts) -> str:
    """Return the meaning of the attention map's colours; `scale` as of `SliceScene.full_scale`."""
    return texts("scale_even", times=texts.number(scale, 0)) if scale > 1 else texts("scale_plain")


def map_check_text(checks: MapChecks, texts: ReportTexts) -> str:
    """Return the outcome of a map's checks, with their values."""
    if checks.kept is None or checks.kept_random is None:
        return texts.verdict(checks)
    percentages = {"kept": texts.percent(checks.kept), "random": texts.percent(checks.kept_random)}
    text = texts("shown_alone", words=texts.verdict(checks), **percentages)
    if checks.deletion is None:
        return text
    return texts("hiding", words=text, left=texts.percent(checks.deletion))
