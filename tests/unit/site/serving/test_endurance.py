"""Many clients, and processes killed at any moment: nothing lost, nothing mixed, memory flat."""

import mmap
import multiprocessing
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")

import requests
from tests.helpers.local_server import QuickEngine, serving
from tests.helpers.ports import free_port

from lesionlens.base.labels import Region
from lesionlens.base.records.prediction import InputPerturbation
from lesionlens.base.run_context import SILENT
from lesionlens.engines.remote.address import ServerAddress
from lesionlens.engines.remote.engine import connect
from lesionlens.engines.testing.engine_contract import prepared_head
from lesionlens.engines.testing.simple import make_patient
from lesionlens.site.serving.listen import BoundAddress
from lesionlens.site.serving.sessions import Limits

pytestmark = pytest.mark.slow
LEFT_OUT = [InputPerturbation(keep=(True, True, True, False)), InputPerturbation()]
KILLS = 20


def record(figures):
    """Show figures with `pytest -s`."""
    sys.stderr.write(f"\n{figures}\n")


def processes():
    """Processes that start at once, from one that has loaded everything already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tests.helpers.local_server", "lesionlens.engines.testing.engine_contract"]
    )
    return context


def serve_at(port, limits):
    with serving({"quick": QuickEngine()}, limits, where=BoundAddress(port=port)):
        time.sleep(3600)


def started(port, limits=None):
    process = processes().Process(target=serve_at, args=(port, limits or Limits()))
    process.start()
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            assert requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok
        except requests.RequestException:
            time.sleep(0.05)
        else:
            return process
    raise AssertionError("the server did not start")


def studies(count):
    """Studies of which no two are alike."""
    heads = [prepared_head(patient=make_patient(seed, spacing_mm=4.0)) for seed in range(5)]
    found = []
    for number in range(count):
        head = heads[number % len(heads)]
        step = number // len(heads)
        rolled = np.roll(head.channels, step, axis=3)
        found.append(replace(head, channels=rolled))
    return found


def same_as_here(engine, study):
    here = QuickEngine().predict(study, context=SILENT)
    there = engine.predict(study, context=SILENT)
    for region in Region:
        assert np.array_equal(here.probability[region], there.probability[region])
        assert np.array_equal(here.trace.cross[region], there.trace.cross[region])
    assert np.array_equal(here.trace.probe_row((7, 8, 9)), there.trace.probe_row((7, 8, 9)))
    here = QuickEngine().predict_perturbed(study, LEFT_OUT, context=SILENT)
    there = engine.predict_perturbed(study, LEFT_OUT, context=SILENT)
    assert np.array_equal(here.probability, there.probability)


def resident_mib(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text("ascii").split()[1])
    return pages * mmap.PAGESIZE / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")
def test_eight_clients_and_fifty_studies_lose_and_mix_nothing_and_memory_stays_flat(
    record_property,
):
    room = Limits(memory_bytes=48 * 2**20, grace_s=0.5)
    port = free_port()
    server = started(port, room)
    address = ServerAddress(f"http://127.0.0.1:{port}", patience_s=300.0)
    everything = studies(50)
    mine = threading.local()

    def one(study):
        if not hasattr(mine, "engine"):
            mine.engine = connect(server=address)
        same_as_here(mine.engine, study)
        return resident_mib(server)

    began = time.monotonic()
    try:
        with ThreadPoolExecutor(8) as clients:
            sizes = [*clients.map(one, everything)]
        state = requests.get(f"{address.url}/v1/state", timeout=10).json()
    finally:
        server.kill()
        server.join()
    record(f"MiB {[round(size) for size in sizes]}; {time.monotonic() - began:.0f} s")
    assert len(sizes) == 50
    assert state["bytes"] <= room.memory_bytes
    assert max(sizes[25:]) - max(sizes[:25]) < 64


def test_a_server_killed_twenty_times_at_any_moment_costs_time_and_nothing_else():
    port, chance = free_port(), random.Random(4)
    kept = [started(port)]
    engine = connect(server=ServerAddress(f"http://127.0.0.1:{port}", patience_s=300.0))
    everything, kills, done = studies(5), 0, threading.Event()

    def kill():
        nonlocal kills
        while kills < KILLS:
            time.sleep(chance.uniform(0.0, 1.5))
            kept[0].kill()
            kept[0].join()
            kills += 1
            kept[0] = started(port)
        done.set()

    killer = threading.Thread(target=kill)
    killer.start()
    answered = 0
    try:
        while not done.is_set() or answered < 5:
            same_as_here(engine, everything[answered % 5])
            answered += 1
    finally:
        killer.join()
        engine.close()
        kept[0].kill()
        kept[0].join()
    record(f"{kills} kills, {answered} studies answered alike")
    assert kills == KILLS


def ask_for_ever(url, seed):
    engine, study = connect(server=url), prepared_head(patient=make_patient(seed, spacing_mm=4.0))
    while True:
        engine.predict(study, context=SILENT)
        engine.predict_perturbed(study, LEFT_OUT, context=SILENT)


def test_clients_killed_twenty_times_at_any_moment_leave_nothing_behind():
    chance, everything = random.Random(5), studies(3)
    with serving({"quick": QuickEngine()}, Limits(heartbeat_s=6.0)) as server:
        engine = connect(server=server.url)
        for number in range(KILLS):
            client = processes().Process(target=ask_for_ever, args=(server.url, number % 3))
            client.start()
            same_as_here(engine, everything[number % 3])
            time.sleep(chance.uniform(0.0, 2.0))
            client.kill()
            client.join()
        engine.close()
        end, empty = time.monotonic() + 60, {"sessions": 0, "studies": 0, "bytes": 0, "waiting": 0}
        while (state := server.sessions.state()) != empty and time.monotonic() < end:
            time.sleep(0.1)  # after the last session, the engine's study is released in the queue
        assert state == empty
