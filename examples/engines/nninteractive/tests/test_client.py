"""The server's refusals through its own client, from a server that answers what a test sets."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

pytest.importorskip("nnInteractive.inference.remote")
sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from lesionlens_nninteractive import client

CAPABILITIES = {
    "supported_interactions": {},
    "channel_mapping": {},
    "num_interaction_channels": 7,
    "supports_initial_label": True,
    "supports_zero_shot_label_refinement": True,
    "preferred_scribble_thickness": [2, 2, 2],
    "interaction_decay": 0.9,
    "inference_session_version": "2",
}


class Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        status, body = self.server.answers.get(self.path, (200, "{}"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET


@pytest.fixture
def server():
    server = HTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.answers = (
        [],
        {
            "/claim": (200, json.dumps({"lease_token": "one"})),
            "/capabilities": (200, json.dumps(CAPABILITIES)),
        },
    )
    server.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "answer", "reason"),
    [
        ("/claim", (401, '{"detail": "wrong key"}'), "401.*wrong key"),
        ("/claim", (503, '{"detail": "at capacity"}'), "at capacity"),
        ("/claim", (200, "<html>another program</html>"), "not the protocol"),
        ("/capabilities", (200, "{}"), "not the protocol"),
    ],
)
def test_the_reason_of_a_server_that_does_not_serve_is_given(server, path, answer, reason):
    server.answers[path] = answer
    with pytest.raises(ConnectionError, match=reason):
        client.Server(server.address, None)


@pytest.mark.parametrize("address", ["localhost", "http://localhost:port", "http://127.0.0.1:1"])
def test_an_address_that_leads_nowhere_is_an_error_of_the_connection(address):
    with pytest.raises(ConnectionError):
        client.Server(address, None)


def test_a_session_is_freed_when_its_holder_is(server):
    held = client.Server(server.address, None)
    assert "/release" not in server.asked
    del held
    assert server.asked[-1] == "/release"
