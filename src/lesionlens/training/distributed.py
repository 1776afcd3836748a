"""Distributed training with torchrun, or in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lesionlens.base.errors import ConfigError, ResourceError
from lesionlens.base.text import counted
from lesionlens.engines import device as devices

_BACKENDS = {"cuda": "nccl", "xpu": "xccl"}  # collective communication backends by accelerator
_TIMEOUT = timedelta(hours=2)
"""Timeout while another process validates or prepares real cases."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """One process of a group that trains one network."""

    device: torch.device
    rank: int = 0
    size: int = 1
    """Rank, from 0, and number of processes."""

    @property
    def is_leader(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def any(self, condition: bool) -> bool:
        """Return whether a condition holds in any process; a collective call."""
        return self._largest(float(condition)) > 0

    def _largest(self, value: float) -> float:
        if self.size == 1:
            return value
        reduced = torch.tensor([value], dtype=torch.float64, device=self.device)
        distributed.all_reduce(reduced, distributed.ReduceOp.MAX)
        return float(reduced)

    def distribute(self, network: nn.Module) -> nn.Module:
        """Return the module for training steps: synchronised weights, averaged gradients."""
        if self.size == 1:
            return network
        device_ids = None if self.device.type == "cpu" else [self.device.index]
        return DistributedDataParallel(network, device_ids=device_ids, find_unused_parameters=True)

    def check_step(self, step: int) -> None:
        """Check that all processes resume from the same step.

        Raises
        ------
        ResourceError
            They differ.
        """
        last, first = self._largest(step), -self._largest(-step)
        if first != last:
            raise ResourceError(
                found=f"processes at step {first:.0f} and at step {last:.0f}",
                expected="one checkpoint for all",
                next_step="Name a folder that all machines share with --out",
            )

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block in the first process, then in the others, which find its files."""
        if self.size > 1 and not self.is_leader:
            distributed.barrier()
        yield
        if self.size > 1 and self.is_leader:
            distributed.barrier()


def _own_device(requested: str, local: int) -> torch.device:
    """Assign each process of a machine its own device."""
    kind, _, number = requested.strip().lower().partition(":")
    if number or kind == "mps":
        raise ConfigError(
            found=f"several processes and the one device {requested}",
            expected=f"cpu, or {' or '.join(_BACKENDS)}, of which each process takes one",
            next_step="Leave the number out, as in --device cuda, or start without torchrun",
        )
    device = devices.choose(requested)
    if device.type == "cpu":
        return device
    available = devices.accelerators()
    if local >= len(available):
        raise ResourceError(
            found=f"{counted(len(available), f'{device.type.upper()} device')} for process "
            f"{local + 1} here",
            expected="one for each process",
            next_step="Start fewer: torchrun --nproc-per-node",
        )
    torch.get_device_module(device).set_device(local)
    return available[local]


@contextmanager
def process_group(device: str) -> Iterator[ProcessGroup]:
    """Join the process group started by torchrun; without it, a group of one.

    Parameters
    ----------
    device : str
        As for `engines.device.choose`; several processes use one device each.

    Raises
    ------
    ConfigError, ResourceError
        A device is not available, torch lacks distributed support, or another process ended.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ProcessGroup(devices.choose(device))
        return
    own_device = _own_device(device, int(os.environ["LOCAL_RANK"]))
    if not distributed.is_available():
        raise ResourceError(
            found="a torch without torch.distributed",
            expected="one that supports several processes",
            next_step="Start without torchrun, or install another build of torch",
        )
    distributed.init_process_group(_BACKENDS.get(own_device.type, "gloo"), timeout=_TIMEOUT)
    try:
        yield ProcessGroup(own_device, int(os.environ["RANK"]), size)
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo/transport" in str(error):
            raise ResourceError(
                found="that another process of this training ended or no longer responds",
                expected="all of them until the last step",
                next_step="Check its error message; the same command continues from the last "
                "checkpoint",
            ) from error
        raise
    finally:
        distributed.destroy_process_group()
