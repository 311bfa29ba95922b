"""The project's networks as other PINN libraries write them: plain torch operations, differentiated by autograd.

They read the same flat parameter vector as the backbones of `kanpinn`, so that all numbers can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layers import Activation, Linear
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.bspline import knot_vector, piece_polynomials


class Plain:
    """A backbone without jets.

    Attributes:
        backbone: Whose layers are mirrored; it must have one output, no base terms, no biases on splines.
        space: The derivatives wanted.
        residual: From the value "" and its derivatives by name to the residual.
        spline: "piecewise" (the k + 1 local polynomials) or "cox_de_boor" (all n + k basis functions by the recursion,
            as pykan and efficient-kan do).
    """

    def __init__(
        self, backbone: Backbone, space: JetSpace, residual: Callable[[Mapping[str, Tensor]], Tensor], spline: str
    ) -> None:
        self.backbone, self.space, self.residual = backbone, space, residual
        self.spline = {"piecewise": piecewise, "cox_de_boor": cox_de_boor}[spline]
        self._constants = {
            layer: _constants(layer, spline) for layer in backbone.layers if isinstance(layer, SplineLayer)
        }

    def forward(self, theta: Tensor, points: Tensor) -> Tensor:
        """The network's output `[N]` at `points` `[N, d]`."""
        columns = []
        if self.backbone.embedding.symmetry:
            raise TypeError("no plain form of a symmetric embedding")
        intervals, periodic = self.backbone.embedding.intervals, self.backbone.embedding.periodic
        for k, (name, (a, b)) in enumerate(intervals.items()):
            unit = (points[:, k] - (a + b) / 2) * (2 / (b - a))
            columns += [torch.cos(math.pi * unit), torch.sin(math.pi * unit)] if name in periodic else [unit]
        x = torch.stack(columns, dim=-1)
        for layer, parameters in zip(self.backbone.layers, self.backbone.arrays(theta), strict=True):
            if isinstance(layer, Linear):
                x = torch.nn.functional.linear(x, parameters["weight"], parameters["bias"])
            elif isinstance(layer, Activation):
                x = getattr(torch, layer.name)(x)
            elif isinstance(layer, SplineLayer):
                x = self.spline(x, parameters["coefficients"], layer, self._constants[layer])
            else:
                raise TypeError(f"no plain form of {type(layer).__name__}")
        return x[:, 0]

    def nested(self, theta: Tensor, points: Tensor) -> Tensor:
        """The residual `[N]` by nested `torch.autograd.grad(create_graph=True)`, as PINN libraries do.

        Each derivative is taken once and shared: one reverse pass of a derivative gives its derivatives by every
        coordinate.
        """
        points = points.detach().requires_grad_(True)
        u = {"": self.forward(theta, points)}
        passes: dict[str, Tensor] = {}
        for name in map("".join, self.space.indices[1:]):  # coordinates of one letter
            inner, last = name[:-1], name[-1]
            if inner not in passes:
                (passes[inner],) = torch.autograd.grad(u[inner].sum(), points, create_graph=True)
            u[name] = passes[inner][:, self.space.coordinates.index(last)]
        return self.residual(u)

    def jacobian(self, theta: Tensor, points: Tensor) -> Tensor:
        """∂r_n/∂theta `[N, P]` by `torch.func`: nested `grad` for the residual of one point, `jacrev`, `vmap`."""
        return vmap(jacrev(self._pointwise), in_dims=(None, 0))(theta, points)

    def _pointwise(self, theta: Tensor, point: Tensor) -> Tensor:
        """The residual at one point `[d]`; inner derivatives come along as auxiliary values, none is computed twice."""
        inner = sorted({"".join(index[:-1]) for index in self.space.indices[1:]}, key=len)
        chain = all(b.startswith(a) for a, b in pairwise(inner))
        if not chain:
            raise NotImplementedError("expected derivatives that continue one another, such as t, x, xx, xxx")

        def value(p: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            u = self.forward(theta, p[None])[0]
            return u, {"": u}

        function = value
        for k, name in enumerate(inner):
            function = self._differentiate(function, name, inner[k + 1] if k + 1 < len(inner) else None)
        return self.residual(function(point)[1])

    def _differentiate(
        self, function: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]], name: str, following: str | None
    ) -> Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]:
        """All first derivatives of the derivative `name`; the first value returned is the one to differentiate next."""
        coordinates = self.space.coordinates

        def outer(p: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            slope, known = grad(function, has_aux=True)(p)
            new = {name + letter: slope[k] for k, letter in enumerate(coordinates)}
            chosen = slope[0] if following is None else new[following]
            return chosen, {**known, **new}

        return outer


def _constants(layer: SplineLayer, spline: str) -> Tensor:
    """Constants of a spline layer: its polynomial pieces `[k + 1, k + 1]` (power, piece), or its knots."""
    if spline == "cox_de_boor":
        return torch.tensor(knot_vector("uniform", layer.spec.intervals, layer.spec.degree), dtype=torch.float64)
    rows = [[float(c) for c in row] for row in piece_polynomials(layer.spec.degree)]
    return torch.tensor(rows, dtype=torch.float64).T.contiguous()


def piecewise(x: Tensor, coefficients: Tensor, layer: SplineLayer, pieces: Tensor) -> Tensor:
    """Spline layer by the local polynomial pieces, put into a dense basis array for one matrix product.

    Of the forms tried (gathering coefficients or windows of them, embedding look-up) autograd takes this one fastest.

    Args:
        x: `[N, in]`.
        coefficients: `[out, in, n + k]`.
        layer: Its grid and degree.
        pieces: From `_constants`.

    Returns:
        `[N, out]`.
    """
    n, k = layer.spec.intervals, layer.spec.degree
    position = (x + 1) * (n / 2)
    cell = position.detach().floor().clamp(0, n - 1)
    s = position - cell - 0.5
    powers = [torch.ones_like(s)]
    for _ in range(k):
        powers.append(powers[-1] * s)
    values = torch.stack(powers, dim=-1) @ pieces  # (N, in, k+1)
    columns = cell.long()[..., None] + torch.arange(k + 1)
    dense = values.new_zeros(*x.shape, n + k).scatter(-1, columns, values)
    return torch.nn.functional.linear(dense.flatten(1), coefficients.flatten(1))


def cox_de_boor(x: Tensor, coefficients: Tensor, layer: SplineLayer, knots: Tensor) -> Tensor:
    """Spline layer by all n + k basis functions from the Cox–de Boor recursion (de Boor 2001, ch. IX, eq. 14).

    Args:
        x: `[N, in]`.
        coefficients: `[out, in, n + k]`.
        layer: Its grid and degree.
        knots: The extended knots `[n + 2k + 1]`.

    Returns:
        `[N, out]`.
    """
    x = x[..., None]
    basis = ((x >= knots[:-1]) & (x < knots[1:])).to(x.dtype)
    for d in range(1, layer.spec.degree + 1):
        rising = (x - knots[: -d - 1]) / (knots[d:-1] - knots[: -d - 1])
        falling = (knots[d + 1 :] - x) / (knots[d + 1 :] - knots[1:-d])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return torch.nn.functional.linear(basis.flatten(1), coefficients.flatten(1))
