"""The report fits a phone: no part of it, opened or not, lies beside the screen."""

import shutil
import time

import pytest
from tests.clients.ohif import browser
from tests.phantoms.analysis import make_analysis, write_study

from lesionlens.base.records.study import StudyKind
from lesionlens.engines.testing.simple import Lesion, make_patient
from lesionlens.results.export.exporter import save

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="not installed: chromium"),
]
LESIONS = (Lesion(), Lesion((30.0, -40.0, 12.0), 12.0))


def test_the_report_is_as_wide_as_the_screen(tmp_path):
    patient = make_patient(spacing_mm=4.0, lesions=LESIONS)
    study = write_study(patient, tmp_path / "study", kind=StudyKind.DICOM)
    save(make_analysis(patient, study), tmp_path / "out")
    with browser(tmp_path / "profile") as page:
        page.call(
            "Emulation.setDeviceMetricsOverride",
            width=390, height=844, deviceScaleFactor=1, mobile=True,
        )  # fmt: skip
        page.call("Page.navigate", url=(tmp_path / "out/report.html").as_uri())
        page.until("document.readyState === 'complete' && document.querySelector('.page')")
        page.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        time.sleep(0.5)
        shown = [
            page.run(f"return document.documentElement.{edge}")
            for edge in ("clientWidth", "scrollWidth")
        ]
    assert shown == [390, 390]
