"""Answers that no server of LesionLens gives end in one clear error, and nothing goes elsewhere."""

import json
import math
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

import numpy as np
import pytest
from tests.helpers.http_server import serving_requests
from tests.helpers.local_server import QuickEngine

from lesionlens.base.errors import CancelledError, ServerError
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import (
    Capability,
    EngineInfo,
    FirstPass,
    InputPerturbation,
    Scoring,
)
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import Target
from lesionlens.engines.engine_choice import EngineChoice
from lesionlens.engines.remote import connection
from lesionlens.engines.remote import engine as remote_engine
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.connection import PROTOCOL, models_of
from lesionlens.engines.remote.engine import connect
from lesionlens.engines.remote.messages import (
    serialise_first_pass,
    serialise_info,
    serialise_perturbed,
    serialise_prediction,
    serialise_study,
)
from lesionlens.engines.remote.packing import pack
from lesionlens.engines.testing.engine_contract import prepared_head

INFO = EngineInfo("quick", "1", "ab" * 32, frozenset(Capability), "cpu")
ABOUT = {"protocol": PROTOCOL, "version": "9", "models": ["quick"]}
OPENED = {
    "session": "s", "version": "9", "engine": serialise_info(INFO), "first_look": True,
    "heartbeat_s": 30,
}  # fmt: skip
DONE = {"done": True, "stage": "looking", "fraction": 1.0, "seen": 1}
ONE = np.ones(prepared_head().working.shape, np.float32)
PAGE = b"<html>Please log in</html>"


@pytest.fixture(scope="module")
def study():
    return prepared_head()


@contextmanager
def answering(reply):
    """A server whose replies are a function's: status, body and headers by method and path."""
    came = []

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            came.append((self.command, self.path))
            status, body, headers = reply(self.command, self.path)
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_):
            pass

    with serving_requests(Handler) as port:
        yield f"http://127.0.0.1:{port}", came


def right(method, path):
    """Reply as a server does that holds the study; the response to a job is empty."""
    if path == "/v1/about":
        return 200, ABOUT, {}
    if path == "/v1/sessions":
        return 200, OPENED, {}
    if path.endswith("/studies"):
        return 200, {"missing": []}, {}
    return 200, DONE if method == "GET" else {}, {}


def wrong(at, body, status=200, **headers):
    """Reply as `right` does, but for one path."""
    return lambda method, path: (status, body, headers) if at in path else right(method, path)


def ask(url, study):
    engine = connect(server=url)
    try:
        return engine.predict(study, context=SILENT)
    finally:
        engine.close()


@pytest.mark.parametrize(
    "body",
    [PAGE, b"", [1], {"models": []}, {**ABOUT, "models": None}, {**ABOUT, "version": {}}],
    ids=str,
)
def test_another_program_at_the_address_is_named(body):
    with answering(wrong("/v1/about", body)) as (url, _):
        for asking in (connect, lambda server: models_of(ServerAddress(server))):
            with pytest.raises(ServerError, match="not from `lesionlens serve` at 127"):
                asking(server=url)
        choice = EngineChoice(server=ServerAddress(url), fall_back=True)
        found, notices = choice.run(lambda one: one.load() if one.server else "here")
        assert found == "here"
        assert "not from `lesionlens serve`" in notices[0]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sessions", {**OPENED, "heartbeat_s": 0}),
        ("/v1/sessions", {**OPENED, "session": None}),
        ("/studies", PAGE),
        ("/studies", {"missing": ["ab" * 32]}),
        ("/jobs/", {"done": False}),
        ("/jobs/", {**DONE, "done": False, "seen": None}),
        ("/jobs/", b'{"done": false, "stage": "a", "fraction": NaN, "seen": 1}'),
        ("/answer", PAGE),
        ("/answer", pack({})),
        ("/answer", pack({"engine": None})),
        ("/answer", pack({"engine": serialise_info(INFO), "trace": {}, "notices": 1})),
    ],
    ids=str,
)
def test_a_reply_that_is_none_of_ours_is_refused(study, path, body):
    with (
        answering(wrong(path, body)) as (url, _),
        pytest.raises(ServerError, match=r"not from `lesionlens serve`|cannot be read|damaged"),
    ):
        ask(url, study)


@pytest.mark.parametrize(
    "header",
    [{}, {"grid": None}, {"grid": {"shape": [float("inf"), 1, 1], "affine": [[0.0] * 4] * 4}}],
    ids=str,
)
def test_the_reply_to_any_request_is_validated(study, header):
    with answering(wrong("/answer", pack(header, {"x": np.zeros(3)}))) as (url, _):
        engine = connect(server=url)
        nothing = InputPerturbation((True, True, True, True), False)
        for asking in (
            lambda: engine.perturbation_grid(study),
            lambda: engine.predict_perturbed(study, [nothing], context=SILENT),
            lambda: engine.first_pass(study, context=SILENT),
            lambda: engine._probe(study, (1, 2, 3)),
            lambda: engine._layer(study, Region.WT, 0, None),
        ):
            with pytest.raises(ServerError, match="cannot be read"):
                asking()
        engine.close()


def test_a_first_pass_by_numbers_that_are_none_is_refused(study):
    seen = QuickEngine().predict(study, context=SILENT).unperturbed
    reply = serialise_first_pass(FirstPass(seen, math.nan, Scoring()))
    with answering(wrong("/answer", pack(*reply))) as (url, _):
        engine = connect(server=url)
        with pytest.raises(ServerError, match="a first pass with the threshold nan"):
            engine.first_pass(study, context=SILENT)
        engine.close()


def spoilt(change):
    """Return a response to `predict` with one array changed."""
    header, arrays = serialise_prediction(QuickEngine().predict(prepared_head(), context=SILENT))
    name = next(iter(change))
    return pack(header, arrays | {name: change[name](arrays[name].copy())})


def with_nan(values):
    values[..., 3, 3, 3] = np.nan
    return values


SPOILT = {
    "wt from nan": {"probability_wt": with_nan},
    "tc as an array": {"probability_tc": lambda v: v[:-1]},
    "et from inf": {"probability_et": lambda v: v + np.inf},
    "wt from 0 to 50": {"probability_wt": lambda v: v * 50},
    "tc above the region round it": {"probability_wt": lambda v: v / 2},
    "attention of wt with": {"cross_wt": with_nan},
    "attention of tc with": {"cross_tc": lambda v: v - 1},
    "probability of the unperturbed input from nan": {"unperturbed_probability": with_nan},
    "probability of the unperturbed input as an array": {
        "unperturbed_probability": lambda v: v[:, :-1]
    },
}


@pytest.mark.parametrize("words", SPOILT)
def test_values_that_no_network_may_give_are_refused(study, words):
    with (
        answering(wrong("/answer", spoilt(SPOILT[words]))) as (url, _),
        pytest.raises(ServerError, match=rf"a response from 127.0.0.1:\d+ with {words}"),
    ):
        ask(url, study)


def test_texts_that_no_file_can_hold_are_escaped(study):
    header, arrays = serialise_prediction(QuickEngine().predict(study, context=SILENT))
    header["notices"] = header["trace"]["layers"] = ["a \ud800 name"]
    header["trace"]["method"] = "by \udcff"
    with answering(wrong("/answer", pack(header, arrays))) as (url, _):
        found = ask(url, study)
    for text in (*found.notices[:1], found.trace.method, *found.trace.layers):
        assert text.encode()
    assert found.notices[0].startswith("a ")


def test_values_of_other_requests_are_refused_too(study):
    header, arrays = serialise_perturbed(
        QuickEngine().predict_perturbed(study, [InputPerturbation()], context=SILENT)
    )
    scoring = {"threshold": 0.5, "scoring": None}
    answer = pack(header | scoring, {n: with_nan(v) for n, v in arrays.items()} | {"values": -ONE})
    with answering(wrong("/answer", answer)) as (url, _):
        engine = connect(server=url)
        for asking in (
            lambda: engine.predict_perturbed(study, [InputPerturbation()], context=SILENT),
            lambda: engine._probe(study, (1, 2, 3)),
            lambda: engine._layer(study, Region.WT, 0, None),
            lambda: engine.attribute(study, Target(Region.WT), "grad-cam"),
        ):
            with pytest.raises(
                ServerError, match=r"a response from 127\S* with (probability|attention) "
            ):
                asking()
        engine.close()


@pytest.mark.parametrize(
    ("at", "status"),
    [
        ("/v1/about", 302),
        ("/v1/sessions", 307),
        ("/studies", 302),
        ("/parts/", 307),
        ("/answer", 302),
    ],
)
def test_nothing_follows_a_redirection(study, at, status):
    missing = list(serialise_study(study).parts)
    with answering(right) as (elsewhere, came):

        def reply(method, path):
            if at in path:
                return status, b"", {"Location": elsewhere + path}
            return (200, {"missing": missing}, {}) if "/studies" in path else right(method, path)

        with answering(reply) as (url, _), pytest.raises(ServerError, match="redirects"):
            ask(url, study)
    assert not came


def test_a_proxy_whose_server_restarts_is_waited_for(study):
    left = [502, 503, 504]

    def reply(method, path):
        if "/studies" in path and left:
            return left.pop(), PAGE, {}
        return right(method, path)

    with answering(reply) as (url, _), pytest.raises(ServerError, match="damaged"):
        ask(url, study)
    assert not left


@pytest.mark.parametrize(
    ("at", "status"), [("/studies", 404), ("/jobs/", 200), ("/jobs/", 404), ("/answer", 200)]
)
def test_a_reply_that_is_cut_within_its_header_is_requested_again(study, at, status):
    left = [status]

    def reply(method, path):
        if at in path and left:
            return left.pop(), b"", {"Content-Length": ""}
        return right(method, path)

    with answering(reply) as (url, came), pytest.raises(ServerError, match="damaged"):
        ask(url, study)
    assert max(Counter(came).values()) == 2


NOT_FOUND = b'{"detail":"Not Found"}'
GATEWAY = b'{"code":404,"message":"no route"}'


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((status, PAGE) for status in (400, 401, 403, 404, 413, 429)),
        *((404, NOT_FOUND), (401, NOT_FOUND), (400, b"Invalid host header")),
        *((404, GATEWAY), (401, GATEWAY)),
    ],
)
def test_a_refusal_that_is_not_from_the_server_names_its_status_and_a_proxy(study, status, body):
    def reply(method, path):
        return (status, body, {}) if "/studies" in path else right(method, path)

    with (
        answering(reply) as (url, _),
        pytest.raises(ServerError, match=rf"status {status} at .* proxy"),
    ):
        ask(url, study)


def test_a_reply_is_bounded(study, monkeypatch):
    monkeypatch.setattr(connection, "MAX_ANSWER_BYTES", 2**20)
    with (
        answering(wrong("/answer", bytes(2**20 + 1))) as (url, _),
        pytest.raises(ServerError, match="more than"),
    ):
        ask(url, study)


def test_a_server_that_hangs_is_reported_and_left_at_once_on_cancel(study, monkeypatch):
    monkeypatch.setattr(remote_engine, "POLL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(remote_engine, "DELETE_TIMEOUT_S", 0.2)
    hanging, stop, reported = threading.Event(), threading.Event(), []

    def reply(method, path):
        if "/jobs/" in path:
            hanging.wait(240)
        return right(method, path)

    def report(stage, fraction):
        reported.append(stage)
        if "no answer" in stage:
            stop.set()

    with answering(reply) as (url, _):
        engine, begun = connect(server=url), time.monotonic()
        with pytest.raises(CancelledError):
            engine.predict(study, context=RunContext(progress=report, cancel=stop))
        assert time.monotonic() - begun < 120, "it waited for the answer"
        hanging.set()
        engine.close()


def test_cancel_is_heard_while_an_answer_arrives(study):
    """Over a slow line that takes minutes."""
    stop = threading.Event()

    def reply(method, path):
        if path.endswith("/answer"):
            stop.set()
            return 200, bytes(2**20), {}
        return right(method, path)

    with answering(reply) as (url, _):
        engine = connect(server=url)
        with pytest.raises(CancelledError):
            engine.predict(study, context=RunContext(cancel=stop))
        engine.close()


def test_cancel_is_heard_while_a_study_is_sent():
    checked = []

    def check():
        checked.append(1)
        if len(checked) > 3:
            raise CancelledError("sending")

    with answering(lambda *_: (200, {}, {})) as (url, came):
        with connection._http(ServerAddress(url)) as http, pytest.raises(CancelledError):
            connection._send(http, ServerAddress(url), "PUT", "/a", data=bytes(10**6), check=check)
        whole = connection._send(http, ServerAddress(url), "PUT", "/b", data=bytes(10**6))
    assert whole == b"{}"
    assert ("PUT", "/b") in came


def test_cancel_is_heard_when_the_time_limit_has_passed_too(study):
    stop = threading.Event()

    def reply(method, path):
        if "/jobs/" in path:
            stop.set()
            return 503, PAGE, {}
        return right(method, path)

    with answering(reply) as (url, _):
        engine = connect(server=ServerAddress(url, patience_s=0.0))
        with pytest.raises(CancelledError):
            engine.predict(study, context=RunContext(cancel=stop))
        engine.close()
