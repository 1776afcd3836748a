"""Muon for matrices and kernels, AdamW for the rest, and a moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from typing_extensions import override

_NEWTON_SCHULZ, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
_MOMENTUM = 0.95
_BETAS = (0.9, 0.98)


def orthogonalise(matrix: Tensor) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix by Newton-Schulz (Jordan et al. 2024, Muon).

    Parameters
    ----------
    matrix : (..., M, N) Tensor
        One or several of a shape, none of them zero.

    Returns
    -------
    (..., M, N) Tensor
        Singular values between about .7 and 1.2.
    """
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


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum, scaled to the size of an AdamW update (Liu et al. 2025)."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float
    ) -> None:
        super().__init__(parameters, {"lr": rate, "weight_decay": weight_decay})

    @override
    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one optimisation step; matrices of a shape are orthogonalised together."""
        del closure
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self._nesterov_momentum(parameter, parameter.grad)
                shape = (momentum.shape[0], momentum.shape[1])
                by_shape.setdefault(shape, []).append((parameter, momentum))
            for shape, pairs in by_shape.items():
                updates = orthogonalise(torch.stack([momentum for _, momentum in pairs]))
                updates = updates * (0.2 * max(shape) ** 0.5)
                for (parameter, _), update in zip(pairs, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.sub_(update.view_as(parameter) * group["lr"])

    def _nesterov_momentum(self, parameter: nn.Parameter, gradient: Tensor) -> Tensor:
        """Return the Nesterov momentum as a matrix, (len(parameter), N)."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(_MOMENTUM).add_(gradient)
        return gradient.add(momentum, alpha=_MOMENTUM).reshape(len(parameter), -1)


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and min(len(parameter), parameter[0].numel()) >= 8


class Optimiser:
    """Both optimisers and the moving average of the weights, with decay `average`."""

    def __init__(
        self,
        network: nn.Module,
        *,
        rate: float = 2e-3,
        average: float = 0.998,
        weight_decay: float = 0.01,
        clip: float = 3.0,
    ) -> None:
        self.network, self.rate, self.decay, self.clip = network, rate, average, clip
        named_parameters = list(network.named_parameters())
        matrices = [(n, p) for n, p in named_parameters if _is_matrix(p)]
        matrix_names = {n for n, _ in matrices}
        others = [p for n, p in named_parameters if n not in matrix_names]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(others, lr=rate, betas=_BETAS, weight_decay=weight_decay)
        ]
        if matrices:
            self.parts.append(Muon([p for _, p in matrices], rate, weight_decay))
        self.names = {id(p): n for n, p in named_parameters}
        self.average = {n: p.detach().clone() for n, p in network.state_dict().items()}

    def step(self, loss: Tensor, rate_factor: float, completed: int) -> float:
        """Backpropagate, clip, step and average; return the gradient norm.

        If the norm is not finite, nothing changes: one such step would make every weight useless.

        Parameters
        ----------
        rate_factor : float
            Factor on the configured learning rate.
        completed : int
            Steps taken before.
        """
        for part in self.parts:
            part.zero_grad(set_to_none=True)
            for group in part.param_groups:
                group["lr"] = self.rate * rate_factor
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        if math.isfinite(norm):
            for part in self.parts:
                part.step()
            self._blend(min(self.decay, (1 + completed) / (10 + completed)))
        return float(norm)

    @torch.no_grad()
    def _blend(self, decay: float) -> None:
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def state(self) -> dict[str, Tensor]:
        """Return the tensors that a resumed run needs, by name."""
        out = {f"average/{name}": value for name, value in self.average.items()}
        for part in self.parts:
            for parameter, state in part.state.items():
                for key, value in state.items():
                    out[f"state/{self.names[id(parameter)]}/{key}"] = torch.as_tensor(value)
        return out

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for name, value in self.average.items():
            value.copy_(state[f"average/{name}"])
        for part in self.parts:
            for group in part.param_groups:
                for parameter in group["params"]:
                    prefix = f"state/{self.names[id(parameter)]}/"
                    stored = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
                    restored = {
                        k: v.cpu() if k == "step" else v.to(parameter.device).clone()
                        for k, v in stored.items()
                    }
                    if restored:
                        part.state[parameter] = restored
