"""Oracle for the networks: the formulas of the papers written out plainly, and differentiated by torch.func.

Nothing here uses kanpinn's splines, jets or layers; only the flat parameter vector is cut by `Backbone.arrays`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from kanpinn.backbones import Backbone, Kan, Mlp

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "none": lambda x: x,
}


def bspline_basis(x: Tensor, n: int, degree: int, outside: str = "extrapolate") -> Tensor:
    """All n + k B-splines on [-1, 1] at x `[...]`, by the Cox-de Boor recursion; `[..., n + k]`."""
    if outside == "clamp":
        x = torch.clamp(x, -1.0, 1.0)
    h = 2.0 / n
    t = -1.0 + h * (torch.arange(n + 2 * degree + 1, dtype=x.dtype) - degree)
    interval = torch.clamp(torch.floor((x + 1.0) / h), 0, n - 1) + degree
    b = (torch.arange(n + 2 * degree) == interval[..., None]).to(x.dtype)
    x = x[..., None]
    for p in range(1, degree + 1):
        rising = (x - t[: -p - 1]) / (t[p:-1] - t[: -p - 1])
        falling = (t[p + 1 :] - x) / (t[p + 1 :] - t[1:-p])
        b = rising * b[..., :-1] + falling * b[..., 1:]
    return b


def embed(backbone: Backbone, point: Tensor) -> Tensor:
    """One point `[d]` to the inputs of the first layer."""
    embedding, columns, scaled = backbone.embedding, [], []
    for k, name in enumerate(embedding.domain.names):
        a, b = embedding.domain.interval(name)
        unit = (2 * point[k] - a - b) / (b - a)
        scaled.append(unit)
        periodic = name in embedding.periodic
        columns += [torch.cos(math.pi * unit), torch.sin(math.pi * unit)] if periodic else [unit]
    if embedding.frequencies is not None:
        for phase in torch.stack(scaled) @ embedding.frequencies.to(point.dtype):
            columns += [torch.cos(phase), torch.sin(phase)]
    return torch.stack(columns)


def network(options: Kan | Mlp, backbone: Backbone, theta: Tensor, point: Tensor) -> Tensor:
    """The network `options` describes at one point `[d]`; `[outputs]`."""
    arrays = [a for a in backbone.arrays(theta) if a]
    z = embed(backbone, point)
    for k, a in enumerate(arrays):
        if isinstance(options, Mlp):
            z = a["weight"] @ (ACTIVATIONS[options.activation](z) if k else z) + a["bias"]
            continue
        if k:
            z = ACTIVATIONS[options.squash](z)
        basis = bspline_basis(z, options.grid * 2**backbone.level, options.degree, options.outside)
        edges = torch.einsum("qpi,pi->qp", a["coefficients"], basis)
        if options.base:
            edges = a["spline_scale"] * edges + a["base_weight"] * ACTIVATIONS["silu"](z)
        z = edges.sum(1) + a.get("bias", 0.0)
    return z


def derivative(f: Callable[[Tensor], Tensor], names: tuple[str, ...], letters: str) -> Callable[[Tensor], Tensor]:
    """The partial derivative of a scalar function of one point `[d]`, by nesting torch.func.grad."""
    for letter in letters:
        f = _partial(f, names.index(letter))
    return f


def _partial(f: Callable[[Tensor], Tensor], k: int) -> Callable[[Tensor], Tensor]:
    return lambda point: grad(f)(point)[k]


def at_points(f: Callable[[Tensor], Tensor], names: tuple[str, ...], letters: str, points: Tensor) -> Tensor:
    """A partial derivative of a scalar function at points `[N, d]`; `[N]`."""
    return vmap(derivative(f, names, letters))(points)
