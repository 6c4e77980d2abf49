"""Muon: orthogonalised momentum (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

Also for convolutions, which ``torch.optim.Muon`` does not take. With AdamW the built-in VAE, in which every
pixel is normalised, learns several times more slowly. Steps are as long as AdamW's of the same learning rate
(Liu et al. 2025, arXiv:2502.16982).
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Quintic Newton-Schulz iteration that drives singular values to about 1 (from Muon's reference code).
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
_RMS = 0.2  # of an update's values, as AdamW's


class Muon(torch.optim.Optimizer):
    """``groups``: {"params": weights [out, in, ...], "copies": n}. Where a pixel shuffle follows, ``copies``
    outputs of one channel stand side by side: the matrices of each are orthogonalised apart."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "copies": 1})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; ``closure`` is not supported."""
        assert closure is None
        for group in self.param_groups:
            # Many small weights of one shape are one large product.
            shapes: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault(weight.shape, []).append(weight)
            for weights in shapes.values():
                updates = torch.stack([self._pushed(weight, group["momentum"]) for weight in weights])
                torch._foreach_add_(
                    weights, list(_orthogonal(updates, group["copies"]).unbind()), alpha=-group["lr"]
                )

    def _pushed(self, weight: Tensor, momentum: float) -> Tensor:
        """The gradient with Nesterov momentum."""
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        memory: Tensor = state["momentum"].mul_(momentum).add_(weight.grad)
        return weight.grad.add(memory, alpha=momentum)


def _orthogonal(updates: Tensor, copies: int) -> Tensor:
    """``updates`` [N, out, in, ...], each with about equal singular values, and values of RMS ``_RMS``."""
    count, rows = updates.shape[0], updates.shape[1] // copies
    matrices = updates.reshape(count, rows, copies, -1).transpose(1, 2).flatten(0, 1)
    if matrices.is_cuda:  # enough for this; a CPU without units for it would take 30 times as long
        matrices = matrices.bfloat16()
    columns = matrices.shape[2]
    turned = rows > columns
    x = matrices.mT if turned else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    made = (x.mT if turned else x).unflatten(0, (count, copies)).transpose(1, 2).reshape(updates.shape)
    scaled: Tensor = made.to(updates.dtype) * (_RMS * max(rows, columns) ** 0.5)
    return scaled


def muon_and_adamw(
    matrices: dict[int, list[Tensor]], others: list[Tensor], rate: float
) -> list[torch.optim.Optimizer]:
    """Muon for ``matrices`` (by their copies), AdamW for all other weights, at one learning rate."""
    groups = [{"params": weights, "copies": copies} for copies, weights in matrices.items() if weights]
    return [Muon(groups, rate), torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0)]
