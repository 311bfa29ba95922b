"""Exact forms built from conditions: distance functions, values continued inwards, and what cannot be built in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import sympy
import torch
from torch import Tensor, cos, exp, sin

import kanpinn
from kanpinn import Box, Condition, Problem, load
from kanpinn.errors import UserError
from kanpinn.geometry import Ball, Disk, Ellipse, Polygon, Region
from kanpinn.jets.automatic import jet_of
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde.form_builder import exact_form, possible_form
from kanpinn.pde.given_values import piece_points
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.objects import configuration_of_objects

STAR = [(1.0, 0.0), (0.3, 0.3), (0.0, 1.0), (-0.3, 0.3), (-1.0, 0.0), (-0.3, -0.3), (0.0, -1.0), (0.3, -0.3)]

PIECES: dict[str, tuple[Region, str, bool]] = {
    "disk": (Disk([0.2, -0.1], 1.5), "disk", False),
    "hole": (Disk([0.2, -0.1], 0.4), "disk", True),
    "ellipse": (Ellipse([0.1, 0.2], [2.0, 0.7], 0.4), "ellipse", False),
    "round it": (Ellipse([0.1, 0.2], [2.0, 0.7], 0.4), "ellipse", True),
    "ball": (Ball([0, 1, 0], 2.0), "ball", False),
    "face": (Box(x=(0, 2), y=(-1, 1)), "x+", False),
    "slot": (Box(x=(0, 2), y=(-1, 1)), "x+", True),
    "slot in space": (Box(x=(0, 2), y=(-1, 1), z=(0, 1)), "z-", True),
    "edge": (Polygon([(0, 0), (2, 0), (1, 1)]), "polygon.1", False),
    "edge of a star": (Polygon(STAR), "polygon.0", False),
    "edge from outside": (Polygon([(0, 0), (2, 0), (1, 1)]), "polygon.1", True),
}


@pytest.mark.parametrize(("region", "name", "outside"), PIECES.values(), ids=PIECES)
def test_distances_vanish_on_their_piece_with_slope_one_and_no_curvature(region: Region, name: str, outside: bool):
    """Normalised to second order: φ = s + O(s³), s the distance along the normal; by differences."""
    (distance,) = region.distances(name, outside=outside)
    generator = np.random.default_rng(0)
    piece = region.piece(name)
    unit = 0.1 + 0.8 * generator.random((40, piece.chart.dimension))
    on = piece.chart.stretched(unit)
    assert piece.normal is not None
    inward = piece.normal(on) * (1 if outside else -1)

    def along(step: float) -> np.ndarray:
        return distance.value(torch.from_numpy(on + step * inward).unbind(1)).numpy()

    assert np.abs(along(0.0)).max() < 1e-15 * 8
    h = 1e-4
    assert np.abs((4 * along(h) - along(2 * h) - 3 * along(0)) / (2 * h) - 1).max() < 1e-6
    assert np.abs((2 * along(0) - 5 * along(h) + 4 * along(2 * h) - along(3 * h)) / h**2).max() < 1e-3


DOMAINS: dict[str, tuple[Region, tuple[str, ...]]] = {
    "disk": (Disk(), ("disk",)),
    "ellipse": (Ellipse([0, 0], [3, 0.5], 1.0), ("ellipse",)),
    "ring": (Disk(name="rim") - Disk([0.3, 0], 0.2, name="hole"), ("rim", "hole")),
    "plate": (Box(x=(0, 1), y=(0, 1)) - Disk([0.5, 0.5], 0.2), ("x-", "x+", "y-", "y+", "disk")),
    "notch": (Disk(radius=2) - Box(x=(0, 3), y=(-0.2, 0.2), name="slot"), ("disk", "slot.x-", "slot.y-", "slot.y+")),
    "star": (Polygon(STAR) - Disk(radius=0.1), ("polygon", "disk")),
    "triangle": (Polygon([(0, 0), (2, 0), (1, 1)]), ("polygon",)),
    "lens": (Disk(name="a") & Disk([1, 0], name="b"), ("a", "b")),
    "two holes": (Disk(name="rim") - (Disk([0.3, 0.3], 0.1, name="a") | Disk([-0.5, 0], 0.1, name="b")), ("a", "b")),
    "cut ball": (Ball() - Box(x=(0, 2), y=(0, 2), z=(0, 2)), ("ball", "x-", "y-", "z-")),
}  # fmt: skip


@dataclass(frozen=True)
class On(Problem):
    """Values of a function on pieces of some region."""

    region: str = "disk"

    derivatives = ("xx", "xy", "yy")

    def __post_init__(self) -> None:
        self.adapt(domain=DOMAINS[self.region][0])

    def residual(self, p: Any) -> Tensor:
        return p.u_xx + p.u_yy

    def conditions(self) -> list[Condition]:
        return [Condition("edge", DOMAINS[self.region][1], lambda p: 2 * p.u - 3 * exp(p.x) * cos(p.y))]


def built(problem: Problem, points: Tensor, space: JetSpace | None = None) -> dict[str, Jet]:
    """The unknowns for outputs that are random smooth functions, at points `[N, d]`."""
    space = space or JetSpace(problem.domain.names, problem.derivatives)
    generator = torch.Generator().manual_seed(1)
    raw = {}
    for name in problem.unknowns:
        k = torch.randn(points.shape[1], dtype=torch.float64, generator=generator)
        raw[name] = jet_of(lambda p, k=k: 5 * sin(p @ k + 0.7), points, space)
    return exact_form(problem)(raw, points)


@pytest.mark.parametrize("region", DOMAINS)
def test_given_values_are_met_whatever_the_network_and_nothing_else_is_fixed(region: str):
    problem, generator = On(region=region), np.random.default_rng(2)
    domain, form = problem.domain, exact_form(problem)
    assert form.conditions == ("edge",)
    assert bool(form.rough) == (region in ("notch", "star", "cut ball"))
    on = piece_points(problem, DOMAINS[region][1], generator)
    u = built(problem, on)["u"]
    assert float((2 * u.value - 3 * exp(on[:, 0]) * cos(on[:, 1])).abs().max()) < 1e-13
    inside = domain.frame.stretched(generator.random((300, len(domain))))
    inside = torch.from_numpy(inside[domain.contains(inside)])
    space = JetSpace(domain.names, problem.derivatives)
    jet = form.unknowns["u"].factor(inside, space)
    assert bool((jet.value > 0).all())
    by_hand = jet_of(lambda p: form.unknowns["u"].factor(p, JetSpace(domain.names, ())).value, inside, space)
    assert torch.allclose(jet.data, by_hand.data, rtol=1e-9, atol=1e-9)


def test_boolean_sums_on_boxes_are_coons_patches():
    """Against SymPy: g on four edges, continued by Coons's formula, and times x (1 - x) y (1 - y) the network."""
    x, y = sympy.symbols("x y")
    g = sympy.exp(x * y) + x**2 - y
    sides = (1 - x) * g.subs(x, 0) + x * g.subs(x, 1) + (1 - y) * g.subs(y, 0) + y * g.subs(y, 1)
    corners = sum(g.subs({x: a, y: b}) * (x if a else 1 - x) * (y if b else 1 - y) for a in (0, 1) for b in (0, 1))
    patch = sides - corners

    @dataclass(frozen=True)
    class Square(On):
        def __post_init__(self) -> None:
            self.adapt(domain=Box(x=(0, 1), y=(0, 1)))

        def conditions(self) -> list[Condition]:
            return [
                Condition("walls", ("x-", "x+"), lambda p: p.u - exp(p.x * p.y) - p.x**2 + p.y),
                Condition("ends", ("y-", "y+"), lambda p: 3 * (p.u - exp(p.x * p.y)) - 3 * (p.x**2 - p.y)),
            ]

    problem = Square()
    points = torch.rand(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    space = JetSpace(("x", "y"), problem.derivatives)
    form = exact_form(problem).unknowns["u"]
    values = form.values()
    assert values is not None
    for jet, expected in ((values(points, space), patch), (form.factor(points, space), x * (1 - x) * y * (1 - y))):
        for index in space.indices:
            by_sympy = sympy.lambdify((x, y), sympy.diff(expected, *index) if index else expected)
            at = np.broadcast_to(by_sympy(*points.T.numpy()), len(points))
            assert np.allclose(jet[index].numpy(), at, rtol=1e-12, atol=1e-12)


@dataclass(frozen=True)
class Drum(Problem):
    """A membrane that starts with a shape and a velocity, its rim moved; all given by one function."""

    start: float = 0.0

    domain = Disk(name="rim") * Box(t=(0, 2))
    derivatives = ("xx", "yy", "tt")

    def residual(self, p: Any) -> Tensor:
        return p.u_tt - p.u_xx - p.u_yy

    def conditions(self) -> list[Condition]:
        return [
            Condition("velocity", "t-", lambda p: p.u_t - cos(p.x)),
            Condition("initial", "t-", lambda p: p.u - p.x * p.y - self.start),
            Condition("rim", "rim", lambda p: p.u - p.x * p.y - sin(p.t) * cos(p.x)),
        ]


def test_initial_values_and_velocities_join_those_of_the_boundary():
    problem = Drum()
    assert set(exact_form(problem).conditions) == {"velocity", "initial", "rim"}
    generator = np.random.default_rng(0)
    start, rim = (piece_points(problem, (piece,), generator) for piece in ("t-", "rim"))
    u, (x, y, _) = built(problem, start)["u"], start.unbind(1)
    assert torch.allclose(u.value, x * y, rtol=0, atol=1e-14)
    assert torch.allclose(u["t"], cos(x), rtol=0, atol=1e-13)
    assert torch.allclose(u["xx"], torch.zeros_like(x), rtol=0, atol=1e-12)
    u, (x, y, t) = built(problem, rim)["u"], rim.unbind(1)
    assert torch.allclose(u.value, x * y + sin(t) * cos(x), rtol=0, atol=1e-13)


def test_values_that_differ_by_rounding_do_not_contradict_one_another():
    @dataclass(frozen=True)
    class String(Drum):
        domain = Box(x=(0, 1), t=(0, 1))
        derivatives = ("xx", "tt")

        def conditions(self) -> list[Condition]:
            return [
                Condition("ends", ("x-", "x+"), lambda p: p.u),
                Condition("initial", "t-", lambda p: p.u - sin(torch.pi * p.x)),
                Condition("velocity", "t-", lambda p: p.u_t),
            ]

    assert exact_form(String()).reasons == {}


def test_conditions_that_contradict_one_another_are_not_built_in_together():
    form = exact_form(Drum(start=0.5))
    assert set(form.conditions) == {"velocity", "initial"}
    assert form.reasons == {"rim": "contradicts another condition where both hold"}


CANNOT: dict[str, tuple[Condition, str]] = {
    "flux": (Condition("c", "x-", lambda p: p.u_n - 1), "holds a derivative of u"),
    "robin": (Condition("c", "x-", lambda p: p.u + p.u_x), "holds derivatives or several unknowns"),
    "square": (Condition("c", "x-", lambda p: p.u**2 - 1), "is not linear in its unknown"),
    "two": (Condition("c", "x-", lambda p: p.u - p.v), "holds derivatives or several unknowns"),
    "varying": (Condition("c", "x-", lambda p: (1 + p.y) * p.u - 1), "coefficient of u that is not constant"),
    "part": (Condition("c", "x-", lambda p: p.u, where=lambda p: p.y > 0.5), "holds on a part of its support"),
    "inside": (Condition("c", Box(x=(0, 0.5), y=(0, 1)), lambda p: p.u), "does not hold on pieces of the boundary"),
    "numpy": (Condition("c", "x-", lambda p: p.u - p.y.detach() ** 2), "gives values that torch cannot differentiate"),
    "normal": (Condition("c", "x-", lambda p: p.u - p.n_x), "gives no values off its support"),
}


@pytest.mark.parametrize(("condition", "reason"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_built_in_is_refused_with_its_reason(condition: Condition, reason: str):
    @dataclass(frozen=True)
    class Given(Problem):
        domain = Box(x=(0, 1), y=(0, 1))
        unknowns = ("u", "v")
        derivatives = ("xx", "yy")

        def residual(self, p: Any) -> Any:
            return {"u": p.u_xx + p.u_yy, "v": p.v_xx + p.v_yy}

        def conditions(self) -> list[Condition]:
            return [condition]

    with pytest.raises(
        UserError, match=rf"problem=Given: conditions=exact: no condition can be built in \(c: .*{reason}"
    ):
        exact_form(Given())


def test_exact_forms_go_through_solving_slabs_loading_and_evaluating(folder):
    words = [
        "problem.conditions=exact", "backbone.width=[3]", "backbone.grid=2", "schedule.levels=2", "schedule.steps=3",
        "sampler.interior=60", "sampler.boundary=10", "output.points=9", "output.figures=false",
        "output.progress=false", "schedule.slabs=2",
    ]  # fmt: skip
    solution = kanpinn.solve(Drum(), *words, folder="run")
    again = kanpinn.load("run", Drum())
    angle, times = np.linspace(0, 6, 12), np.linspace(0, 2, 12)
    x, y = np.cos(angle), np.sin(angle)
    for one in (solution, again):
        on_rim = one(np.stack([x, y, times], axis=1))["u"]
        assert np.allclose(on_rim, x * y + np.sin(times) * np.cos(x), rtol=0, atol=1e-12)
    start, before, after = (again(np.stack([x / 2, y / 2, 0 * x + t], axis=1))["u"] for t in (0, 1 - 1e-9, 1 + 1e-9))
    assert np.allclose(start, x * y / 4, rtol=0, atol=1e-13)
    assert np.allclose(before, after, rtol=0, atol=1e-7)
    assert np.abs(before - start).max() > 1e-3


RING = """
name: ring
domain: "Disk(radius=2, name='rim') - Disk(radius=1, name='hole')"
equations: {heat: "laplace(u) = 0"}
conditions:
  rim: {on: rim, equation: "2*u = sin(x)"}
  hole: {on: hole, equation: "u_n = 1 - u"}
"""


def test_a_problem_as_text_says_form(folder):
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "ring.yaml").write_text(RING)
    setup = validate(compose(["problem=ring", "problem.form=exact"])[0]).setup
    assert setup.exact
    assert exact_form(setup.problem).conditions == ("rim",)
    assert exact_form(setup.problem).reasons == {"hole": "holds derivatives or several unknowns"}
    points = torch.tensor([[2.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
    assert torch.allclose(built(setup.problem, points)["u"].value, sin(points[:, 0]) / 2, rtol=0, atol=1e-15)
    for wrong, text in (("form=built", "problem.form=built"), ("conditions=exact", "problem.form=exact, soft or auto")):
        with pytest.raises(UserError, match=text):
            validate(compose(["problem=ring", f"problem.{wrong}"])[0])


def test_values_without_the_periodicity_or_symmetry_of_the_unknowns_are_not_built_in():
    """x² cos πx on [-1, 1] has slopes ±2 at its ends: the kink would stay at all times (it is diffused at once)."""

    @dataclass(frozen=True)
    class Wrapped(Problem):
        start: float = 2.0
        mirror: str = ""

        domain = Box(x=(-1, 1), t=(0, 1))
        derivatives = ("t", "xx")

        def __post_init__(self) -> None:
            self.adapt(**({"symmetry": {"x": self.mirror}} if self.mirror else {"periodic": ("x",)}))

        def residual(self, p: Any) -> Tensor:
            return p.u_t - p.u_xx

        def conditions(self) -> list[Condition]:
            found = [Condition("initial", "t-", lambda p: p.u - p.x**self.start * cos(torch.pi * p.x))]
            return found + [Condition("right", "x+", lambda p: p.u - cos(p.t))] * bool(self.mirror)

    assert possible_form(Wrapped(start=0)).conditions == ("initial",)
    assert possible_form(Wrapped()).reasons == {"initial": "is not periodic in x with its derivatives"}
    even, odd = possible_form(Wrapped(mirror="even")), possible_form(Wrapped(start=1, mirror="odd"))
    assert even.conditions == odd.conditions == ("initial",)
    assert even.reasons == odd.reasons == {"right": "has not the symmetry in x"}
    assert possible_form(Wrapped(mirror="odd")).conditions == ()


SLAB = """
name: slab
domain: {x: [0, 1], y: [0, 2]}
equations: "laplace(u) = 0"
conditions:
  sides: {on: [x-, x+], equation: "u = y"}
  others: {on: [y-, y+], equation: "u = y"}
"""
"""Laplace's equation in a box, u = y on all of its faces."""


ROOT = """
name: slab
domain: {x: [0, 1], y: [0, 2]}
equations: "u_xx + u_yy = 0"
conditions: {edge: {on: boundary, equation: "u = sqrt(x**2 + y**2)"}}
"""


@pytest.mark.parametrize(
    ("more", "text", "exact"),
    [
        ([], SLAB, True),
        (["problem.form=auto"], SLAB, True),
        (["problem.form=soft"], SLAB, False),
        (["weighting.terms.sides=10"], SLAB, False),
        (["sampler.boundary={others: 50, sides: 50}"], SLAB, False),
        (["weighting=rba", "weighting.only=[interior, sides]"], SLAB, False),
        ([], SLAB + "tuned: {weights: {sides: 3.0}}\n", False),
        ([], SLAB + "form: soft\n", False),
        ([], SLAB.replace('[y-, y+], equation: "u = y"', '[y-, y+], equation: "u_y = 1"'), False),  # a flux
        ([], SLAB.replace('[y-, y+], equation: "u = y"', 'y+, equation: "u = 1"'), False),  # jumps at the corners
        ([], SLAB.replace("y: [0, 2]", "t: [0, 2]").replace("y", "t"), False),
        ([], RING, False),
        ([], ROOT, False),  # slopes at the corner are not finite, and would be everywhere
    ],
)
def test_values_on_boxes_without_time_are_built_in_unless_something_says_otherwise(folder, more, text, exact):
    (folder / "conf" / "problem").mkdir(parents=True)
    name = "ring" if text is RING else "slab"
    (folder / "conf" / "problem" / f"{name}.yaml").write_text(text)
    configuration = validate(compose([f"problem={name}", *more])[0])
    assert configuration.setup.exact is exact
    assert configuration.resolved["problem"]["form"] == ("exact" if exact else "soft")
    note = "built into the network: sides, others (problem.form=soft makes loss terms of them)"
    assert configuration.notes == ((note,) if exact else ())
    assert validate(configuration.resolved).setup.exact is exact
    earlier = {key: value for key, value in configuration.resolved["problem"].items() if key != "form"}
    assert not validate({**configuration.resolved, "problem": earlier}).setup.exact  # runs from before the choice


def test_unknown_coefficients_data_and_forms_of_their_own_leave_conditions_to_the_loss(folder):
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "slab.yaml").write_text(SLAB.replace("= 0", "= k*x") + "k: 1.0\n")
    (folder / "data.csv").write_text("x,y,u\n0.5,0.5,0.6\n0.2,1.5,1.6\n")
    for more in (["data=data.csv"], ["unknown={k: 2}", "data=data.csv"], ["parameters={k: [1, 2]}"]):
        assert not validate(compose(["problem=slab", *more])[0]).setup.exact

    @dataclass(frozen=True)
    class Slab(Problem):
        domain = Box(x=(0, 1))
        derivatives = ("xx",)

        def residual(self, p: Any) -> Tensor:
            return p.u_xx - 1

        def conditions(self) -> list[Condition]:
            return [Condition("ends", ("x-", "x+"), lambda p: p.u)]

    @dataclass(frozen=True)
    class Own(Slab):
        def exact(self, p: Any, raw: Any) -> Jet:
            return p.x * (1 - p.x) * raw.u

    chosen = [configuration_of_objects(one(), []).setup.conditions for one in (Slab, Own)]
    assert chosen == ["exact", "soft"]


def test_a_run_says_what_is_built_in_and_which_settings_have_no_effect(kanpinn, folder):
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "slab.yaml").write_text(SLAB)
    given = ["problem=slab", "schedule.levels=1", "schedule.steps=1", "backbone.width=[2]", "sampler.interior=40"]
    given += ["output.figures=false", "output.points=5", "threads=1", "output.progress=false"]
    done = kanpinn("solve", *given, "hydra.run.dir=run")
    note = "built into the network: sides, others (problem.form=soft makes loss terms of them)"
    assert done.code == 0 and done.out.count(note) == 1 and not done.err.count("no effect")
    assert (folder / "run" / "log.txt").read_text().count(note) == 1
    assert "form: exact" in (folder / "run" / "config.yaml").read_text()
    edge = np.array([[0.0, 0.3], [1.0, 1.7], [0.4, 2.0]])
    assert np.allclose(load("run")(edge)["u"], edge[:, 1], rtol=0, atol=1e-14)
    settings = ("problem.form=exact", "weighting.terms.sides=10", "sampler.boundary={sides: 9, others: 9}")
    asked = kanpinn("solve", *given, *settings, "hydra.run.dir=again")
    idle = "has no effect, as this condition is built in; problem.form=soft makes a loss term of it"
    assert asked.code == 0 and note not in asked.out
    assert [f"{key} {idle}" in asked.err for key in ("weighting.terms.sides", "sampler.boundary.others")] == [True] * 2
