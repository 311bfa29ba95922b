"""JᵀJ from small dense parts of J, against the product of the whole J."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.gram import agree, cut
from support.problems import NONE, System, Wave, build, draw_for
from support.records import stays

from kanpinn.backbones import Backbone, Kan, Mlp, MultKan
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Problem

Options = Kan | Mlp

FINE = Kan(width=[3, 3], degree=3, grid=48)
POINTS = (1500, 50)


def fine(problem: Problem, options: Options, *, exact: bool = False) -> tuple[Objective, torch.Tensor]:
    """An objective at many points, two terms of which have weights of their own."""
    objective, theta, _ = build(problem, options, Fixed({"interior": 0.7, "initial": 3.0}), exact=exact)
    objective.set_points(draw_for(problem, "uniform", POINTS))
    return objective, theta


LOCAL = {
    "wave": (Wave(), FINE, False),
    "wave, exact": (Wave(), FINE, True),
    "system, two equations": (System(), FINE, False),
    "cosine knots, a linear first layer": (
        Wave(),
        Kan(width=[3], degree=3, grid=64, knots="cosine", first="linear"),
        False,
    ),
    "multiplications": (Wave(), MultKan(width=[2], mult=1, degree=3, grid=64), False),
}
DENSE = {
    "few intervals": (Wave(), replace(FINE, grid=2), False),
    "base terms": (Wave(), replace(FINE, base=True, bias=True), False),
    "no splines": (Wave(), Mlp(width=[4]), False),
}
"""Networks whose points see most or all parameters."""


@pytest.mark.parametrize(("problem", "options", "exact"), [*LOCAL.values(), *DENSE.values()], ids=[*LOCAL, *DENSE])
def test_normal_equations_equal_those_of_the_jacobian(problem: Problem, options: Options, exact: bool) -> None:
    agree(*fine(problem, options, exact=exact), 1e-13)


@pytest.mark.parametrize(("problem", "options", "exact"), LOCAL.values(), ids=LOCAL)
def test_parts_hold_every_point_once_and_see_few_parameters(
    problem: Problem, options: Options, exact: bool, request: pytest.FixtureRequest
) -> None:
    objective, theta = fine(problem, options, exact=exact)
    found = cut(objective, theta)
    assert found is not None
    assert torch.equal(torch.cat(found).sort().values, torch.arange(len(objective.points)))
    several = [found, *(cut(objective, theta, CostTable(part_call=c, part_places=9.0)) or [] for c in (1e6, 1e4, 0.0))]
    stays(request.node.name, [(torch.tensor([len(one) for one in parts]), torch.cat(parts)) for parts in several])
    free = CostTable(part_product=0.0, part_entry=0.0, part_call=0.0)
    assert [one.tolist() for one in cut(next(objective.pieces(1)), theta, free) or []] == [[0]]
    jacobian = objective.linearize(theta).dense().jacobian
    if len(jacobian) == len(objective.points):  # one equation: rows are points
        seen = sum(len(part) * int((jacobian[part] != 0).any(0).sum()) ** 2 for part in found)
        assert seen < 0.5 * len(jacobian) * objective.size**2


@pytest.mark.parametrize(("problem", "options", "exact"), DENSE.values(), ids=DENSE)
def test_where_points_see_most_parameters_the_whole_jacobian_is_less_work(
    problem: Problem, options: Options, exact: bool
) -> None:
    assert cut(*fine(problem, options, exact=exact)) is None


def test_conditions_that_compare_two_points_are_met_too() -> None:
    objective, theta = fine(System(), replace(FINE, embedding=NONE))
    jacobian = objective.linearize(theta).dense().jacobian
    assert torch.allclose(objective.linearize(theta).gram()[0], jacobian.T @ jacobian, rtol=0, atol=1e-10)


def test_some_points_at_a_time_add_up_and_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta = fine(Wave(), FINE)
    jacobian = objective.linearize(theta).dense().jacobian
    dense, whole = [], Backbone.jacobian

    def watched(self: Backbone, *arguments: Any, **options: bool) -> None:
        dense.append(len(arguments[3]))
        whole(self, *arguments, **options)

    monkeypatch.setattr(Backbone, "jacobian", watched)
    found = [p.linearize(theta).gram() for p in objective.parts(800)]
    assert len(found) > 2
    total, expected = sum(part[0] for part in found), jacobian.T @ jacobian
    assert float((total - expected).abs().max() / expected.abs().max()) < 1e-13
    assert max(dense, default=0) < 100  # few points on a face, where cutting saves nothing
