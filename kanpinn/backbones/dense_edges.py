"""Splines on the edges of a layer by one product with all basis functions at all points: steps of a fit to data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kanpinn.backbones.edges import SplineFeatures
from kanpinn.splines import bspline, piecewise

WIDEST = 8
"""Most coefficients per edge, in multiples of k + 1.

Of the time by the coefficients at work alone, a step with cubic splines took half on 20 intervals, an eighth for 128 ×
128 edges on 10, and twice on 40."""

MOST_BYTES = 2**28
"""Most memory for the basis functions at all points."""


def pays(features: SplineFeatures, width: int, degree: int) -> bool:
    """Tell whether edges of so many coefficients of a degree are evaluated so.

    Only where values without derivatives are wanted, and gradients of them: without, the last bits of a value shall not
    depend on how many points it is evaluated with.
    """
    inputs, points = features.rows.shape
    size = inputs * width * points * features.jets.element_size()
    fits = width <= WIDEST * (degree + 1) and size <= MOST_BYTES
    return fits and len(features.space) == 1 and torch.is_grad_enabled()


class Product(torch.autograd.Function):
    """Σ over inputs of the edges' splines as C B, B the basis functions `[in·(n + k), N]`; values only."""

    @staticmethod
    def forward(
        ctx: Any,
        data: Tensor,  # noqa: ARG004
        weights: Tensor,
        features: SplineFeatures,
        knots: bspline.Spacing,
        degree: int,
    ) -> Tensor:
        """Evaluate edges with coefficients `[out, in, n + k]`; returns values `[1, N, out]`.

        Of the inputs `data` `[1, N, in]` only the place in the graph is used.
        """
        inputs, points = features.rows.shape
        width = weights.shape[2]
        n, moves = width - degree, ctx.needs_input_grad[0]
        cell = features.cells(n).T
        local = piecewise.basis_derivatives(cell, features.s, knots, n, degree, int(moves))  # (order + 1, k + 1, in, N)
        first = cell + torch.arange(0, inputs * width, width, device=cell.device)[:, None]
        at_work = first + torch.arange(degree + 1, device=cell.device)[:, None, None]
        rows = at_work.view(-1, points)
        basis = weights.new_zeros(inputs * width, points).scatter_(0, rows, local[0].reshape(-1, points))
        ctx.save_for_backward(weights, basis, rows, local[1] * features.slope if moves else rows)
        return (weights.flatten(1) @ basis).T[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Pull cotangents `[1, N, out]` back to the inputs and the coefficients."""
        weights, basis, rows, slopes = ctx.saved_tensors
        cotangent = grad_output[0].T.contiguous()
        grad_data = None
        if ctx.needs_input_grad[0]:
            pulled = weights.flatten(1).T @ cotangent
            grad_data = (pulled.gather(0, rows).view_as(slopes) * slopes).sum(0).T[None]
        grad_weights = (cotangent @ basis.T).view_as(weights) if ctx.needs_input_grad[1] else None
        return grad_data, grad_weights, None, None, None
