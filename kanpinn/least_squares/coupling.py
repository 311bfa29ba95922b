"""Rows of the Jacobian that integrals add: those of points far from a residual's own.

A residual r_n of a point n may depend on the unknowns at nodes q too. With v_kq their values and derivatives there,
∂r_n/∂θ = (∂r_n/∂θ at n itself) + Σ_kq (∂r_n/∂v_kq) ∂v_kq/∂θ. The slopes ∂r_n/∂v_kq come from one backward pass of
Σ_n r_n, since every residual gets copies of its own of the v_kq; ∂v_kq/∂θ is a linearisation as of any residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from kanpinn.jets.jet import Jet
from kanpinn.least_squares.linearization import Linearization, block_rows

FEW = 8
"""Rows up to which each is a product with a Jacobian that is not stored."""

Component = tuple[str, str]
"""An unknown and the name of a derivative of it, "" for its value."""


@final
@dataclass
class Nodes:
    """Nodes of an integral and what a term's residuals use of the unknowns there.

    Attributes:
        points: The nodes `[Q, U, d]`, with U = 1 where they are the same for all residuals.
        which: Their column `[N]` for each residual; None if U = 1.
        fields: The unknowns there, jets `[C, Q U]` by name, without a graph.
        count: Number of residuals N.
        leaves: Copies `[Q, N]` of what is used, from which graphs begin.
    """

    points: Tensor
    which: Tensor | None
    fields: dict[str, Jet]
    count: int
    leaves: dict[Component, Tensor]

    def leaf(self, name: str, derivative: str) -> Tensor:
        """Return the copies of an unknown or a derivative; raises KeyError if it is not known."""
        key = name, derivative
        if key not in self.leaves:
            own = self.spread(self.fields[name][derivative]).expand(-1, self.count)
            self.leaves[key] = own.detach().clone().requires_grad_(True)
        return self.leaves[key]

    def spread(self, values: Tensor) -> Tensor:
        """Return values `[Q U]` at the nodes for each residual, `[Q, N]`, or `[Q, 1]` if U = 1."""
        own = values.view(self.points.shape[:2])
        return own if self.which is None else own[:, self.which]

    def slopes(self, residual: Tensor) -> list[tuple[Component, Tensor]]:
        """Return ∂r_n/∂v_kq for residuals `[N]`, `[Q, N]` each, of the components on which they depend."""
        if not (self.leaves and residual.requires_grad):
            return []
        found = torch.autograd.grad(residual.sum(), list(self.leaves.values()), retain_graph=True, allow_unused=True)
        return [(key, slope) for key, slope in zip(self.leaves, found, strict=True) if slope is not None]


@final
@dataclass(frozen=True)
class Coupling:
    """Part A D of the Jacobian that residuals of one equation have from one set of nodes.

    Attributes:
        slopes: A, `[K, Q, N]`, of K components.
        which: Column of the nodes for each residual `[N]`; None if they are the same for all.
        columns: Number U of columns of the nodes.
        size: Number of parameters P.
        linearized: Gives the linearisation D of the components at some columns of the nodes, rows `[K Q columns]`.
    """

    slopes: Tensor
    which: Tensor | None
    columns: int
    size: int
    linearized: Callable[[slice], Linearization]

    @cached_property
    def _whole(self) -> Linearization:
        """D at all nodes."""
        return self.linearized(slice(None))

    def jvp(self, tangent: Tensor) -> Tensor:
        """A D v `[N]` for v `[P]`."""
        components, many, _ = self.slopes.shape
        moved = self._whole.jvp(tangent).view(components, many, -1)
        return (self.slopes * (moved if self.which is None else moved[:, :, self.which])).sum((0, 1))

    def vjp(self, weights: Tensor) -> Tensor:
        """Dᵀ Aᵀ w `[P]` for w `[N]`."""
        components, many, _ = self.slopes.shape
        pulled = self.slopes * weights
        at = pulled.new_zeros(components, many, self.columns)
        if self.which is None:
            at = pulled.sum(2, keepdim=True)
        else:
            at.index_add_(2, self.which, pulled)
        return self._whole.vjp(at.flatten())

    def rows(self) -> Tensor:
        """A D `[N, P]`."""
        count = self.slopes.shape[2]
        if count <= FEW:
            return torch.stack([self.vjp(unit) for unit in self.slopes.new_ones(count).diag()])
        if self.which is None:
            return self.slopes.flatten(0, 1).T @ self._whole.dense().jacobian
        return self._by_columns(self.which)

    def _by_columns(self, which: Tensor) -> Tensor:
        """A D `[N, P]`, some columns of the nodes after the other."""
        components, many, count = self.slopes.shape
        order = torch.argsort(which, stable=True)
        sizes = torch.bincount(which, minlength=self.columns).tolist()
        found, out, end = self.slopes[:, :, order], [], 0
        step = max(1, block_rows(self.size) // (components * many))
        for start in range(0, self.columns, step):
            part = slice(start, min(self.columns, start + step))
            dense = self.linearized(part).dense().jacobian.view(components * many, part.stop - part.start, -1)
            for k, size in enumerate(sizes[part]):
                out.append(found[:, :, end : end + size].flatten(0, 1).T @ dense[:, k])
                end += size
        rows = self.slopes.new_empty(count, self.size)
        rows[order] = torch.cat(out)
        return rows
