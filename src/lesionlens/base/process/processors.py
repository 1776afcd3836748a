"""The number of processors this process may use, often fewer than the machine has."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_PROCESS_CGROUP = Path("/proc/self/cgroup")


def usable_processors() -> int:
    """Return the least of CPU affinity, cgroup quotas and the Slurm allocation.

    Returns
    -------
    int
        At least 1; fractional quotas are rounded down.
    """
    counts = [os.cpu_count() or 1, *_quotas()]
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    allocated = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if allocated.isdecimal():
        counts.append(int(allocated))
    return max(1, min(counts))


def _quotas() -> Iterator[int]:
    """Yield the quotas of the process's cgroup (version 1 or 2) and its parents."""
    try:
        lines = _PROCESS_CGROUP.read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "cpu,cpuacct", "cpu"):
            root, cgroup = _CGROUPS / controllers, Path(path.lstrip("/"))
            for ancestor in (cgroup, *cgroup.parents):
                yield from _quota(root / ancestor)


def _quota(folder: Path) -> Iterator[int]:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text("utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text("utf-8").strip() for name in names)
        if quota not in ("max", "-1"):
            yield max(1, math.floor(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        return  # no limit there
