"""Jets of basis functions of one variable, and the way back of their cotangents."""

from __future__ import annotations

import torch
from torch import Tensor

from kanpinn.jets.jet import Jet, JetSpace, chain_cotangent


def basis_jets(data: Tensor, space: JetSpace, derivatives: Tensor) -> Tensor:
    """Carry input jets through basis functions (Faà di Bruno).

    Args:
        data: Input jets `[C, N, in]`.
        space: The derivatives the first axis runs over.
        derivatives: Plain derivatives 0 … order (or more) of m basis functions at the values, `[N, in, order + 1, m]`.

    Returns:
        `[N, C, in·m]`.
    """
    points, inputs, _, width = derivatives.shape
    jet = Jet(space, data)
    jets = data.new_empty(points, len(space), inputs, width)
    jets[:, 0] = derivatives[:, :, 0]
    for a, by_order in enumerate(space.chain[1:], start=1):
        torch.mul(jet.monomial(by_order[0])[..., None], derivatives[:, :, 1], out=jets[:, a])
        for d, terms in enumerate(by_order[1:], start=2):
            jets[:, a].addcmul_(jet.monomial(terms)[..., None], derivatives[:, :, d])
    return jets.view(points, len(space), inputs * width)


def input_cotangent(cotangent: Tensor, derivatives: Tensor, data: Tensor, space: JetSpace) -> Tensor:
    """Cotangent of the input jets from that of the basis jets.

    Args:
        cotangent: `[N, C, in·m]`.
        derivatives: Plain derivatives 0 … order + 1 of the basis, `[N, in, order + 2, m]`.
        data: Input jets `[C, N, in]`.
        space: The derivatives carried.

    Returns:
        `[C, N, in]`.
    """
    points, inputs = data.shape[1:]
    basis = cotangent.view(points, len(space), inputs, -1)
    s = torch.einsum("ncpj,npdj->cdnp", basis, derivatives).contiguous()  # (C, order + 2, N, in)
    return chain_cotangent(Jet(space, data), lambda a, d: s[a, d])
