"""Cost tables: measured numbers are plausible, decide how JᵀJ is formed, and stay with a run."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from support.problems import Wave, build, draw_for

from kanpinn.backbones import Kan
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.least_squares import gram_costs, gram_local
from kanpinn.least_squares.gram_costs import cost_table, measure
from kanpinn.least_squares.objective import Objective
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.state import join, split

CPU = torch.device("cpu")


def test_a_cpu_takes_the_packages_table_and_is_never_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gram_costs, "measure", lambda _: pytest.fail("measured"))
    cost_table.cache_clear()
    assert cost_table(CPU) == CostTable()


def test_other_devices_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[torch.device] = []
    monkeypatch.setattr(gram_costs, "measure", lambda d: asked.append(d) or CostTable(entry=7.0))
    cost_table.cache_clear()
    device = torch.device("meta")
    assert cost_table(device) is cost_table(device)
    assert asked == [device]
    cost_table.cache_clear()


def test_measured_costs_are_of_the_packages_order() -> None:
    found, known = asdict(measure(CPU)), asdict(CostTable())
    assert set(found) == set(known)
    for name, value in found.items():
        assert np.isfinite(value) and value >= 0
        if name != "part_places":
            assert known[name] / 100 < value < 100 * known[name], name  # a busy machine of another kind


@pytest.mark.parametrize("dear", [False, True])
def test_the_table_decides_how_the_gram_matrix_is_formed(dear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = replace(CostTable(), part_call=1e30) if dear else CostTable()
    built, theta, _ = build(Wave(), Kan(width=[3, 3], degree=3, grid=48))
    objective = Objective(built.residuals, built.weighting, costs=costs)
    objective.set_points(draw_for(Wave(), "uniform", (1500, 50)))
    taken: list[bool] = []
    products = gram_local.products
    monkeypatch.setattr(gram_local, "products", lambda *a: (found := products(*a), taken.append(found is not None))[0])
    matrix = objective.linearize(theta).gram().matrix
    jacobian = objective.linearize(theta).dense().jacobian
    expected = jacobian.T @ jacobian
    assert taken == [not dear]
    assert torch.allclose(matrix, expected, rtol=0, atol=1e-12 * float(expected.abs().max()))


def test_a_resumed_training_keeps_the_table_it_began_with() -> None:
    setup = validate(compose(["problem=burgers", "backbone=kan", "schedule.levels=1", "sampler.interior=30"])[0]).setup
    first, second = (SlabSolve(replace(setup, points=3)) for _ in range(2))
    first.costs = CostTable(**{field.name: k + 1.0 for k, field in enumerate(fields(CostTable))})
    enter(first, setup.plan()[0])
    second.load_state(join(*split(first.state(), "")))
    assert second.costs == first.costs
