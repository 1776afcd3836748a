"""Content of a report, independent of its format: collected once.

In the order of a radiology report: patient, technique, findings, impression; checks and provenance
follow as an annex.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from lesionlens.base.labels import Identity, Label, MrSequence, Region, ReviewState
from lesionlens.base.records.analysis import Analysis
from lesionlens.base.records.attention import MapChecks
from lesionlens.base.records.findings import SEQUENCE_KEYS
from lesionlens.base.records.review import ReviewEvent
from lesionlens.base.records.study import QualityCheck, Series, Study, StudyKind
from lesionlens.base.text import ISO_DATE, iso_date, isolated
from lesionlens.imaging.reading.dicom.files import DAMAGED, is_of, quiet_header
from lesionlens.results.export import pictures, wording
from lesionlens.results.export.followup import FollowupSection, section_of
from lesionlens.results.export.pictures import ReportPicture
from lesionlens.results.export.run import run_file
from lesionlens.results.export.sections import CandidateSection
from lesionlens.results.export.sentence import Sentences
from lesionlens.results.export.slices import SliceScene
from lesionlens.results.export.tables import display_name_of_series, findings_file
from lesionlens.results.export.wording import moment


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


_CALIBRATED = (
    "The score is the probability that the region is tumour-like, calibrated on a small number of "
    "scans, most of them synthetic."
)
_NOT_CALIBRATED = "The score ranks candidates; it is not a calibrated probability."


class Page:
    """Content of a report of an analysis; each part is made once, when it is first read."""

    def __init__(self, analysis: Analysis) -> None:
        options = analysis.options
        self._analysis, self.hidden = analysis, options.hidden
        self._scene = SliceScene(analysis)
        self._sentences = Sentences(analysis, options.sentence_template)
        self._content = findings_file(analysis)
        self.run = run_file(analysis)

    def without_hidden(self, text: str) -> str:
        """Return a sentence without the file names and dates that are hidden."""
        if Identity.DATE in self.hidden:
            text = ISO_DATE.sub("…", text)
        if not self.hidden & {Identity.PATIENT, Identity.SERIES}:
            return text
        for name in sorted(_names_of(self._analysis.study), key=len, reverse=True):
            text = re.sub(rf"(?<![^\W\d_]){re.escape(name)}(?![^\W\d_])", "…", text)
        return text

    @property
    def colours(self) -> tuple[tuple[str, str], ...]:
        """The outlines' names and colours."""
        regions = filter(self._analysis.findings.distinguishes, self._analysis.prepared.regions)
        colours = [(region.display_name, region.colour) for region in regions]
        if self.cavity:
            colours.append(("resection cavity", Label.CAVITY.colour))
        return tuple(colours)

    @property
    def conclusion(self) -> str:
        """How many candidates were flagged, and added by readers."""
        rows = (section.row for section in self.candidate_sections)
        return wording.conclusion(rows, omitted=self.run.omitted)

    @property
    def analysed(self) -> str:
        """When the study was analysed; empty if hidden."""
        if Identity.DATE in self.hidden:
            return ""
        return f"analysed {moment(self.run.started)}"

    @property
    def engine(self) -> str:
        """Engine and device."""
        run = self.run
        return f"{run.engine} {run.engine_version} on {run.device}"

    @property
    def legend(self) -> str:
        """What sizes, scores and dashes in the table of candidates mean."""
        rows = [section.row for section in self.candidate_sections]
        figures = [
            (*row.volume_ml.values(), row.score, row.rano_measurable, row.uncertainty)
            for row in rows
        ]
        sentences = [
            "Size: longest × perpendicular diameter on an axial plane at 1 mm, of the part named."
        ]
        if any(row.score is not None for row in rows):
            sentences.append(_CALIBRATED if self.run.calibrated else _NOT_CALIBRATED)
        if any(None in values for values in figures):
            sentences.append(
                "A dash stands for a value that could not be computed; the warnings give the "
                "reason."
            )
        return " ".join(sentences)

    @property
    def quality(self) -> str:
        """Outcome of the quality checks in one sentence."""
        checks = self.quality_checks
        failed = sum(not check.passed for check in checks)
        passed = sum(check.outcome is True for check in checks)
        if not checks:
            return "The image quality was not checked."
        if failed:
            return f"{failed} of {len(checks)} quality checks failed:"
        if passed < len(checks):
            return f"{passed} of {len(checks)} quality checks passed; the rest are undecided."
        return f"All quality checks passed ({len(checks)})."

    @cached_property
    def heading(self) -> tuple[tuple[str, str], ...]:
        """Names and values of patient and examination; some state that they are hidden."""
        study = self._analysis.study
        header = _dicom_header(study)
        patient, date = Identity.PATIENT not in self.hidden, Identity.DATE not in self.hidden
        forms = str(header.get("PatientName") or "").split("=")
        name = " · ".join(", ".join(filter(None, part.split("^"))) for part in forms if part)
        name, number = isolated(name), isolated(str(header.get("PatientID") or ""))
        named = " · ".join(filter(None, dict.fromkeys((name, number))))
        study_name = isolated(str(header.get("StudyDescription") or "") or study.name)
        lines = (  # with None the value is stated as hidden, with "" there is no line
            ("Patient", named if patient else None),
            ("Born", _day(header.get("PatientBirthDate")) if patient else ""),
            ("Sex", str(header.get("PatientSex") or "") if patient else ""),
            ("Examined", _day(header.get("StudyDate")) if date else None),
            ("Study", study_name if patient else None),
        )
        return tuple((k, "not shown" if v is None else v) for k, v in lines if v != "")

    @cached_property
    def sequences(self) -> tuple[SequenceLine, ...]:
        """The sequences that were analysed."""
        series = self._analysis.study.series
        return tuple(
            self._sequence_line(key, series[key]) for key in SEQUENCE_KEYS if key in series
        )

    def _sequence_line(self, key: MrSequence, series: Series) -> SequenceLine:
        hidden = Identity.SERIES in self.hidden
        edges = "×".join(f"{edge:.2g}" for edge in series.grid.spacing_mm)
        return SequenceLine(
            name=key.display_name,
            reference=key is self._analysis.reference,
            file="" if hidden else display_name_of_series(series),
            evidence="" if hidden else series.detected_by,
            voxels="×".join(str(n) for n in series.grid.shape),
            edges=edges,
        )

    @property
    def missing_sequences(self) -> tuple[str, ...]:
        """The sequences that the study does not have."""
        present = self._analysis.study.series
        return tuple(s.display_name for s in MrSequence if s not in present)

    @property
    def technique(self) -> str:
        """The sequences in one line."""
        lines = ", ".join(
            f"{line.name} ({line.edges} mm{'; the voxel grid of the results' * line.reference})"
            for line in self.sequences
        )
        absent = ", ".join(self.missing_sequences)
        return f"{lines}. Missing: {absent}." if absent else f"{lines}."

    @property
    def set_aside(self) -> str:
        """Series that were set aside; empty if hidden."""
        series = () if Identity.SERIES in self.hidden else self._analysis.study.set_aside
        return "; ".join(s.description for s in series)

    @cached_property
    def candidate_sections(self) -> tuple[CandidateSection, ...]:
        """The candidates."""
        shared = self._analysis, self._scene, self._sentences
        return tuple(CandidateSection(*shared, row) for row in self._content.candidates)

    @property
    def cavity(self) -> str:
        """Volume of the resection cavity; empty without one."""
        volume = self._analysis.volumes.cavity_ml
        return (
            f"Resection cavity: {wording.volume(volume)}, not counted as tumour." if volume else ""
        )

    @cached_property
    def overview(self) -> tuple[ReportPicture, ...]:
        """Pictures of the head; only without a candidate."""
        if self.candidate_sections:
            return ()
        return pictures.overview_pictures(self._scene, self._analysis.reference)

    @cached_property
    def sentence(self) -> str:
        """The study in one sentence to paste."""
        return self._sentences.of_study()

    @property
    def checks(self) -> Mapping[Region, MapChecks]:
        """Checks of the attention maps; empty if there are none."""
        maps = self._analysis.maps
        return {} if maps is None else maps.checks

    @property
    def scale(self) -> str:
        """Meaning of the colours of the attention maps."""
        scale = self._scene.full_scale(Region.WT)
        times = wording.number(scale, 0)
        return f"attention 1 to {times} × uniform" if scale > 1 else "attention 0 to 1"

    @cached_property
    def quality_checks(self) -> tuple[QualityCheck, ...]:
        """Checks of the input images."""
        return self._analysis.findings.quality

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """The warnings, without those that the checks state."""
        stated = {check.message for check in self._content.quality}
        return tuple(warning for warning in self._content.warnings if warning not in stated)

    @cached_property
    def followup(self) -> FollowupSection | None:
        """The comparison with earlier examinations."""
        return section_of(self._analysis)

    @cached_property
    def impression(self) -> tuple[str, ...]:
        """The lines at the end: findings, review progress and reader, responsibility."""
        review = self._analysis.review
        sections = self.candidate_sections
        lines = [f"{section.row.id}: {section.summary}" for section in sections]
        decided, total = self._analysis.review_counts
        if total:
            states = [review.state_of(section.row.tracking_uid) for section in sections]
            progress = f"{decided} of {total} reviewed."
            if deferred := states.count(ReviewState.DEFERRED):
                progress += f" {deferred} deferred."
            readers = dict.fromkeys(event.reader for event in review.events if event.reader)
            if readers:
                progress += f" Readers: {', '.join(map(isolated, readers))}."
            lines.append(progress)
        if review.signature is not None:
            lines.append(_signature_line(review.signature))
        compared = (
            "Comparison: no earlier examination was read."
            if self.followup is None
            else self.followup.summary
        )
        return (*lines, compared, "Reading and diagnosis remain with the physician.")

    @cached_property
    def response(self) -> str:
        """The signed response; empty without one."""
        response = self._analysis.review.response
        if response is None:
            return ""
        hidden = Identity.DATE in self.hidden
        category = f"{response.category} ({response.category.display_name})"
        reader = isolated(response.reader) + ("" if hidden else f" {moment(response.time)}")
        if self._analysis.response_outdated:
            return (
                f"{category} by {reader} was based on other measurements or decisions: it is "
                "invalid until it is signed again."
            )
        signed = f"{category}, signed by {reader}."
        return signed if hidden else f"{signed} Baseline: {response.baseline}."


def _names_of(study: Study) -> frozenset[str]:
    """Return the names of a study, its files and series; a sequence's own name is none."""
    files = [PurePosixPath(file.name) for series in study.all_series for file in series.files]
    names = {study.name, *map(str, files), *(file.name for file in files)}
    names |= {series.description for series in study.all_series}
    own = {"", *(sequence.display_name.casefold() for sequence in MrSequence)}
    return frozenset(name for name in names if name.casefold() not in own)


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
        with quiet_header(file.path, specific_tags=keywords) as header:
            if not is_of(file.sop_instance_uid, header) or file.other_patient(header.get):
                return {}
            return {key: header.get(key) for key in keywords}
    except (OSError, *DAMAGED):
        return {}  # a header that pydicom cannot read completely


def _day(value: object) -> str:
    """Format a DICOM date with hyphens; other text is unchanged."""
    text = str(value or "")
    return iso_date(text) or text


def _signature_line(event: ReviewEvent) -> str:
    """Return the signature with its statement."""
    reader = isolated(event.reader or "–")
    if not event.reason:
        return f"Signed by {reader}."
    return f"Signed by {reader}: {isolated(event.reason.rstrip('.'))}."
