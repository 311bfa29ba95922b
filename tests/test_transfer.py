"""Transfer between levels of whole networks: exactness, adjoints, inverses and the chain rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.naive_network import Options
from torch import Tensor

from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.multilevel.correction import Transfer

DOMAIN = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
BASIC = Kan(width=[3], degree=4, grid=3, scale=1.0)
VARIANTS: dict[str, Kan] = {
    "depth 1": replace(BASIC, width=[]),
    "depth 2, base and bias": replace(BASIC, base=True, bias=True),
    "depth 3, cosine knots": replace(BASIC, width=[3, 2], knots="cosine"),
    "depth 3, linear first": replace(BASIC, width=[3, 2], first="linear"),
    "depth 2, linear first, cosine knots, base, bias": replace(
        BASIC, first="linear", knots="cosine", base=True, bias=True
    ),
    "depth 2, fourier, single interval": replace(BASIC, grid=1, embedding=EmbeddingOptions("fourier", features=2)),
}
NETWORKS: dict[str, Options] = {
    f"degree {degree}, {name}": replace(options, degree=degree)
    for degree in range(1, 8)
    for name, options in VARIANTS.items()
}
NETWORKS |= {
    "multkan": MultKan(width=[3, 2], mult=[1, 2], degree=4, grid=3),
    "chebykan": ChebyKan(width=[3, 2], degree=3),
    "separable": Separable(width=[2], rank=2, degree=4, grid=3),
    "separable, linear last": Separable(width=[], rank=3, last="linear", degree=4, grid=2),
}
each = pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)


def build(options: Options, outputs: int = 2) -> Backbone:
    return options.build(options.embedding.build(DOMAIN, (), np.random.default_rng(0)), outputs)


def levels(options: Options, count: int) -> tuple[Backbone, Backbone]:
    """A network and the same refined `count` times."""
    coarse = fine = build(options)
    for _ in range(count):
        fine = fine.refined()
    return coarse, fine


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def points(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(3).uniform(DOMAIN.lower, DOMAIN.upper, (count, 2)))


@each
def test_prolongation_changes_neither_output_nor_derivatives(options: Options) -> None:
    coarse, fine = levels(options, 2)
    theta = random(coarse.size)
    refined = Transfer(coarse, fine).prolong(theta)
    assert refined.shape == (fine.size,)
    space = JetSpace(DOMAIN.names, ("t", "xx")[: options.degree - 1] if options.degree < 3 else ("t", "xx", "xt"))
    x = points(100)
    before, after = coarse.forward(theta, x, space).data, fine.forward(refined, x, space).data
    for c, name in enumerate(space.indices):
        # Each differentiation multiplies rounding of the coefficients by 1/h, as a rule by less.
        tolerance = 1e-12 * (fine.grid or 1) ** len(name)
        assert float((after[c] - before[c]).abs().max()) <= tolerance * float(before[c].abs().max()), name


@each
def test_transposes_are_adjoint_and_restrictions_undo_prolongation(options: Options) -> None:
    for count in (1, 2):
        transfer = Transfer(*levels(options, count))
        c, f = random(transfer.coarse.size), random(transfer.fine.size, seed=1)
        p, r = transfer.prolong(c), transfer.restrict(f)
        assert float((p @ f - c @ transfer.prolong_transpose(f)).abs()) <= 1e-13 * float(p.norm() * f.norm())
        assert float((r @ c - f @ transfer.restrict_transpose(c)).abs()) <= 1e-11 * float(r.norm() * c.norm())
        # Degree 7 amplifies rounding of outermost coefficients by up to 1e6: see test_nesting.
        norm = float(transfer.restrict(torch.eye(transfer.fine.size, dtype=torch.float64)).abs().sum(0).max())
        assert float((transfer.restrict(p) - c).abs().max()) <= 1e-12 * norm * float(c.abs().max())


@each
def test_gradients_obey_the_chain_rule(options: Options) -> None:
    coarse, fine = levels(options, 2)
    transfer = Transfer(coarse, fine)
    x, space = points(30), JetSpace(DOMAIN.names, ("x",) if options.degree > 1 else ())
    weights = random(len(space), 30, 2, seed=2)

    def loss(backbone: Backbone, theta: Tensor) -> Tensor:
        return (weights * backbone.forward(theta, x, space).data.square()).sum()

    theta = random(coarse.size).requires_grad_(True)
    leaf = transfer.prolong(theta).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(loss(fine, leaf), leaf)
    restricted = transfer.prolong_transpose(gradient)
    through, own = (
        torch.autograd.grad(value, theta)[0] for value in (loss(fine, transfer.prolong(theta)), loss(coarse, theta))
    )
    size = float(own.abs().max())
    assert float((restricted - through).abs().max()) <= 1e-12 * size  # autograd through P
    # d/dθ L(net_fine(P θ)) = d/dθ L(net_coarse(θ)), because the functions are the same.
    assert float((restricted - own).abs().max()) <= 1e-11 * size


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_transfer_over_two_levels_is_the_product(options: Kan) -> None:
    coarse, fine = levels(options, 2)
    middle = coarse.refined()
    low, high, across = Transfer(coarse, middle), Transfer(middle, fine), Transfer(coarse, fine)
    c, f = random(coarse.size), random(fine.size, seed=1)
    assert torch.equal(across.prolong(c), high.prolong(low.prolong(c)))
    assert torch.equal(across.prolong(c), refinement(middle)(refinement(coarse)(c)))
    assert torch.equal(across.restrict_transpose(c), high.restrict_transpose(low.restrict_transpose(c)))
    assert torch.equal(across.prolong_transpose(f), low.prolong_transpose(high.prolong_transpose(f)))
    assert torch.equal(across.restrict(f), low.restrict(high.restrict(f)))


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_operators_act_on_every_vector_of_a_batch(options: Kan) -> None:
    transfer = Transfer(*levels(options, 1))
    up, down = random(2, 3, transfer.coarse.size), random(2, 3, transfer.fine.size)
    for operator, vectors in (
        (transfer.prolong, up),
        (transfer.restrict_transpose, up),
        (transfer.prolong_transpose, down),
        (transfer.restrict, down),
    ):
        out = operator(vectors)
        for i in range(2):
            for j in range(3):
                assert torch.allclose(out[i, j], operator(vectors[i, j]), rtol=1e-12, atol=1e-12)
        assert operator(vectors[:, :0]).shape == (2, 0, out.shape[-1])
        assert operator(vectors.float()).dtype == torch.float32


def test_arrays_without_levels_are_copied_by_every_operator() -> None:
    options = replace(BASIC, first="linear", base=True, bias=True)
    transfer = Transfer(*levels(options, 2))
    up, down = random(transfer.coarse.size), random(transfer.fine.size)
    for operator, vector, before, after in (
        (transfer.prolong, up, transfer.coarse, transfer.fine),
        (transfer.restrict_transpose, up, transfer.coarse, transfer.fine),
        (transfer.prolong_transpose, down, transfer.fine, transfer.coarse),
        (transfer.restrict, down, transfer.fine, transfer.coarse),
    ):
        copied = 0
        for old, new in zip(before.arrays(vector), after.arrays(operator(vector)), strict=True):
            for name in old.keys() - {"coefficients"}:
                assert torch.equal(old[name], new[name])
                copied += 1
        assert copied == 1 + 3  # the first weight; scale, base weight and bias of the spline layer


def test_networks_that_are_not_refinements_of_each_other_are_refused() -> None:
    coarse, fine = levels(BASIC, 1)

    def refined(options: Kan) -> Backbone:
        return options.build(coarse.embedding, 2).refined()

    assert Transfer(coarse, refined(BASIC)).prolong(random(coarse.size)).shape == (fine.size,)
    for options in (
        replace(BASIC, grid=4),
        replace(BASIC, grid=4, degree=2),  # as many coefficients
        replace(BASIC, knots="cosine"),
        replace(BASIC, outside="clamp"),
        replace(BASIC, squash="sin"),
        replace(BASIC, first="linear"),
        replace(BASIC, width=[4]),
        replace(BASIC, width=[3, 3]),
    ):
        with pytest.raises(ValueError, match="not the coarse network refined"):
            Transfer(coarse, refined(options))
    relu = ReluKan(width=[3], degree=4, grid=3).build(coarse.embedding, 2)
    with pytest.raises(ValueError, match="not the coarse network refined"):
        Transfer(coarse, relu.refined())
    with pytest.raises(ValueError, match="not the coarse network refined"):
        # The same arrays, another function outside the knots.
        Transfer(relu, ReluKan(width=[3], degree=4, grid=3, outside="clamp").build(coarse.embedding, 2).refined())
    separable = Separable(width=[2], rank=2, grid=3)
    for options in (replace(separable, outside="clamp"), replace(separable, squash="sin"), replace(separable, rank=3)):
        with pytest.raises(ValueError, match="not the coarse network refined"):
            Transfer(separable.build(coarse.embedding, 2), options.build(coarse.embedding, 2).refined())
    with pytest.raises(ValueError, match="not the coarse network refined"):
        Transfer(coarse, build(replace(BASIC, embedding=EmbeddingOptions("periodic"))).refined())
    for other in (coarse, build(BASIC)):
        with pytest.raises(ValueError, match="level 0 is not a refinement of level"):
            Transfer(fine, other)
    with pytest.raises(ValueError, match="not a refinement"):
        Transfer(build(Mlp(width=[3])), build(Mlp(width=[3])))
