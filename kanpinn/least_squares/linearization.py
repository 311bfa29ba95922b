"""Linearised least-squares problems: residual and Jacobian as one operator, and what is made of such operators.

Near parameters θ the loss is loss + 2 gᵀδ + ‖J δ‖² to second order in J. An operator forms of J what it is asked for:
products with J and Jᵀ, rows some at a time, the whole matrix, or JᵀJ. Restricted, shifted and sharded operators are
operators again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor
from torch import distributed as dist

BLOCK_BYTES = 2**25
"""Memory of one block of rows of the Jacobian."""

SMALLEST_BLOCK = 32
"""Rows of a block, however long they are."""

GRAM_BLOCK = 192
"""Columns per block of `gram`: little more than half the work, and still wide enough for a fast product."""


def gram(matrix: Tensor) -> Tensor:
    """JᵀJ of `[M, P]`, block row by block row of the upper triangle, then mirrored.

    A symmetric rank-k product of another BLAS would be as good alone, but its threads and torch's then wait for each
    other's: with two of each, a step of a small network took more than twice as long.
    """
    size = matrix.shape[1]
    product = matrix.new_empty(size, size)
    for start in range(0, size, GRAM_BLOCK):
        end = min(start + GRAM_BLOCK, size)
        torch.mm(matrix[:, start:end].T, matrix[:, start:], out=product[start:end, start:])
    mirror(product)
    return product


def mirror(total: Tensor) -> None:
    """Copy the upper triangle of `[P, P]` to the lower one."""
    size = len(total)
    for start in range(0, size, GRAM_BLOCK):
        end = min(start + GRAM_BLOCK, size)
        total[end:, start:end] = total[start:end, end:].T
        square = total[start:end, start:end]
        square.copy_(torch.triu(square) + torch.triu(square, 1).T)


class LinearMap(Protocol):
    """A matrix P by its products, along the last axis of tensors."""

    def prolong(self, theta: Tensor) -> Tensor:
        """P v, `[..., P_coarse]` to `[..., P_fine]`."""
        ...

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Pᵀ w, `[..., P_fine]` to `[..., P_coarse]`."""
        ...


def block_rows(size: int) -> int:
    """Return how many rows of `size` float64 numbers make a block."""
    return max(SMALLEST_BLOCK, BLOCK_BYTES // (8 * size))


class NormalEquations(NamedTuple):
    """The Gauss–Newton system JᵀJ δ = −g.

    Attributes:
        matrix: JᵀJ `[P, P]`.
        gradient: g `[P]`.
        loss: The loss.
        terms: Each term's part of ‖r‖².
    """

    matrix: Tensor
    gradient: Tensor
    loss: float
    terms: dict[str, float]


class Linearization(ABC):
    """Weighted residual r and its Jacobian J = ∂r/∂θ at parameters θ `[P]`.

    What `dense` and `gram` return holds the gradient and the loss as they come with it, equal to these up to rounding.

    Attributes:
        residual: r `[M]`.
        gradient: g `[P]`, half the gradient of the loss: Jᵀr + `linear`.
        loss: The loss at θ.
        terms: Each term's part of ‖r‖².
        linear: Half the gradient of what the loss has beside ‖r‖², `[P]`; None where it has nothing.
    """

    residual: Tensor
    gradient: Tensor
    loss: float
    terms: dict[str, float]
    linear: Tensor | None = None

    @abstractmethod
    def jvp(self, tangent: Tensor) -> Tensor:
        """J v `[M]` for v `[P]`."""

    @abstractmethod
    def vjp(self, weights: Tensor) -> Tensor:
        """Jᵀw `[P]` for w `[M]`."""

    @abstractmethod
    def blocks(self) -> Iterator[Tensor]:
        """The rows of J in any order, some `[B, P]` at a time; for sums over rows, such as the diagonal of JᵀJ."""

    @abstractmethod
    def dense(self) -> Dense:
        """The same with J stored."""

    def gram(self) -> NormalEquations:
        """The normal equations; from the stored J where nothing better is known."""
        return self.dense().gram()

    def columns(self, where: slice) -> Tensor:
        """Some columns of J, `[M, L]`."""
        return self.dense().jacobian[:, where]

    def summed(self, values: Tensor) -> Tensor:
        """Sums over all rows, from sums over the rows that `blocks` gives here."""
        return values

    def restricted(self, prolongation: LinearMap) -> Linearization:
        """The linearisation in a subspace: J P and Pᵀg for a matrix P `[P, P_coarse]`."""
        return Restricted(self, prolongation)

    def shifted(self, mu: float, change: Tensor, linear: Tensor) -> Linearization:
        """The linearisation of loss + μ‖d‖² + 2 hᵀd, with μ ≥ 0, the change d = θ − θ₀ and the linear h `[P]`."""
        return Shifted(self, mu, change, linear)

    def sharded(self) -> Linearization:
        """The linearisation whose rows are those of all processes."""
        return Sharded(self)


@final
@dataclass(frozen=True, eq=False)
class Dense(Linearization):
    """Linearisation with a stored Jacobian.

    Attributes:
        jacobian: J `[M, P]`.
    """

    jacobian: Tensor
    gradient: Tensor
    loss: float
    terms: dict[str, float]
    residual: Tensor
    linear: Tensor | None = None

    def jvp(self, tangent: Tensor) -> Tensor:
        return self.jacobian @ tangent

    def vjp(self, weights: Tensor) -> Tensor:
        return self.jacobian.T @ weights

    def blocks(self) -> Iterator[Tensor]:
        yield from self.jacobian.split(block_rows(self.jacobian.shape[1]))

    def dense(self) -> Dense:
        return self

    def gram(self) -> NormalEquations:
        return NormalEquations(gram(self.jacobian), self.gradient, self.loss, self.terms)


@final
class Restricted(Linearization):
    """Linearisation in a subspace, J P."""

    def __init__(self, inner: Linearization, prolongation: LinearMap) -> None:
        self._inner, self._map = inner, prolongation
        self.residual, self.loss, self.terms = inner.residual, inner.loss, inner.terms
        self.linear = None if inner.linear is None else prolongation.prolong_transpose(inner.linear)

    @cached_property
    def gradient(self) -> Tensor:
        """Pᵀg."""
        return self._map.prolong_transpose(self._inner.gradient)

    def jvp(self, tangent: Tensor) -> Tensor:
        return self._inner.jvp(self._map.prolong(tangent))

    def vjp(self, weights: Tensor) -> Tensor:
        return self._map.prolong_transpose(self._inner.vjp(weights))

    def blocks(self) -> Iterator[Tensor]:
        return (self._map.prolong_transpose(block) for block in self._inner.blocks())

    def dense(self) -> Dense:
        found, down = self._inner.dense(), self._map.prolong_transpose
        jacobian, gradient = down(found.jacobian), down(found.gradient)
        return Dense(jacobian, gradient, found.loss, found.terms, found.residual, self.linear)

    def summed(self, values: Tensor) -> Tensor:
        return self._inner.summed(values)


@final
class Shifted(Linearization):
    """Linearisation with rows √μ I below J where μ is not 0, and a linear term."""

    def __init__(self, inner: Linearization, mu: float, change: Tensor, linear: Tensor) -> None:
        self._inner, self._mu, self._change, self._own = inner, mu, change, linear
        self._root = math.sqrt(mu)
        self.terms = inner.terms
        self.residual = torch.cat([inner.residual, self._root * change]) if mu else inner.residual
        self.linear = linear if inner.linear is None else inner.linear + linear
        self.loss = inner.loss + self._extra

    @property
    def _extra(self) -> float:
        return self._mu * float(self._change @ self._change) + 2 * float(self._own @ self._change)

    def _slope(self, gradient: Tensor) -> Tensor:
        return gradient + self._mu * self._change + self._own

    @cached_property
    def gradient(self) -> Tensor:
        """The inner gradient + μ d + h."""
        return self._slope(self._inner.gradient)

    def jvp(self, tangent: Tensor) -> Tensor:
        product = self._inner.jvp(tangent)
        return torch.cat([product, self._root * tangent]) if self._mu else product

    def vjp(self, weights: Tensor) -> Tensor:
        if not self._mu:
            return self._inner.vjp(weights)
        split = len(weights) - len(self._change)
        return self._inner.vjp(weights[:split]) + self._root * weights[split:]

    def blocks(self) -> Iterator[Tensor]:
        yield from self._inner.blocks()
        if self._mu:
            processes = self.summed(torch.ones_like(self._change))  # all of which have these rows
            yield torch.diag(self._root / processes.sqrt())

    def summed(self, values: Tensor) -> Tensor:
        return self._inner.summed(values)

    def dense(self) -> Dense:
        found, change = self._inner.dense(), self._change
        jacobian, residual = found.jacobian, found.residual
        if self._mu:
            jacobian = torch.cat([jacobian, torch.full_like(change, self._root).diag()])
            residual = torch.cat([residual, self._root * change])
        loss = found.loss + self._extra
        return Dense(jacobian, self._slope(found.gradient), loss, found.terms, residual, self.linear)


@final
class Sharded(Linearization):
    """Linearisation whose rows are spread over processes: rows are this process's, sums over rows those of all.

    `residual`, `jvp` and `blocks` have this process's rows, and so has the argument of `vjp`; `dense` gathers all.
    """

    def __init__(self, inner: Linearization) -> None:
        self._inner = inner
        self.residual, self.linear = inner.residual, None
        if inner.linear is not None:
            self.linear = self.summed(inner.linear)
        self.loss, self.terms = summed_loss(inner.loss, inner.terms, inner.residual)

    @cached_property
    def gradient(self) -> Tensor:
        """The gradient of the whole loss, `[P]`."""
        return self.summed(self._inner.gradient)

    def jvp(self, tangent: Tensor) -> Tensor:
        return self._inner.jvp(tangent)

    def vjp(self, weights: Tensor) -> Tensor:
        return self.summed(self._inner.vjp(weights))

    def blocks(self) -> Iterator[Tensor]:
        return self._inner.blocks()

    def summed(self, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    def gram(self) -> NormalEquations:
        found = self._inner.gram()
        loss, terms = summed_loss(found.loss, found.terms, found.gradient)
        return NormalEquations(self.summed(found.matrix), self.summed(found.gradient), loss, terms)

    def dense(self) -> Dense:
        own = self._inner.dense()
        rows = torch.cat([own.jacobian, own.residual[:, None]], dim=1)
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(dist.get_world_size())]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        most = max(int(count) for count in counts)
        padded = rows.new_zeros(most, rows.shape[1])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        whole = torch.cat([part[: int(count)] for part, count in zip(parts, counts, strict=True)])
        loss, terms = summed_loss(own.loss, own.terms, rows)
        return Dense(whole[:, :-1], self.summed(own.gradient), loss, terms, whole[:, -1], self.linear)


def summed_loss(loss: float, terms: dict[str, float], like: Tensor) -> tuple[float, dict[str, float]]:
    """Add up losses and their terms, of the same names everywhere, over all processes.

    `like` gives device and precision.
    """
    total = like.new_tensor([loss, *terms.values()])
    dist.all_reduce(total)
    first, *others = total.tolist()
    return first, dict(zip(terms, others, strict=True))
