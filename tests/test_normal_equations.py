"""JᵀJ of separable networks at points that share coordinates, against the product of the whole J."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from kanpinn.problems.burgers import Burgers
from kanpinn.problems.helmholtz import Helmholtz
from kanpinn.problems.poisson import Poisson
from kanpinn.problems.poisson_nd import PoissonNd
from kanpinn.problems.wave import Wave
from support.gram import agree
from support.problems import NONE, System, build, draw_for

from kanpinn.backbones import Kan, Separable
from kanpinn.backbones.separable import khatri_rao, normal_equations
from kanpinn.backbones.separable.product import SharedValues, pieces
from kanpinn.geometry import Box, Coordinates
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed, ResidualAttention
from kanpinn.optimizers import LevenbergMarquardt
from kanpinn.pde import Condition, Point, Problem
from kanpinn.samplers import SAMPLERS
from kanpinn.state import join, split

SINGLE = Separable(width=[], degree=5, grid=8, rank=3, scale=1.0)
DEEP = replace(SINGLE, width=[3])
FINE = replace(SINGLE, grid=32)
SHARED = replace(SINGLE, last="linear")


def placed(
    problem: Problem, options: Separable | Kan, sampler: str, counts: tuple[int, int], *, exact: bool = False
) -> tuple[Objective, torch.Tensor]:
    """An objective at points with uneven weights."""
    weighting = Fixed({"interior": 0.7, problem.conditions()[0].name: 3.0})
    objective, theta, _ = build(problem, options, weighting, exact=exact)
    objective.set_points(draw_for(problem, sampler, counts))
    return objective, theta


def found(objective: Objective, theta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """What the factored way gives, if it is chosen."""
    taken: list[tuple[torch.Tensor, torch.Tensor] | None] = []
    products = normal_equations.products
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal_equations, "products", lambda *a: taken.append(products(*a)) or taken[-1])
        objective.linearize(theta).gram()
    return taken[0] if taken else None


GRIDS: dict[str, tuple[Problem, Separable, str, tuple[int, int], bool]] = {
    "poisson": (Poisson(), SINGLE, "grid", (900, 200), False),
    "poisson, exact": (Poisson(), DEEP, "grid", (900, 10), True),
    "poisson, quadrature": (Poisson(), SINGLE, "gauss_legendre", (900, 200), False),
    "poisson, products shared": (Poisson(), SHARED, "grid", (900, 200), False),
    "helmholtz": (Helmholtz(), SINGLE, "grid", (900, 200), True),
    "wave, three conditions": (Wave(), SINGLE, "grid", (900, 100), False),
    "burgers, nonlinear": (Burgers(), DEEP, "grid", (900, 100), False),
    "three dimensions": (PoissonNd(dim=3), SINGLE, "grid", (1728, 300), False),
    "three dimensions, deep, exact": (PoissonNd(dim=3), DEEP, "grid", (1728, 10), True),
    "two unknowns, two equations, periodic": (System(), SINGLE, "grid", (900, 60), False),
    "two unknowns, products shared, exact": (System(), SHARED, "grid", (900, 60), True),
}


@pytest.mark.parametrize("work", ["as chosen", "every table"])
@pytest.mark.parametrize(("problem", "options", "sampler", "counts", "exact"), GRIDS.values(), ids=GRIDS)
def test_normal_equations_equal_those_of_the_jacobian(
    problem: Problem,
    options: Separable,
    sampler: str,
    counts: tuple[int, int],
    exact: bool,
    work: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objective, theta = placed(problem, options, sampler, counts, exact=exact)
    if work == "every table":  # of the faces too, where few points make it dear
        monkeypatch.setattr(khatri_rao.Block, "dense_work", lambda _: float("inf"))
        monkeypatch.setattr(khatri_rao, "SLICE_BYTES", 2**14)
        assert found(objective, theta) is not None
    agree(objective, theta, 1e-12)


def test_a_body_that_changes_no_residual_has_no_columns() -> None:
    objective, theta = placed(Helmholtz(), FINE, "grid", (3600, 1), exact=True)
    theta[: len(theta) // 2] = 0  # the first body: the other one's values are multiplied by zero
    assert found(objective, theta) is not None
    agree(objective, theta, 1e-12)
    assert not bool(objective.linearize(theta).gram()[0][:, len(theta) // 2 :].any())
    assert not bool(objective.linearize(theta * 0).gram()[0].any())


def test_multipliers_of_points_are_seen() -> None:
    objective, theta, _ = build(Wave(), FINE, ResidualAttention({"initial": 2.0}, decay=0.5, rate=0.5))
    objective.set_points(draw_for(Wave(), "grid", (2500, 100)))
    objective.update_multipliers(theta)
    assert found(objective, theta) is not None
    agree(objective, theta, 1e-12)


def test_both_ways_of_summing_over_pairs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta = placed(PoissonNd(dim=3), SINGLE, "grid", (1728, 10), exact=True)
    for often in (True, False):
        monkeypatch.setattr(khatri_rao, "pairwise_is_less", lambda *_, often=often: often)
        agree(objective, theta, 1e-12)


def scattered() -> dict[str, tuple[Objective, torch.Tensor]]:
    return {
        "random points": placed(Poisson(), SINGLE, "uniform", (900, 100)),
        "few points": placed(Poisson(), SINGLE, "grid", (36, 8)),
        "no separable network": placed(Poisson(), Kan(width=[3], degree=3, grid=4), "grid", (900, 100)),
    }


@pytest.mark.parametrize("case", ["random points", "few points", "no separable network"])
def test_elsewhere_the_whole_jacobian_is_taken(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta = scattered()[case]
    assert found(objective, theta) is None
    # What tables would cost is not asked again at the same points, nor by a run that is resumed there.
    monkeypatch.setattr(khatri_rao.Block, "work", lambda _: pytest.fail("asked again"))
    assert found(objective, theta) is None
    agree(objective, theta, 1e-12)
    other = Objective(
        Residuals(objective.residuals.problem, objective.backbone, exact=objective.residuals.exact),
        deepcopy(objective.weighting),
    )
    other.load_state(join(*split(objective.state(), "")), theta.device)
    assert found(other, theta) is None


@dataclass(frozen=True)
class Channel(Problem):
    """Poisson's equation between two wavy walls: nearly every y has an interval of x of its own."""

    domain = Box(x=(-1, 1), y=(-4, 4))
    derivatives = ("xx", "yy")

    def inside(self, p: Coordinates) -> torch.Tensor:
        return (p.x > -0.6 + 0.3 * torch.sin(1.3 * p.y)) & (p.x < 0.6 + 0.3 * torch.sin(2.1 * p.y + 1))

    def residual(self, p: Point) -> torch.Tensor:
        return p.u_xx + p.u_yy + 1

    def conditions(self) -> list[Condition]:
        return [Condition("ends", ("y-", "y+"), lambda p: p.u)]


@pytest.mark.parametrize("count", [4000, 8000])
def test_parts_of_a_box_need_pieces_both_ways(count: int) -> None:
    objective, theta = placed(Channel(), replace(SINGLE, grid=16), "grid", (count, 40))
    shared = objective.collocation.shared("interior")
    assert (shared.pieces(0, 1) is not None) and ((shared.pieces(1, 0) is None) == (count == 8000))
    agree(objective, theta, 1e-12)


def test_points_compared_with_others_take_the_whole_jacobian() -> None:
    objective, theta = placed(System(), replace(SINGLE, embedding=NONE), "grid", (900, 60))
    assert objective.collocation.compares
    agree(objective, theta, 1e-12)


def test_new_points_and_parts_of_them_are_seen() -> None:
    objective, theta = placed(Poisson(), FINE, "grid", (3600, 100))
    for counts in ((36, 8), (3600, 100), (2500, 60)):
        objective.set_points(draw_for(Poisson(), "grid", counts))
        assert (found(objective, theta) is None) == (counts[0] < 100)
        agree(objective, theta, 1e-12)
    whole = objective.linearize(theta).gram()[0]
    parts = sum(part[0] for part in [p.linearize(theta).gram() for p in objective.parts(1300)])
    assert float((parts - whole).abs().max() / whole.abs().max()) < 1e-12


def test_a_whole_run_ends_where_the_jacobians_run_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for factored in (True, False):
        objective, theta = placed(Helmholtz(), replace(FINE, scale=0.5), "grid", (3600, 1), exact=True)
        assert found(objective, theta) is not None
        if not factored:
            monkeypatch.setattr(normal_equations, "products", lambda *_: None)
        optimizer = LevenbergMarquardt()
        optimizer.start(len(theta), 15)
        for _ in range(15):
            theta = optimizer.step(objective, theta).theta
        losses.append(objective.loss(theta)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] < 1e-4 * objective.loss(theta * 0)[0]


def test_a_hundred_thousand_points_need_little_work_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta = placed(Poisson(), replace(SINGLE, degree=7, grid=64, rank=4), "grid", (100_000, 10), exact=True)
    assert len(objective.points) >= 99_000
    assert len(theta) == 568
    counted: list[float] = []
    add = khatri_rao.Block.add

    def watched(block: khatri_rao.Block, *arguments: torch.Tensor) -> None:
        counted.append(block.work() / block.dense_work())
        add(block, *arguments)

    sizes: list[int] = []
    for name in ("sums_by_rows", "sums_by_pairs"):
        combine: Callable[..., torch.Tensor] = getattr(khatri_rao, name)

        def measured(*arguments: torch.Tensor, combine: Callable[..., torch.Tensor] = combine) -> torch.Tensor:
            sizes.extend(a.numel() for a in arguments)
            return combine(*arguments)

        monkeypatch.setattr(khatri_rao, name, measured)
    monkeypatch.setattr(khatri_rao.Block, "add", watched)
    matrix, _, _, _ = objective.linearize(theta).gram()
    assert bool(matrix.isfinite().all())
    assert counted[0] < 0.1
    assert max(sizes) < 0.02 * len(objective.points) * len(theta)


def test_pieces_are_products_that_hold_every_point_once() -> None:
    generator = np.random.default_rng(0)
    domain = Poisson()
    draw = SAMPLERS["grid"](interior=60, boundary=40).draw(domain, 0, generator)
    corner = draw.interior.points[(draw.interior.points > 0).any(1)]  # an L
    for points, many in ((draw.interior.points, 1), (draw.conditions["boundary"].points, 2), (corner, 2)):
        shared = SharedValues(points)
        first, second = (shared.kinds[k][1] for k in (0, 1))
        cut = pieces(first, second)
        assert cut is not None
        assert len(cut) == many
        every = torch.cat([piece.points.flatten() for piece in cut])
        assert torch.equal(every.sort().values, torch.arange(len(points)))
        for piece in cut:
            assert bool((first[piece.points] == piece.first[:, None, None]).all())
            assert bool((second[piece.points] == piece.second[None, :, None]).all())
    several = torch.from_numpy(generator.integers(0, 40, (2, 900)))
    assert pieces(several[0], several[1]) is None
