"""Losses of fits to tables, by compiled code and without, against torch's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import kanpinn as kp
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares import plain_fit
from kanpinn.least_squares.objective import Objective, plain_loss
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.table import table_of
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.validation import sample

ROWS = np.random.default_rng(0).uniform(-1, 1, (40, 2))
X = {"a": ROWS[:, 0], "b": 100 * ROWS[:, 1]}
Y, Z = np.exp(ROWS[:, 0]) + ROWS[:, 1], 1e-3 * np.sin(3 * ROWS[:, 1])
KINDS = np.where(Y > 1.3, "high", np.where(ROWS[:, 1] > 0, "low", "lower"))
SIGMA = np.random.default_rng(1).uniform(0.1, 2.0, 40)
TABLES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "one": ({**X, "y": Y}, ["y"]),
    "two": ({**X, "y": Y, "z": Z}, ["y", "z"]),
    "deviations": ({**X, "y": Y, "z": Z, "sigma_z": SIGMA}, ["y", "z"]),
    "classes": ({**X, "kind": KINDS}, ["kind"]),
}


def posed(name: str, network: Any) -> tuple[Objective, Tensor, dict[str, Tensor]]:
    """The objective with weight 3, random parameters, and the rows of training."""
    columns, targets = TABLES[name]
    table = table_of(columns, targets, split=(0.7, 0.3))
    setup = configuration_of_objects(table, [network]).setup
    own = setup.network()
    (term,) = setup.residuals(own).terms
    found = Objective(setup.residuals(own), Fixed({term: 3.0}))
    found.set_points(sample(setup, own, np.random.default_rng(0)))
    theta = own.initial(np.random.default_rng(1))
    return found, theta, {key: torch.from_numpy(np.asarray(value)) for key, value in table.rows("train").items()}


def expected(name: str, found: Objective, theta: Tensor, rows: dict[str, Tensor]) -> Tensor:
    """Three times the mean over rows of the squares in units of the targets' sizes, or of the logarithms."""
    space = JetSpace(found.residuals.problem.domain.names, ())
    outputs = found.backbone.forward(theta, found.points, space).value
    if name == "classes":
        (classes,) = (value for key, value in rows.items() if key not in ("a", "b"))
        return 3 * cross_entropy(outputs, classes.long())
    total = torch.zeros((), dtype=theta.dtype)
    for k, target in enumerate(TABLES[name][1]):
        given, sigma = rows[target], rows.get(f"sigma_{target}", torch.ones(()))
        size, scale = given.square().mean().sqrt(), (given / sigma).square().mean().sqrt()
        total = total + 3 * ((outputs[:, k] * size - given) / sigma / scale).square().mean()
    return total


@pytest.mark.parametrize("network", [kp.Kan(width=[2], degree=3, grid=2), kp.Mlp(width=[3])], ids=["kan", "mlp"])
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("compiled", [True, False])
def test_the_loss_of_a_table_is_that_of_torch(name: str, network: Any, compiled: bool, monkeypatch) -> None:
    if not compiled:
        monkeypatch.setattr(plain_fit, "compiled", lambda *_: None)
    found, theta, rows = posed(name, network)
    at = theta.clone().requires_grad_()
    exact = expected(name, found, at, rows)
    (slope,) = torch.autograd.grad(exact, at)
    loss, gradient, terms = found.loss_and_gradient(theta)
    (term,) = terms
    linear = found.linearize(theta)
    assert float(exact) == pytest.approx(loss, rel=1e-12) and torch.allclose(gradient, slope, rtol=1e-9, atol=1e-12)
    for told in (loss, terms[term], found.loss(theta)[0], found.loss(theta)[1][term], plain_loss(found, theta)):
        assert told == pytest.approx(loss, rel=1e-12)
    for one in (linear, linear.dense(), linear.gram()):
        assert one.loss == pytest.approx(loss, rel=1e-12) and one.terms == {term: pytest.approx(loss, rel=1e-12)}
        assert torch.allclose(one.gradient, slope / 2, rtol=1e-9, atol=1e-12)
    parts = list(found.parts(9))
    assert len(parts) > 2 and sum(one.loss(theta)[0] for one in parts) == pytest.approx(loss, rel=1e-12)
    whole = sum((one.loss_and_gradient(theta)[1] for one in parts), torch.zeros_like(theta))
    assert torch.allclose(whole, slope, rtol=1e-9, atol=1e-12)
    if name != "classes":
        return
    space = JetSpace(found.residuals.problem.domain.names, ())
    logits = lambda t: found.backbone.forward(t, found.points, space).value  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(logits, theta)
    p = torch.softmax(logits(theta), 1)
    fisher = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    exact = 3 / len(p) * torch.einsum("nkp,nkl,nlq->pq", jacobian, fisher, jacobian) / 2
    assert torch.allclose(linear.gram().matrix, exact, rtol=1e-8, atol=1e-10)
