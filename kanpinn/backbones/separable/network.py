"""Separable networks: sums of products of one-dimensional Kolmogorov–Arnold networks, one per coordinate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.layers import Linear
from kanpinn.backbones.separable.factors import STARTS, Factors
from kanpinn.errors import invalid, unknown_choice
from kanpinn.options import option

LAST = ("sum", "linear")


@dataclass
class Separable(Kan):
    """A sum of products of one-dimensional spline networks (SPIKAN, Jacob et al. 2024, arXiv:2411.06286).

    The remaining options describe each coordinate's factor network, a `kan` of one input (or two: cos and sin, where
    periodic without symmetry). With the start "legendre" the time's functions are the Legendre polynomials of degrees
    0 … rank − 1, or the splines nearest to them, times `LEGENDRE`; it takes one space dimension and no hidden layers.
    """

    one_coordinate: ClassVar[bool] = True

    width: list[int] = option([5], "hidden widths of each factor network; none: a single layer of splines", at_least=1)
    rank: int = option(8, "number of products that are added", at_least=1)
    last: str = option("sum", "sum: own products for every unknown; linear: all share them, with weights", one_of=LAST)
    grids: dict[str, int] = option(
        {}, "spline intervals on the coarsest level of coordinates that have others than grid", at_least=1
    )
    start: str = option(
        "random",
        "random; or legendre: functions of time begin as Legendre polynomials, those of space as zero",
        one_of=STARTS,
    )

    def check(self) -> None:
        """Refuse a start without meaning for these layers, masks and random features; raises UserError."""
        super().check()
        for key in ("edges", "modules", "symbolic"):
            if getattr(self, key):
                raise invalid(f"backbone.{key}", getattr(self, key), "[] (backbone=separable has all edges)")
        if self.start == "legendre" and (self.width or self.base or self.bias or self.knots != "uniform"):
            raise invalid(
                "backbone.start",
                self.start,
                "random, unless backbone.width=[], without base and bias, on uniform knots",
            )
        if self.embedding.kind == "fourier":
            raise invalid(
                "backbone.embedding.kind", "fourier", "auto, none or periodic (backbone=separable sees one coordinate)"
            )

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level, without parameters.

        Raises:
            UserError: If the problem offers further inputs, which belong to no coordinate.
        """
        single = [embedding.alone(name) for name in embedding.names]
        if embedding.width != sum(one.width for one in single):
            raise invalid(
                "backbone.embedding.inputs", "true", "false (backbone=separable has no factor for the further inputs)"
            )
        shared = self.last == "linear"
        width = self.rank if shared else self.rank * outputs
        own = (replace(self, grid=self.grids.get(one.names[0], self.grid)) for one in single)
        networks = tuple(options.stack(one, width) for options, one in zip(own, single, strict=True))
        self._check(embedding, networks)
        factors = Factors(networks, self.rank if shared else outputs, 1 if shared else self.rank, self.start)
        layers = (factors, Linear(self.rank, outputs, bias=False)) if shared else (factors,)
        return Backbone(embedding, layers, grid=self.grid)

    def _check(self, embedding: Embedding, networks: tuple[Backbone, ...]) -> None:
        """Refuse options that do not suit the problem's coordinates."""
        names = embedding.names
        for name in self.grids:
            if name not in names:
                raise unknown_choice("backbone.grids", name, names)
        evolution = len(names) == 2 and names[1] == "t" and "t" not in embedding.periodic
        if self.start == "legendre" and not (evolution and self.last == "sum"):
            raise invalid(
                "backbone.start", self.start, "random, unless coordinates are one of space and t, with last=sum"
            )
        around = [(name, one) for name, one in zip(names, networks, strict=True) if embedding.around(name)]
        for name, one in around:
            if (one.grid or 0) <= self.degree:
                key = f"backbone.grids.{name}" if name in self.grids else "backbone.grid"
                raise invalid(key, one.grid, f"at least {self.degree + 1} for periodic splines in {name}")
        if around:
            for key, suitable in (("knots", "uniform"), ("first", "spline"), ("base", False)):
                if getattr(self, key) != suitable:
                    value, text = (str(v).lower() for v in (getattr(self, key), suitable))
                    raise invalid(f"backbone.{key}", value, f"{text} with backbone.embedding.periodic=spline")
