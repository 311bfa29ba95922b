"""Self-scaled quasi-Newton methods with a dense inverse Hessian: SSBroyden, SSBFGS and BFGS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.errors import UserError
from kanpinn.least_squares.linearization import mirror
from kanpinn.least_squares.objective import LeastSquares
from kanpinn.optimizers.base import Optimizer, Step
from kanpinn.optimizers.line_search import Origin, Trial, strong_wolfe
from kanpinn.options import option
from kanpinn.state import State, tensor

UPDATES = ("ssbroyden", "ssbfgs", "bfgs")

LARGEST = 10_000
"""Parameters whose dense inverse Hessian is still kept: 0.75 GiB in float64, read twice and written once a step."""

MIRROR_EVERY = 50
"""Updates after which H is made symmetric again: 1/τ > 1 amplifies what rounding has left of asymmetry."""


def update_parameters(update: str, b: float, h: float, size: int, *, first: bool) -> tuple[float, float]:
    """τ and φ of one update of `UPDATES`, see `update_inverse`, from b = sᵀH⁻¹s/sᵀy, h = yᵀHy/sᵀy and P.

    bfgs: τ = φ = 1. ssbfgs: φ = 1, τ = min(1, 1/b) (Al-Baali 1998; Urbán et al. 2024, eq. 11, SSBFGS_AB of their
    code). ssbroyden: both after Al-Baali and Khalfan 2005 (Urbán et al. 2024, eqs. 13–23; SSBroyden2 of their code and
    SSBroyden of Kiyani et al. 2025), with a = b h − 1, c = √(a/(1 + a)), ρ = min(1, h(1 − c)),
    θ = max((ρ − 1)/a, min(1/ρ, (1 − b)/b)) and σ = 1 + a θ:
    φ = (1 − θ)/σ, and τ = min(1, 1/b) min(σ^(−1/(P−1)), 1/θ) for θ > 0, min(min(1, 1/b) σ^(−1/(P−1)), σ) otherwise.
    The first update of every kind, of the identity, takes τ = h/σ, that is h with φ = 1: it scales the identity by
    sᵀy/yᵀy (Nocedal and Wright 2006, eq. 6.20).
    """
    theta, sigma = 0.0, 1.0
    a = max(b * h - 1, 0.0)  # at least 0 by Cauchy and Schwarz
    if update == "ssbroyden" and a > 1e-12:  # else Hy is parallel to s, and φ multiplies nothing
        rho = min(1.0, h * (1 - math.sqrt(a / (1 + a))))
        theta = max((rho - 1) / a, min(1 / rho, (1 - b) / b))
        sigma = 1 + a * theta
    phi = (1 - theta) / sigma
    if first:
        return h / sigma, phi
    if update == "bfgs":
        return 1.0, phi
    scaling = min(1.0, 1 / b)
    if update == "ssbfgs":
        return scaling, phi
    root = sigma ** (-1 / (size - 1)) if size > 1 else 1.0
    return (scaling * min(root, 1 / theta) if theta > 0 else min(scaling * root, sigma)), phi


def update_inverse(inverse: Tensor, s: Tensor, y: Tensor, product: Tensor, tau: float, phi: float) -> None:
    """H ← (H − Hy yᵀH/yᵀHy + φ yᵀHy v vᵀ)/τ + s sᵀ/sᵀy with v = s/sᵀy − Hy/yᵀHy, in place.

    Self-scaled Broyden family (Urbán et al. 2024, eq. 12) for H `[P, P]`, symmetric, changes s and y `[P]` of
    parameters and gradient with sᵀy > 0, and H y `[P]`. Whatever τ and φ, afterwards H y = s. One pass over H.
    """
    curvature, square = float(s @ y), float(y @ product)
    v = s / curvature - product / square
    scales = (1 / math.sqrt(square * tau), math.sqrt(abs(phi) * square / tau), 1 / math.sqrt(curvature))
    signs = s.new_tensor([-1.0, math.copysign(1.0, phi), 1.0])
    columns = torch.stack([c * x for c, x in zip(scales, (product, v, s), strict=True)], dim=1)
    inverse.addmm_(columns, (columns * signs).T, beta=1 / tau)


@dataclass
class SsBroyden(Optimizer):
    """Dense self-scaled quasi-Newton steps with a strong Wolfe line search.

    Urbán, Stefanou and Pons 2024 (arXiv:2405.04230); Kiyani et al. 2025 (arXiv:2501.16371). The inverse Hessian
    outlives a change of points: both gradients of a pair are always those of one function. It does not move between
    levels (no dense operator is worth its cost there), so that every stage starts from the identity.
    """

    update: str = option("ssbroyden", "ssbroyden; or ssbfgs, bfgs, without its convex combination", one_of=UPDATES)
    evaluations: int = option(25, "loss evaluations that one line search may spend", at_least=1)

    def check_backbone(self, backbone: Backbone) -> None:
        """Refuse a network with more than `LARGEST` parameters, for a dense matrix; raises UserError."""
        _check_size(backbone.size)

    def storage(self, points: int, parameters: int, *, jacobian: bool) -> int:
        return parameters**2

    def start(self, size: int, steps: int) -> None:
        """Begin anew; raises UserError if there are more than `LARGEST` parameters."""
        _check_size(size)
        self._inverse: Tensor | None = None  # None stands for the identity
        self._updates = 0
        self._origin = Origin()

    def carry(self, other: Self, vector: Callable[[Tensor], Tensor], covector: Callable[[Tensor], Tensor]) -> None:
        if other._inverse is not None:
            row = other._inverse[0]
            if vector(row) is row:  # the same level again
                self._inverse = other._inverse.clone()

    def state(self) -> State:
        # The whole of H: between two `mirror`s rounding keeps it from being symmetric. As to the trial, see Lbfgs.
        return {"inverse": self._inverse, "updates": self._updates}

    def load_state(self, state: State, device: torch.device) -> None:
        self._inverse = None if state["inverse"] is None else tensor(state["inverse"], device)
        self._updates = int(state["updates"])

    def moved(self) -> None:
        self._inverse = None

    def back_off(self) -> bool:
        self._inverse = None
        return False

    def step(self, objective: LeastSquares, theta: Tensor) -> Step:
        here = self._origin.at(objective, theta)
        if not math.isfinite(here.loss):
            return Step(theta, here.loss, here.terms, "loss is not finite")
        size = float(here.gradient.norm())
        if size == 0.0:
            return Step(theta, here.loss, here.terms, "the gradient is zero: at a stationary point")
        while True:
            # From the identity the first length tried moves the parameters by one.
            scale = 1 / size if self._inverse is None else 1.0
            product = here.gradient if self._inverse is None else self._inverse @ here.gradient
            direction = -scale * product
            slope = float(direction @ here.gradient)
            if slope < 0:

                def evaluate(length: float, direction: Tensor = direction) -> Trial:
                    loss, gradient, terms = objective.loss_and_gradient(theta + length * direction)
                    return Trial(length, loss, float(gradient @ direction), gradient, terms)

                found = strong_wolfe(evaluate, here._replace(length=0.0, slope=slope), 1.0, self.evaluations)
                if found is not None and found.loss < here.loss:
                    return self._accept(objective, theta, direction, scale, here, found)
            if self._inverse is None:
                return Step(
                    theta, here.loss, here.terms, "the line search finds no lower loss (a minimum, or rounding)"
                )
            self._inverse = None  # old curvature may mislead, or have lost its definiteness to rounding

    def _accept(
        self, objective: LeastSquares, theta: Tensor, direction: Tensor, scale: float, here: Trial, found: Trial
    ) -> Step:
        new = theta + found.length * direction
        s, y = new - theta, found.gradient - here.gradient
        self._learn(s, y, -found.length * scale * float(s @ here.gradient))
        self._origin.keep(objective, new, found)
        return Step(new, found.loss, found.terms)

    def _learn(self, s: Tensor, y: Tensor, energy: float) -> None:
        """Update H by a step s `[P]`, the change y `[P]` of the gradient along it, and sᵀH⁻¹s."""
        curvature = float(s @ y)
        if not curvature > torch.finfo(s.dtype).eps * float(y @ y):
            return  # only a line search that ran out of evaluations leaves such a pair
        first = self._inverse is None
        product = y if self._inverse is None else self._inverse @ y
        square = float(y @ product)
        if not (square > 0 and energy > 0):
            self._inverse = None  # rounding has made H indefinite
            return
        tau, phi = update_parameters(self.update, energy / curvature, square / curvature, len(s), first=first)
        if self._inverse is None:
            self._inverse = torch.ones_like(s).diag()
        update_inverse(self._inverse, s, y, product, tau, phi)
        self._updates += 1
        if self._updates % MIRROR_EVERY == 0:
            mirror(self._inverse)


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise UserError(
            f"optimizer=ssbroyden: {size} parameters would take {8 * size**2 / 2**30:.3g} GiB for the inverse Hessian; "
            f"at most {LARGEST} are allowed; choose a smaller network, optimizer=lbfgs or optimizer=gauss_newton_cg"
        )
