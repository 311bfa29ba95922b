"""Transfer of parameters, gradients and their kin between two levels of one network."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.edits import coarsening, refinement


class Transfer:
    """The operators between a network and the same network refined one or more times.

    All are linear maps along the last axis of tensors `[..., P]` of any dtype and device: parameters, gradients, or
    many of them at once, such as the rows of a Jacobian. Blocks without levels (biases, scales, base and linear
    weights) are the same parameters on both levels and are copied.

    Attributes:
        coarse: The coarse network.
        fine: The fine network.
    """

    def __init__(self, coarse: Backbone, fine: Backbone) -> None:
        """Chain the levels from coarse to fine.

        Args:
            coarse: Any network with levels.
            fine: `coarse.refined()`, or that refined again; they share the embedding.

        Raises:
            ValueError: If `fine` is another network, or not finer.
        """
        self.coarse, self.fine = coarse, fine
        if not coarse.refinable or fine.level <= coarse.level:
            raise ValueError(f"level {fine.level} is not a refinement of level {coarse.level}")
        levels = [coarse]
        while levels[-1].level < fine.level:
            levels.append(levels[-1].refined())
        if levels[-1] != fine:
            raise ValueError("the fine network is not the coarse network refined: embedding or layers differ")
        self._up = [refinement(*pair) for pair in pairwise(levels)]
        self._down = [coarsening(*pair) for pair in pairwise(levels)][::-1]

    def prolong(self, theta: Tensor) -> Tensor:
        """P: coarse parameters `[..., P_coarse]` to fine ones `[..., P_fine]` with the same function.

        Exact on the knots' interval and in its polynomial continuation. Autograd passes through.
        """
        for edit in self._up:
            theta = edit.linear(theta)
        return theta

    def prolong_transpose(self, gradient: Tensor) -> Tensor:
        """Pᵀ: `[..., P_fine]` to `[..., P_coarse]`; a loss's gradient at P θ to its gradient with respect to θ."""
        for edit in reversed(self._up):
            gradient = edit.transpose(gradient)
        return gradient

    def restrict(self, theta: Tensor) -> Tensor:
        """R: fine parameters `[..., P_fine]` to coarse ones whose activations are the nearest; R P = 1.

        Nearest in L2(−1, 1) for splines, with the weight 1/√(1 − x²) for Chebyshev polynomials.
        """
        for edit in self._down:
            theta = edit.linear(theta)
        return theta

    def restrict_transpose(self, gradient: Tensor) -> Tensor:
        """Rᵀ: `[..., P_coarse]` to `[..., P_fine]`."""
        for edit in reversed(self._down):
            gradient = edit.transpose(gradient)
        return gradient
