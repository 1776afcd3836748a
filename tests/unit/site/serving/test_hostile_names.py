"""Every route, every name that it takes, against names that lead elsewhere."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from urllib.parse import quote, unquote

import pytest

pytest.importorskip("fastapi")

from tests.helpers.local_server import QuickEngine

from lesionlens.base.errors import UnusableInputError
from lesionlens.base.files.safe_paths import inside, safe_name
from lesionlens.site.serving.admission import Admission
from lesionlens.site.serving.app import make_app
from lesionlens.site.serving.sessions import Limits, Sessions

SECRET = b"what lies outside of the datastore"
BENIGN = {"model": "quick", "image": "one", "tag": "final", "strategy": "first", "output": "json"}
RAW = {"/../secret", "/..%2fsecret", "/%2e%2e/%2e%2e/secret", "//secret", "/a%00b"}


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder of secrets, and in it a datastore with links that lead out."""
    root = tmp_path_factory.mktemp("outside")
    store = root / "store"
    (store / "labels" / "final").mkdir(parents=True)
    (root / "elsewhere").mkdir()
    for place in (root / "secret.nii.gz", root / "elsewhere" / "one.nii.gz"):
        place.write_bytes(SECRET)
    (store / "one.nii.gz").write_bytes(b"an image")
    (store / "link.nii.gz").symlink_to(root / "secret.nii.gz")
    (store / "linked").symlink_to(root / "elsewhere")
    (store / "labels" / "out").symlink_to(root / "elsewhere")
    (store / "labels" / "final" / "one.nii.gz").symlink_to(root / "secret.nii.gz")
    return root


def hostile(root):
    away = f"{root}/secret"
    return [
        *("../secret", "../../../secret", "../../one", "../labels/final/one", "one/../../secret"),
        *("..", ".", "", "./one", "/", "one/", ".hidden", "~/.ssh/id_rsa", "$HOME", "`id`"),
        *(away, f"/{away}", f"{away}.nii.gz", f"file://{away}", f"../{root.name}/secret"),
        *("..\\secret", "..\\..\\..\\secret", "C:\\secret", "C:secret", "\\\\host\\share\\secret"),
        *("secret\0", "../secret\0.nii.gz", "one\n", "one\r\nX-Injected: 1", "\u202egnp.one"),
        *("%2e%2e%2fsecret", "%252e%252e%252fsecret", "..%c0%afsecret", "one%00"),
        *("con", "NUL.txt", "one.", "x" * 255, "x" * 5000, "\ud83d\ude00" * 100, "..." * 50),
        *("link", "linked", "out", "labels", "labels/notes", "notes.json"),
    ]


def state(root):
    found = {}
    for place in sorted(root.rglob("*")):
        kind = "link" if place.is_symlink() else "folder" if place.is_dir() else "file"
        content = hashlib.sha256(place.read_bytes()).hexdigest() if kind == "file" else ""
        found[str(place.relative_to(root))] = (kind, content)
    return found


def uses(app):
    """Yield method, path and the texts that each operation takes, from what the router has."""
    for path, operations in app.openapi()["paths"].items():
        for method, about in operations.items():
            names = [(p["in"], p["name"]) for p in about.get("parameters", ())]
            body = about.get("requestBody", {}).get("content", {})
            yield method.upper(), path, names, [*body]


def form(name, file_name):
    """Return a form with one file under every name that a route may want."""
    lines = []
    for field in ("file", "files", "label"):
        shown = file_name.replace('"', "'").replace("\r", "").replace("\n", "")
        lines += [
            "--b",
            f'Content-Disposition: form-data; name="{field}"; filename="{shown}"',
            "",
            "x",
        ]
    lines += ["--b", 'Content-Disposition: form-data; name="params"', "", json.dumps({"n": name})]
    body = "\r\n".join([*lines, "--b--", ""]).encode("utf-8", "surrogatepass")
    return body, "multipart/form-data; boundary=b"


def body_for(kinds, name, file_name):
    """Return the body that a route reads, and its type."""
    if "multipart/form-data" in kinds:
        return form(name, file_name)
    if "application/x-www-form-urlencoded" in kinds:
        return f"password={escaped(name)}".encode(), "application/x-www-form-urlencoded"
    return json.dumps({"model": name.encode("utf-8", "replace").decode()}).encode(), (
        "application/json"
    )


def escaped(text):
    return quote(text, safe="", errors="surrogatepass")


class Caller:
    """Asks an application without a socket, so that no client makes a name harmless."""

    def __init__(self, app, loop):
        self._app, self._loop = app, loop

    def ask(self, method, target, body=b"", kind="application/json"):
        raw, _, query = target.partition("?")
        headers = {"host": "127.0.0.1", "content-type": kind, "content-length": str(len(body))}
        scope = {
            "type": "http",
            "method": method,
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
        }
        parts = [{"type": "http.request", "body": body, "more_body": False}]
        sent = []

        async def receive():
            return parts.pop() if parts else await asyncio.Event().wait()

        async def send(message):
            sent.append(message)

        asked = self._app(scope, receive, send)
        asyncio.run_coroutine_threadsafe(asked, self._loop).result(60)
        content = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], content

    def session(self):
        return json.loads(self.ask("POST", "/v1/sessions", b"{}")[1])["session"]


@pytest.fixture
def calling():
    """A factory of callers of a server with this datastore; all end with the test."""
    loop, apps, ended = asyncio.new_event_loop(), [], asyncio.Event()
    # one task for all: with each that ends, anyio ends the threads that wait for the next request
    running = threading.Thread(target=loop.run_until_complete, args=(ended.wait(),))
    running.start()

    def calling(store):
        apps.append(make_app(Sessions({"quick": QuickEngine()}, Limits()), Admission(), store))
        return Caller(apps[-1], loop), apps[-1]

    yield calling
    for app in apps:
        app.state.sessions.end()
        app.state.monailabel.uploads.end()
    loop.call_soon_threadsafe(ended.set)
    running.join()
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")  # GET and HEAD share a function
def test_no_name_of_any_route_reads_writes_or_removes_anything_outside(outside, calling):
    store, names = outside / "store", hostile(outside)
    before, tried = state(outside), 0
    caller, app = calling(store)
    for method, path, texts, kinds in uses(app):
        for where, text in [*texts, ("body", "file")]:
            session = caller.session() if "/v1/sessions/{session}" in path else ""
            for name in names:
                given = {n: BENIGN.get(n, "one") for _, n in texts} | {"session": session}
                given[text] = name
                target = path
                for _, one in texts:
                    target = target.replace(f"{{{one}}}", escaped(given[one]))
                query = "&".join(f"{n}={escaped(given[n])}" for w, n in texts if w == "query")
                sent, kind = body_for(kinds, name, f"{name}.nii.gz" if where == "body" else "a")
                status, content = caller.ask(method, f"{target}?{query}"[:60000], sent, kind)
                assert SECRET not in content, (method, path, text, name)
                assert status < 500, (method, path, text, name, content)
                tried += 1
            if session:
                caller.ask("DELETE", f"/v1/sessions/{session}")
    for target in RAW:
        assert caller.ask("GET", target)[0] in (400, 404)
    assert tried > 1000
    after = {k: v for k, v in state(outside).items() if not k.startswith("store/labels/notes.json")}
    new = {k for k in after if k not in before}
    assert {k: after[k] for k in before} == before
    assert not [k for k in new if "secret" in k or not k.startswith("store/")], new


def test_a_label_of_an_image_is_read_written_and_removed_by_its_plain_name(tmp_path, calling):
    store = tmp_path / "store"
    store.mkdir()
    (store / "M\u00fcller 1.nii.gz").write_bytes(b"an image")
    caller, _ = calling(store)
    name = escaped("M\u00fcller 1")
    kept = caller.ask("PUT", f"/datastore/label?image={name}", *form("", "a.nii.gz"))
    assert kept[0] == 200
    assert caller.ask("GET", f"/datastore/label?label={name}") == (200, b"x")
    assert caller.ask("DELETE", f"/datastore/label?id={name}")[0] == 200
    assert caller.ask("GET", f"/datastore/label?label={name}")[0] == 422
    assert caller.ask("GET", f"/datastore/image?image={name}") == (200, b"an image")


@pytest.mark.parametrize("name", ["../a", "/a", "a/b", "a\\b", "C:a", "", ".", "..", "nul", "a\0"])
def test_a_place_outside_is_refused(name, tmp_path):
    with pytest.raises(UnusableInputError):
        inside(tmp_path, name)
    with pytest.raises(UnusableInputError):
        safe_name(name)


def test_a_link_that_leads_out_is_refused_and_one_that_stays_is_not(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in" / "b")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in" / "round")
    for names in (("out", "file"), ("round", "file"), ("round",)):
        with pytest.raises(UnusableInputError):
            inside(tmp_path / "in", *names)
    assert inside(tmp_path / "in", "a", "file") == tmp_path / "in" / "a" / "file"


DEEP = '{"a": ' + "[" * 900 + "]" * 900 + "}"


@pytest.mark.parametrize("notes", [r'{"a": "\ud800"}', r'{"b": [{"\udfff": 1}]}', DEEP])
def test_notes_that_no_response_can_repeat_are_refused_and_stored_nowhere(notes, tmp_path, calling):
    store = tmp_path / "store"
    store.mkdir()
    (store / "one.nii.gz").write_bytes(b"an image")
    caller, _ = calling(store)
    files, kind = form("", "a.nii.gz")
    body = files.replace(b'{"n": ""}', notes.encode())
    for target in ("label?image=one", "?image=two"):
        assert caller.ask("PUT", f"/datastore/{target}", body, kind)[0] == 422, target
    status, listing = caller.ask("GET", "/datastore/?output=all")
    assert status == 200
    assert set(json.loads(listing)["objects"]) == {"one"}


@pytest.mark.parametrize("body", [rb'{"client_id": "\ud800"}', rb'[NaN, "\ud800"]'])
def test_a_client_name_that_cannot_be_encoded_leaves_the_listing_intact(body, tmp_path, calling):
    store = tmp_path / "store"
    store.mkdir()
    (store / "one.nii.gz").write_bytes(b"an image")
    (store / "labels" / "caf\udce9").mkdir(parents=True)
    (store / "labels" / "caf\udce9" / "one.nii.gz").write_bytes(b"a label")
    (store / "M\udcfcller.nii.gz").write_bytes(b"its name is Latin-1")
    caller, _ = calling(store)
    assert caller.ask("POST", "/activelearning/first", body)[0] in (200, 422)
    status, listing = caller.ask("GET", "/datastore/?output=all")
    assert status == 200
    assert set(json.loads(listing)["objects"]) == {"one"}
    assert caller.ask("GET", "/datastore/")[0] == 200
