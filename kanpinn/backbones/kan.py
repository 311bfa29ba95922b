"""Kolmogorov–Arnold networks: layers of learned splines on the edges, exactly nested under refinement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.grid_update import GRID_UPDATES
from kanpinn.backbones.layer import Layer
from kanpinn.backbones.layers import Activation, Linear, Multiply
from kanpinn.backbones.masks import Edges, with_edges
from kanpinn.backbones.parallel import NETWORKS
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.errors import invalid
from kanpinn.options import Options, option
from kanpinn.splines import bspline

SQUASHES = ("tanh", "sin", "none")
FIRST = ("spline", "linear")


@dataclass
class Kan(Options):
    """Kolmogorov–Arnold network: B-splines on every edge, on exactly nested grids."""

    key: ClassVar[str] = "backbone"
    one_coordinate: ClassVar[bool] = False
    """True if first layers see one coordinate each."""

    width: list[int] = option([5, 5], "hidden widths, one per hidden layer", at_least=1)
    degree: int = option(
        5,
        "spline degree; at least one above the highest derivative of the problem",
        at_least=1,
        at_most=bspline.MAX_DEGREE,
    )
    grid: int = option(4, "spline intervals per edge on the coarsest level", at_least=1)
    first: str = option("spline", "first layer: spline, or linear (a matrix without bias)", one_of=FIRST)
    knots: str = option("uniform", "spacing of the knots; cosine: closer towards both ends", one_of=bspline.KNOTS)
    base: bool = option(False, "add SiLU base terms and spline scales, as Liu et al. 2024")
    bias: bool = option(False, "add a bias to each spline layer (splines already contain the constants)")
    squash: str = option("tanh", "what keeps hidden values inside the knots", one_of=SQUASHES)
    outside: str = option("extrapolate", "what happens to inputs outside the knots", one_of=bspline.OUTSIDE)
    scale: float = option(0.5, "size of the random splines at the start", above=0)
    sparse: bool = option(False, "begin with edges between neighbouring nodes only; the others begin as zero")
    grid_updates: int = option(
        0, "times in a stage that hidden values are moved to fill the knots (squash=none)", at_least=0
    )
    grid_updates_until: int = option(50, "step of a stage before which all of them come, evenly spread", at_least=1)
    networks: str = option(
        "shared", "one network for all unknowns (shared), or one for each (separate)", one_of=NETWORKS
    )
    edges: Edges = option([], "per layer and output the inputs that it sees, numbered from 0; []: all")
    modules: list[str] = option([], 'edges by modules: "0,[0,1]->[0,1]->[0,1]->[0]", nodes before and behind layers')
    symbolic: list[str] = option(
        [], 'edges that are known functions c f(a x + b) + d: "0,1->2: sin(x)", layer and nodes'
    )
    embedding: EmbeddingOptions = option(factory=EmbeddingOptions)

    def check(self) -> None:
        """Refuse a linear first layer without a hidden one, and grid updates of other layers; raises UserError."""
        if self.first == "linear" and not self.width:
            raise invalid("backbone.width", self.width, "at least one hidden width with backbone.first=linear")
        if self.grid_updates > self.grid_updates_until:
            raise invalid("backbone.grid_updates", self.grid_updates, f"at most {self.grid_updates_until}, one a step")
        if self.grid_updates and (self.squash != "none" or self.first != "spline" or self._masked):
            raise invalid("backbone.grid_updates", self.grid_updates, GRID_UPDATES)

    def updates_grid(self, step: int) -> bool:
        """Tell whether the grid is updated before a step of a stage, counted from 0."""
        if not self.grid_updates or step >= self.grid_updates_until:
            return False
        every = self.grid_updates_until // self.grid_updates
        return step % every == 0 and step // every < self.grid_updates

    @property
    def _masked(self) -> bool:
        """True if some edges are absent or no splines."""
        return bool(self.edges or self.modules or self.symbolic)

    def layer(self, inputs: int, outputs: int) -> Layer:
        """One layer of splines on the coarsest level."""
        return self.splines(inputs, outputs)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level, without parameters."""
        return self.stack(embedding, outputs)

    def check_order(self, order: int) -> None:
        """Refuse a degree whose splines jump at the knots in a derivative of the problem's highest order.

        Raises:
            UserError: If the degree is too low.
        """
        if self.degree < order + 1:
            raise invalid(
                "backbone.degree",
                self.degree,
                f"at least {order + 1} (the problem uses derivatives of order {order}, which must be continuous)",
            )

    def splines(self, inputs: int, outputs: int, *, periodic: bool = False) -> SplineLayer:
        """A layer of B-splines on the coarsest level, with these options."""
        options = {
            name: getattr(self, name) for name in ("degree", "knots", "base", "bias", "outside", "scale", "sparse")
        }
        return SplineLayer(inputs, outputs, SplineSpec(self.grid, **options, periodic=periodic))

    def stack(self, embedding: Embedding, outputs: int, products: Sequence[int] = ()) -> Backbone:
        """Layers of splines on top of each other, with so many products beside the `width` of each hidden layer."""
        periodic = any(embedding.around(name) for name in embedding.names)
        if not self.one_coordinate:
            embedding.refuse_splines()
        layers: list[Layer] = []
        inputs = embedding.width
        for k, (width, many) in enumerate(zip(self.width, products or [0] * len(self.width), strict=True)):
            layers.append(self._layer(k, inputs, width + 2 * many, periodic=k == 0 and periodic))
            if many:
                layers.append(Multiply(width, many))
            if self.squash != "none":
                layers.append(Activation(self.squash))
            inputs = width + many
        layers.append(self._layer(len(self.width), inputs, outputs, periodic=not self.width and periodic))
        found = with_edges(layers, self.edges, self.modules, embedding.names, self.symbolic)
        return Backbone(embedding, found, grid=self.grid)

    def _layer(self, k: int, inputs: int, outputs: int, *, periodic: bool) -> Layer:
        """Layer k of the network."""
        if periodic:
            return self.splines(inputs, outputs, periodic=True)
        if k == 0 and self.first == "linear":
            return Linear(inputs, outputs, bias=False)
        return self.layer(inputs, outputs)


@dataclass
class MultKan(Kan):
    """A `kan` whose hidden layers also multiply (Liu et al. 2024, KAN 2.0, arXiv:2408.10205, sec. 2).

    A hidden layer of `width` additions and `mult` multiplications has width + 2 mult spline sums, the last 2 mult of
    which are multiplied in pairs; what follows sees width + mult values, squashed after the product.
    """

    width: list[int] = option([5, 5], "hidden widths, one per hidden layer, without multiplications", at_least=0)
    mult: int | list[int] = option(
        2, "multiplication nodes in every hidden layer, or a list with one number per hidden layer", at_least=0
    )

    def check(self) -> None:
        """Refuse a network without hidden layers, and numbers that are not one per hidden layer; raises UserError."""
        super().check()
        if not self.width:
            raise invalid("backbone.width", self.width, "at least one hidden width (multiplications are hidden nodes)")
        if isinstance(self.mult, list) and len(self.mult) != len(self.width):
            raise invalid(
                "backbone.mult", self.mult, f"one number, or one for each of the {len(self.width)} hidden layers"
            )
        if any(not one + many for one, many in zip(self.width, self.products, strict=True)):
            raise invalid("backbone.width", self.width, "at least one addition or multiplication in a hidden layer")

    @property
    def products(self) -> list[int]:
        """Multiplication nodes by hidden layer."""
        return self.mult if isinstance(self.mult, list) else [self.mult] * len(self.width)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The network on its coarsest level; see `Kan.build`."""
        return self.stack(embedding, outputs, self.products)
