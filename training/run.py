"""A training run: optimiser, averaged weights, learning rate, and a state that it resumes from."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typing_extensions import override

from lesionlens.base.errors import WeightsError
from lesionlens.base.storage import write_atomically

WEIGHT_FILES = Path(__file__).resolve().parents[1] / "src/lesionlens/network/weight_files"
_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_MOMENTUM, _BETAS = 0.95, (0.9, 0.98)
_POINTER, _PART_BYTES, _SAVE_S = "latest.json", 15 * 2**20, 120.0


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum (Jordan et al. 2024), scaled to an AdamW update (Liu et al. 2025)."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})

    @override
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step; matrices of a shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].mul_(_MOMENTUM).add_(parameter.grad)
                nesterov = parameter.grad.add(momentum, alpha=_MOMENTUM).flatten(1)
                shape = (nesterov.shape[0], nesterov.shape[1])
                by_shape.setdefault(shape, []).append((parameter, nesterov))
            for shape, pairs in by_shape.items():
                updates = _orthogonal(torch.stack([momentum for _, momentum in pairs]))
                updates = updates * (0.2 * max(shape) ** 0.5)
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view_as(parameter) * group["lr"])


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return (..., M, N) matrices with singular values between about 0.7 and 1.2."""
    a, b, c = _NEWTON_SCHULZ
    flipped = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.mT if flipped else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if x.device.type == "cuda":
        x = x.bfloat16()
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    out: Tensor = (x.mT if flipped else x).to(matrix.dtype)
    return out


class Run:
    """Network, Muon for matrices and kernels, AdamW for the rest, and the averaged weights.

    Parameters
    ----------
    origin : mapping
        What the run starts from, as plain JSON; it may not differ when the run resumes.
    average : float
        Decay of the moving average.

    Raises
    ------
    WeightsError
        The run in `out` started from something else.
    """

    def __init__(
        self,
        out: Path,
        network: nn.Module,
        *,
        rate: float,
        average: float,
        weight_decay: float = 0.01,
        clip: float = 3.0,
        origin: Mapping[str, object] | None = None,
    ) -> None:
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.out, self.network, self.origin = out, network, dict(origin or {})
        self._rate, self._decay, self._clip = rate, average, clip
        named = list(network.named_parameters())
        self._names = {id(p): name for name, p in named}
        matrices = [p for _, p in named if p.ndim >= 2 and min(len(p), p[0].numel()) >= 8]
        chosen = {id(p) for p in matrices}
        others = [p for _, p in named if id(p) not in chosen]
        self._optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=rate, betas=_BETAS, weight_decay=weight_decay),
            Muon(matrices, rate, weight_decay),
        ]
        self.average = {n: v.detach().clone() for n, v in network.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        self._restore()

    def train(
        self,
        loss_of: Callable[[int], Tensor],
        *,
        minutes: float,
        steps: int = 0,
        warmup: int,
        last_rate: float,
        save: Callable[[], None] | None = None,
    ) -> None:
        """Train for `steps`, if given, or for the minutes of all sessions together.

        Parameters
        ----------
        loss_of : callable
            Returns the loss of the step of that number.
        last_rate : float
            Share of the learning rate at the end of its cosine.
        save : callable or None
            Called after the state is written, every two minutes and at the end.
        """
        started = saved = time.monotonic()
        earlier, losses = self.seconds, []
        while (done := self.step / steps if steps else self.seconds / (60 * minutes)) < 1:
            loss = loss_of(self.step)
            cosine = last_rate + (1 - last_rate) * (1 + math.cos(math.pi * done)) / 2
            self._take_step(loss, min(1.0, (self.step + 1) / warmup) * cosine)
            losses.append(float(loss.detach()))
            self.step += 1
            self.seconds = earlier + time.monotonic() - started
            if self.step % 50 == 0:
                mean = sum(losses) / len(losses)
                print(f"{self.step} steps, {self.seconds:.0f} s, loss {mean:.4f}", flush=True)
                losses.clear()
            if time.monotonic() - saved > _SAVE_S:
                self.save(save)
                saved = time.monotonic()
        self.save(save)

    def _take_step(self, loss: Tensor, rate_factor: float) -> None:
        """Take one step; if the gradient is not finite, nothing changes."""
        for optimiser in self._optimisers:
            optimiser.zero_grad(set_to_none=True)
            for group in optimiser.param_groups:
                group["lr"] = self._rate * rate_factor
        loss.backward()  # type: ignore[no-untyped-call]
        if not math.isfinite(nn.utils.clip_grad_norm_(self.network.parameters(), self._clip)):
            return
        for optimiser in self._optimisers:
            optimiser.step()
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    def save(self, then: Callable[[], None] | None = None) -> None:
        """Write the state in parts of at most 15 MiB, make it the latest, delete the one before."""
        tensors = {f"network/{n}": v for n, v in self.network.state_dict().items()}
        tensors |= {f"average/{n}": v for n, v in self.average.items()}
        for optimiser in self._optimisers:
            for parameter, state in optimiser.state.items():
                for key, value in state.items():
                    tensors[f"state/{self._names[id(parameter)]}/{key}"] = torch.as_tensor(value)
        parts: list[dict[str, Tensor]] = [{}]
        filled = 0
        for name, tensor in tensors.items():
            size = tensor.numel() * tensor.element_size() + 1024
            if filled and filled + size > _PART_BYTES:
                parts.append({})
                filled = 0
            parts[-1][name] = tensor.detach().cpu().contiguous()
            filled += size
        before = set(self.out.glob("step-*"))
        folder = self.out / f"step-{self.step:08d}"
        while folder in before:
            folder = folder.with_name(folder.name + "-again")
        folder.mkdir(parents=True)
        for index, part in enumerate(parts):
            save_file(part, folder / f"part-{index:03d}.safetensors")
        record = {"step": self.step, "seconds": self.seconds, "origin": self.origin}
        write_atomically(self.out / _POINTER, json.dumps({"folder": folder.name} | record))
        for path in before:
            shutil.rmtree(path)
        if then is not None:
            then()

    def _restore(self) -> None:
        """Load the latest state, if there is one."""
        stored = read_state(self.out)
        if stored is None:
            return
        tensors, record = stored
        if record["origin"] != self.origin:
            raise WeightsError(
                f"The run in {self.out.name!r} began with {record['origin']}, not {self.origin}.",
                hint="Give the options that it began with, or choose another --out.",
            )
        self.step, self.seconds = int(record["step"]), float(record["seconds"])
        self.network.load_state_dict(below(tensors, "network/"))
        for name, value in below(tensors, "average/").items():
            self.average[name].copy_(value)
        for optimiser in self._optimisers:
            for parameter in (p for group in optimiser.param_groups for p in group["params"]):
                state = below(tensors, f"state/{self._names[id(parameter)]}/")
                if state:
                    optimiser.state[parameter] = {
                        k: v.cpu() if k == "step" else v.to(parameter.device).clone()
                        for k, v in state.items()
                    }


def read_state(out: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and the record of a run's latest state; None if there is none."""
    if not (out / _POINTER).is_file():
        return None
    record = json.loads((out / _POINTER).read_text("utf-8"))
    tensors: dict[str, Tensor] = {}
    for part in sorted((out / record["folder"]).glob("part-*.safetensors")):
        tensors |= load_file(part)
    return tensors, record


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, named without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
