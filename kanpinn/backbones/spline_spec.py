"""Splines of a layer's edges: their knots, polynomial pieces, and the exact maps to finer ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from torch import Tensor

from kanpinn.backbones.layer import Parameters
from kanpinn.errors import invalid
from kanpinn.splines import bspline, piecewise
from kanpinn.splines.nesting import Nesting, dyadic_nesting, folded, knot_insertion, periodic_nesting, wrapped

CLOSE = 1e-12
"""Distance up to which a knot to be inserted is the middle of an interval."""


@dataclass(frozen=True)
class SplineSpec:
    """The splines of a layer's edges.

    Attributes:
        intervals: Spline intervals n on [−1, 1].
        degree: Spline degree k.
        knots: Spacing of the knots.
        base: True if the SiLU term w_b and the spline scale w_s are there.
        bias: True if b is there.
        outside: Policy for inputs outside [−1, 1].
        scale: Standard deviation of an edge's values at the start.
        sparse: True if only edges between nodes that lie next to each other are not zero at the start.
        periodic: True for functions with the period 2 of [−1, 1]: uniform knots, and coefficients B_i, B_{i+n} that are
            one, so that there are n of them per edge.
    """

    intervals: int
    degree: int
    knots: bspline.Spacing = "uniform"
    base: bool = False
    bias: bool = False
    outside: str = "extrapolate"
    scale: float = 0.5
    sparse: bool = False
    periodic: bool = False

    @property
    def width(self) -> int:
        """Coefficients per edge."""
        return self.intervals if self.periodic else self.intervals + self.degree

    def knot_vector(self, refinements: int = 0) -> bspline.Knots:
        """The extended knots, those of finer levels too."""
        return bspline.knot_vector(self.knots, self.intervals * 2**refinements, self.degree)

    def breaks(self, refinements: int) -> tuple[float, ...]:
        """Ends of the intervals so many refinements below."""
        if isinstance(self.knots, tuple):
            return self.knots
        return tuple(np.linspace(-1, 1, (self.intervals >> refinements) + 1).tolist())

    def inserted(self, refinements: int, places: Sequence[float]) -> SplineSpec:
        """Return the splines with more knots on the coarsest level, so many refinements below this one.

        Raises:
            ValueError: If one is not the middle of an interval, or of a part of one that the others leave: finer
                levels, which halve all intervals, would not contain the present ones.
        """
        ends, left = list(self.breaks(refinements)), set(places)
        while left:
            middles = {(a + b) / 2 for a, b in pairwise(ends)}
            found = {place: middle for place in left for middle in middles if abs(place - middle) < CLOSE}
            if not found:
                raise ValueError(f"{min(left)} is not the middle of an interval")
            ends, left = sorted({*ends, *found.values()}), left - found.keys()
        return replace(self, knots=tuple(ends), intervals=(len(ends) - 1) << refinements)

    def insertion(self, fine: SplineSpec) -> Nesting:
        """Operators between these splines and `inserted` ones."""
        assert isinstance(fine.knots, tuple)
        refinements = (fine.intervals // (len(fine.knots) - 1)).bit_length() - 1
        coarse = bspline.knot_vector(self.breaks(refinements), self.intervals, self.degree)
        return knot_insertion(coarse, fine.knot_vector(), self.degree)

    def scaled(self, parameters: Parameters) -> Tensor:
        """Return a layer's coefficients, with the scale of each edge if there is one, `[out, in, width]`."""
        weights = parameters["coefficients"]
        return weights * parameters["spline_scale"][..., None] if self.base else weights

    def pieces(self, weights: Tensor) -> Tensor:
        """Return the polynomials of splines with coefficients `[out, in, width]`, `[k + 1, out, in·n]`."""
        extended = wrapped(weights, self.degree) if self.periodic else weights
        return piecewise.to_pieces(extended, self.knots, self.intervals, self.degree)

    def pieces_transpose(self, gradient: Tensor) -> Tensor:
        """Return the transpose of `pieces`: `[k + 1, out, in·n]` to `[out, in, width]`."""
        effective = piecewise.from_pieces(gradient, self.knots, self.intervals, self.degree)
        return folded(effective, self.intervals) if self.periodic else effective

    def nesting(self) -> Nesting:
        """Operators between these splines and those on halved intervals."""
        if self.periodic:
            return periodic_nesting(self.intervals, self.degree)
        if self.knots == "uniform":
            return dyadic_nesting(self.intervals, self.degree)
        return knot_insertion(self.knot_vector(), self.knot_vector(1), self.degree)

    def identity(self) -> np.ndarray:
        """Coefficients of x, `[width]`, by Marsden's identity (J. Approx. Theory 3 (1970) 7; de Boor 2001, ch. IX).

        Raises:
            UserError: If x is none of these splines, or rounding could carry it past the last knot.
        """
        if self.periodic:
            raise invalid(
                "backbone.embedding.periodic", "spline", "angle to deepen (no periodic spline is the identity)"
            )
        if self.outside != "extrapolate":
            expected = "extrapolate to deepen (values of a layer that is the identity may round past the last knot)"
            raise invalid("backbone.outside", self.outside, expected)
        return piecewise.greville(self.knot_vector(), self.degree)
