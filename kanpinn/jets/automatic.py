"""Jets of functions that are known by their values alone, by automatic differentiation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kanpinn.jets.indices import Index
from kanpinn.jets.jet import Jet, JetSpace


def jet_of(function: Callable[[Tensor], Tensor], points: Tensor, space: JetSpace) -> Jet:
    """Return the jet `[C, N]` of a function from points `[N, d]` to `[N]`, each value one of its own point.

    It is differentiated in reverse, once for each derivative that a higher one follows from.
    """
    with torch.enable_grad():
        x = points.detach().clone().requires_grad_(True)
        found: dict[Index, Tensor] = {(): function(x + 0)}
        slopes: dict[Index, Tensor] = {}
        for index in space.indices[1:]:
            below, name = index[:-1], index[-1]
            if below not in slopes:
                slopes[below] = _gradient(found[below], x)
            found[index] = slopes[below][:, space.coordinates.index(name)]
    return Jet(space, torch.stack([found[index].detach().to(points) for index in space.indices]))


def _gradient(value: Tensor, x: Tensor) -> Tensor:
    """Return the gradients `[N, d]` of values `[N]`, zero where they do not depend on the points."""
    if not value.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope
