"""An archive (Orthanc) and OHIF's own build in a headless Chromium, for tests: all on loopback.

Needs the Debian packages of `tests/nightly/system_packages.txt` and npm's `@ohif/app`, whose folder
`dist` the variable OHIF_DIST names.
"""

import base64
import functools
import http.client
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
import urllib.request
from contextlib import closing, contextmanager
from pathlib import Path

from tests.helpers.ports import free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CONFIG = """window.config = {routerBasename: '/', extensions: [], modes: [],
 showStudyList: true, maxNumberOfWebWorkers: 2, showLoadingIndicator: true,
 investigationalUseDialog: {option: 'never'}, defaultDataSourceName: 'here',
 dataSources: [{namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
  sourceName: 'here', configuration: {friendlyName: 'here', name: 'here',
  qidoRoot: '/dicom-web', wadoRoot: '/dicom-web', wadoUriRoot: '/wado',
  qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors',
  enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true,
  bulkDataURI: {enabled: true}, singlepart: 'bulkdata'}}]};"""


def missing():
    """Describe in words what is not installed; empty where all is."""
    dist = Path(os.environ.get("OHIF_DIST", "-"))
    lacks = [name for name in ("Orthanc", "chromium") if shutil.which(name) is None]
    lacks += [] if PLUGIN.exists() else ["orthanc-dicomweb"]
    lacks += [] if (dist / "index.html").exists() else ["OHIF_DIST"]
    return ", ".join(lacks)


@contextmanager
def ended(process):
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def orthanc(folder, **more):
    """Run an archive in a folder, with more of its settings; yields its port."""
    port = free_port()
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "Name": "TEST", "StorageDirectory": "db", "IndexDirectory": "db",
                "HttpPort": port, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
                "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                **more,
            }
        )
    )  # fmt: skip
    log = (folder / "orthanc.log").open("w")
    command = ["Orthanc", "orthanc.json"]
    with log, ended(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)):
        for _ in range(150):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/system", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)
        yield port


def store(port, files):
    """Give files to the archive."""
    for file in files:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        link.request("POST", "/instances", Path(file).read_bytes())
        answer = link.getresponse()
        reported = answer.read()
        assert answer.status == 200, (file, reported)
        link.close()


class _Pages(http.server.SimpleHTTPRequestHandler):
    """OHIF's files, and the archive behind the same address."""

    archive = 0
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._pass_on() if self.path.startswith("/dicom-web") else self._file()

    do_POST = do_GET

    def _pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {k: v for k, v in self.headers.items() if k in ("Accept", "Content-Type")}
        with closing(http.client.HTTPConnection("127.0.0.1", self.archive, timeout=120)) as link:
            link.request(self.command, self.path, body or None, headers)
            answer = link.getresponse()
            data = answer.read()
        self.send_response(answer.status)
        for key in ("Content-Type",):
            if answer.getheader(key):
                self.send_header(key, answer.getheader(key))
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _file(self):
        if self.path.split("?")[0] == "/app-config.js":
            data = CONFIG.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
            return
        name = self.path.split("?")[0].lstrip("/")
        if not name or not (Path(self.directory) / name).is_file():
            self.path = "/index.html"  # a route of the application's own
        super().do_GET()

    def end_headers(self):
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@contextmanager
def pages(archive):
    """Serve OHIF and the archive at one address; yields its port."""
    kind = type("Pages", (_Pages,), {"archive": archive})
    handler = functools.partial(kind, directory=os.environ["OHIF_DIST"])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Browser:
    """A page of a headless Chromium, spoken to over two pipes."""

    def __init__(self, folder, size=(1400, 900)):
        ours, theirs = os.pipe(), os.pipe()  # what it reads; what it writes
        command = [
            shutil.which("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu",
            "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
            "--no-first-run", f"--user-data-dir={folder}", f"--window-size={size[0]},{size[1]}",
            "--disable-dev-shm-usage", "--remote-debugging-pipe", "about:blank",
        ]  # fmt: skip
        script = f'exec "$@" 3<&{ours[0]} 4>&{theirs[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *command],
            pass_fds=(ours[0], theirs[1]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(ours[0])
        os.close(theirs[1])
        self._to = os.fdopen(ours[1], "wb", buffering=0)
        self._from = os.fdopen(theirs[0], "rb", buffering=0)
        self._waiting, self._number, self._rest = {}, 0, b""
        self.console = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        target = self._call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in target if t["type"] == "page")
        joined = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def _listen(self):
        while True:
            data = self._from.read(2**16)
            if not data:
                return
            self._rest += data
            *whole, self._rest = self._rest.split(b"\0")
            for message in map(json.loads, whole):
                if "id" in message:
                    event, box = self._waiting.pop(message["id"])
                    box.append(message)
                    event.set()
                elif message.get("method") in (
                    "Runtime.exceptionThrown",
                    "Runtime.consoleAPICalled",
                    "Log.entryAdded",
                ):
                    self.console.append(json.dumps(message["params"])[:2000])

    def _call(self, method, session=None, timeout=120, **params):
        self._number += 1
        event, box = threading.Event(), []
        self._waiting[self._number] = event, box
        message = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._to.write(json.dumps(message).encode() + b"\0")
        assert event.wait(timeout), f"no answer to {method}"
        assert "error" not in box[0], box[0]
        return box[0]["result"]

    def call(self, method, timeout=120, **params):
        return self._call(method, session=self._session, timeout=timeout, **params)

    def run(self, script, timeout=120):
        """Return what an asynchronous function's body returns in the page."""
        answer = self.call(
            "Runtime.evaluate",
            timeout=timeout,
            expression=f"(async () => {{ {script} }})()",
            awaitPromise=True,
            returnByValue=True,
        )
        assert "exceptionDetails" not in answer, json.dumps(answer["exceptionDetails"])[:3000]
        return answer["result"].get("value")

    def until(self, condition, seconds=90):
        """Wait for an expression to become true in the page."""
        for _ in range(int(seconds * 2)):
            if self.run(f"try {{ return !!({condition}) }} catch (e) {{ return false }}"):
                return
            time.sleep(0.5)
        raise AssertionError(f"not within {seconds} s: {condition}; {self.console[-5:]}")

    def click(self, words, times=1):
        """Click as a user does on the first text that has these words."""
        x, y = self.run(
            f"const words = {json.dumps(words)};"
            "const found = [...document.querySelectorAll('*')].find("
            "e => !e.children.length && e.textContent.includes(words));"
            "const box = found.getBoundingClientRect();"
            "return [box.x + box.width / 2, box.y + box.height / 2];"
        )
        at = {"x": x, "y": y, "button": "left"}
        for count in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, clickCount=count, **at)

    def choose(self, selector, files):
        """Put files into a page's input, as a user's dialog does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        names = [str(Path(file).resolve()) for file in files]  # a relative one ends the page
        self.call("DOM.setFileInputFiles", nodeId=found, files=names)

    def close(self):
        self._listener.join(10)
        self._to.close()
        self._from.close()

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))


@contextmanager
def browser(folder):
    page = Browser(folder)
    with ended(page.process):
        yield page
    page.close()
