"""What the server holds: bounded, fair, forgotten with the session."""

import gc
import threading
import time
import weakref
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine, becomes_true

from lesionlens.base.errors import (
    CancelledError,
    FullError,
    GoneError,
    ResourceError,
    ServerError,
    UnusableInputError,
)
from lesionlens.base.labels import MrSequence
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.packing import pack, unpack
from lesionlens.engines.testing.engine_contract import prepared_head
from lesionlens.site.serving.admission import Admission
from lesionlens.site.serving.app import make_app
from lesionlens.site.serving.error_responses import error_response
from lesionlens.site.serving.job_queue import Job, JobQueue
from lesionlens.site.serving.memory_use import held_bytes
from lesionlens.site.serving.sessions import Limits, Sessions

ME, OTHER = "me", "other"


@pytest.fixture
def make():
    made = []

    def make(engine=None, **limits):
        made.append(Sessions({"quick": engine or QuickEngine()}, Limits(**limits)))
        return made[-1]

    yield make
    for sessions in made:
        sessions.end()


def bring(sessions, session, prepared):
    """Send a study and return its name."""
    study = messages.serialise_study(prepared)
    for name in sessions.add_study(session, study.manifest):
        sessions.add_part(session, name, study.parts[name])
    assert sessions.add_study(session, study.manifest) == []
    return study.name


def predict(sessions, session, study, name="job"):
    sessions.ask(session, name, pack({"kind": "predict", "study": study}))
    job = session.jobs[name]
    while not job.done:
        time.sleep(0.01)
    if job.error is not None:
        raise job.error
    return job.response


def brightened(factor):
    prepared = prepared_head()
    object.__setattr__(prepared, "channels", prepared.channels * np.float32(factor))
    return prepared


def test_a_silent_session_ends_and_its_study_is_forgotten(make):
    engine = QuickEngine()
    sessions = make(engine, heartbeat_s=1000.0)
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    predict(sessions, session, study)
    assert sessions.bytes > 10**6
    held = weakref.ref(session.studies[study].study.prepared.channels.base)
    session.last_seen -= 1001.0  # as if so long ago
    assert becomes_true(lambda: sessions.state()["sessions"] == 0)
    assert sessions.bytes == 0
    assert becomes_true(lambda: engine.forgot == 1)
    gc.collect()
    assert becomes_true(lambda: held() is None)
    with pytest.raises(GoneError, match="session"):
        sessions.find(session.secret_id, ME)


def test_a_session_that_is_heard_of_lives_on(make):
    sessions = make(heartbeat_s=1000.0)
    session = sessions.open(ME, None)
    for _ in range(3):
        session.last_seen -= 900.0
        assert sessions.find(session.secret_id, ME) is session
    time.sleep(1.5)
    assert sessions.state()["sessions"] == 1


def test_a_session_opens_for_its_owner_alone(make):
    sessions = make()
    session = sessions.open(ME, None)
    with pytest.raises(GoneError):
        sessions.find(session.secret_id, OTHER)


def test_an_ended_session_cancels_what_runs_and_what_waits(make):
    hold = threading.Event()
    engine = QuickEngine(hold)
    sessions = make(engine)
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    for name in ("first", "second"):
        sessions.ask(session, name, pack({"kind": "predict", "study": study}))
    jobs = [*session.jobs.values()]
    assert becomes_true(lambda: jobs[0].stage == "looking")
    sessions.close(session)
    assert becomes_true(lambda: all(job.done for job in jobs))
    assert all(isinstance(job.error, CancelledError) for job in jobs)
    assert len(engine.order) == 1


def test_a_part_that_was_changed_on_its_way_is_refused(make):
    sessions = make()
    session = sessions.open(ME, None)
    study = messages.serialise_study(prepared_head())
    name, part = next(iter(study.parts.items()))
    with pytest.raises(ServerError, match="altered in transit"):
        sessions.add_part(session, name, part[:-1] + bytes([part[-1] ^ 1]))
    assert session.bytes == 0


def test_parts_that_do_not_fit_together_are_refused(make):
    sessions = make()
    session = sessions.open(ME, None)
    study = messages.serialise_study(prepared_head())
    other = pack({}, {"values": np.zeros(7, np.float32)})
    for part in (*study.parts.values(), other):
        sessions.add_part(session, messages.digest_of(part), part)
    channels = [messages.digest_of(other), None, None, None]
    with pytest.raises(ServerError, match="parts of a study"):
        sessions.add_study(session, study.manifest | {"channels": channels})
    with pytest.raises(ServerError):
        sessions.add_study(session, study.manifest | {"channels": channels[:2]})
    with pytest.raises(ServerError):
        sessions.add_study(session, {"grid": "odd"})
    assert not session.studies


def test_the_same_job_is_run_once_however_often_it_is_sent(make):
    engine = QuickEngine()
    sessions = make(engine)
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    first = predict(sessions, session, study)
    assert predict(sessions, session, study) is first
    assert len(engine.order) == 1


def test_memory_is_bounded_and_the_oldest_study_gives_way(make):
    size = prepared_head().channels.nbytes
    sessions = make(memory_bytes=int(3.5 * size), grace_s=0.0)
    session = sessions.open(ME, None)
    names = [bring(sessions, session, brightened(n)) for n in (1, 2, 3, 4, 5)]
    assert sessions.bytes <= sessions.limits.memory_bytes
    assert names[-1] in session.studies
    assert names[0] not in session.studies
    with pytest.raises(GoneError, match="study"):
        predict(sessions, session, names[0])


def test_one_clients_studies_do_not_push_out_what_another_works_on(make):
    size = prepared_head().channels.nbytes
    sessions = make(memory_bytes=int(2.2 * size), grace_s=60.0)
    mine, theirs = sessions.open(ME, None), sessions.open(OTHER, None)
    kept, asked = bring(sessions, mine, prepared_head()), []
    with pytest.raises(FullError, match="memory"):
        for factor in (2, 3, 4):
            study = bring(sessions, theirs, brightened(factor))
            waiting = Job(lambda _: b"")
            asked.append(waiting)
            theirs.studies[study].jobs.add(waiting)
    assert kept in mine.studies


def test_a_question_taken_back_while_it_waits_leaves_its_study_free_to_go(make):
    size = prepared_head().channels.nbytes
    sessions = make(QuickEngine(threading.Event()), memory_bytes=int(3 * size))
    session = sessions.open(ME, None)
    first = bring(sessions, session, prepared_head())
    sessions.ask(session, "runs", pack({"kind": "predict", "study": first}))
    second = bring(sessions, session, brightened(2))
    sessions.ask(session, "waits", pack({"kind": "predict", "study": second}))
    sessions.drop_job(session, "waits")
    bring(sessions, session, brightened(3))
    assert first in session.studies
    assert second not in session.studies


def test_sessions_of_one_key_leave_room_for_others(make):
    sessions = make(sessions=3, sessions_each=2)
    sessions.open(ME, None)
    sessions.open(ME, None)
    with pytest.raises(FullError, match="of a key"):
        sessions.open(ME, None)
    sessions.open(OTHER, None)


def test_sessions_are_bounded(make):
    sessions = make(sessions=2)
    sessions.open(ME, None)
    sessions.open(ME, None)
    with pytest.raises(FullError, match="clients"):
        sessions.open(OTHER, None)


def test_a_question_that_makes_no_sense_is_refused_and_the_next_is_served(make):
    sessions = make()
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    predict(sessions, session, study, "before")
    odd = [
        {"kind": "make tea"},
        {"kind": "perturbed"},
        {"kind": "probe", "voxel": "here"},
        {"kind": "layer", "region": "wt", "layer": 5},
        {"kind": "attribute", "region": "elbow", "method": "x"},
        {"kind": "perturbed", "variants": [{"keep": [1], "mirrored": 0, "alone": 0}]},
    ]
    for number, header in enumerate(odd):
        name = f"odd {number}"
        sessions.ask(session, name, pack({"study": study, **header}))
        assert becomes_true(lambda job=session.jobs[name]: job.done)
        assert isinstance(session.jobs[name].error, ServerError), header
    assert unpack(predict(sessions, session, study, "after"), prepared_head().brain)


def error_of(sessions, session, study, **header):
    sessions.ask(session, "question", pack({"study": study, **header}))
    assert becomes_true(lambda: session.jobs["question"].done)
    return session.jobs["question"].error


def test_a_question_about_a_region_that_no_sequence_shows_is_refused(make):
    sessions = make()
    session = sessions.open(ME, None)
    prepared = prepared_head()
    present = [sequence is not MrSequence.T1C for sequence in MrSequence]
    object.__setattr__(prepared, "present", np.array(present))
    study = bring(sessions, session, prepared)
    error = error_of(sessions, session, study, kind="attribute", region="et", method="x")
    assert (type(error), error.found[-17:]) == (UnusableInputError, "study without T1c")


def test_a_question_that_the_engine_does_not_support_is_refused(make):
    class Plain:
        info, predict = QuickEngine().info, QuickEngine().predict

    sessions = make(Plain())
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    error = error_of(sessions, session, study, kind="grid")
    assert (type(error), error.found) == (
        UnusableInputError, "a request that quick does not support",
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["probe", "layer"])
def test_a_trace_without_a_part_answers_no_question_about_it(make, kind):
    class Summed(QuickEngine):
        def predict(self, prepared, **how):
            prediction = super().predict(prepared, **how)
            trace = replace(prediction.trace, probe_row=None, layer_attention=None)
            return replace(prediction, trace=trace)

    sessions = make(Summed())
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    predict(sessions, session, study)
    about = {"voxel": [1, 2, 3], "region": "wt", "layer": 0, "head": None}
    error = error_of(sessions, session, study, kind=kind, **about)
    assert isinstance(error, ServerError)
    assert repr(kind) in error.found


def test_a_trace_without_room_is_released_and_the_prediction_is_kept(make):
    """A client then predicts again, and is told that the server is full if that does not help."""
    sessions = make()
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    response = predict(sessions, session, study)
    sessions.drop_job(session, "job")
    trace_bytes = session.studies[study].trace_bytes
    assert trace_bytes > len(response)
    tight = make(memory_bytes=sessions.bytes - trace_bytes // 2)
    session = tight.open(ME, None)
    assert bring(tight, session, prepared_head()) == study
    assert predict(tight, session, study) == response
    assert session.studies[study].trace_bytes == 0
    with pytest.raises(GoneError, match="a trace"):
        tight.ask(session, "probe", pack({"kind": "probe", "study": study, "voxel": [1, 2, 3]}))


def test_a_trace_that_went_while_its_question_waited_is_predicted_again(make):
    hold = threading.Event()
    sessions = make(QuickEngine(hold))
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    hold.set()
    predict(sessions, session, study)
    hold.clear()
    sessions.ask(session, "again", pack({"kind": "predict", "study": study}))
    sessions.ask(session, "probe", pack({"kind": "probe", "study": study, "voxel": [1, 2, 3]}))
    assert becomes_true(lambda: sessions.queue.waiting == 1)
    sessions._measure_trace = lambda _, stored, __: setattr(stored.study, "trace", None)
    hold.set()
    assert becomes_true(lambda: session.jobs["probe"].done)
    error = session.jobs["probe"].error
    assert (type(error), error.kind) == (GoneError, "trace")


def test_requests_of_a_session_are_bounded(make):
    hold = threading.Event()
    sessions = make(QuickEngine(hold), jobs=2)
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    ask = partial(sessions.ask, session, message=pack({"kind": "predict", "study": study}))
    ask("first")
    ask("second")
    with pytest.raises(FullError, match="maximum number of requests"):
        ask("third")
    ask("second")
    sessions.drop_job(session, "second")
    ask("third")
    hold.set()
    assert becomes_true(lambda: session.jobs["third"].done)


def test_an_engine_without_memory_is_no_defect(make):
    class Full(QuickEngine):
        def predict(self, prepared, **how):
            raise MemoryError

    sessions = make(Full())
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    with pytest.raises(ResourceError, match="too little memory on the server"):
        predict(sessions, session, study)


@pytest.mark.parametrize("package", [__name__, "lesionlens.engines.broken"])
def test_a_defect_of_an_engine_is_reported_as_one_and_ends_nothing(make, caplog, package):
    """The client is not told its words, which may be of a study; the server's own log is."""

    class Broken(QuickEngine):
        __module__ = package

        def predict(self, prepared, **how):
            raise ZeroDivisionError("the patient's name")

    sessions = make(Broken())
    session = sessions.open(ME, None)
    study = bring(sessions, session, prepared_head())
    with pytest.raises(ServerError, match="ZeroDivisionError") as caught:
        predict(sessions, session, study)
    assert "patient" not in str(caught.value)
    assert "the patient's name" in caplog.text


def test_turns_rotate_among_clients_however_many_jobs_one_sends():
    turns, gate, order = JobQueue(), threading.Event(), []
    turns.add("first", Job(lambda _: bytes(gate.wait(10))))
    becomes_true(lambda: turns.waiting == 0)

    def job(name):
        return Job(lambda _: order.append(name) or b"")

    greedy = [job("a") for _ in range(4)]
    for one in greedy:
        turns.add("greedy", one)
    modest = job("b")
    turns.add("modest", modest)
    assert modest.stage == "waiting for a turn: 2 ahead of it"
    gate.set()
    assert becomes_true(lambda: len(order) == 5)
    assert order == ["a", "b", "a", "a", "a"]
    turns.end()


def test_a_job_dropped_while_it_waits_is_never_begun():
    turns, gate, begun = JobQueue(), threading.Event(), []
    turns.add("first", Job(lambda _: bytes(gate.wait(10))))
    late = Job(lambda _: begun.append(1) or b"")
    turns.add("second", late)
    turns.drop(late)
    assert late.done
    gate.set()
    last = Job(lambda _: b"x")
    turns.add("third", last)
    assert becomes_true(lambda: last.response == b"x")
    assert not begun
    turns.end()


def test_the_end_waits_for_what_still_computes():
    """Python that ends meanwhile crashes in the network's threads."""
    turns, begun, computed = JobQueue(), threading.Event(), []

    def work(job):
        begun.set()
        assert job.cancel.wait(10)
        time.sleep(0.3)  # a layer
        computed.append(1)
        return b""

    turns.add("one", Job(work))
    assert begun.wait(10)
    turns.end()
    assert computed


def test_what_a_trace_holds_is_counted_once_and_without_the_weights():
    torch = pytest.importorskip("torch")
    weights = torch.nn.Linear(100, 100)
    kept = np.zeros(1000, np.float32)
    view = kept[:10]

    def row(voxel):
        return weights, kept, view, voxel

    assert held_bytes(row, exclude=[weights]) == 4000
    assert held_bytes({"tensor": torch.zeros(50), "row": row}, exclude=[weights]) == 4200
    assert held_bytes(partial(row, view, voxel=np.zeros(10)), exclude=[weights]) == 4080


def test_a_variable_that_was_never_set_holds_nothing():
    def row():
        return values, unset

    values = np.zeros(10)
    assert held_bytes(row) == 80
    unset = None
    assert held_bytes(row) == 80


def test_the_server_tells_nobody_of_its_requests(make, monkeypatch):
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    app = make_app(make(), Admission())
    told = getattr(app, "_telemetry", {})
    assert not any(told.get(name) for name in ("tracing", "metrics", "logs", "auto_configure"))
    assert app.openapi_url is None


def test_a_client_that_left_is_not_logged_as_a_failure_of_the_server():
    assert error_response(CancelledError()).status_code == 499
