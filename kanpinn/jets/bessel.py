"""Bessel functions of whole orders with all their derivatives, of numbers and of jets, by scipy.

Those of torch have no derivatives, and its J and Y are off by up to 9e-7 just above |x| = 5 (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

X = TypeVar("X")

KINDS = ("j", "y", "i", "k")


class _Bessel(torch.autograd.Function):
    """A Bessel function of a tensor with its first derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, order: int) -> Tensor:
        """Evaluate it at x `[...]`."""
        value, ctx.slope = bessel_derivatives(x, 1, kind, order)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        """Multiply by its derivative."""
        return grad_output * ctx.slope, None, None


def bessel(kind: str, order: int, x: X) -> X:
    """Return the Bessel function J, Y, I or K ("j", "y", "i", "k") of a whole order at a tensor or jet `[...]`."""
    value: Any = x
    if isinstance(value, Tensor):
        return _Bessel.apply(value, kind, order)
    return value.compose(bessel_derivatives(value.value, value.space.order, kind, order))


def bessel_derivatives(x: Tensor, most: int, kind: str, order: int) -> list[Tensor]:
    """Return a Bessel function and its derivatives to the order `most`, at x `[...]` (DLMF 10.6.7, 10.29.5)."""
    from scipy import special

    at = x.detach().double().cpu().numpy()
    function, derivative = getattr(special, f"{kind}v"), getattr(special, f"{kind}vp")
    found = [function(order, at), *(derivative(order, at, d) for d in range(1, most + 1))]
    return [torch.as_tensor(values).to(x) for values in found]


_NAMES = {f"bessel_{kind}{order}": (kind, order) for kind in "jy" for order in (0, 1)}
_NAMES |= {f"modified_bessel_{kind}{order}": (kind, order) for kind in "ik" for order in (0, 1)}
_NAMES |= {"i0": ("i", 0), "i1": ("i", 1)}
BESSEL: dict[str, Callable[[Tensor, int], list[Tensor]]] = {
    f"{room}{name}": partial(bessel_derivatives, kind=kind, order=order)
    for name, (kind, order) in _NAMES.items()
    for room in ("", "special_")
}
"""Bessel functions with all their derivatives, by the names torch gives them in `torch.special`."""
