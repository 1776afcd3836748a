"""Walk five flows through the package: which modules are entered, and which are come back to.

tools/with_display.sh .venv/bin/python research/walk_flows.py STUDY [--steps]

STUDY is a folder of sequences, best a small one. Each flow is run once, as a user would: a study is
analysed and saved; a candidate is clicked in the window until it is painted; a verdict is given
until it is on the disk; a point is prompted and the outline kept; a study goes to a server and
back. Every call of a function of the package is seen, in every thread.

The walk goes through what was called in the order in which each function first called it, each
function's body once. A stay is a run of calls into one module; a return is a stay in a module that
had been left. Helpers that everything stands on (`base/`) are counted apart, and with --steps each
stay is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import lesionlens

ROOT = str(Path(lesionlens.__file__).parent) + os.sep
Call = tuple[str, str, int]
"""Module below the package, function, line."""


class Trip:
    """The calls that were seen: what each function called, in the order of its first calls."""

    def __init__(self) -> None:
        self.calls: dict[Call | None, dict[Call, None]] = {None: {}}

    def see(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call; for `sys.setprofile`."""
        if event == "call" and (here := _named(frame.f_code)) is not None:
            above = frame.f_back
            while above is not None and _named(above.f_code) is None:
                above = above.f_back
            caller = None if above is None else _named(above.f_code)
            self.calls.setdefault(caller, {}).setdefault(here)

    def walk(self) -> Iterator[Call]:
        """Yield each call, depth first; a function that was walked before is not opened again."""
        opened: set[Call | None] = set()

        def into(caller: Call | None) -> Iterator[Call]:
            if caller in opened:
                return
            opened.add(caller)
            for callee in self.calls.get(caller, {}):
                yield callee
                yield from into(callee)

        yield from into(None)

    def stays(self, *, base: bool) -> list[list[str]]:
        """Return each stay: its module, then the functions called there."""
        found: list[list[str]] = []
        for module, name, _ in self.walk():
            if not base and module.startswith("base/"):
                continue
            if not found or found[-1][0] != module:
                found.append([module])
            found[-1].append(name)
        return found


def _named(code: CodeType) -> Call | None:
    """Return which function of the package a code object is; None of others and of `<…>`."""
    if not code.co_filename.startswith(ROOT) or code.co_name.startswith("<"):
        return None
    module = code.co_filename[len(ROOT) :].removesuffix(".py").replace(os.sep, "/")
    return module, code.co_qualname, code.co_firstlineno


@contextmanager
def walked(trip: Trip) -> Iterator[None]:
    """See every call of the package within the block, also in threads that it starts."""
    threading.setprofile(trip.see)
    sys.setprofile(trip.see)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def exported(study: Path, out: Path) -> Iterator[tuple[str, Trip]]:
    """Walk from a study to its files."""
    trip = Trip()
    lens = lesionlens.Lens()
    opened = lesionlens.open_study(study)
    with walked(trip):
        result = lens(opened)
    yield "a study → a result (`Lens.__call__`)", trip
    trip = Trip()
    with walked(trip):
        result.save(out)
    yield "a result → export (`Result.save`)", trip


def served(study: Path) -> Iterator[tuple[str, Trip]]:
    """Walk to a server on this machine and back; what the server does in its threads included."""
    from lesionlens.base.run_context import RunContext  # noqa: PLC0415
    from lesionlens.engines.choice import EngineChoice  # noqa: PLC0415
    from lesionlens.imaging.preparation.prepare import prepare  # noqa: PLC0415
    from lesionlens.site.serving.admission import Admission  # noqa: PLC0415
    from lesionlens.site.serving.app import make_app  # noqa: PLC0415
    from lesionlens.site.serving.listen import Listening, listen  # noqa: PLC0415
    from lesionlens.site.serving.sessions import Limits, Sessions  # noqa: PLC0415

    where, stop, ready, at = Listening(port=0), threading.Event(), threading.Event(), []
    sessions = Sessions({"lens": EngineChoice().load()}, Limits())
    app = make_app(sessions, Admission((), where.hosts), None)

    def report(address: str) -> None:
        at.append(address)
        ready.set()

    trip = Trip()
    prepared = prepare(lesionlens.open_study(study), RunContext())
    threading.setprofile(trip.see)
    thread = threading.Thread(target=listen, args=(app, where, report, RunContext(cancel=stop)))
    thread.start()
    ready.wait(60)
    try:
        with walked(trip):
            lesionlens.Lens(server=at[0]).engine.predict(prepared, context=RunContext())
    finally:
        stop.set()
        thread.join(20)
    yield "a study → the server and back", trip


def windowed(study: Path) -> Iterator[tuple[str, Trip]]:
    """Walk three acts of a reader in the window."""
    import napari  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    from lesionlens.base.labels import PromptKind  # noqa: PLC0415
    from lesionlens.napari.demo import wait_for  # noqa: PLC0415
    from lesionlens.napari.dock import open_panel  # noqa: PLC0415
    from lesionlens.napari.model.choices.gestures import Gesture  # noqa: PLC0415

    viewer = napari.Viewer(show=True)
    panel = open_panel(viewer)

    def idle() -> None:
        wait_for(lambda: not panel.jobs.running and not panel.questions.running, 600)
        wait_for(lambda: False, 1.0)

    def act(what: Callable[[], Any]) -> Trip:
        trip = Trip()
        with walked(trip):
            what()
            idle()
        return trip

    panel.take_dropped([study])
    idle()
    panel.actions_.analyse()
    idle()
    overlays, state = panel.session.state.overlays, panel.session.state
    if overlays is None or state.analysis is None or not state.analysis.findings.candidates:
        raise SystemExit("nothing was flagged: give a study with a tumour")
    yield "a click → paint", act(lambda: panel.session.go_to(1))
    yield "a verdict → disk", act(lambda: panel.commands.run("accept"))
    at = tuple(overlays.grid.to_mm(np.array(overlays.grid.shape) / 2.0).tolist())

    def prompted() -> None:
        panel.actions_.prompting.take(Gesture(PromptKind.POINT, True, [at]))
        idle()
        panel.commands.run("finish_outline")

    yield "a prompt → file", act(prompted)
    viewer.close()


def main() -> None:
    """Print a table of the flows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--steps", action="store_true", help="print each stay")
    parser.add_argument("--only", choices=("export", "server", "window"))
    given = parser.parse_args()
    print("| flow | modules | stays | returns | most often come back to | without `base/` |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as own:
        for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            os.environ[name] = own
        flows = {
            "export": lambda: exported(given.study, Path(own) / "out"),
            "server": lambda: served(given.study),
            "window": lambda: windowed(given.study),
        }
        for kind, flow in flows.items():
            if given.only in (None, kind):
                for name, trip in flow():
                    show(name, trip, steps=given.steps)


def show(name: str, trip: Trip, *, steps: bool) -> None:
    """Print the row of a flow, and its stays where asked to."""
    whole, above = trip.stays(base=True), trip.stays(base=False)
    visits = Counter(stay[0] for stay in whole)
    often = ", ".join(f"`{m}` {n - 1}" for m, n in visits.most_common(3) if n > 1)
    apart = Counter(stay[0] for stay in above)
    print(
        f"| {name} | {len(visits)} | {len(whole)} | {len(whole) - len(visits)} | {often} | "
        f"{len(apart)} modules, {len(above) - len(apart)} returns |",
        flush=True,
    )
    if steps:
        for module, *functions in above:
            print(f"    {module}: {', '.join(dict.fromkeys(functions))}")


if __name__ == "__main__":
    main()
