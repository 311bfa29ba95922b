"""Oracle for the networks: the formulas of the papers written out plainly, and differentiated by torch.func.

Nothing here uses kanpinn's splines, jets or layers; only the flat parameter vector is cut by `Backbone.arrays`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.func import grad, vmap

from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable

Options = Kan | ReluKan | MultKan | ChebyKan | Separable | Mlp

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "none": lambda x: x,
}


def extended_knots(knots: str, n: int, degree: int) -> Tensor:
    """The n + 2k + 1 knots, mirrored at both ends as often as needed."""
    t = torch.linspace(-1, 1, n + 1, dtype=torch.float64)
    if knots == "cosine":
        t = -torch.cos(math.pi * torch.arange(n + 1, dtype=torch.float64) / n)
    while len(t) < n + 2 * degree + 1:
        t = torch.cat([2 * t[0] - t.flip(0)[:-1], t, 2 * t[-1] - t.flip(0)[1:]])
    beyond = (len(t) - n - 2 * degree - 1) // 2
    return t[beyond : len(t) - beyond]


def bspline_basis(x: Tensor, n: int, degree: int, outside: str = "extrapolate", knots: str = "uniform") -> Tensor:
    """All n + k B-splines on [-1, 1] at x `[...]`, by the Cox-de Boor recursion; `[..., n + k]`."""
    if outside == "clamp":
        x = torch.clamp(x, -1.0, 1.0)
    t = extended_knots(knots, n, degree).to(x.dtype)
    interval = torch.clamp((x[..., None] >= t[degree : degree + n]).sum(-1) - 1, min=0) + degree
    b = (torch.arange(n + 2 * degree) == interval[..., None]).to(x.dtype)
    x = x[..., None]
    for p in range(1, degree + 1):
        rising = (x - t[: -p - 1]) / (t[p:-1] - t[: -p - 1])
        falling = (t[p + 1 :] - x) / (t[p + 1 :] - t[1:-p])
        b = rising * b[..., :-1] + falling * b[..., 1:]
    return b


def power_relu(x: Tensor, n: int, degree: int, outside: str = "extrapolate") -> Tensor:
    """The n + k functions ReLU(x - t_j)^k on uniform knots, pieces at the ends continued; `[..., n + k]`."""
    if outside == "clamp":
        x = torch.clamp(x, -1.0, 1.0)
    t = extended_knots("uniform", n, degree)[: n + degree].to(x.dtype)
    begun = t <= torch.clamp(x[..., None], min=-1.0) + 1e-12
    return begun * (x[..., None] - t) ** degree


def embed(backbone: Backbone, point: Tensor) -> Tensor:
    """One point `[d]` to the inputs of the first layer."""
    embedding, columns, scaled = backbone.embedding, [], []
    for k, name in enumerate(embedding.names):
        a, b = embedding.intervals[name]
        unit = (2 * point[k] - a - b) / (b - a)
        scaled.append(unit)
        periodic = name in embedding.periodic
        columns += [torch.cos(math.pi * unit), torch.sin(math.pi * unit)] if periodic else [unit]
    if embedding.frequencies is not None:
        for phase in torch.stack(scaled) @ embedding.frequencies.to(point.dtype):
            columns += [torch.cos(phase), torch.sin(phase)]
    return torch.stack(columns)


def spline_edges(options: Options, n: int, a: dict[str, Tensor], z: Tensor) -> Tensor:
    """A layer of splines on edges at its inputs `[in]`; `[out]`."""
    assert isinstance(options, Kan | ReluKan | MultKan | Separable)
    if isinstance(options, ReluKan):
        basis, coefficients = power_relu(z, n, options.degree, options.outside), a["relu_coefficients"]
    else:
        basis, coefficients = bspline_basis(z, n, options.degree, options.outside, options.knots), a["coefficients"]
    edges = torch.einsum("qpi,pi->qp", coefficients, basis)
    if options.base:
        edges = a["spline_scale"] * edges + a["base_weight"] * ACTIVATIONS["silu"](z)
    return edges.sum(1) + a.get("bias", 0.0)


def chebyshev_edges(a: dict[str, Tensor], z: Tensor) -> Tensor:
    """A layer of Chebyshev polynomials on edges at its inputs `[in]`, by their three-term recursion; `[out]`."""
    basis = [torch.ones_like(z), z]
    while len(basis) < a["chebyshev_coefficients"].shape[2]:
        basis.append(2 * z * basis[-1] - basis[-2])
    return torch.einsum("qpi,ip->q", a["chebyshev_coefficients"], torch.stack(basis))


def layers(options: Options, level: int, arrays: list[dict[str, Tensor]], z: Tensor) -> Tensor:
    """A network of all kinds but the separable one at the inputs `[in]` of its first layer; `[outputs]`."""
    for k, a in enumerate(arrays):
        if isinstance(options, Mlp):
            z = a["weight"] @ (ACTIVATIONS[options.activation](z) if k else z) + a["bias"]
            continue
        z = ACTIVATIONS[options.squash](z) if k else z
        if isinstance(options, ChebyKan):
            z = chebyshev_edges(a, z)
        elif "weight" in a:
            z = a["weight"] @ z
        else:
            z = spline_edges(options, options.grid * 2**level, a, z)
        if isinstance(options, MultKan) and k < len(options.width):
            added, many = options.width[k], options.mult[k] if isinstance(options.mult, list) else options.mult
            products = [z[added + 2 * m] * z[added + 2 * m + 1] for m in range(many)]
            z = torch.stack([*z[:added], *products])
    return z


def network(options: Options, backbone: Backbone, theta: Tensor, point: Tensor) -> Tensor:
    """The network `options` describes at one point `[d]`; `[outputs]`."""
    arrays, z = [a for a in backbone.arrays(theta) if a], embed(backbone, point)
    if not isinstance(options, Separable):
        return layers(options, backbone.level, arrays, z)
    total, names = torch.ones(()), backbone.embedding.names
    for name in names:
        own = [{}, {}, {}]
        for path, values in arrays[0].items():
            coordinate, layer, array = path.split("/")
            if coordinate == name:
                own[int(layer.removeprefix("layer_"))][array] = values
        width = 2 if name in backbone.embedding.periodic else 1
        total = total * layers(options, backbone.level, [a for a in own if a], z[:width])
        z = z[width:]
    if options.last == "linear":
        return arrays[1]["weight"] @ total
    return total.reshape(-1, options.rank).sum(1)


def derivative(
    f: Callable[[Tensor], Tensor], names: tuple[str, ...], index: Iterable[str]
) -> Callable[[Tensor], Tensor]:
    """The partial derivative of a scalar function of one point `[d]`, by nesting torch.func.grad."""
    for name in index:
        f = _partial(f, names.index(name))
    return f


def _partial(f: Callable[[Tensor], Tensor], k: int) -> Callable[[Tensor], Tensor]:
    return lambda point: grad(f)(point)[k]


def at_points(f: Callable[[Tensor], Tensor], names: tuple[str, ...], index: Iterable[str], points: Tensor) -> Tensor:
    """A partial derivative of a scalar function at points `[N, d]`; `[N]`."""
    return vmap(derivative(f, names, index))(points)
