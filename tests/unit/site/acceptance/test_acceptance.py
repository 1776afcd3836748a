"""A site's own cases against bounds that were stated beforehand."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from types import SimpleNamespace

import pytest
from tests.helpers.stale_share import make_stale
from tests.phantoms.acquire import AXIAL, Acquisition
from tests.phantoms.analysis import make_analysis, write_study
from tests.phantoms.files import write_dicom, write_nifti

from lesionlens.analysis.evaluation.cases import find_cases
from lesionlens.analysis.evaluation.summary import CaseScore
from lesionlens.base.errors import CancelledError, ConfigError, UnusableInputError
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.results.export.exporter import save
from lesionlens.site.acceptance import accept as module
from lesionlens.site.acceptance import report as report_module
from lesionlens.site.acceptance import signing
from lesionlens.site.acceptance.accept import SiteTest, accept
from lesionlens.site.acceptance.bounds import AcceptanceBounds, read_bounds
from lesionlens.site.acceptance.case_attributes import Facts, facts_of, scanners_table
from lesionlens.site.acceptance.report import html
from lesionlens.site.cohort.run import CohortRun
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.records import Status, StudyOutcome


def scores(values, **more):
    return [CaseScore(f"c{n}", False, None, {"wt": v, **more}) for n, v in enumerate(values)]


def judged(values, bound, least_cases=3, **how):
    bounds = AcceptanceBounds(least_cases=least_cases, overall={"dice_wt": bound}, **how)
    return module._judge("dice_wt", bound, scores(values), bounds).verdict


@pytest.mark.parametrize("surely", [False, True])
@pytest.mark.parametrize(("cases", "bound"), [(10, 0.8), (13, 0.7), (21, 0.95)])
def test_a_mean_exactly_at_the_bound_keeps_it(cases, bound, surely):
    """Four of five lesions found in each of ten cases sum to 7.999999999999999."""
    assert judged([bound] * cases, bound, surely=surely) == "passed"
    assert judged([bound - 1e-6] * cases, bound, surely=surely) == "failed"


def test_a_bound_that_is_missed_by_little_is_not_shown_as_kept():
    bounds = AcceptanceBounds(least_cases=3, least_cases_in_all=3, overall={"dice_wt": 0.8})
    group = module._group("all", "all cases", scores([0.7996] * 3), bounds.overall, bounds)
    assert group.judged[0].verdict == "failed"
    assert report_module._mean_text(group.judged[0]) == "0.799600"
    sure = bounds.model_copy(update={"surely": True})
    group = module._group("all", "all cases", scores([0.79, 0.8, 0.9]), bounds.overall, sure)
    assert report_module._mean_text(group.judged[0]) == "0.830 (0.790 – 0.900)"


def test_a_bound_is_judged_by_the_mean_or_by_the_interval():
    values = [0.6, 0.9, 0.9, 0.9, 0.9]
    assert judged(values, 0.8) == "passed"
    assert judged(values, 0.8, surely=True) == "failed"
    assert judged(values, 0.85) == "failed"
    assert judged(values[:2], 0.1) == "too few cases"
    assert judged([0.9], 0.8, least_cases=1) == "passed"
    assert judged([0.9], 0.8, least_cases=1, surely=True) == "too few cases"


def test_one_failure_is_seen_in_the_smallest_group():
    failed = [CaseScore("x", False, failed=True)]
    assert module._judge("failures", 0.0, failed, AcceptanceBounds()).verdict == "failed"
    fine = [CaseScore("x", False)]
    assert module._judge("failures", 0.0, fine, AcceptanceBounds()).verdict == "too few cases"


def test_bounds_are_read_and_unknown_ones_refused(tmp_path):
    place = tmp_path / "bounds.toml"
    place.write_text("least_cases = 4\nsurely = true\n[overall]\ndice_wt = 1\n[groups]\n")
    found = read_bounds(place)
    assert (found.least_cases, found.surely, found.overall, found.groups) == (
        4, True, {"dice_wt": 1.0}, {},
    )  # fmt: skip
    place.write_text("[overall]\ndice = 0.8\n")
    with pytest.raises(ConfigError, match="the metric 'dice'"):
        read_bounds(place)
    for cannot_be in ("dice_wt = 80", "failures = 1.2", "hd95_wt_mm = -1"):
        place.write_text(f"[overall]\n{cannot_be}\n")
        with pytest.raises(ConfigError, match=r", not (from 0 to 1|0 or more)"):
            read_bounds(place)
    place.write_text("least_cases = 'ten'\n")
    with pytest.raises(ConfigError, match="least_cases"):
        read_bounds(place)
    place.write_text("[overall\n")
    with pytest.raises(ConfigError, match=r"bounds\.toml"):
        read_bounds(place)
    for unreadable in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(ConfigError, match=r"no readable file .*Check --bounds"):
            read_bounds(unreadable)


def test_facts_come_from_headers_sidecars_or_the_site(tmp_path, monkeypatch):
    patient = make_patient(spacing_mm=4.0)
    write_dicom(patient, tmp_path / "dicom", how={s: Acquisition(AXIAL) for s in patient.sequences})
    found = facts_of(tmp_path / "dicom")
    assert found.scanner != "not known"
    assert "T1c" in found.sequences
    write_nifti(patient, tmp_path / "nifti")
    assert facts_of(tmp_path / "nifti").scanner == "not known"
    assert facts_of(tmp_path / "nifti").thickness == "3 to 5 mm"
    about = {
        "Manufacturer": "Acme",
        "ManufacturersModelName": "Acme One",
        "MagneticFieldStrength": 3,
    }
    (tmp_path / "nifti" / "t1.json").write_text(json.dumps(about))
    assert facts_of(tmp_path / "nifti").scanner == "Acme One 3 T"
    assert facts_of(tmp_path / "nifti", "room 2").scanner == "room 2"
    make_stale(monkeypatch, tmp_path / "nifti" / "t1.nii.gz")
    assert facts_of(tmp_path / "nifti", "room 2") == Facts(scanner="room 2")


SITE_LESIONS = ((Lesion((-28.0, 8.0, 26.0), 20.0),), (Lesion((30.0, -30.0, 20.0), 14.0),), ())


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three cases of two scanners; the last has nothing."""
    root = tmp_path_factory.mktemp("site")
    for seed, some in enumerate(SITE_LESIONS):
        patient = make_patient(seed, spacing_mm=4.0, lesions=some)
        write_nifti(patient, root / f"case{seed}", reference=True)
    (root / "patients.tsv").write_text(
        "case\tpatient\tscanner\ncase0\ta\tone\ncase1\tb\tone\ncase2\tc\t<b>two</b>\n"
    )
    return root


@pytest.fixture
def scored(monkeypatch):
    """`scored(found)`: nothing is analysed, and these are the scores of the cases."""

    def use(found):
        monkeypatch.setattr(module, "run_cohort", lambda *_, **__: CohortRun((), 0))
        monkeypatch.setattr(module, "evaluate", lambda *_: copy.deepcopy(found))

    return use


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("c1\tone\nC2\ttwo\n", "a row for 'C2'.* none for the case 'c2'"),
        ("c1\tone\nc1\ttwo\nc2\ttwo\n", "two rows for the case 'c1'"),
    ],
)
def test_a_scanner_of_a_misspelt_case_or_of_two_is_refused(tmp_path, rows, why):
    """The case was in the group of no scanner, or of the last row's, without a word."""
    table = tmp_path / "patients.tsv"
    table.write_text(f"case\tscanner\n{rows}")
    with pytest.raises(ConfigError, match=why):
        scanners_table(tmp_path, ["c1", "c2"])
    table.write_text("case\tscanner\nc1\tone\nc2\t\nelsewhere\ttwo\n")
    assert scanners_table(tmp_path, ["c1", "c2"])["c1"] == "one"
    assert "c2" not in scanners_table(tmp_path, ["c1", "c2"])
    table.write_text("case\tpatient\nc1\tone\nelsewhere\ttwo\n")
    assert scanners_table(tmp_path, ["c1", "c2"]) == {}


@pytest.mark.slow
def test_a_site_is_tested_signed_and_what_was_changed_is_seen(site, tmp_path, random_weights):
    bounds = AcceptanceBounds(
        least_cases=2, least_cases_in_all=3, groups={"dice_wt": 0.9, "failures": 0.0}
    )
    test = SiteTest(
        site, tmp_path, bounds, CohortChoice(EngineChoice("cpu", weights=str(random_weights)))
    )
    report = accept(test)
    assert not report.passed  # weights that learnt nothing
    assert report.signed_by is None
    assert [case.healthy for case in report.cases] == [False, False, True]
    assert {(g.dimension, g.group, g.cases) for g in report.groups} >= {
        ("all", "all cases", 3), ("scanner", "one", 2), ("scanner", "<b>two</b>", 1),
    }  # fmt: skip
    assert report.weights_sha256 == hashlib.sha256(random_weights.read_bytes()).hexdigest()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("run.json")}
    signed = accept(SiteTest(site, tmp_path, bounds, test.choice, signed_by="A. Physicist"))
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "results").rglob("run.json")}
    assert signed.signed_by == "A. Physicist"
    sums = dict(
        line.split()[::-1] for line in (tmp_path / "acceptance.sha256").read_text().splitlines()
    )
    for name, digest in sums.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    assert set(sums) == {"acceptance.json", "acceptance.html"}
    page = (tmp_path / "acceptance.html").read_text()
    assert "<b>two</b>" not in page
    assert "&lt;b&gt;two&lt;/b&gt;" in page
    assert "http" not in page


def test_a_case_that_fails_fails_the_test(site, tmp_path, scored):
    """Nothing is analysed: every case is without a result but one that is scored."""
    scored([CaseScore(f"case{n}", False, failed=True) for n in range(3)])
    report = accept(SiteTest(site, tmp_path, AcceptanceBounds(least_cases_in_all=1)))
    assert not report.passed
    assert "cases without a result (share) 1.000, at most 0 required" in report.broken[0]
    assert "Bounds that are not met" in html(report)


def test_a_result_of_earlier_weights_is_not_scored_where_these_failed(site, tmp_path, monkeypatch):
    outcomes = (
        StudyOutcome("case0", Status.ANALYSED, 0, ""),
        StudyOutcome("case1", Status.FAILED, 1, "too little memory"),
        StudyOutcome("case2", Status.ANALYSED, 0, ""),
    )
    monkeypatch.setattr(module, "run_cohort", lambda *_, **__: CohortRun(outcomes, 0))
    monkeypatch.setattr(module, "evaluate", lambda *_: scores([1.0] * 3, sensitivity=1.0))
    report = accept(SiteTest(site, tmp_path, AcceptanceBounds(least_cases_in_all=1)))
    assert report.cases[1].metrics["wt"] == report.cases[1].metrics["sensitivity"] == 0
    assert report.cases[1].problems == ("not analysed: too little memory",)
    assert any("cases without a result (share) 0.333" in one for one in report.broken)
    none = CohortRun((outcomes[1],), 0)
    monkeypatch.setattr(module, "run_cohort", lambda *_, **__: none)
    with pytest.raises(UnusableInputError, match="too little memory"):
        accept(SiteTest(site, tmp_path))


def test_what_somebody_signed_stays(site, tmp_path, scored):
    scored(scores([1.0] * 3))
    accept(SiteTest(site, tmp_path))
    accept(SiteTest(site, tmp_path, signed_by="A. Physicist"))
    signed = (tmp_path / "acceptance.json").read_bytes()
    accept(SiteTest(site, tmp_path))
    accept(SiteTest(site, tmp_path))
    (kept,) = (tmp_path / "signed").iterdir()
    assert (kept / "acceptance.json").read_bytes() == signed
    assert {p.name for p in kept.iterdir()} == {
        "acceptance.json", "acceptance.html", "acceptance.sha256",
    }  # fmt: skip


def test_what_somebody_signs_while_the_page_is_written_anew_stays(
    site, tmp_path, monkeypatch, scored
):
    scored(scores([1.0] * 3))
    accept(SiteTest(site, tmp_path))

    def meanwhile(report):
        monkeypatch.setattr(module, "html", html)
        accept(SiteTest(site, tmp_path, signed_by="A. Physicist"))
        return html(report)

    monkeypatch.setattr(module, "html", meanwhile)
    accept(SiteTest(site, tmp_path))
    (kept,) = (tmp_path / "signed").glob("*/acceptance.json")
    assert json.loads(kept.read_text())["signed_by"] == "A. Physicist"


def test_a_page_whose_replacement_was_killed_is_restored_before_it_is_signed(
    site, tmp_path, scored
):
    """From Python it counted as not written yet; the command restores it."""
    scored(scores([1.0] * 3))
    accept(SiteTest(site, tmp_path))
    names = [module.RECORD, module.PAGE, module.SUMS]
    hidden = tmp_path / ".lesionlens-0123456789ab"
    for name in names:
        (hidden / "old").mkdir(parents=True, exist_ok=True)
        (tmp_path / name).rename(hidden / "old" / name)
    (hidden / "new").mkdir()
    (hidden / "journal.json").write_text(json.dumps({"files": names, "made": []}))
    assert accept(SiteTest(site, tmp_path, signed_by="A. Physicist")).signed_by == "A. Physicist"


def of_site(values, **more):
    """Scores of the site's cases."""
    return [CaseScore(f"case{n}", False, None, {"wt": v, **more}) for n, v in enumerate(values)]


def test_figures_that_nobody_has_read_are_not_signed(site, tmp_path, scored):
    """A reference was changed after the page was written."""
    scored(of_site([0.915, 0.9, 0.9], fp=1.0))
    signed = SiteTest(site, tmp_path, signed_by="A. Physicist")
    with pytest.raises(UnusableInputError, match="was not written yet"):
        accept(signed)
    assert list(tmp_path.iterdir()) == []
    accept(SiteTest(site, tmp_path))
    page = (tmp_path / "acceptance.html").read_bytes()
    scored(of_site([0.455, 0.9, 0.9], fp=1.0))
    with pytest.raises(UnusableInputError) as refused:
        accept(signed)
    assert "case0: its figures, attributes or files changed" in refused.value.found
    assert "case1" not in refused.value.found
    assert (tmp_path / "acceptance.html").read_bytes() == page
    other = AcceptanceBounds(least_cases_in_all=1)
    scored(of_site([0.915, 0.9, 0.9], fp=1.0))
    with pytest.raises(UnusableInputError, match="other bounds"):
        accept(SiteTest(site, tmp_path, other, signed_by="A. Physicist"))
    assert accept(signed).signed_by == "A. Physicist"
    # analysed again: the same figures after another time
    scored(of_site([0.915, 0.9, 0.9], fp=1.0, explaining=0.3))
    assert accept(signed).signed_by == "A. Physicist"


@pytest.fixture
def page_report(site, tmp_path, scored):
    scored(of_site([0.9, 0.9, 0.9]))
    return accept(SiteTest(site, tmp_path))


def test_a_page_of_other_weights_is_not_signed(page_report):
    other = page_report.model_copy(update={"weights_sha256": "0" * 64})
    for current in (other, page_report.model_copy(update={"engine": "other"})):
        with pytest.raises(UnusableInputError, match="another engine or other weights"):
            signing.check_figures_unchanged(page_report, current)
    signing.check_figures_unchanged(page_report, page_report)


def test_cases_that_came_or_went_after_the_page_are_named_and_the_rest_counted(page_report):
    first, *others = page_report.cases
    later = [case.model_copy(update={"name": f"late{n}"}) for n, case in enumerate(others)]
    current = page_report.model_copy(update={"cases": (first, *later)})
    with pytest.raises(UnusableInputError) as refused:
        signing.check_figures_unchanged(page_report, current)
    gone = [f"{case.name} is no longer among the cases" for case in others]
    named = "; ".join([*gone, "late0 is new", "and 1 more"])
    assert refused.value.found == f"figures that differ from those on the page: {named}"


def test_a_bound_that_was_dropped_after_the_page_is_named(page_report):
    bounds = page_report.bounds
    fewer = {metric: bound for metric, bound in bounds.overall.items() if metric != "dice_wt"}
    fewer_bounds = bounds.model_copy(update={"overall": fewer})
    for before, after, says in (
        (bounds, fewer_bounds, f"overall dice_wt {bounds.overall['dice_wt']:g}, now none"),
        (fewer_bounds, bounds, f"overall dice_wt none, now {bounds.overall['dice_wt']:g}"),
    ):
        previous = page_report.model_copy(update={"bounds": before})
        current = page_report.model_copy(update={"bounds": after})
        with pytest.raises(UnusableInputError, match=re.escape(f"other bounds ({says})")):
            signing.check_figures_unchanged(previous, current)


def test_a_case_that_cannot_be_opened_has_the_scanner_of_the_site_alone(tmp_path):
    (tmp_path / "t1c.nii.gz").write_bytes(b"not a scan")
    assert facts_of(tmp_path) == Facts()
    assert facts_of(tmp_path, "room 2") == Facts(scanner="room 2")


def test_a_replaced_segmentation_is_not_signed(site, tmp_path, monkeypatch):
    results = tmp_path / "results"
    for seed, case in enumerate(sorted(p for p in site.iterdir() if p.is_dir())):
        lesions = SITE_LESIONS[seed]
        patient = make_patient(seed, spacing_mm=4.0, lesions=lesions)
        study = write_study(patient, tmp_path / "studies" / case.name)
        save(make_analysis(patient, study), results / case.name)
    monkeypatch.setattr(module, "run_cohort", lambda *_, **__: CohortRun((), 0))
    accept(SiteTest(site, tmp_path))
    file = results / "case1" / "segmentation.nii.gz"
    kept = file.read_bytes()
    file.write_bytes((results / "case0" / "segmentation.nii.gz").read_bytes())
    signed = SiteTest(site, tmp_path, signed_by="A. Physicist")
    with pytest.raises(UnusableInputError, match=r"case1: changed since.*segmentation\.nii\.gz"):
        accept(signed)
    file.write_bytes(kept)
    assert accept(signed).signed_by == "A. Physicist"


def test_results_of_an_earlier_release_are_named_and_not_signed_for_this_one(
    site, tmp_path, monkeypatch, scored
):
    """Cases are not analysed again after an update, and the page names this release."""
    scored(of_site([0.9] * 3))
    test = SiteTest(site, tmp_path)
    assert not any(case.problems for case in accept(test).cases)
    run = {"versions": {"lesionlens": "0.1"}}
    monkeypatch.setattr(
        module, "read_run_json", lambda result: run if result.name == "case1" else {}
    )
    with pytest.raises(UnusableInputError, match=r"case1: its result was made by release 0\.1"):
        accept(SiteTest(site, tmp_path, signed_by="A. Physicist"))
    assert [len(case.problems) for case in accept(test).cases] == [0, 1, 0]
    assert "release 0.1 of LesionLens" in (tmp_path / "acceptance.html").read_text()


def test_a_problem_that_is_gone_is_what_the_record_names(site, tmp_path, scored):
    """It said that figures, attributes or files of the case had changed, and none had."""
    seen = of_site([0.9] * 3)
    seen[1].problems.append("its header states no orientation")
    scored(seen)
    test = SiteTest(site, tmp_path)
    accept(test)
    scored(of_site([0.9] * 3))
    (text,) = accept(test).history
    assert text.endswith("case1: no longer so: its header states no orientation")


def test_results_of_another_network_are_named_and_not_signed(site, tmp_path, monkeypatch, scored):
    """With --fall-back some cases are analysed here once the server fails: the page named one."""
    scored(of_site([0.9] * 3))
    server = {"engine": "theirs", "engine_version": "7", "weights_sha256": "a" * 64}
    here = {"engine": "lens", "engine_version": "1", "weights_sha256": "b" * 64}
    runs = dict.fromkeys(("case0", "case1", "case2"), server)
    monkeypatch.setattr(module, "read_run_json", lambda result: runs[result.name])
    tested = SimpleNamespace(weights_sha256=server["weights_sha256"])
    monkeypatch.setattr(module, "engine_info", lambda _: tested)
    assert not any(case.problems for case in accept(SiteTest(site, tmp_path)).cases)
    runs["case1"] = here
    with pytest.raises(UnusableInputError, match=r"case1: its result was made by lens 1, not by"):
        accept(SiteTest(site, tmp_path, signed_by="A. Physicist"))
    report = accept(SiteTest(site, tmp_path))
    assert report.engine == "theirs 7"
    assert [len(case.problems) for case in report.cases] == [0, 1, 0]


def test_a_page_of_other_weights_is_refused_before_its_results_are_replaced(
    site, tmp_path, monkeypatch, scored, random_weights
):
    """Every case was analysed anew, over the results of the page, and then nothing was signed."""
    scored(of_site([0.9] * 3))
    run = {"engine": "lens", "engine_version": "1", "weights_sha256": "b" * 64}
    monkeypatch.setattr(module, "read_run_json", lambda _: run)
    choice = CohortChoice(EngineChoice("cpu", weights=str(random_weights)))
    accept(SiteTest(site, tmp_path, choice=choice))
    calls = []
    monkeypatch.setattr(module, "run_cohort", lambda *_, **__: calls.append(1) or CohortRun((), 0))
    with pytest.raises(UnusableInputError, match="other weights than those of the page") as refused:
        accept(SiteTest(site, tmp_path, choice=choice, signed_by="A. Physicist"))
    assert "SHA-256 bbbbbbbbbbbb…" in refused.value.expected
    assert not calls
    run["weights_sha256"] = hashlib.sha256(random_weights.read_bytes()).hexdigest()
    accept(SiteTest(site, tmp_path, choice=choice))
    signed = accept(SiteTest(site, tmp_path, choice=choice, signed_by="A. Physicist"))
    assert signed.signed_by == "A. Physicist"


def test_weights_replaced_under_their_name_since_the_page_are_other_weights(
    site, tmp_path, monkeypatch, scored, random_weights, refining_weights
):
    """The network of the first signature was kept, and its weights passed for those of the file."""
    scored(of_site([0.9] * 3))
    path = tmp_path / "ours.safetensors"
    shutil.copyfile(random_weights, path)
    run = {"engine": "lens", "engine_version": "1",
           "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}  # fmt: skip
    monkeypatch.setattr(module, "read_run_json", lambda _: run)
    choice = CohortChoice(EngineChoice("cpu", weights=str(path)))
    signing_test = SiteTest(site, tmp_path, choice=choice, signed_by="A. Physicist")
    accept(SiteTest(site, tmp_path, choice=choice))
    accept(signing_test)
    shutil.copyfile(refining_weights, path)
    with pytest.raises(UnusableInputError, match="other weights than those of the page"):
        accept(signing_test)


def test_a_bound_that_the_interval_alone_breaks_shows_it(site, tmp_path, scored):
    scored(scores([0.6, 1.0, 1.0]))
    bounds = AcceptanceBounds(
        least_cases=3, least_cases_in_all=3, surely=True, overall={"dice_wt": 0.8}, groups={}
    )
    (broken,) = accept(SiteTest(site, tmp_path, bounds)).broken
    assert broken == "all cases: Dice, whole tumour 0.867 (0.600 – 1.000), at least 0.8 required"


def test_too_few_cases_in_all_pass_nothing(site, tmp_path, monkeypatch, scored):
    scored(scores([1.0] * 3))
    monkeypatch.setattr(module, "facts_of", lambda *_: Facts())
    report = accept(SiteTest(site, tmp_path, AcceptanceBounds(overall={}, groups={})))
    assert not report.passed
    assert report.broken == ("3 cases, fewer than 20 in all",)
    one = report.model_copy(update={"cases": report.cases[:1]})
    assert one.broken == ("1 case, fewer than 20 in all",)


@pytest.mark.parametrize("groups", [{}, {"dice_wt": 0.5}])
def test_bounds_of_which_none_is_judged_pass_nothing(site, tmp_path, monkeypatch, groups, scored):
    scored(scores([1.0] * 3))
    monkeypatch.setattr(module, "facts_of", lambda *_: Facts())
    bounds = AcceptanceBounds(least_cases_in_all=3, overall={}, groups=groups)
    report = accept(SiteTest(site, tmp_path, bounds))
    assert not report.passed
    assert report.broken == ("no bound could be judged",)


@pytest.mark.parametrize("known", [0, 2])
def test_a_bound_on_all_cases_that_could_not_be_judged_passes_nothing(
    site, tmp_path, scored, known
):
    """Every reference is empty, or most are."""
    found = [CaseScore(f"case{n}", n >= known, None, {"wt": 1.0} if n < known else {})
             for n in range(3)]  # fmt: skip
    scored(found)
    bounds = AcceptanceBounds(
        least_cases=3, least_cases_in_all=3, overall={"dice_wt": 0.8}, groups={"dice_wt": 0.8}
    )
    report = accept(SiteTest(site, tmp_path, bounds))
    assert not report.passed
    assert report.broken == (
        f"all cases: Dice, whole tumour known of {known} cases, too few to be judged",
    )


def test_a_request_to_stop_leaves_no_report(site, tmp_path, monkeypatch):
    stopped = CohortRun((StudyOutcome("case0", Status.STOPPED, 130, "not started"),), 0)
    monkeypatch.setattr(module, "run_cohort", lambda *_, **__: stopped)
    with pytest.raises(CancelledError):
        accept(SiteTest(site, tmp_path))
    assert not (tmp_path / "acceptance.json").exists()


def test_cases_need_a_truth_and_a_folder_each(site, tmp_path):
    shutil.copytree(site / "case0", tmp_path / "site" / "case0")
    (tmp_path / "site" / "case0" / "seg.nii.gz").unlink()
    with pytest.raises(UnusableInputError, match="'case0' without a segmentation"):
        accept(SiteTest(tmp_path / "site", tmp_path / "out"))
    shutil.copytree(site / "case0", tmp_path / "deep" / "a" / "case0")
    with pytest.raises(UnusableInputError, match="deeper in the folder"):
        accept(SiteTest(tmp_path / "deep", tmp_path / "out"))


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_case_whose_name_a_report_cannot_state_is_refused_before_it_is_analysed(site, tmp_path):
    name = os.fsdecode(b"M\xfcller")
    try:
        shutil.copytree(site / "case0", tmp_path / "site" / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(UnusableInputError, match="not UTF-8"):
        accept(SiteTest(tmp_path / "site", tmp_path / "out"))


def test_bounds_and_cases_that_were_changed_after_a_page_stay_on_record(
    site, tmp_path, monkeypatch, scored
):
    scored(of_site([0.8, 0.9, 0.9]))
    strict = AcceptanceBounds(
        least_cases=3, least_cases_in_all=3, overall={"dice_wt": 0.9}, groups={}
    )
    loose = strict.model_copy(update={"overall": {"dice_wt": 0.85}})
    assert accept(SiteTest(site, tmp_path, strict)).history == ()
    first = accept(SiteTest(site, tmp_path, strict))
    assert first.history == ()
    lowered = accept(SiteTest(site, tmp_path, loose))
    assert lowered.passed
    text = f"{first.made}: not passed; then other bounds (overall dice_wt 0.9, now 0.85)"
    assert lowered.history == (text,)
    signed = accept(SiteTest(site, tmp_path, loose, signed_by="A. Physicist"))
    assert signed.history == (text,)
    assert text in (tmp_path / "acceptance.html").read_text()
    monkeypatch.setattr(module, "_cases", lambda root: find_cases(root)[1:])
    monkeypatch.setattr(module, "evaluate", lambda *_: of_site([0.8, 0.9, 0.9])[1:])
    fewer = accept(SiteTest(site, tmp_path, loose))
    assert fewer.history == (
        text, f"{signed.made}: passed; then case0 is no longer among the cases",
    )  # fmt: skip


def test_the_page_shows_every_notice_of_a_case(site, tmp_path, scored):
    """Only the first was shown, and that a case was trained on was often the second."""
    seen = of_site([0.9, 0.9, 0.9])
    seen[0].problems += ["its header states no orientation", "T1c was in the training data"]
    scored(seen)
    accept(SiteTest(site, tmp_path))
    page = (tmp_path / "acceptance.html").read_text()
    assert "its header states no orientation; T1c was in the training data" in page
