"""Cotangents of jets: pulled back through the chain rule and the product rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kanpinn.jets.jet import Jet


def chain_cotangent(
    jet: Jet, scaled: Callable[[int, int], Tensor], monomials: Sequence[Sequence[Tensor]] | None = None
) -> Tensor:
    """Pull a cotangent back through Faà di Bruno's formula.

    With (f∘g)_a = Σ_d f⁽ᵈ⁾(g) M_{a,d}, the value of g collects Σ_{a,d} λ_a f⁽ᵈ⁺¹⁾ M_{a,d}, and each factor of a
    monomial of M_{a,d} collects λ_a f⁽ᵈ⁾ times the other factors.

    Args:
        jet: The inner jet g, `[C, ...]`.
        scaled: Gives λ_a f⁽ᵈ⁾ `[...]`, summed over whatever f maps to, for the position a and order d = 1 … |a| + 1.
        monomials: The M_{a,d}, by a and then by d from 1, if they are known.

    Returns:
        The cotangent of `jet.data`, `[C, ...]`.
    """
    data = jet.data.unbind(0)
    total = torch.zeros_like(jet.data)
    out = total.unbind(0)
    out[0].copy_(scaled(0, 1))
    for a, by_order in enumerate(jet.space.chain[1:], start=1):
        for d, terms in enumerate(by_order, start=1):
            monomial = monomials[a][d - 1] if monomials else data[a] if d == 1 else jet.monomial(terms)
            out[0].addcmul_(monomial, scaled(a, d + 1))
            here = scaled(a, d)
            for positions, count in terms:
                for k, position in enumerate(positions):
                    others = positions[:k] + positions[k + 1 :]
                    if not others:
                        out[position].add_(here, alpha=count)
                        continue
                    factor = here
                    for other in others[:-1]:
                        factor = factor * data[other]
                    out[position].addcmul_(factor, data[others[-1]], value=count)
    return total


def product_cotangent(other: Jet, cotangent: Tensor) -> Tensor:
    """Pull a cotangent λ `[C, ...]` back through the product rule with a factor g, to that of f.

    With (f g)_a = Σ count · f_b g_c, the component f_b collects Σ count · λ_a g_c.
    """
    out = torch.zeros_like(other.data)
    for a, terms in enumerate(other.space.leibniz):
        for b, c, count in terms:
            out[b].addcmul_(cotangent[a], other.data[c], value=count)
    return out
