"""A constitutive law from data: the stresses of a neo-Hookean solid in the plane."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, log

from kanpinn import Box, Condition, Coordinates, Jet, Point, Problem


@dataclass(frozen=True)
class NeoHookean(Problem):
    """Fit P = μ (F Fᵀ - 1) + λ log|F|, stresses of a neo-Hookean solid in plane strain, to deformation gradients F.

    The constitutive law of Liu et al. 2024 (KAN 2.0, arXiv:2408.10205), sec. 5: μ = E/(2(1 + ν)) = 0.4167 and
    λ = Eν/((1 + ν)(1 - 2ν)) = 0.2778 for E = 1, ν = 0.2. The determinant |F| is a further input.

    Attributes:
        E: Young's modulus; positive.
        nu: Poisson's ratio.
        linear: True for the linear law P = μ (F + Fᵀ - 2) + λ (tr F - 2), from which a fit may start.
    """

    E: float = 1.0
    nu: float = 0.2
    linear: bool = False

    domain = Box(F11=(0.8, 1.2), F12=(-0.2, 0.2), F21=(-0.2, 0.2), F22=(0.8, 1.2))
    unknowns = ("P11", "P12")
    derivatives = ()
    equation = "P = mu (F F^T - 1) + lambda log det F"
    kind = "laws"
    positive = ("E",)

    def residual(self, p: Point) -> dict[str, Tensor]:
        measured = self.reference(p)
        return {"P11": p.P11 - measured["P11"], "P12": p.P12 - measured["P12"]}

    def conditions(self) -> list[Condition]:
        return []

    def inputs(self, p: Coordinates) -> Sequence[Jet]:
        return [(p.F11 * p.F22 - p.F12 * p.F21 - 1.04) / 0.44]

    def reference(self, p: Coordinates | Point) -> dict[str, Tensor]:
        mu, lame = self.E / (2 * (1 + self.nu)), self.E * self.nu / ((1 + self.nu) * (1 - 2 * self.nu))
        if self.linear:
            shear, volume = mu * (p.F12 + p.F21), lame * (p.F11 + p.F22 - 2)
            return {"P11": 2 * mu * (p.F11 - 1) + volume, "P12": shear}
        volume = lame * log(p.F11 * p.F22 - p.F12 * p.F21)
        return {"P11": mu * (p.F11**2 + p.F12**2 - 1) + volume, "P12": mu * (p.F11 * p.F21 + p.F12 * p.F22)}
