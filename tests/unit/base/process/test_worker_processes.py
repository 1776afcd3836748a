"""Workers start as the parent decides: from no script, and from no file of the working folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, multiprocessing, os
from lesionlens.base.process.worker_processes import begin_worker, starting_workers

def environment(pipe):
    begin_worker()
    pipe.send(os.environ.get("PYTHONSAFEPATH"))

def run():
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=environment, args=(sender,))
    with starting_workers():
        process.start()
    sender.close()
    print(json.dumps([receiver.recv(), os.environ.get("PYTHONSAFEPATH")]))
    process.join()
"""


@pytest.mark.parametrize("setting", [None, "1"])
def test_workers_import_nothing_from_the_working_folder(tmp_path, setting):
    """A study folder with a file `signal.py`, in which `batch` was started, ran that file."""
    study, scripts = tmp_path / "study", tmp_path / "scripts"
    study.mkdir()
    scripts.mkdir()
    for name in ("signal", "pickle"):
        (study / f"{name}.py").write_text("print('from the study')\n", encoding="utf-8")
    (scripts / "starts_workers.py").write_text(SCRIPT, encoding="utf-8")
    (scripts / "main.py").write_text("import starts_workers as s\ns.run()\n", encoding="utf-8")
    above = os.environ.get("PYTHONPATH", "")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(scripts), above)))}
    env.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(
        [sys.executable, scripts / "main.py"],
        cwd=study,
        env=env if setting is None else {**env, "PYTHONSAFEPATH": setting},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [setting, setting]
