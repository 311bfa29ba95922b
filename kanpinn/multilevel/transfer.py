"""Transfer of parameters, gradients and their kin between two levels of one network."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from kanpinn.backbones.base import Backbone, Layer
from kanpinn.backbones.separable.network import Factors


class Transfer:
    """The operators between a network and the same network refined one or more times.

    All are linear maps along the last axis of tensors `[..., P]` of any dtype and device: parameters, gradients, or
    many of them at once, such as the rows of a Jacobian. Arrays without levels (biases, scales, base and linear
    weights) are the same parameters on both levels and are copied.

    Attributes:
        coarse: The coarse network.
        fine: The fine network.
    """

    def __init__(self, coarse: Backbone, fine: Backbone) -> None:
        """Chain the levels from coarse to fine.

        Args:
            coarse: Any network with levels.
            fine: What `refined()` makes of `coarse`, called once or more often; they share the embedding.

        Raises:
            ValueError: If `fine` is another network, or not finer.
        """
        self.coarse, self.fine = coarse, fine
        if not coarse.refinable or fine.level <= coarse.level:
            raise ValueError(f"level {fine.level} is not a refinement of level {coarse.level}")
        self._levels = [coarse]
        while self._levels[-1].level < fine.level:
            self._levels.append(self._levels[-1].refined())
        if not _same_network(self._levels[-1], fine):
            raise ValueError("the fine network is not the coarse network refined: embedding or layers differ")

    def prolong(self, theta: Tensor) -> Tensor:
        """P: coarse parameters `[..., P_coarse]` to fine ones `[..., P_fine]` with the same function.

        Exact on the knots' interval and in its polynomial continuation. Autograd passes through.
        """
        for level in self._levels[:-1]:
            theta = level.refine(theta)
        return theta

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Pᵀ: `[..., P_fine]` to `[..., P_coarse]`; a loss's gradient at P θ to its gradient with respect to θ."""
        for coarse, fine in reversed(list(pairwise(self._levels))):
            gradient = fine.transferred(gradient, coarse.nestings(), lambda nesting, g: nesting.prolong_transpose(g))
        return gradient

    def restrict(self, theta: Tensor) -> Tensor:
        """R: fine parameters `[..., P_fine]` to coarse ones whose activations are the nearest; R P = 1.

        Nearest in L2(−1, 1) for splines, with the weight 1/√(1 − x²) for Chebyshev polynomials.
        """
        for coarse, fine in reversed(list(pairwise(self._levels))):
            theta = fine.transferred(theta, coarse.nestings(), lambda nesting, c: nesting.restrict(c))
        return theta

    def restrict_transpose(self, gradient: Tensor) -> Tensor:
        """Rᵀ: `[..., P_coarse]` to `[..., P_fine]`."""
        for level in self._levels[:-1]:
            gradient = level.transferred(gradient, level.nestings(), lambda nesting, g: nesting.restrict_transpose(g))
        return gradient

    def inject(self, theta: Tensor) -> Tensor:
        """Fine parameters `[..., P_fine]` to coarse ones whose activations interpolate; the identity after P."""
        for coarse, fine in reversed(list(pairwise(self._levels))):
            theta = fine.transferred(theta, coarse.nestings(), lambda nesting, c: nesting.inject(c))
        return theta


def _same_network(a: Backbone, b: Backbone) -> bool:
    """Whether two networks without their parameters are the same function of parameters and points."""
    return (
        a.grid == b.grid
        and len(a.layers) == len(b.layers)
        and a.embedding is b.embedding
        and all(_same_layer(*layers) for layers in zip(a.layers, b.layers, strict=True))
    )


def _same_layer(a: Layer, b: Layer) -> bool:
    """Whether two layers have the same type, arrays and options, those of layers they wrap included."""
    return type(a) is type(b) and a.shapes() == b.shapes() and _options(a) == _options(b)


def _options(layer: Layer) -> dict[str, object]:
    wrapped: dict[str, object] = {n: _options(value) for n, value in vars(layer).items() if isinstance(value, Layer)}
    if isinstance(layer, Factors):
        wrapped["bodies"] = [[_options(inner) for inner in body.layers] for body in layer.bodies]
    plain = {name: value for name, value in vars(layer).items() if isinstance(value, bool | int | float | str)}
    return {**plain, **wrapped}
