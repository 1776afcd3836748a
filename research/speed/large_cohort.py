"""Measure a cohort of a thousand studies: memory, cost, and the state after a process is killed.

    python -m research.speed.large_cohort --studies 1000 --workers 2
    python -m research.speed.large_cohort --studies 200 --workers 2 --kill worker  # or: scheduler

The studies are synthetic heads of 6 mm. Only the cohort itself is measured (processes, worklist,
result folders), so the workers skip the analysis: the network is loaded once, a study's files are
read, and the result is one small file. `lesionlens bench` measures an analysis.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.helpers.ports import free_port
from tests.phantoms.analysis import write_study

from lesionlens.engines.testing.simple import make_patient

HEADS = 8
WORKER_STUB = '''
"""Imported when a process starts: replaces the analysis of a study by reading its files."""
import importlib.abc, sys

class _Light(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "lesionlens.site.cohort.work":
            return None
        sys.meta_path.remove(self)
        import importlib.util
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def loaded(module):
            load(module)
            module._analyse = analysed
        spec.loader.exec_module = loaded
        return spec

def analysed(job, choice, context):
    import time
    from lesionlens.base.files.atomic_file import atomic_file
    from lesionlens.site.cohort import work
    start = time.perf_counter()
    about = work.load_lens(choice.engine).engine.info
    read = sum(len(one.read_bytes()) for one in job.study.iterdir()) / 1e3
    with atomic_file(job.out / "findings.json") as aside:
        aside.write_text('{"candidates": []}')
    with atomic_file(job.out / "findings.csv") as aside:
        aside.write_text("id\\n")
    return work.StudyOutcome(job.name, work.Status.ANALYSED, 0, f"read {read:.0f} kB",
                        time.perf_counter() - start, 0, work.engine_identity(about, choice), 0.0)

sys.meta_path.insert(0, _Light())
'''


def write_studies(folder: Path, count: int) -> None:
    """Write a few heads, and hard links to them as `count` studies."""
    for head in range(HEADS):
        write_study(make_patient(head, spacing_mm=6.0), folder / f".head{head}")
    for number in range(count):
        case_folder = folder / f"case{number:04}"
        case_folder.mkdir()
        for file in (folder / f".head{number % HEADS}").iterdir():
            os.link(file, case_folder / file.name)


def resident_mib(process: int) -> float:
    """Return the resident memory of a process in MiB, on Linux; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text("ascii").split()[1])
    except (OSError, ValueError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def descendants_of(process: int) -> list[int]:
    """Return the descendants of a process."""
    descendants: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, task.read_text("ascii").split()):
            descendants += [child, *descendants_of(child)]
    return descendants


def cpu_s(processes: list[int]) -> float:
    """Return the CPU seconds of processes and of their finished children."""
    total = 0
    for process in processes:
        try:
            fields = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def analysed_count(out: Path) -> int:
    """Return the number of analysed studies in the worklist."""
    try:
        with sqlite3.connect(f"file:{out / 'studies.sqlite'}?mode=ro", uri=True) as database:
            query = "SELECT COUNT(*) FROM outcomes WHERE status = 'analysed'"
            return int(database.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0


def run_batch(
    command: list[str], env: dict[str, str], out: Path, process_to_kill: int | None, after: int
) -> dict[str, Any]:
    """Run a batch, killing a process of it after some studies; return status and samples.

    A sample is (seconds, studies, largest MiB, total MiB, CPU seconds).
    """
    start, samples, is_killed = time.monotonic(), [], process_to_kill is None
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        while process.poll() is None:
            count, family = analysed_count(out), [process.pid, *descendants_of(process.pid)]
            memory_mib = [resident_mib(member) for member in family]
            samples.append(
                (time.monotonic() - start, count, max(memory_mib), sum(memory_mib), cpu_s(family))
            )
            if not is_killed and count >= after:
                os.kill(process_to_kill or _worker(process.pid), signal.SIGKILL)
                is_killed = True
            time.sleep(1.0)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    last = [line for line in text.splitlines() if line.strip()][-6:]
    return {
        "status": process.returncode,
        "done": analysed_count(out),
        "samples": samples,
        "output": last,
    }


def _worker(batch: int) -> int:
    """Return the descendant of a batch with most memory: one of its workers."""
    return max(descendants_of(batch), key=resident_mib)


def cluster(stack: ExitStack, workers: int, env: dict[str, str]) -> tuple[str, int]:
    """Start a dask scheduler and workers; return the scheduler's address and process ID."""
    address = f"tcp://127.0.0.1:{free_port()}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    port = address.rpartition(":")[2]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    scheduler = subprocess.Popen(
        [*dask, "--host", "127.0.0.1", "--port", port, "--no-dashboard"], **quiet
    )
    stack.callback(scheduler.kill)
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"]
    for _ in range(workers):
        worker_process = subprocess.Popen(
            [*worker, "--no-dashboard", "--death-timeout", "60"], **quiet
        )
        stack.callback(worker_process.kill)
    return address, scheduler.pid


def report(name: str, run: dict[str, Any], count: int) -> None:
    """Print a run in a few lines: status, then time, CPU time and memory by studies done."""
    print(f"{name}: status {run['status']}, {run['done']} of {count} studies")
    step = max(count // 10, 1)
    for goal in range(step, count + 1, step):
        row = next((r for r in run["samples"] if r[1] >= goal), None)
        if row:
            print("  {1:5d} studies {0:7.1f} s {4:7.1f} CPU s, largest {2:6.0f} MiB, all {3:6.0f}"
                  .format(*row))  # fmt: skip
    for line in run["output"]:
        print("  |", line[:160])


def main() -> None:
    """Write the studies, run, kill, resume, compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kill", choices=("worker", "scheduler"))
    options = parser.parse_args()
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scale-")))
        (root / "light").mkdir()
        (root / "light" / "sitecustomize.py").write_text(WORKER_STUB)
        env = {**os.environ, "PYTHONPATH": str(root / "light"), "OMP_NUM_THREADS": "1"}
        write_studies(root / "studies", options.studies)
        out = root / "out"
        batch = [sys.executable, "-m", "lesionlens", "batch", str(root / "studies"), "--out",
                 str(out), "--device", "cpu"]  # fmt: skip
        worker_options, process_to_kill = ["--workers", str(options.workers)], None
        if options.kill == "scheduler":
            address, process_to_kill = cluster(stack, options.workers, env)
            worker_options = ["--scheduler", address]
        if options.kill == "worker":
            process_to_kill = 0
        first = run_batch(
            [*batch, *worker_options], env, out, process_to_kill, options.studies // 3
        )
        report("first run", first, options.studies)
        if first["done"] < options.studies:
            worker_options = ["--workers", str(options.workers)]
            resumed = run_batch([*batch, *worker_options, "--resume"], env, out, None, 0)
            report("resumed", resumed, options.studies)
        with (out / "cohort.csv").open(encoding="utf-8") as table:
            names = [row["study"] for row in csv.DictReader(table)]
        result_count = sum((out / name / "findings.json").is_file() for name in set(names))
        leftovers = [p.name for p in out.iterdir() if p.name.startswith(".")]
        print(
            json.dumps(
                {"in the table": len(set(names)), "results": result_count, "left behind": leftovers}
            )
        )
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
