"""Edits of networks: the same function and derivatives after widening, deepening and raising the rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.naive_network import Options
from torch import Tensor

from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
from kanpinn.backbones.edits import Edit, edited
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.jets.jet import JetSpace
from kanpinn.pde.problem import Box

DOMAIN = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
NETWORKS: dict[str, Options] = {
    "kan": Kan(width=[3, 2], degree=5, grid=4),
    "kan, degree 1": Kan(width=[3], degree=1, grid=3),
    "kan, cosine knots, base, bias": Kan(width=[3], degree=4, grid=3, knots="cosine", base=True, bias=True),
    "kan, linear first, no squash": Kan(width=[3, 2], degree=4, grid=3, first="linear", squash="none"),
    "kan, fine": Kan(width=[3], degree=5, grid=48, squash="sin"),
    "kan, fourier": Kan(width=[3], degree=4, grid=3, embedding=EmbeddingOptions("fourier", features=2)),
    "relu_kan": ReluKan(width=[3], degree=5, grid=4, base=True),
    "multkan": MultKan(width=[3, 2], mult=[1, 2], degree=4, grid=3),
    "chebykan": ChebyKan(width=[3, 2], degree=4),
    "separable": Separable(width=[3], rank=2, degree=4, grid=3),
    "separable, base, bias": Separable(width=[3], rank=2, degree=4, grid=3, base=True, bias=True),
    "separable, linear last": Separable(width=[3], rank=2, last="linear", degree=4, grid=3),
    "separable, one layer": Separable(width=[], rank=3, degree=5, grid=4),
    "separable, legendre": Separable(width=[], rank=3, degree=5, grid=4, start="legendre"),
    "mlp": Mlp(width=[3, 2]),
}
FLAT = ("separable, one layer", "separable, legendre")
CASES = [
    *((name, "widen", 2) for name in NETWORKS if name not in FLAT),
    *((name, "widen", [2, 0]) for name in ("kan", "multkan", "mlp")),
    *((name, "deepen", amount) for name in NETWORKS if name != "mlp" for amount in (1, 2)),
    *((name, "rank", 2) for name in NETWORKS if "separable" in name or name == "multkan"),
]
each = pytest.mark.parametrize(("name", "kind", "amount"), CASES)


def build(options: Options, outputs: int = 2) -> Backbone:
    return options.build(options.embedding.build(DOMAIN, (), np.random.default_rng(0)), outputs)


def edit_of(name: str, kind: str, amount: Any, level: int = 0) -> Edit:
    network = build(NETWORKS[name])
    for _ in range(level):
        network = network.refined()
    return edited(network, kind, amount, np.random.default_rng(1))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def points(count: int = 60) -> Tensor:
    """Random points and the corners of the domain."""
    inner = np.random.default_rng(3).uniform(DOMAIN.lower, DOMAIN.upper, (count, 2))
    return torch.from_numpy(np.r_[inner, [[a, b] for a in (-1.0, 1.0) for b in (0.5, 2.0)]])


def space_for(network: Backbone, name: str) -> JetSpace:
    order = getattr(NETWORKS[name], "degree", 5) - 1
    if isinstance(NETWORKS[name], ChebyKan | Mlp) or order >= 2:
        return JetSpace(DOMAIN.names, ("t", "xx", "xt"))
    return JetSpace(DOMAIN.names, ())


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_edits_keep_values_and_derivatives(name: str, kind: str, amount: Any, dtype: torch.dtype) -> None:
    edit = edit_of(name, kind, amount)
    assert edit.after.size > edit.before.size
    theta = edit.before.initial(np.random.default_rng(0)).to(dtype)
    if name == "separable, legendre":  # which begins as zero
        theta = theta + 0.1 * random(len(theta)).to(dtype)
    new = edit(theta)
    assert new.dtype == dtype
    space, x = space_for(edit.before, name), points().to(dtype)
    before, after = edit.before.forward(theta, x, space).data, edit.after.forward(new, x, space).data
    # Power-ReLU coefficients of degree 5 are large and cancel: two digits less in float32.
    unit = 1e-12 if dtype == torch.float64 else 1e-3 if name == "relu_kan" else 1e-5
    for c, letters in enumerate(space.indices):
        # Each differentiation multiplies rounding of the coefficients by 1/h.
        tolerance = unit * (edit.before.grid or 1) ** len(letters)
        assert float((after[c] - before[c]).abs().max()) <= tolerance * float(before[c].abs().max()), letters
