"""Measure the peak memory of a window by stage, as started by `lesionlens open`.

    tools/with_display.sh .venv/bin/python -m research.window.peak_memory STUDY STUDY ...

napari runs its own event loop in the environment of `lesionlens open`. The studies are opened,
analysed with the shipped network, viewed, probed and closed one after the other. Every 5 ms a
thread reads the resident memory and the memory of the allocator. Printed for each stage of each
study are the maxima of: resident memory, memory in use by the allocator, memory freed but resident,
and mapped files.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from typing_extensions import override

from lesionlens.base.process.host_process import TUNE
from lesionlens.base.run_context import RunContext

MIB, TICK_MS, INTERVAL_S = 2**20, 30, 0.005
AS_OPEN = {
    "MALLOC_ARENA_MAX": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMPY_MADVISE_HUGEPAGE": "0",
    TUNE: "1",
}
Row = tuple[float, ...]


class MemoryMeter(threading.Thread):
    """Thread that reads the memory of the process until it ends."""

    class _Counts(ctypes.Structure):
        _fields_ = (("of", ctypes.c_size_t * 10),)

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.study, self.stage = "start", "start"
        self.peaks: dict[tuple[str, str], Row] = {}
        self.seconds: dict[tuple[str, str], float] = {}
        self._libc = ctypes.CDLL(None)
        self._libc.mallinfo2.restype = MemoryMeter._Counts

    @override
    def run(self) -> None:
        """Keep the reading with the most resident memory of each stage."""
        while True:
            key, row = (self.study, self.stage), self.read()
            if row > self.peaks.get(key, (0.0,)):
                self.peaks[key] = row
            self.seconds[key] = self.seconds.get(key, 0.0) + INTERVAL_S
            time.sleep(INTERVAL_S)

    def read(self) -> Row:
        """Return resident, anonymous, file, in use, mapped, freed (not all resident), in MiB."""
        with open("/proc/self/status", "rb") as status:  # noqa: PTH123  (read 200 times a second)
            lines = dict(line.split(b":", 1) for line in status.read().splitlines())
        fields = (b"VmRSS", b"RssAnon", b"RssFile")
        sizes = [int(lines[name].split()[0]) / 1024 for name in fields]
        counts = self._libc.mallinfo2().of
        return (*sizes, (counts[4] + counts[7]) / MIB, counts[4] / MIB, counts[8] / MIB)


def reading_steps(
    meter: MemoryMeter, panel: Any, studies: list[Path]
) -> Iterator[Callable[[], bool]]:
    """Act like a reader; yield the condition to wait for between the acts."""
    from lesionlens.napari.model.choices.choices import Overlay

    acts, session = panel.actions_, panel.session

    def idle() -> bool:
        return not (panel.jobs.running or panel.latest_request.running)

    def after(seconds: float) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    for number, study in enumerate(studies):
        meter.study = study.name
        meter.stage = "open"
        if number:
            acts.open(study)
        yield lambda: idle() and session.state.study is not None
        yield after(1.0)
        meter.stage = "analyse"
        acts.analyse()
        yield idle
        meter.stage = "shown"
        yield after(1.0)
        if session.state.analysis is None:
            raise RuntimeError(str(session.state.problem))
        meter.stage = "look"
        panel.commands.run("next_candidate")
        for overlay in (Overlay.CONTOUR, Overlay.MAP):
            session.choose_overlay(overlay)
            yield after(0.3)
        for name in ("four_views", "three_planes", "three_planes"):
            panel.commands.run(name)
            yield after(0.5)
        meter.stage = "probe"
        candidate = session.state.focused
        if candidate is not None:
            acts.probe(candidate.centroid_mm)
            yield idle
        yield after(0.5)
        meter.stage = "idle"
        yield after(0.5)


def studies_of_command() -> list[Path]:
    """Read the command line, before a display is needed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("studies", type=Path, nargs="+", metavar="STUDY")
    return [study.absolute() for study in parser.parse_args().studies]


def restart_as_open() -> None:
    """Restart this process in the environment of `lesionlens open`, with temporary user folders."""
    temporary = tempfile.mkdtemp()
    home = {f"XDG_{kind}_HOME": temporary for kind in ("DATA", "CACHE", "CONFIG")}
    environment = {**AS_OPEN, **os.environ, **home, TUNE: "1"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def main() -> None:
    """Start napari as `lesionlens open` does, and run the acts in its event loop."""
    studies = studies_of_command()
    if os.environ.get(TUNE) != "1":
        restart_as_open()
    sys.argv = ["napari", "--plugin", "lesionlens", str(studies[0])]
    from lesionlens.napari.standalone import keep_no_sources

    keep_no_sources()
    from napari.__main__ import main as napari_main
    from napari.qt import get_qapp
    from qtpy.QtCore import QTimer

    meter, app = MemoryMeter(), get_qapp()
    original_check = RunContext.check

    def check(context: RunContext, stage: str) -> None:
        meter.stage = f"  {stage}"
        original_check(context, stage)

    patch.object(RunContext, "check", check).start()  # every stage calls it
    state: list[Any] = []

    def advance() -> None:
        if not state:
            panels = [w for w in app.allWidgets() if type(w).__name__ == "LesionLens"]
            if not panels:
                return
            state.extend((reading_steps(meter, panels[0], studies), lambda: True))
        if not state[1]():
            return
        try:
            state[1] = next(state[0])
        except StopIteration:
            report(meter)
            os._exit(0)
        except Exception as error:  # noqa: BLE001  (napari's loop would swallow it)
            sys.stderr.write(f"{error!r}\n")
            report(meter)
            os._exit(1)

    timer = QTimer()
    timer.timeout.connect(advance)
    timer.start(TICK_MS)
    meter.start()
    napari_main()


def report(meter: MemoryMeter) -> None:
    """Print the reading of each stage with most resident memory."""
    names = ("resident", "anon", "files", "in use", "mapped", "freed", "s")
    print(f"{'':44}" + "".join(f"{name:>9}" for name in names))
    for (study, stage), row in list(meter.peaks.items()):
        numbers = (*row, meter.seconds[study, stage])
        print(f"{study[:16]:17}{stage[:26]:27}" + "".join(f"{n:9.0f}" for n in numbers))
    for study in dict.fromkeys(study for study, _ in meter.peaks):
        peak = max(row[0] for (study_name, _), row in meter.peaks.items() if study_name == study)
        print(f"{study}: {peak:.0f} MiB")
    cpu_s = time.process_time()
    with Path("/proc/self/status").open(encoding="ascii") as status:
        largest = next(line for line in status if line.startswith("VmHWM"))
    print(f"{' '.join(largest.split())}; {cpu_s:.1f} s of processor", flush=True)


if __name__ == "__main__":
    main()
