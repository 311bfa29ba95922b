"""Jets of basis functions of one variable, and the way back of their cotangents."""

from __future__ import annotations

import torch
from torch import Tensor

from kanpinn.jets.cotangents import chain_cotangent
from kanpinn.jets.jet import Jet, JetSpace


def basis_jets(data: Tensor, space: JetSpace, derivatives: Tensor) -> Tensor:
    """Carry input jets `[C, N, in]` through m basis functions (Faà di Bruno), `[N, C, in·m]`.

    `derivatives` are the plain ones 0 … order (or more) of the basis at the values, `[N, in, order + 1, m]`.
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
    """Cotangent `[C, N, in]` of the input jets `data` from that of the basis jets, `[N, C, in·m]`.

    `derivatives` are the plain ones 0 … order + 1 of the basis, `[N, in, order + 2, m]`.
    """
    points, inputs = data.shape[1:]
    basis = cotangent.view(points, len(space), inputs, -1)
    s = torch.einsum("ncpj,npdj->cdnp", basis, derivatives).contiguous()  # (C, order + 2, N, in)
    return chain_cotangent(Jet(space, data), lambda a, d: s[a, d])
