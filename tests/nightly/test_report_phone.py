"""The report fits phones and tablets: no part of it, opened or not, lies beside the screen."""

import shutil
import time
from dataclasses import replace

import pytest
from tests.nightly.ohif import browser
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.labels import ReviewState
from lesionlens.base.records.study import StudyKind
from lesionlens.results.export.exporter import save
from lesionlens.results.review.log import ReviewLog
from lesionlens.testing import Lesion, make_patient

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="not installed: chromium"),
]
WIDTHS = (320, 390, 768, 820, 1024)
LESIONS = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


def test_the_report_is_as_wide_as_the_screen(tmp_path):
    """The smallest phone, a usual one, and tablets upright and across."""
    patient = make_patient(spacing_mm=4.0, lesions=LESIONS)
    study = write_study(patient, tmp_path / "study", kind=StudyKind.DICOM)
    analysis = make_analysis(patient, study)
    log, word = ReviewLog(), "Pulsationsartefakt/" * 9  # a reason without a space
    for candidate in analysis.findings.candidates:
        log.decide(candidate.tracking_uid, ReviewState.REJECTED, reason=word, reader=word)
    save(replace(analysis, review=log.review), tmp_path / "out")
    shown = {}
    with browser(tmp_path / "profile") as page:
        for width in WIDTHS:
            page.call(
                "Emulation.setDeviceMetricsOverride",
                width=width, height=844, deviceScaleFactor=1, mobile=True,
            )  # fmt: skip
            page.call("Page.navigate", url=(tmp_path / "out/report.html").as_uri())
            page.until("document.readyState === 'complete' && document.querySelector('.page')")
            page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
            time.sleep(0.5)
            shown[width] = page.run("return document.documentElement.scrollWidth")
    assert shown == {width: width for width in WIDTHS}
