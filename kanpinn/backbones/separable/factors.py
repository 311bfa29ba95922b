"""The factors of a separable network: one network per coordinate, whose values are multiplied and added."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.composite import Composite
from kanpinn.backbones.layer import Parameters, Support
from kanpinn.backbones.separable.product import Line, Product, SumOfProducts, distinct, pulled_back
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.piecewise import fit

STARTS = ("random", "legendre")

LEGENDRE = 1e3
"""Size of the time's functions that begin as Legendre polynomials: least-squares steps that are kept short then change
the functions of space, in which the network is linear, by a hundred times as much as those of time."""


class Features(NamedTuple):
    """Features of `Factors`: each coordinate's line and its network's values `[C_i, n_i, outputs·terms]`."""

    lines: list[Line]
    values: list[Tensor]
    product: Product


@dataclass(frozen=True)
class Factors(Composite):
    """Σ_r Π_i f_r⁽ⁱ⁾(x_i), each coordinate's functions f⁽ⁱ⁾ by a network of its own.

    The separated form of Cho et al. 2023 (SPINN, arXiv:2306.15969, eq. 4) and Jacob et al. 2024 (SPIKAN,
    arXiv:2411.06286), which is the canonical polyadic form of a tensor. A factor network is evaluated at the distinct
    values of its coordinate only: at the n^d points of a tensor grid it works on n of them.

    Attributes:
        networks: One factor network per coordinate, which it embeds as the whole network does.
        outputs: Width of the output.
        terms: Number of products that are added, per output.
        start: Form of the factor networks at the start, one of `STARTS`.
    """

    outputs: int
    terms: int
    start: str = "random"

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        if self.start == "random":
            return super().initial(generator)
        space, time = self.shapes()
        return {space: np.zeros(self.shapes()[space]), time: self._legendre()}

    def _legendre(self) -> np.ndarray:
        """The time's coefficients at the start, `[outputs·terms, 1, n + k]`."""
        layer = only_layer(self.networks[1])
        assert layer is not None
        x = torch.linspace(-1, 1, 8 * layer.spec.width + 1, dtype=torch.float64, device="cpu")
        values = np.polynomial.legendre.legvander(x.numpy(), self.terms - 1)
        found = fit(x, torch.from_numpy(values), layer.spec.intervals, layer.spec.degree).T.numpy()
        return np.ascontiguousarray(np.tile(LEGENDRE * found, (self.outputs, 1))[:, None])

    def resumed(self, parameters: Parameters) -> dict[str, Tensor]:
        """The network that holds, at all times, what this one has at its last time; itself where it cannot be held."""
        if self.start == "random":
            return dict(parameters)
        space, time = self.shapes()
        last = parameters[time].new_ones(1, 1, 1)
        end = self.networks[1].carry(parameters[time].reshape(-1), last, JetSpace(("t",), ()))  # (1, 1, outputs·terms)
        held = (parameters[space] * end.view(-1, 1, 1)).view(self.outputs, self.terms, -1).sum(1) / LEGENDRE
        first = torch.zeros_like(parameters[space]).view(self.outputs, self.terms, -1)
        first[:, 0] = held
        return {space: first.view_as(parameters[space]), time: torch.from_numpy(self._legendre()).to(last)}

    @property
    def local(self) -> bool:
        """True if every factor network is one layer of splines, of whose parameters a point sees few."""
        layers = map(only_layer, self.networks)
        return all(layer and not layer.spec.base and not layer.spec.bias for layer in layers)

    @property
    def names(self) -> tuple[str, ...]:
        """The coordinates: each has a network."""
        return tuple(one.embedding.names[0] for one in self.networks)

    def attributes(self) -> dict[str, Any]:
        return {**self.described(), "coordinates": ",".join(self.names), "terms": self.terms}

    @property
    def kept(self) -> int:
        # As if no two points shared a value.
        return sum(layer.kept for one in self.networks for layer in one.layers) + 3 * len(self.networks) * self.width

    @property
    def width(self) -> int:
        """Width of every factor network's output."""
        return self.outputs * self.terms

    def _lines(self, data: Tensor, space: JetSpace) -> list[Line]:
        """Every coordinate's distinct values among points whose embedding is `[C, N, width]`."""
        lines, start = [], 0
        for name, network in zip(self.names, self.networks, strict=True):
            columns = slice(start, start + network.embedding.width)
            start = columns.stop
            order = max(index.count(name) for index in space.indices)
            channels = [space.position((name,) * d) for d in range(order + 1)]
            # Mirrored points share their folded input, but not its slope.
            telling = channels[:2] if network.embedding.symmetry else channels[:1]
            first, index = distinct(data[telling][..., columns].detach().movedim(0, 1).flatten(1))
            own = data[channels][:, first, columns]
            alone = JetSpace((name,), ("_".join([name] * order),) if order else ())
            lines.append(Line(alone, own, index, network.layers[0].prepare(own, alone)))
        return lines

    def prepare(self, data: Tensor, space: JetSpace) -> list[Line]:
        return self._lines(data.detach(), space)

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Features]:
        lines = self._lines(data, space) if prepared is None else prepared
        values = [
            network.carry(theta, line.data, line.space, prepared=line.prepared)
            for network, theta, line in zip(self.networks, self.thetas(parameters), lines, strict=True)
        ]
        orders = tuple(tuple(index.count(name) for name in self.names) for index in space.indices)
        product = Product(orders, tuple(line.index for line in lines), self.outputs, self.terms)
        lines = [line._replace(data=line.data.detach()) for line in lines]
        return SumOfProducts.apply(product, *values), Features(lines, [v.detach() for v in values], product)

    def jacobian(self, parameters: Parameters, features: Features, cotangent: Tensor, out: Tensor) -> None:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        start = 0
        for network, theta, line, seed in zip(self.networks, self.thetas(parameters), lines, seeds, strict=True):
            _factor_jacobian(network, theta, line, seed, out[:, start : start + network.size])
            start += network.size

    def supports(self, features: Features) -> list[Support | int]:
        found: list[Support | int] = []
        for one, line in zip(self.networks, features.lines, strict=True):
            layer = only_layer(one)
            own = layer.supports(line.prepared) if layer else [one.size]
            found += [support.at(line.index) if isinstance(support, Support) else support for support in own]
        return found

    def local_jacobians(
        self, parameters: Parameters, features: Features, cotangent: Tensor, order: Tensor
    ) -> list[Tensor]:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        found = []
        for one, theta, line, seed in zip(self.networks, self.thetas(parameters), lines, seeds, strict=True):
            layer = only_layer(one)
            if layer and not layer.spec.base and not layer.spec.bias:
                (own,) = one.arrays(theta)
                found += layer.local_jacobians(own, line.prepared.at(line.index), seed, order)
                continue
            block = seed.new_empty(len(order), one.size)
            _factor_jacobian(one, theta, line, seed, block)
            found.append(block[order])
        return found

    def jvp(self, parameters: Parameters, features: Features, cotangent: Tensor, tangent: Parameters) -> Tensor:
        lines, values, product = features
        seeds = pulled_back(product, values, cotangent)
        total = cotangent.new_zeros(cotangent.shape[1])
        for network, theta, change, line, seed in zip(
            self.networks, self.thetas(parameters), self.thetas(tangent), lines, seeds, strict=True
        ):
            channels, points, width = seed.shape
            count, many = line.data.shape[1], channels * width
            if count * many > points:
                data = line.data[:, line.index]
                total += network.jvp(theta, *_pulled(network, theta, data, line.space, seed), change)
                continue
            # Every value's own change, once per distinct input.
            data, units = _every_unit(line.data, torch.arange(many, device=seed.device), width)
            changes = network.jvp(theta, *_pulled(network, theta, data, line.space, units), change)
            by_value = changes.view(count, channels, width).transpose(0, 1)
            total += (seed * by_value[:, line.index]).sum((0, 2))
        return total

    def vjp(self, parameters: Parameters, features: Features, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        lines, values, product = features
        found = []
        for network, theta, line, seed in zip(
            self.networks, self.thetas(parameters), lines, pulled_back(product, values, cotangent), strict=True
        ):
            count = line.data.shape[1]
            sums = seed.new_zeros(seed.shape[0], count, seed.shape[2]).index_add_(
                1, line.index, seed * weights[:, None]
            )
            pulled = _pulled(network, theta, line.data, line.space, sums)
            found.append(network.vjp(theta, *pulled, weights.new_ones(count)))
        return self.blocks.view(torch.cat(found))

    def cells(self, names: Iterable[str]) -> dict[str, int]:
        return {name: count for network in self.networks for name, count in network.cells.items()}


def only_layer(network: Backbone) -> SplineLayer | None:
    """The layer of splines that a network consists of; None for others."""
    layer = network.layers[0]
    return layer if len(network.layers) == 1 and isinstance(layer, SplineLayer) else None


def _factor_jacobian(network: Backbone, theta: Tensor, line: Line, seed: Tensor, out: Tensor) -> None:
    """Write Σ_s λ_s ∂f_s/∂θ of one factor network, θ `[P_i]`, at every point into out `[N, P_i]`.

    λ is the cotangent of its values at every point, `[C_i, N, width]`.
    """
    channels, points, width = seed.shape
    count, many = line.data.shape[1], channels * width
    if count * many > points:
        factor_rows(network, theta, line.data[:, line.index], line.space, seed, out)
        return
    # Every value's own Jacobian, once per distinct input; points with the same input share it.
    known = table(network, theta, line.data, line.space, torch.arange(many, device=seed.device))
    rows = seed.transpose(0, 1).reshape(points, many)
    order = torch.argsort(line.index)
    groups = torch.split(order, torch.bincount(line.index, minlength=count).tolist())
    for block, group in zip(known, groups, strict=True):
        out[group] = rows[group] @ block


def table(network: Backbone, theta: Tensor, data: Tensor, space: JetSpace, units: Tensor) -> Tensor:
    """The Jacobian `[n, m, P_i]` of some of a factor network's values by its parameters `[P_i]`, value by value.

    Its inputs are `data` `[C_i, n, in]`, with the derivatives of `space`. Units `[m]` number values among C_i·width:
    the derivative's number times width plus the output's.
    """
    width = network.carry(theta, data[:, :1], space).shape[2]
    inputs, seed = _every_unit(data, units, width)
    out = data.new_empty(inputs.shape[1], network.size)
    factor_rows(network, theta, inputs, space, seed, out)
    return out.view(data.shape[1], len(units), network.size)


def _every_unit(data: Tensor, units: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Every input `[C_i, n, in]` once per unit `[m]`, `[C_i, n·m, in]`, with the seeds that pick it."""
    channels, count, _ = data.shape
    seed = torch.eye(channels * width, dtype=data.dtype, device=data.device)[units]
    seed = seed.view(len(units), channels, width).transpose(0, 1)
    return data.repeat_interleave(len(units), dim=1), seed.repeat(1, count, 1)


def factor_rows(network: Backbone, theta: Tensor, data: Tensor, space: JetSpace, seed: Tensor, out: Tensor) -> None:
    """Write the Jacobian of Σ seed·values by a factor network's parameters `[P_i]` into out `[n, P_i]`.

    Its inputs are `data` `[C_i, n, in]`, with the derivatives of `space`; the seed is `[C_i, n, width]`.
    """
    tape = Tape()
    with torch.enable_grad():
        values = network.carry(theta, data.detach(), space, tape)
        network.jacobian(theta, tape, (values * seed).sum(), out)


def _pulled(
    network: Backbone, theta: Tensor, data: Tensor, space: JetSpace, seed: Tensor
) -> tuple[Tape, tuple[Tensor, ...]]:
    """The tape of a factor network and the cotangents of Σ seed·values at its layers; arguments as of `factor_rows`."""
    tape = Tape()
    with torch.enable_grad():
        values = network.carry(theta, data.detach(), space, tape)
        return tape, network.cotangents(tape, (values * seed).sum())
