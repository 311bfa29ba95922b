"""Least-squares problems made of others: in a subspace, with fixed parameters, or with rows spread over processes."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from torch import Tensor
from torch import distributed as dist

from kanpinn.backbones.base import Backbone
from kanpinn.errors import UserError
from kanpinn.least_squares.linearization import Linearization, LinearMap, summed_loss
from kanpinn.least_squares.objective import LeastSquares, Objective


@dataclass(frozen=True)
class Mask:
    """Diagonal matrix of ones and zeros, which holds some parameters fixed.

    Attributes:
        free: 1 where a parameter may change, else 0, `[P]`.
    """

    free: Tensor

    def prolong(self, theta: Tensor) -> Tensor:
        """The parameters with zeros for fixed ones, `[..., P]`."""
        return theta * self.free

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """The same of gradients, `[..., P]`."""
        return gradient * self.free


class Wrapped(LeastSquares, ABC):
    """A least-squares problem on the points of another one, `inner`."""

    inner: LeastSquares

    @property
    def points(self) -> Tensor:
        return self.inner.points

    @property
    def version(self) -> int:
        return self.inner.version


@final
class SubspaceProblem(Wrapped):
    """A loss on an affine subspace: f(θ₀ + P d) as a function of d `[P_coarse]`.

    Its Gauss–Newton system is the Galerkin one, Pᵀ(JᵀJ)P d = −Pᵀg.

    Attributes:
        inner: The problem with the loss f.
        base: θ₀ `[P]`.
        prolongation: P.
        backbone: The network whose parameters d is shaped like.
        is_correction: True if d is a coarse correction, else all parameters.
    """

    kind = "subspace"

    def __init__(
        self, inner: LeastSquares, base: Tensor, prolongation: LinearMap, backbone: Backbone, *, is_correction: bool
    ) -> None:
        self.inner, self.base, self.prolongation, self.backbone = inner, base, prolongation, backbone
        self.is_correction = is_correction

    def _moved(self, theta: Tensor) -> Tensor:
        return self.base + self.prolongation.prolong(theta)

    def _with(self, inner: LeastSquares) -> SubspaceProblem:
        return SubspaceProblem(inner, self.base, self.prolongation, self.backbone, is_correction=self.is_correction)

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self.inner.network(self._moved(theta))

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        return self.inner.loss(self._moved(theta))

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        loss, gradient, terms = self.inner.loss_and_gradient(self._moved(theta))
        return loss, self.prolongation.prolong_transpose(gradient), terms

    def linearize(self, theta: Tensor) -> Linearization:
        return self.inner.linearize(self._moved(theta)).restricted(self.prolongation)

    def parts(self, rows: int | None) -> Iterator[LeastSquares]:
        return map(self._with, self.inner.parts(rows))

    def sampled(self, share: float, generator: np.random.Generator) -> LeastSquares:
        part = self.inner.sampled(share, generator)
        return self if part is self.inner else self._with(part)

    def rebased(self, change: Callable[[Any], LeastSquares]) -> LeastSquares:
        return self._with(self.inner.rebased(change))


def frozen(problem: LeastSquares, theta: Tensor, free: Tensor) -> SubspaceProblem:
    """Hold parameters at theta `[P]` where `free` `[P]` is 0, not 1: they have no effect in the problem returned."""
    return SubspaceProblem(
        problem, theta * (1 - free), Mask(free), problem.backbone, is_correction=problem.is_correction
    )


@final
class ShardedProblem(Wrapped):
    """A least-squares problem whose points are shared out among processes, which take the same steps.

    Every process holds the whole problem, evaluates its own share of the points and adds up with the others, so that
    all see the same loss, gradient and JᵀJ.

    Attributes:
        inner: The problem with all points.
        backbone: Its network.
    """

    inner: Objective

    def __init__(self, whole: Objective) -> None:
        self.inner, self.backbone = whole, whole.backbone
        self._share = self._cut()

    def _cut(self) -> tuple[object, Objective]:
        points = self.inner.collocation
        own = points.shard(dist.get_rank(), dist.get_world_size())
        if not len(own):
            size = dist.get_world_size()
            raise UserError(f"processes={size}: more than the {len(points)} points there are; expected fewer")
        return points, self.inner.at(own)

    @property
    def share(self) -> Objective:
        """This process's share, of the points drawn last."""
        if self._share[0] is not self.inner.collocation:
            self._share = self._cut()
        return self._share[1]

    def network(self, theta: Tensor) -> tuple[Objective, Tensor]:
        return self.inner, theta

    def loss(self, theta: Tensor) -> tuple[float, dict[str, float]]:
        return summed_loss(*self.share.loss(theta), theta)

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor, dict[str, float]]:
        loss, gradient, terms = self.share.loss_and_gradient(theta)
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        total, terms = summed_loss(loss, terms, gradient)
        return total, gradient, terms

    def linearize(self, theta: Tensor) -> Linearization:
        return self.share.linearize(theta).sharded()

    def sampled(self, share: float, generator: np.random.Generator) -> LeastSquares:
        return ShardedProblem(self.inner.sampled(share, generator))
