"""Bessel functions of whole orders with all their derivatives, of numbers and of jets, by scipy.

Those of torch have no derivatives, and its J and Y are off by up to 9e-7 just above |x| = 5 (torch 2.13).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

X = TypeVar("X")

KINDS = ("j", "y", "i", "k")


class _Bessel(torch.autograd.Function):
    """A derivative of a Bessel function, of a tensor; its own derivative is the next one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kind: str, order: int, derivative: int) -> Tensor:
        """Evaluate the derivative of some number, 0 for the function itself, at x `[...]`."""
        ctx.save_for_backward(x)
        ctx.which = (kind, order, derivative + 1)
        return _derivative(x, kind, order, derivative)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Multiply by the next derivative."""
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * _Bessel.apply(x, *ctx.which), None, None, None


def bessel(kind: str, order: int, x: X) -> X:
    """Return the Bessel function J, Y, I or K ("j", "y", "i", "k") of a whole order at a tensor or jet `[...]`."""
    value: Any = x
    if isinstance(value, Tensor):
        return _Bessel.apply(value, kind, order, 0)
    return value.compose(bessel_derivatives(value.value, value.space.order, kind, order))


def bessel_derivatives(x: Tensor, most: int, kind: str, order: int) -> list[Tensor]:
    """Return a Bessel function and its derivatives to the order `most`, at x `[...]` (DLMF 10.6.7, 10.29.5)."""
    return [_derivative(x, kind, order, d) for d in range(most + 1)]


def _derivative(x: Tensor, kind: str, order: int, derivative: int) -> Tensor:
    from scipy import special

    at = x.detach().double().cpu().numpy()
    function, further = getattr(special, f"{kind}v"), getattr(special, f"{kind}vp")
    values = further(order, at, derivative) if derivative else function(order, at)
    return torch.as_tensor(values).to(x)


_NAMES = {f"bessel_{kind}{order}": (kind, order) for kind in "jy" for order in (0, 1)}
_NAMES |= {f"modified_bessel_{kind}{order}": (kind, order) for kind in "ik" for order in (0, 1)}
_NAMES |= {"i0": ("i", 0), "i1": ("i", 1)}
BESSEL: dict[str, Callable[[Tensor, int], list[Tensor]]] = {
    f"{room}{name}": partial(bessel_derivatives, kind=kind, order=order)
    for name, (kind, order) in _NAMES.items()
    for room in ("", "special_")
}
"""Bessel functions with all their derivatives, by the names torch gives them in `torch.special`."""
