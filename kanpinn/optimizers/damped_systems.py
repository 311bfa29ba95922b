"""The damped Gauss–Newton system (JᵀJ + s I) δ = −g + s v by four factorisations, from J in parts.

J never stands in memory whole unless it comes as one part. What remains of it is JᵀJ, or the triangular factor R of
J = QR together with Qᵀr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import final

import torch
from torch import Tensor

from kanpinn.least_squares.linearization import Dense, Linearization, NormalEquations
from kanpinn.optimizers.damped_step import Proposal

LinAlgError = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]


class DampedSystem(ABC):
    """A linearised least-squares problem, ready to be solved for any damping.

    Attributes:
        gradient: g `[P]`, half the gradient of the loss.
        loss: The loss.
        terms: Each term's part of ‖r‖².
    """

    def __init__(self, parts: Iterable[Linearization]) -> None:
        """Add up the parts of a linearisation, at least one, each a sum over some of the rows."""
        for k, part in enumerate(parts):
            found = self._add(part)
            if k == 0:
                self.gradient, self.loss, self.terms = found.gradient, found.loss, dict(found.terms)
            else:
                self.gradient = self.gradient + found.gradient
                self.loss += found.loss
                for name, value in found.terms.items():
                    self.terms[name] = self.terms.get(name, 0.0) + value

    @abstractmethod
    def _add(self, part: Linearization) -> NormalEquations | Dense:
        """Take in some rows; returns what it has formed of them."""

    def propose(self, shift: float, last: Tensor | None, momentum: float) -> Proposal | None:
        """The minimiser δ of ‖r + J δ‖² + s ‖δ − μ p‖²; see `Model.propose`."""
        right = -self.gradient if last is None else torch.add(-self.gradient, last, alpha=shift * momentum)
        delta = self.solve(shift, right, None if last is None else momentum * last)
        if delta is None:
            return None
        # Predicted fall of ‖r‖²: −2 gᵀδ − δᵀJᵀJδ, where JᵀJ δ = right − shift δ.
        return Proposal(delta, float(delta @ (shift * delta - right - 2 * self.gradient)))

    @abstractmethod
    def mean(self) -> float:
        """The mean of diag JᵀJ, the unit of damping."""

    @abstractmethod
    def solve(self, shift: float, right: Tensor, toward: Tensor | None) -> Tensor | None:
        """The minimiser δ `[P]` of ‖r + J δ‖² + s ‖δ − v‖², shift s above 0; None where rounding leaves no solution.

        The right-hand side −g + s v `[P]` is what the normal equations want. Orthogonal factorisations want v `[P]`
        (None for 0) apart, since s v is lost beside g.
        """


class Normal(DampedSystem, ABC):
    """System that keeps JᵀJ: half the work of a QR factorisation of J, but the square of its condition number."""

    def __init__(self, parts: Iterable[Linearization]) -> None:
        self._matrix: Tensor | None = None
        super().__init__(parts)
        self._mean = float(self.matrix.diagonal().mean())

    def _add(self, part: Linearization) -> NormalEquations:
        found = part.gram()
        self._matrix = found.matrix if self._matrix is None else self._matrix.add_(found.matrix)
        return found

    def mean(self) -> float:
        return self._mean

    @property
    def matrix(self) -> Tensor:
        """JᵀJ `[P, P]`; `Cholesky` leaves the last shift on its diagonal."""
        assert self._matrix is not None
        return self._matrix


@final
class Cholesky(Normal):
    """JᵀJ + s I = L Lᵀ, anew for every damping: P³/3 operations each."""

    def __init__(self, parts: Iterable[Linearization]) -> None:
        super().__init__(parts)
        self._plain = self.matrix.diagonal().clone()

    def solve(self, shift: float, right: Tensor, toward: Tensor | None) -> Tensor | None:
        self.matrix.diagonal().copy_(self._plain + shift)
        factor, info = torch.linalg.cholesky_ex(self.matrix)
        if int(info) != 0:
            return None
        return torch.cholesky_solve(right[:, None], factor)[:, 0]


@final
class Eigen(Normal):
    """JᵀJ = V Λ Vᵀ once, about 9 P³ operations; every damping is then two products with V."""

    def __init__(self, parts: Iterable[Linearization]) -> None:
        super().__init__(parts)
        self._found: tuple[Tensor, Tensor] | None = None

    def solve(self, shift: float, right: Tensor, toward: Tensor | None) -> Tensor | None:
        if self._found is None:
            try:
                values, vectors = torch.linalg.eigh(self.matrix)
            except LinAlgError:  # not finite
                return None
            self._found = values.clamp_min(0.0), vectors  # below 0 by rounding only
        values, vectors = self._found
        return vectors @ ((vectors.T @ right) / (values + shift))


class _Triangular(DampedSystem, ABC):
    """System that keeps R and z = Qᵀr of J = Q R, found from [J r] part by part (Golub and Van Loan 2013, sec. 5.3.5).

    Where the gradient is g = Jᵀr + h (a coarse problem's linear term, a sketch's full gradient), h enters through the
    damping: s v − h takes the place of s v.
    """

    def __init__(self, parts: Iterable[Linearization]) -> None:
        self._factor: Tensor | None = None  # [R z], [≤ P + 1, P + 1]
        self._linear: Tensor | None = None
        super().__init__(parts)

    def _add(self, part: Linearization) -> Dense:
        found = part.dense()
        rows = torch.cat([found.jacobian, found.residual[:, None]], dim=1)
        if self._factor is not None:
            rows = torch.cat([self._factor, rows])
        self._factor = torch.linalg.qr(rows, mode="r")[1]
        if found.linear is not None:
            self._linear = found.linear if self._linear is None else self._linear + found.linear
        return found

    @property
    def triangle(self) -> tuple[Tensor, Tensor]:
        """R `[K, P]` and z `[K]`, K = P or the number of rows if that is smaller."""
        assert self._factor is not None
        size = self._factor.shape[1] - 1
        return self._factor[:size, :size], self._factor[:size, size]

    def mean(self) -> float:
        return float(self.triangle[0].square().sum()) / len(self.gradient)


@final
class Qr(_Triangular):
    """J = Q R once, about 2 M P² operations, then for every damping the QR factorisation of [R; √s I], 10/3 P³.

    The condition number of J is never squared (Moré 1978, sec. 3).
    """

    def solve(self, shift: float, right: Tensor, toward: Tensor | None) -> Tensor | None:
        triangle, z = self.triangle
        size, root = len(right), shift**0.5
        below = torch.zeros_like(right) if toward is None else root * toward
        if self._linear is not None:
            below = below - self._linear / root
        stacked = right.new_zeros(len(triangle) + size, size + 1)
        stacked[: len(triangle), :size], stacked[: len(triangle), size] = triangle, -z
        stacked[len(triangle) :, :size].diagonal().fill_(root)
        stacked[len(triangle) :, size] = below
        factor = torch.linalg.qr(stacked, mode="r")[1]
        return torch.linalg.solve_triangular(factor[:size, :size], factor[:size, size:], upper=True)[:, 0]


@final
class Svd(_Triangular):
    """J = Q R and R = U Σ Wᵀ once, about 2 M P² + 20 P³ operations; every damping is then two products with W.

    δ = W (Σ² + s)⁻¹ (−Σ Uᵀz + s Wᵀv) (Golub and Van Loan 2013, secs. 5.4.5 and 6.1.4).
    """

    def __init__(self, parts: Iterable[Linearization]) -> None:
        super().__init__(parts)
        self._found: tuple[Tensor, Tensor, Tensor] | None = None

    def solve(self, shift: float, right: Tensor, toward: Tensor | None) -> Tensor | None:
        triangle, z = self.triangle
        if self._found is None:
            size = len(right)
            square = torch.cat([triangle, triangle.new_zeros(size - len(triangle), size)])
            try:
                left, values, rows = torch.linalg.svd(square)
            except LinAlgError:  # not finite
                return None
            self._found = values, rows, left[: len(z)].T @ z
        values, rows, turned = self._found
        inner = -values * turned
        if toward is not None:
            inner = inner + shift * (rows @ toward)
        if self._linear is not None:
            inner = inner - rows @ self._linear
        return rows.T @ (inner / (values.square() + shift))


SOLVERS: dict[str, type[DampedSystem]] = {"cholesky": Cholesky, "eigen": Eigen, "qr": Qr, "svd": Svd}
