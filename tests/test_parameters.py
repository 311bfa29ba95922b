"""Coefficients as coordinates: the same equations at every value, files and figures over them, and what is refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import pi
from pathlib import Path

import numpy as np
import pytest
import torch
from support.solutions import solution as smooth
from torch import sin

import kanpinn as kp
from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.geometry import Disk, Points
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.integrals import Integrals
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.data import conditions_of
from kanpinn.pde.integration import Quadrature
from kanpinn.pde.network_fields import network_fields
from kanpinn.pde.parameter import parametric
from kanpinn.pde.text_problem import text_problem
from kanpinn.pde.unknown import free_coefficients, posed
from kanpinn.plots import figures
from kanpinn.plots.frames import frames
from kanpinn.plots.panels import cuts
from kanpinn.settings.config import with_unknowns
from kanpinn.settings.discovery import load_problem_class


@dataclass(frozen=True)
class Waves(kp.Problem):
    """u'' = −(kπ)² sin kπx, u(0) = 0, u(1) = sin kπ."""

    k: float = kp.Parameter(1, 4)

    domain = kp.Box(x=(0, 1))
    derivatives = ("xx",)

    def residual(self, p):
        return p.u_xx + (self.k * pi) ** 2 * self.reference(p)

    def conditions(self):
        return [kp.Condition("ends", "boundary", lambda p: p.u - self.reference(p))]

    def reference(self, p):
        return sin(self.k * pi * p.x)


def point(problem: kp.Problem, place: dict[str, torch.Tensor], *, exact: bool = False) -> kp.Point:
    """A point of a problem, with unknowns that are smooth functions of the problem's own coordinates."""
    names, own = problem.domain.names, [name for name in problem.domain.names if name not in problem.parameters]
    space = JetSpace(names, tuple(problem.derivatives))
    points = torch.stack([place[name] for name in names], dim=1)
    variables = dict(zip(names, space.variables(points), strict=True))
    raw = [
        sum(torch.sin(variables[n] * (k + j + 1.3)) for k, n in enumerate(own)) for j, _ in enumerate(problem.unknowns)
    ]
    stacked = Jet(space, torch.stack([jet.data for jet in raw], dim=-1))
    return kp.Point(names, points, network_fields(problem, stacked, points, exact=exact))


@pytest.mark.parametrize(
    ("name", "parameters", "exact"),
    [
        ("heat", {"alpha": (0.1, 0.9)}, True),
        ("burgers", {"nu": (0.02, 0.5)}, False),
        ("poisson", {"kx": (1, 3), "ky": (0.5, 2)}, True),
        ("wave", {"c": (1, 3)}, False),
        ("helmholtz", {"k": (0.5, 2)}, True),
    ],
)
def test_at_every_value_it_is_the_problem_of_that_value(name: str, parameters: dict, exact: bool) -> None:
    plain = load_problem_class(name)()
    over = parametric(plain, parameters)
    rng = torch.Generator().manual_seed(0)
    for share in (0.0, 0.3, 1.0):
        values = {key: a + share * (b - a) for key, (a, b) in parameters.items()}
        fixed = replace(plain, **values)
        place = {
            n: a + (b - a) * torch.rand(9, dtype=torch.float64, generator=rng)
            for n, (a, b) in ((n, fixed.domain.interval(n)) for n in fixed.domain.names)
        }
        all_of_it = place | {key: torch.full((9,), value, dtype=torch.float64) for key, value in values.items()}
        here, there = point(fixed, place, exact=exact), point(over, all_of_it, exact=exact)
        assert torch.allclose(fixed.residual(here), over.residual(there), rtol=1e-12, atol=1e-12)
        reference = over.reference(kp.Coordinates(tuple(all_of_it), list(all_of_it.values())))
        assert torch.equal(reference, fixed.reference(kp.Coordinates(tuple(place), list(place.values()))))
        for one, other in zip(conditions_of(fixed), conditions_of(over), strict=True):
            if not (one.inner or one.periodic):
                assert torch.allclose(one.residual(here), other.residual(there), rtol=1e-12, atol=1e-12)
            assert set(other.supports) == set(one.supports)


def test_conditions_stay_on_the_pieces_of_the_problem_and_points_are_at_every_value() -> None:
    @dataclass(frozen=True)
    class Held(Waves):
        domain = Disk(name="rim")
        derivatives = ("xx", "yy")

        def conditions(self):
            return [
                kp.Condition("rim", "boundary", lambda p: p.u),
                kp.Condition("gauge", Points(x=[0, 0.2], y=[0, 0.5]), lambda p: p.u),
            ]

    over = parametric(Held(), {})
    rim, _ = conditions_of(over)
    assert rim.supports == ("rim",) and over.domain.names == ("x", "y", "k")
    sample = kp.Halton(interior=10, boundary=40).draw(over, 0, np.random.default_rng(0))
    points = sample.conditions["gauge"].points.numpy()
    first = points[points[:, 0] == 0]
    assert len(points) == 40 and 15 <= len(first) <= 25 and set(map(tuple, points[:, :2])) == {(0, 0), (0.2, 0.5)}
    assert first[:, 2].min() < 1.4 and first[:, 2].max() > 3.6  # no point sees only some of the values
    assert np.allclose(np.hypot(*sample.conditions["rim"].points.numpy()[:, :2].T), 1)


def test_space_is_that_of_the_problem_at_every_value() -> None:
    @dataclass(frozen=True)
    class Waved(Waves):
        def residual(self, p):
            return p.laplace("u") - p.u_xx + p.grad("u")[-1] - p.u_x

    over = parametric(Waved(), {})
    network = kp.Kan(width=[3], degree=4).build(Embedding({n: over.domain.interval(n) for n in over.domain.names}), 1)
    points = torch.tensor([[0.2, 1.5], [0.7, 3.0]], dtype=torch.float64)
    (found,) = Residuals(over, network).interior(network.initial(np.random.default_rng(0)), points).values()
    assert torch.equal(found, torch.zeros(2, dtype=torch.float64))


def test_integrals_are_over_the_coordinates_of_the_problem_at_every_value() -> None:
    @dataclass(frozen=True)
    class Mass(Waves):
        def conditions(self):
            return [kp.Integral("mass", lambda p: self.k * pi * p.u, lambda p: 1 - torch.cos(p.k * pi))]

    over = parametric(Mass(), {})
    (mass,) = conditions_of(over)
    points = torch.from_numpy(mass.supports[0].values)
    space = JetSpace(over.domain.names, ("xx",))

    def waves(at: torch.Tensor) -> dict[str, Jet]:
        x, k = space.variables(at)
        return {"u": torch.sin(k * pi * x)}

    found = mass.residual(kp.Point(over.domain.names, points, waves(points), None, Integrals(Quadrature(over), waves)))
    assert len(points) == 24 and float(found.abs().max()) < 1e-12


def test_an_integral_over_a_region_holds_at_every_value_of_what_is_left() -> None:
    @dataclass(frozen=True)
    class Half(Waves):
        def conditions(self):
            return [kp.Integral("half", lambda p: p.u, 1.0, over=kp.Box(x=(0, 0.5)))]

    (half,) = conditions_of(parametric(Half(), {}))
    assert len(np.unique(half.supports[0].values[:, 1])) == 24


GIVEN = (
    "schedule.levels=1",
    "schedule.steps=20",
    "sampler.interior=300",
    "threads=1",
    "output.points=21",
    "output.figures=false",
)


@pytest.mark.slow
def test_one_network_serves_all_values(tmp_path: Path) -> None:
    solution = kp.solve(Waves(), kp.Kan(width=[5], degree=5, grid=4), *GIVEN, folder=tmp_path / "run")
    assert solution.metrics["relative_l2"]["u"] < 0.1
    values = solution([[0.5, 1.0], [0.5, 3.0]])["u"]
    assert values == pytest.approx([1, -1], abs=0.2)
    data = solution.data
    assert (data.axes, data.parameters) == (("k", "x"), ("k",))
    assert data.fields["u_ref"] == pytest.approx(np.sin(pi * np.outer(data.coordinates["k"], data.coordinates["x"])))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["relative_l2"] == solution.metrics["relative_l2"]
    again = kp.load(tmp_path / "run", Waves())
    assert np.array_equal(again([[0.5, 1.0]])["u"], values[:1])
    from kanpinn.io.check import check
    from kanpinn.report import write_report

    assert check(tmp_path / "run") == []
    page = write_report(tmp_path / "run", dpi=40).read_text()
    assert page.count("data-place=") == 11 and 'type="range"' in page


def test_figures_cut_along_a_parameter() -> None:
    data = replace(smooth("tkx"), parameters=("k",))
    layout = cuts(data)
    assert (layout.along, layout.horizontal, layout.vertical, len(layout.titles)) == ("k", "t", "x", 4)
    assert cuts(data, asked=[0.3]).along == "t"
    t, k, x = (data.coordinates[name] for name in data.axes)
    panel = layout.take(data.fields["u_ref"], 3)
    assert panel == pytest.approx(np.cos(2 * x)[:, None] * np.cos(2 * t) * np.cos(2 * k[-1]))
    built = {name for name, build in figures(data, every=False).items() if build() is not None}
    assert {"solution_u", "slices_u", "parameter_u", "residual"} <= built
    figure, show = frames(data, "u", "k")
    show(len(k) - 1)
    assert f"k$ = {k[-1]:.3f}" in figure.get_suptitle()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["problem=heat", "parameters={alpha: [0.5, 0.1]}"], r"parameters.alpha=\[0.5,0.1\]: expected two finite"),
        (["problem=heat", "parameters={alpha: [0.5]}"], "expected two finite numbers"),
        (["problem=heat", "parameters={alpha: fast}"], "parameters.alpha=fast"),
        (["problem=heat", "parameters={beta: [0, 1]}"], "parameters.beta.*unknown key.*alpha"),
        (["problem=heat", "parameters={alpha: [0, 1]}"], r"parameters.alpha=\[0.0, 1.0\]: .*expected a positive"),
        (["problem=heat", "parameters={alpha: [1, 2]}", "unknown={alpha: 1}"], "unknown.alpha is given"),
        (["problem=poisson_nd", "parameters={k: [1, 2]}"], "no coefficient that is a real number; k is a whole"),
        (["problem=heat", "parameters={k: [1, 4]}"], "parameters.k=.*expected one of .*alpha.*; k is a whole number"),
    ],
)
def test_what_cannot_be_a_parameter_is_refused(kanpinn, given: list[str], words: str) -> None:
    done = kanpinn("solve", *given)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert re.search(words, done.err), done.err


def test_a_parameter_on_which_nothing_depends_is_refused() -> None:
    text = {"domain": {"x": [0, 1]}, "k": 1, "b": 2, "equations": "u_xx = k", "conditions": {}}
    text["conditions"] = {"ends": {"on": "boundary", "equation": "u = 0"}}
    with pytest.raises(UserError, match=r"parameters=\{b: …\}: no equation and no condition depends on b"):
        kp.solve(text_problem("rod", text), "parameters={b: [1, 2], k: [1, 2]}", "threads=1")


def test_whole_numbers_of_a_problem_as_text_are_real_coefficients() -> None:
    text = {"domain": {"x": [0, 1], "t": [0, 1]}, "k": 1, "equations": "u_t = k*u_xx"}
    problem = text_problem("rod", text)
    assert parametric(problem, {"k": (1, 4)}).domain.names == ("x", "t", "k")
    assert free_coefficients(with_unknowns(problem, {"k": 2})) == {"k": 2.0}


def test_a_coefficient_that_shapes_the_domain_is_refused() -> None:
    @dataclass(frozen=True)
    class Long(Waves):
        length: float = 1.0

        def __post_init__(self):
            super().__post_init__()
            self.adapt(domain=kp.Box(x=(0, self.length)))

    with pytest.raises(UserError, match="domain depends on length"):
        parametric(Long(), {"length": (1, 2)})
    assert posed(parametric(Long(), {}), {}).domain.names == ("x", "k")
    with pytest.raises(UserError, match="lower < upper"):
        kp.Parameter(2, 1)
