"""The Allen-Cahn equation: two phases separate, with thin fronts between them."""

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

from torch import Tensor, cos, erfc, exp

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem
from kanpinn.references.allen_cahn import allen_cahn


@dataclass(frozen=True)
class AllenCahn(Problem):
    """The Allen–Cahn equation u_t = D u_xx + 5(u - u³), u(x, 0) = x² cos πx, 2-periodic in x.

    Raissi, Perdikaris and Karniadakis, J. Comput. Phys. 378 (2019) 686, sec. 3.1, with D = 1e-4.

    Attributes:
        D: Diffusion coefficient; the fronts are about √D wide.
    """

    D: float = 1e-4

    domain = Box(x=(-1, 1), t=(0, 1))
    derivatives = ("t", "xx")
    periodic = ("x",)
    symmetry = {"x": "even"}
    equation = "u_t = D u_xx + 5 (u - u^3)"
    kind = "parabolic"
    labels = {"x": ("position", "1"), "t": ("time", "1"), "u": ("phase", "1")}
    positive = ("D",)

    def residual(self, p: Point) -> Tensor:
        return p.u_t - self.D * p.u_xx - 5 * (p.u - p.u**3)

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: p.u - p.x**2 * cos(pi * p.x)),
            Condition("periodic", "x-", lambda p, q: {"u": p.u - q.u, "u_x": p.u_x - q.u_x}, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> Jet:
        # x² cos πx has slopes ±2 at x = ±1, kinks 2|s| of its periodic continuation, which diffusion rounds off within
        # √(4Dt): no network finds that layer in time. Near them u = −1 + w, and to first order w diffuses and decays
        # with −10, the slope of 5(u − u³) at −1; 4/π cos(πx/2) has the same kinks, so that no kink is left (third
        # derivatives still jump). Where diffusion is as fast as the domain is wide, any smooth form will do.
        c = cos(pi / 2 * p.x)
        if self.D > 10:
            return p.x**2 * cos(pi * p.x) + 4 / pi * ((c * c + pi * self.D * p.t) ** 0.5 - c) + p.t * raw.u
        decay = exp(-10 * p.t)
        layers = decay * rounding(p.x, p.t, self.D)
        return p.x**2 * cos(pi * p.x) + 4 / pi * (decay - 1) * c + layers + p.t * raw.u

    def reference(self, p: Coordinates) -> Tensor:
        return allen_cahn(self.D)(p.x, p.t)


def rounding(x: Any, t: Any, diffusion: float) -> Any:
    """Rounding of kinks 2|s| at x = ±1 and their images by diffusion alone: 2ℓ ierfc(|s|/ℓ) each, with ℓ = √(4Dt).

    Carslaw and Jaeger, Conduction of Heat in Solids, §2.9; ierfc(z) = exp(−z²)/√π − z erfc(z).

    Args:
        x: Positions, a jet `[C, N]` (or a tensor).
        t: Times, likewise; below 1e-12 the result and its derivatives are given as 0.
        diffusion: D. Images are added until the next ones' slopes at x = ±1, 2 erfc(s/ℓ), are below 1e-16 for t ≤ 1.

    Returns:
        The same, and it solves the heat equation.
    """
    now = getattr(t, "value", t)
    begun = (now > 1e-12).to(now.dtype)
    length = 2 * (diffusion * (t * begun + (1 - begun))) ** 0.5
    total = x * 0.0
    for image in range(1 + int(6 * sqrt(diffusion))):
        for s in (1 + 2 * image - x, 1 + 2 * image + x):
            z = s / length
            near = (getattr(z, "value", z) < 13).to(now.dtype)  # beyond it, 1e-75 and less
            z = z * near
            total = total + 2 * length * (exp(-(z * z)) / sqrt(pi) - z * erfc(z)) * near
    return total * begun
