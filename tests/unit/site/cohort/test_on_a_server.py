"""A cohort whose network is on a server, or another engine."""

import os
from pathlib import Path

import pytest
from tests.helpers.local_server import QuickEngine, serving
from typer.testing import CliRunner

from lesionlens.cli.main import app
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.network.onnx_session import OnnxSession
from lesionlens.site.cohort import work
from lesionlens.site.cohort.run import Cohort, run_cohort
from lesionlens.site.cohort.work import CohortChoice
from lesionlens.site.database.records import Status

pytestmark = pytest.mark.usefixtures("coarse")


@pytest.fixture(autouse=True)
def afresh():
    work.forget_networks()
    yield
    work.forget_networks()


def test_a_cohort_is_analysed_by_a_server_and_goes_on_with_it(tmp_path, make_study):
    for name in ("a", "b"):
        make_study(name=f"studies/{name}", sequences={"t1c", "flair"})
    cohort = Cohort(tmp_path / "studies", tmp_path / "out")
    with serving({"quick": QuickEngine()}) as server:
        choice = CohortChoice(EngineChoice(server=ServerAddress(server.url)))
        done = run_cohort(cohort, choice)
        assert [o.status for o in done.outcomes] == [Status.ANALYSED] * 2
        assert all((tmp_path / "out" / name / "report.html").is_file() for name in ("a", "b"))
        again = run_cohort(Cohort(cohort.studies, cohort.out, resume=True), choice)
        work.load_lens(choice.engine).engine.close()
    assert again.n_skipped == 2


@pytest.mark.parametrize("beside", [("--scheduler", "tcp://here:1"), ("--weights", "v1")])
def test_what_cannot_stand_beside_a_server_is_refused(tmp_path, beside):
    (tmp_path / "studies" / "a").mkdir(parents=True)
    folders = (str(tmp_path / "studies"), "--out", str(tmp_path / "out"))
    done = CliRunner().invoke(app, ["batch", *folders, "--server", "http://127.0.0.1:1", *beside])
    assert done.exit_code == 2
    assert "(--server)" in done.stderr


def test_a_worker_hands_its_threads_to_onnxruntime_not_to_the_environment(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(OnnxSession, "threads", None)
    before = dict(os.environ)
    tiny = Path(__file__).parents[2] / "engines" / "onnx" / "tiny.onnx"
    lens = work.load_lens(EngineChoice("cpu", "onnx", str(tiny), threads=3))
    assert lens.engine.info.threads == 3
    assert dict(os.environ) == before
