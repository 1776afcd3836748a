"""An engine elsewhere answers as the one there does, and says what keeps it from answering."""

import contextlib
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine, serving
from tests.helpers.ports import closed_port

from lesionlens.base.errors import (
    CancelledError,
    GoneError,
    ResourceError,
    ServerError,
    UnusableInputError,
)
from lesionlens.base.grid import Grid
from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import Capability, FirstPass, InputPerturbation, Scoring
from lesionlens.base.records.study import PreparationStep, StepName
from lesionlens.base.run_context import SILENT, RunContext
from lesionlens.engines.engine import SupportsFirstPass, SupportsPerturbation, Target
from lesionlens.engines.plugin_engines import release
from lesionlens.engines.remote import messages
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.connection import (
    POLL_TIMEOUT_S,
    Connection,
    ConnectionLostError,
)
from lesionlens.engines.remote.engine import connect
from lesionlens.engines.testing.engine_contract import prepared_head
from lesionlens.results.lens import Lens
from lesionlens.site.serving.listen import BoundAddress
from lesionlens.site.serving.sessions import Limits

KEY = "a-key-of-more-than-sixteen-letters"


@pytest.fixture
def study():
    return prepared_head()


@pytest.fixture
def server():
    with serving({"quick": QuickEngine()}) as server:
        yield server


@pytest.fixture
def remote(server):
    engine = connect(server=server.url)
    yield engine
    engine.close()


def predict(engine, study, context=SILENT):
    return engine.predict(study, context=context)


def test_it_answers_bit_by_bit_as_the_engine_does(remote, study):
    here, there = predict(QuickEngine(), study), predict(remote, study)
    for region in Region:
        assert np.array_equal(here.probability[region], there.probability[region])
        assert np.array_equal(here.trace.cross[region], there.trace.cross[region])
    assert np.array_equal(here.unperturbed.probability, there.unperturbed.probability)
    assert there.unperturbed.grid.matches(here.unperturbed.grid, 0.0)
    assert (there.scoring, there.question_time) == (here.scoring, here.question_time)
    assert there.trace.attention_layers == here.trace.attention_layers
    assert there.engine.weights_sha256 == here.engine.weights_sha256


def test_probe_layer_and_head_are_asked_of_the_server(remote, study):
    here, there = predict(QuickEngine(), study).trace, predict(remote, study).trace
    assert np.array_equal(here.probe_row((3, 4, 5)), there.probe_row((3, 4, 5)))
    for head in (None, 0, 1):
        asked = (Region.TC, 0, head)
        assert np.array_equal(here.layer_attention(*asked), there.layer_attention(*asked))


def test_a_what_if_travels_with_what_is_hidden(remote, study):
    hidden = np.zeros(QuickEngine().perturbation_grid(study).shape, bool)
    hidden[3:7] = True
    asked = [InputPerturbation(hidden=hidden), InputPerturbation.showing(())]
    here = QuickEngine().predict_perturbed(study, asked, context=SILENT)
    there = remote.predict_perturbed(study, asked, context=SILENT)
    assert np.array_equal(here.probability, there.probability)
    assert here.thresholds == there.thresholds == (0.5, 0.8)


def test_an_engine_there_computes_by_the_same_arithmetic(study):
    """As within `Lens`: sums by several threads of a library have other last digits."""
    counts = []

    class Counting(QuickEngine):
        def predict(self, prepared, *, context):
            blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
            counts.extend(library["num_threads"] for library in blas.info())
            return super().predict(prepared, context=context)

    with threadpoolctl.threadpool_limits(2, "blas"), serving({"quick": Counting()}) as server:
        engine = connect(server=server.url)
        predict(engine, study)
        engine.close()
    assert counts
    assert set(counts) == {1}


def test_a_refusal_of_the_engine_arrives_in_its_own_words(remote, study):
    with pytest.raises(UnusableInputError, match="tea leaves"):
        remote.attribute(study, Target(Region.WT), "tea leaves")


@pytest.mark.filterwarnings("ignore:.*not writable")
@pytest.mark.parametrize("words", ["changed the images", "KeyError"])
def test_an_engine_there_that_fails_after_its_prediction_is_named(words, study):
    """It was the client's request that was called unknown, or the next answer was wrong."""
    torch = pytest.importorskip("torch")

    class Spoiling(QuickEngine):
        def predict_perturbed(self, prepared, perturbations, *, context):
            if words == "KeyError":
                raise KeyError("a layer")
            torch.from_numpy(prepared.channels).mul_(2)
            return super().predict_perturbed(prepared, perturbations, context=context)

    with serving({"spoiling": Spoiling()}) as server:
        engine = connect(server=server.url)
        with pytest.raises(ServerError, match=rf"engine 'Spoiling' of .*{words}"):
            engine.predict_perturbed(study, [InputPerturbation()], context=SILENT)
        engine.close()


def test_it_claims_no_more_than_the_engine_there_can(study):
    class Plain:
        info = replace(QuickEngine().info, capabilities=frozenset({Capability.SEGMENT}))

    with serving({"plain": Plain()}) as server:
        engine = connect(server=server.url)
        assert not isinstance(engine, SupportsPerturbation)
        assert not isinstance(engine, SupportsFirstPass)
        engine.close()


def test_a_study_is_sent_once_and_one_sequence_when_one_changed(server, study, monkeypatch):
    engine = connect(server=server.url)
    sent = []
    ask = engine._connection.ask

    def counted(method, path, **how):
        if path.startswith("/parts/"):
            sent.append(path)
        return ask(method, path, **how)

    monkeypatch.setattr(engine._connection, "ask", counted)
    predict(engine, study)
    assert len(sent) == 5  # four sequences and the brain
    predict(engine, study)
    engine.perturbation_grid(study)
    assert len(sent) == 5
    channels = study.channels.copy()
    channels[2] *= 2
    predict(engine, replace(study, channels=channels))
    assert len(sent) == 6
    engine.close()


def test_a_server_that_stopped_holds_up_cancel_no_longer_than_a_poll(server, study, monkeypatch):
    """The window was "Stopping…" for a minute; only the voxels may take long to arrive."""
    engine = connect(server=server.url)
    ask, timeouts = engine._connection.ask, {}

    def noted(method, path, **options):
        timeouts[path] = options.get("timeout", float("inf"))
        return ask(method, path, **options)

    monkeypatch.setattr(engine._connection, "ask", noted)
    try:
        predict(engine, study)
    finally:
        engine.close()
    quick = [limit for path, limit in timeouts.items() if not path.startswith("/parts/")]
    assert len(quick) >= 4
    assert max(quick) <= POLL_TIMEOUT_S


def test_the_ends_of_the_line_say_what_is_missing_and_how_long_it_is_awaited():
    """The window elided "does not answer" between a long address and the seconds."""
    stages = []
    address = ServerAddress("https://a-long-name.hospital.example:8000", patience_s=0.1)
    connection = SimpleNamespace(address=address)

    def attempt():
        raise ConnectionLostError(found="", expected="", next_step="")

    context = RunContext(progress=lambda stage, _: stages.append(stage))
    with pytest.raises(ConnectionLostError):
        Connection.with_retries(connection, attempt, "network", context)
    assert stages[0] == "no answer (a-long-name.hospital.example:8000), 0 s left"


def test_nothing_outside_the_brain_and_no_uid_travels(study):
    named = Grid(study.working.shape, study.working.affine, "1.2.3.4.5.6789")
    channels = study.channels.copy()
    plain = messages.serialise_study(study)
    channels[:, ~study.brain] = 4711.0
    other = messages.serialise_study(replace(study, channels=channels, working=named, native=named))
    assert other.parts == plain.parts
    assert other.manifest == plain.manifest
    assert "6789" not in str(other.manifest)


def test_a_head_without_a_known_brain_stays_here(remote, study):
    step = PreparationStep(StepName.BRAIN, None, done=False, message="no brain found")
    with pytest.raises(UnusableInputError, match="leave this machine"):
        predict(remote, replace(study, steps=(step,)))


def test_cancel_ends_the_question_here_and_there(study):
    hold = threading.Event()
    with serving({"slow": QuickEngine(hold)}) as server:
        engine, stop = connect(server=server.url), threading.Event()
        reported = []

        def report(stage, fraction):
            reported.append(stage)
            if stage == "looking":
                stop.set()

        with pytest.raises(CancelledError):
            predict(engine, study, context=RunContext(progress=report, cancel=stop))
        assert "looking" in reported
        hold.set()
        assert predict(engine, study).probability  # and the next is served
        engine.close()


def test_a_wrong_or_no_key_is_explained():
    with serving({"quick": QuickEngine()}, keys=(KEY,)) as server:
        with pytest.raises(ServerError, match="a key that"):
            connect(server=ServerAddress(server.url, "wrong-key-of-some-length"))
        with pytest.raises(ServerError, match="requires one"):
            connect(server=server.url)
        connect(server=ServerAddress(server.url, KEY)).close()


@pytest.mark.parametrize(
    "key", ["a-key-with-a-\nline-break", "a key with spaces", "a-key-–-and-more"]
)
def test_a_key_that_no_header_can_hold_is_refused_without_naming_it(key, monkeypatch):
    monkeypatch.setenv("LESIONLENS_API_KEY", key)
    with pytest.raises(UnusableInputError, match="no usable key in LESIONLENS_API_KEY") as refused:
        ServerAddress("http://127.0.0.1:9")
    assert key.strip() not in str(refused.value)


def test_one_key_does_not_open_the_session_of_another(study):
    other = "another-key-of-many-letters"
    with serving({"quick": QuickEngine()}, keys=(KEY, other)) as server:
        mine = connect(server=ServerAddress(server.url, KEY))
        theirs = connect(server=ServerAddress(server.url, other))
        theirs._connection._secret.session = mine._connection.session
        with pytest.raises(ServerError, match="does not hold"):
            theirs._connection.ask("POST", "/heartbeat")
        mine.close()


def test_a_dead_server_is_explained():
    with (
        closed_port() as port,
        pytest.raises(ServerError, match="no response from") as caught,
    ):
        connect(server=f"http://127.0.0.1:{port}")
    assert "--fall-back" in str(caught.value)
    assert "--" not in caught.value.in_window


def test_another_protocol_is_explained(server, monkeypatch):
    from lesionlens.engines.remote import connection

    monkeypatch.setattr(connection, "PROTOCOL", 99)
    with pytest.raises(ServerError, match="protocol 99"):
        connect(server=server.url)


def test_another_version_that_speaks_the_same_is_reported_to_the_reader(server, study):
    engine = connect(server=server.url)
    engine._connection.about["version"] = "9.9.9"
    assert any("9.9.9" in notice for notice in predict(engine, study).notices)
    engine.close()


def test_a_model_that_is_not_there_is_named_with_those_that_are(server):
    with pytest.raises(ServerError, match="quick"):
        connect(server=server.url, model="slow")


def test_http_to_another_machine_is_refused_unless_allowed():
    with pytest.raises(UnusableInputError, match="unencrypted"):
        ServerAddress("http://192.0.2.1:8000")
    assert ServerAddress("http://192.0.2.1:8000", plain_http=True).name == "192.0.2.1:8000"
    with pytest.raises(UnusableInputError, match="address"):
        ServerAddress("ftp://127.0.0.1")
    with pytest.raises(UnusableInputError, match="omit --server-ca"):
        ServerAddress("http://127.0.0.1:8000", ca=Path("authority.pem"))


@pytest.mark.parametrize(
    "url",
    [
        *("http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:a", "http://me:secret@host"),
        *("http://127.0.0.1:8000?model=lens", "http://127.0.0.1:8000/lens#model"),
    ],
)
def test_an_address_that_is_none_is_refused_without_a_password(url):
    with pytest.raises(UnusableInputError, match="as a server's address") as refused:
        ServerAddress(url)
    assert "secret" not in str(refused.value)


class Cable:
    """A line to a server that can be cut and mended."""

    def __init__(self, port):
        self._to = port
        self._door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._door.getsockname()[1]}"
        self.whole = True
        self._open, self._threads = [], []
        self._start(self._accept)

    def _start(self, work, *ends):
        self._threads.append(threading.Thread(target=work, args=ends, daemon=True))
        self._threads[-1].start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._door.accept()
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._open += [near, far]
                for ends in ((near, far), (far, near)):
                    self._start(self._carry, *ends)

    def _carry(self, source, target):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()

    def cut(self):
        self.whole = False
        while self._open:
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.whole = True

    def close(self):
        self.cut()
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        for thread in self._threads:
            thread.join(5)


def test_a_line_cut_while_the_server_works_is_taken_up_again(study):
    hold = threading.Event()
    quick = QuickEngine(hold)
    with serving({"slow": quick}) as server:
        cable = Cable(int(server.url.rsplit(":", 1)[1]))
        engine, reported = connect(server=cable.url), []

        def report(stage, fraction):
            reported.append(stage)
            if stage == "looking" and cable.whole and not hold.is_set():
                cable.cut()
                hold.set()
            elif "no answer" in stage:
                cable.mend()

        found = predict(engine, study, context=RunContext(progress=report))
        assert any("no answer" in stage for stage in reported)
        assert len(quick.order) == 1  # the work was done once
        share = predict(QuickEngine(), study).probability[Region.WT]
        assert np.array_equal(found.probability[Region.WT], share)
        engine.close()
        cable.close()


def test_a_line_that_stays_cut_ends_in_an_error_that_explains(study):
    with serving({"quick": QuickEngine()}) as server:
        cable = Cable(int(server.url.rsplit(":", 1)[1]))
        engine = connect(server=ServerAddress(cable.url, patience_s=1.0))
        cable.cut()
        before = study.channels.copy()
        with pytest.raises(ServerError, match="no response from"):
            predict(engine, study)
        assert np.array_equal(before, study.channels)
        cable.mend()
        engine.close()
        cable.close()


def test_a_server_that_was_started_again_is_sent_the_study_again(study):
    with serving({"quick": QuickEngine()}) as first:
        engine = connect(server=first.url)
        trace = predict(engine, study).trace
        port = int(first.url.rsplit(":", 1)[1])
    again = BoundAddress(port=port)
    with serving({"quick": QuickEngine()}, where=again):
        here = predict(QuickEngine(), study)
        there = predict(engine, study)
        assert np.array_equal(here.probability[Region.WT], there.probability[Region.WT])
        engine._connection.reopen(
            engine._connection.session
        )  # and once more, before an old map is asked
        assert np.array_equal(trace.probe_row((1, 2, 3)), here.trace.probe_row((1, 2, 3)))
        engine.close()


def test_a_study_that_is_closed_is_released_here_and_not_sent_again(remote, study, monkeypatch):
    before = predict(remote, study)
    release(remote)
    assert remote._last is None
    sent = []
    ask = Connection.ask
    monkeypatch.setattr(
        Connection, "ask", lambda self, *a, **o: sent.append(a[1]) or ask(self, *a, **o)
    )
    again = predict(remote, study)
    assert np.array_equal(before.probability[Region.WT], again.probability[Region.WT])
    assert not any(path.startswith("/parts") for path in sent)


class EarlierEngine(QuickEngine):
    def first_pass(self, prepared, *, context):
        seen = self.predict_perturbed(prepared, [InputPerturbation()], context=context)
        return FirstPass(replace(seen, thresholds=None), 0.5, Scoring())


class NewerEngine(EarlierEngine):
    @property
    def info(self):
        return replace(super().info, version="2", weights_sha256="cd" * 32)


def test_two_networks_do_not_answer_about_one_prediction(study):
    """A server is often restarted because its network changed."""
    with serving({"quick": EarlierEngine()}) as first:
        engine = connect(server=first.url)
        trace = predict(engine, study).trace
        port = int(first.url.rsplit(":", 1)[1])
    with serving({"quick": NewerEngine()}, where=BoundAddress(port=port)):
        with pytest.raises(ServerError, match=r"another network than before on .*: quick 2"):
            engine.predict_perturbed(study, [InputPerturbation()], context=SILENT)
        with pytest.raises(ServerError, match="Analyse the study again"):
            trace.probe_row((1, 2, 3))
        engine.first_pass(study, context=SILENT)
        assert predict(engine, study).engine.version == "2"
        engine.predict_perturbed(study, [InputPerturbation()], context=SILENT)
        engine.close()


def test_a_study_that_gave_way_to_another_is_sent_again(study):
    room = Limits(memory_bytes=3 * study.channels.nbytes, grace_s=0.0)
    with serving({"quick": QuickEngine()}, room) as server:
        engine = connect(server=server.url)
        channels = study.channels.copy()
        traces = []
        for factor in range(1, 5):
            traces.append(predict(engine, replace(study, channels=channels * factor)).trace)
            assert server.sessions.bytes <= room.memory_bytes
        assert server.sessions.state()["studies"] < 4
        for trace in traces:
            assert trace.probe_row((1, 2, 3)).max() > 0
        engine.close()


def test_a_full_server_is_waited_for_and_reported(study):
    """Another client's study is in use; it gives way when it is not."""
    room = Limits(memory_bytes=2 * study.channels.nbytes, grace_s=1.0)
    stages = []
    with serving({"quick": QuickEngine()}, room) as server:
        first, second = connect(server=server.url), connect(server=server.url)
        predict(first, study)
        other = replace(study, channels=study.channels * 2)
        report = RunContext(progress=lambda stage, _: stages.append(stage))
        there = predict(second, other, context=report)
        here = predict(QuickEngine(), other)
        assert np.array_equal(here.probability[Region.WT], there.probability[Region.WT])
        first.close()
        second.close()
    assert any(stage.startswith("server full (127.0.0.1") for stage in stages)


def test_a_server_that_keeps_losing_the_study_is_given_up(study, monkeypatch):
    def lost(*_):
        raise GoneError("study", found="no such study", expected="it", next_step="Send it again")

    with serving({"quick": QuickEngine()}) as server:
        engine = connect(server=ServerAddress(server.url, patience_s=0.5))
        monkeypatch.setattr(engine, "_run", lost)
        with pytest.raises(ResourceError, match="repeatedly loses the study"):
            predict(engine, study)
        engine.close()


def test_weights_and_bundles_are_the_servers_own():
    for beside in ({"weights": "synthetic"}, {"bundle": "some"}, {"device": "cpu"}):
        with pytest.raises(UnusableInputError, match="server"):
            Lens(server="http://127.0.0.1:1", **beside)
