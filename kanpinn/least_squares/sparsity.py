"""Sparsity: a penalty on the size of a network's edges, with or without their entropy, for any optimiser.

An edge φ with coefficients c has the size N = √(E² + ε²), where E² = cᵀM c is its variance over the range of its knots:
a smooth group lasso (Yuan and Lin 2006, J. R. Stat. Soc. B 68, 49) in place of the L1 norms of Liu et al. 2024
(arXiv:2404.19756, eqs. 2.17–2.20), which depend on the points and on all layers before. The penalty of a layer is

    λ (Σ N_e + μ S),    S = −Σ p_e log p_e,    p_e = N_e/Σ N,    ∂S/∂N_e = −(log p_e + S)/Σ N.

Its gradient by c is w M c/N with w = λ (1 + μ ∂S/∂N); as curvature serves max(w, 0) M/N, that of the quadratic which
touches it from above (iteratively reweighted least squares; for μ = 0 a majorant, so that steps that lower it lower the
penalty).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layer import Layer, Parameters
from kanpinn.backbones.masks import ends_of
from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.symbolic_edges import SymbolicLayer
from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.linearization import Dense, Linearization
from kanpinn.least_squares.objective import LeastSquares, Objective
from kanpinn.least_squares.wrapped import Wrapped

SMALLEST = 1e-4
"""ε, the size below which an edge counts as gone; hidden values are of size 1."""

PLACES = 512
"""Places on the range of the knots over which variances are taken."""


@dataclass(frozen=True)
class _Edges:
    """Edges of one layer: their places in θ `[E, w]`, and a root R of M = RᵀR `[w, w]`."""

    places: Tensor
    root: Tensor


def _edges(network: Backbone) -> list[list[_Edges]]:
    """The edges of every layer that has some; several groups where some are not there.

    Raises:
        UserError: If their functions are not linear in one block of parameters.
    """
    found = []
    for layer, own in zip(network.layers, network.arrays(torch.arange(network.size)), strict=True):
        groups = list(_groups(layer, own))
        if groups:
            found.append(groups)
    if not found:
        raise UserError("weighting.sparsity: the network has no edges; expected 0, or backbone=kan and its kind")
    return found


def _groups(layer: Layer, own: Parameters) -> Iterator[_Edges]:
    if isinstance(layer, Parallel):
        for one, blocks in layer.own(own):
            yield from _groups(one, blocks)
    elif ends_of(layer) is not None and not isinstance(layer, SymbolicLayer):
        if len(own) > 1 + ("bias" in own):
            raise UserError("weighting.sparsity: expected 0 with backbone.base=true")
        name, places = next(iter(own.items()))
        flat = places.flatten(0, 1) if places.dim() > 2 else places.reshape(-1, 1)
        width = flat.shape[1]
        unit = torch.eye(width, dtype=torch.float64).view(width, 1, *places.shape[2:])
        blocks = {name: unit, **({"bias": torch.zeros(width, dtype=torch.float64)} if "bias" in own else {})}
        x = torch.linspace(-1, 1, PLACES, dtype=torch.float64)[None, :, None]
        values = layer.resized(1, width).forward(blocks, x, JetSpace((), ()))[0][0]
        root = torch.linalg.qr((values - values.mean(0)) / PLACES**0.5).R
        yield _Edges(flat, root)


@final
class Penalty(LeastSquares):
    """The penalty alone, as a least-squares problem without points.

    Attributes:
        backbone: The network.
    """

    def __init__(self, backbone: Backbone, weight: float, entropy: float) -> None:
        """Penalise a network's edges with λ = `weight` and μ = `entropy`; raises UserError for other networks."""
        self.backbone, self._weight, self._entropy = backbone, weight, entropy
        with torch.device("cpu"):  # whatever the default is
            self._layers = _edges(backbone)

    @property
    def points(self) -> Tensor:
        return torch.empty(0, 0)

    @property
    def version(self) -> int:
        return 0

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        raise AssertionError("a penalty has no points")

    def _parts(self, theta: Tensor) -> Iterator[tuple[list[Tensor], Tensor, float, Tensor]]:
        """By layer: R c of its groups `[E, w]`, sizes N, the penalty, slopes w by N."""
        for groups in self._layers:
            scaled = [theta[one.places.to(theta.device)] @ one.root.T.to(theta) for one in groups]
            sizes = torch.cat([(c.square().sum(1) + SMALLEST**2).sqrt() for c in scaled])
            share = sizes / sizes.sum()
            entropy = -(share * share.log()).sum()
            slopes = self._weight * (1 - self._entropy * (share.log() + entropy) / sizes.sum())
            yield scaled, sizes, float(self._weight * (sizes.sum() + self._entropy * entropy)), slopes

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        return sum(value for _, _, value, _ in self._parts(theta)), {}

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        found = self.linearize(theta)
        return found.loss, 2 * found.gradient, {}

    def linearize(self, theta: Tensor) -> Dense:
        rows, gradient, loss = [], torch.zeros_like(theta), 0.0
        for groups, (scaled, sizes, value, slopes) in zip(self._layers, self._parts(theta), strict=True):
            counts = [len(one.places) for one in groups]
            loss += value
            for one, c, n, w in zip(groups, scaled, sizes.split(counts), slopes.split(counts), strict=True):
                root, places = one.root.to(theta), one.places.to(theta.device)
                gradient[places] += (w / (2 * n))[:, None] * (c @ root)
                scale = (w.clamp_min(0) / (2 * n)).sqrt()
                block = theta.new_zeros(len(places), len(root), len(theta))
                block.scatter_(2, places[:, None].expand(-1, len(root), -1), scale[:, None, None] * root)
                rows.append(block.flatten(0, 1))
        jacobian = torch.cat(rows)
        residual = jacobian.new_zeros(len(jacobian))
        return Dense(jacobian, gradient, loss, {}, residual, gradient)


@final
class Penalised(Wrapped):
    """A least-squares problem with the penalty added.

    Attributes:
        inner: The problem.
        backbone: Its network.
    """

    def __init__(self, inner: LeastSquares, penalty: Penalty) -> None:
        self.inner, self.backbone, self._penalty = inner, inner.backbone, penalty

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self.inner.network(theta)

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        loss, terms = self.inner.loss(theta)
        return loss + self._penalty.loss(theta)[0], terms

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        loss, gradient, terms = self.inner.loss_and_gradient(theta)
        more, slope, _ = self._penalty.loss_and_gradient(theta)
        return loss + more, gradient + slope, terms

    def linearize(self, theta: Tensor) -> Linearization:
        found, more = self.inner.linearize(theta).dense(), self._penalty.linearize(theta)
        linear = more.gradient if found.linear is None else found.linear + more.gradient
        return Dense(
            torch.cat([found.jacobian, more.jacobian]), found.gradient + more.gradient, found.loss + more.loss,
            found.terms, torch.cat([found.residual, more.residual]), linear,
        )  # fmt: skip

    def rebased(self, change: Callable[[Any], LeastSquares]) -> LeastSquares:
        return Penalised(self.inner.rebased(change), self._penalty)

    def parts(self, rows: int | None) -> Iterator[LeastSquares]:
        yield from self.inner.parts(rows)
        yield self._penalty
