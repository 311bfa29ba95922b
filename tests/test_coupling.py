"""Rows that integrals add to a Jacobian, against the product of dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares import coupling
from kanpinn.least_squares.coupling import Coupling, Nodes
from kanpinn.least_squares.linearization import Dense

COMPONENTS, MANY, SIZE = 2, 3, 5


def posed(columns: int, count: int, *, joint: bool) -> tuple[Coupling, torch.Tensor, list[slice]]:
    """Slopes and linearisations without any pattern, their product `[N, P]`, and the columns asked for."""
    generator = np.random.default_rng([columns, count])
    draw = lambda *shape: torch.from_numpy(generator.standard_normal(shape))  # noqa: E731
    slopes, at_nodes = draw(COMPONENTS, MANY, count), draw(COMPONENTS, MANY, columns, SIZE)
    which = None if joint else torch.from_numpy(generator.integers(0, columns, count))
    asked: list[slice] = []

    def linearized(part: slice) -> Dense:
        asked.append(part)
        rows = at_nodes[:, :, part].reshape(-1, SIZE)
        return Dense(rows, torch.zeros(SIZE), 0.0, {}, torch.zeros(len(rows)))

    each = at_nodes[:, :, [0] * count if which is None else which]
    exact = torch.einsum("kqn,kqnp->np", slopes, each)
    return Coupling(slopes, which, columns, SIZE, linearized), exact, asked


@pytest.mark.parametrize(("columns", "count", "joint"), [(1, 20, True), (1, 8, True), (4, 5, False), (7, 30, False)])
@pytest.mark.parametrize("rows", [1, 6, 12, 13, 1000])
def test_products_and_rows_are_those_of_the_matrix(columns, count, joint, rows, monkeypatch) -> None:
    monkeypatch.setattr(coupling, "block_rows", lambda size: rows if size == SIZE else 0)
    found, exact, asked = posed(columns, count, joint=joint)
    assert torch.allclose(found.rows(), exact, rtol=1e-12, atol=1e-12)
    step = max(1, rows // (COMPONENTS * MANY))
    if count > 8 and not joint:
        assert asked == [slice(k, min(k + step, columns)) for k in range(0, columns, step)]
    else:
        assert asked == [slice(None)]
    v, w = torch.linspace(-1, 2, SIZE).double(), torch.cos(torch.arange(count)).double()
    assert torch.allclose(found.jvp(v), exact @ v, rtol=1e-12, atol=1e-12)
    assert torch.allclose(found.vjp(w), exact.T @ w, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [7, 8, 9])
def test_few_rows_need_no_stored_matrix(count: int, monkeypatch) -> None:
    kept: list[int] = []
    dense = Dense.dense
    monkeypatch.setattr(Dense, "dense", lambda self: kept.append(1) or dense(self))
    found, exact, _ = posed(1, count, joint=True)
    assert torch.allclose(found.rows(), exact, rtol=1e-12, atol=1e-12)
    assert len(kept) == (count > 8)


@pytest.mark.parametrize("which", [None, torch.tensor([1, 0, 1, 1])])
def test_slopes_are_those_of_the_copies_that_are_used(which) -> None:
    space, columns = JetSpace(("x",), ("x",)), 1 if which is None else 2
    data = torch.linspace(-1, 1, 2 * 3 * columns, dtype=torch.float64).view(2, -1)
    nodes = Nodes(torch.zeros(3, columns, 1), which, {"u": Jet(space, data), "v": Jet(space, 2 * data)}, 4, {})
    spread = data.view(2, 3, columns)[:, :, [0] * 4 if which is None else which]
    residual = (nodes.leaf("u", "") ** 2 * nodes.leaf("v", "x")).sum(0) * torch.arange(4)
    assert nodes.leaf("u", "") is nodes.leaf("u", "") and nodes.leaf("u", "x").shape == (3, 4)
    found = dict(nodes.slopes(residual))
    assert list(found) == [("u", ""), ("v", "x")]
    assert torch.allclose(found["u", ""], 2 * spread[0] * 2 * spread[1] * torch.arange(4))
    assert torch.allclose(found["v", "x"], spread[0] ** 2 * torch.arange(4))
    assert nodes.slopes(torch.ones(4)) == [] and Nodes(nodes.points, which, {}, 4, {}).slopes(residual) == []
