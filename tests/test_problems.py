"""Every problem: its reference solves it, its exact form meets its conditions, its YAML agrees with its class."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from scipy.integrate import quad, solve_ivp
from scipy.optimize import minimize_scalar
from scipy.special import erfc
from torch import Tensor, cos, sin

from kanpinn.backbones import BACKBONES
from kanpinn.backbones.kan import Kan
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import OutputGrid, solution_fields
from kanpinn.geometry import Box, Coordinates, Points
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.network_fields import network_fields
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.discovery import load_problem_class
from kanpinn.settings.user_files import read_yaml

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "problems").glob("*.py") if path.stem != "__init__")
FOUND = {"burgers_inverse": {"nu": 0.01 / math.pi}}
"""Coefficients that inverse problems look for."""
VARIANTS = [
    *[(name, FOUND.get(name, {})) for name in NAMES],
    ("poisson", {"kx": 4.0, "ky": -1.0}),
    ("poisson", {"kx": 0.7, "ky": 1.3}),
    ("helmholtz", {"a1": 0.5, "a2": 2.25, "k": 3.0}),
    ("burgers", {"nu": 1e-3}),
    ("burgers", {"nu": 0.5}),
    ("allen_cahn", {"D": 1e-2}),
    ("heat", {"alpha": 0.05, "k": 3}),
    ("wave", {"c": 1.0, "a": -2.0, "m": 2}),
    ("advection", {"c": -5.0}),
    ("poisson_interface", {"k": 1}),
    ("regression", {"angle": -1.0}),
    ("poisson_nd", {"dim": 3, "k": 2}),
    ("poisson_nd", {"dim": 6}),
    ("poisson_lshape", {"a": -2.0, "enrichment": False}),
    ("pendulum_lagrangian", {"omega": 1.5, "kinetic": True}),
    ("double_pendulum_lagrangian", {"kinetic": True}),
    ("neo_hookean", {"E": 2.0, "nu": 0.3, "linear": True}),
]
KEYS = [f"{name}{values or ''}" for name, values in VARIANTS]
EXACT = [
    key for key, (name, _) in zip(KEYS, VARIANTS, strict=True) if load_problem_class(name).exact is not Problem.exact
]
TOLERANCES = {
    # Derivatives amplify the references' errors of 1e-7 to 1e-11; in cahn_hilliard terms are of size 100.
    "allen_cahn": 1e-6,
    "kdv": 1e-6,
    "cahn_hilliard": 1e-3,
    "gray_scott": 1e-8,
    "kuramoto_sivashinsky": 1e-6,
    "lotka_volterra": 1e-8,
    "schrodinger": 1e-6,
    "van_der_pol": 1e-6,
}
"""Largest residual of those references that are not closed forms."""

COMPUTED = ("poisson_holes", "cavity", "cylinder", "backward_step")
"""Problems whose references are computed by NumPy, which test_flow_references examines."""
FORMULAS = [key for key in KEYS if key not in COMPUTED]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Keep the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@cache
def problem_of(key: str) -> Problem:
    name, values = VARIANTS[KEYS.index(key)]
    return load_problem_class(name)(**values)


def by_name(problem: Problem, terms: Tensor | Jet | Mapping) -> Mapping:
    return terms if isinstance(terms, Mapping) else {problem.unknowns[0]: terms}


def random_points(problem: Problem, count: int, start: float = 0.0) -> Tensor:
    """Points in the domain `[N, d]`, times no earlier than `start`."""
    points = torch.rand(count, len(problem.domain), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    lower, upper = (torch.tensor(ends, dtype=torch.float64) for ends in (problem.domain.lower, problem.domain.upper))
    points = lower + (upper - lower) * points
    if "t" in problem.domain.names:
        k = problem.domain.names.index("t")
        points[:, k] = start + (1 - start) * points[:, k]
    return within(problem, points)


def within(problem: Problem, points: Tensor, condition: Condition | None = None) -> Tensor:
    """Those of some points `[N, d]` that lie in the domain and, on a condition's faces, where it holds."""
    named = Coordinates(problem.domain.names, points.unbind(1))
    for part in (problem.inside, condition.where if condition else None):
        kept = part(named) if part else None
        if kept is not None:
            points = points[kept]
            named = Coordinates(problem.domain.names, points.unbind(1))
    return points


def on_face(problem: Problem, points: Tensor, face: str | Points) -> Tensor:
    if isinstance(face, Points):
        return torch.from_numpy(face.values)
    if face == "domain":
        return points
    points, k = points.clone(), problem.domain.names.index(face[0])
    if "=" in face:
        points[:, k] = float(face[2:])
        return points
    points[:, k] = {"-": problem.domain.lower[k], "+": problem.domain.upper[k]}[face[1]]
    return points


def beside_plane(problem: Problem, points: Tensor, face: str, side: int) -> Tensor:
    """Points 1e-300 beside an inner plane such as "x=0": their limits from that side."""
    points = points.clone()
    points[:, problem.domain.names.index(face[0])] = float(face[2:]) + side * 1e-300
    return points


def reference_point(problem: Problem, points: Tensor) -> Point:
    """The reference and its derivatives by reverse-mode differentiation."""
    names, space = problem.domain.names, JetSpace(problem.domain.names, problem.derivatives)
    columns = [points[:, k].clone().requires_grad_() for k in range(len(names))]
    values = by_name(problem, problem.reference(Coordinates(names, columns)))
    jets = {}
    for unknown, value in values.items():
        derivatives = {(): value}
        for index in space.indices[1:]:
            below = derivatives[index[:-1]].sum()
            column = columns[names.index(index[-1])]
            (slope,) = torch.autograd.grad(below, column, create_graph=True, materialize_grads=True)
            derivatives[index] = slope
        jets[unknown] = Jet(space, torch.stack([derivatives[index] for index in space.indices]).detach())
    return Point(names, points, jets)


def residual_of(condition: Condition, problem: Problem, at, points: Tensor) -> list[Tensor]:
    """The condition's residuals on its faces; `at` makes a `Point` of points `[N, d]`."""
    out = []
    for face in condition.supports:
        there = within(problem, on_face(problem, points, face), condition)
        assert 10 < len(there) <= len(points) or isinstance(face, Points)
        if condition.inner:
            terms = condition.residual(*(at(beside_plane(problem, there, face, side)) for side in (-1, 1)))
            out.extend(by_name(problem, terms).values())
            continue
        here = at(there)
        if condition.periodic:
            terms = condition.residual(here, at(on_face(problem, there, f"{condition.periodic}+")))
        else:
            terms = condition.residual(here)
        out.extend(by_name(problem, terms).values())
    return out


@pytest.mark.parametrize("key", FORMULAS)
def test_reference_has_no_residual(key):
    problem = problem_of(key)
    points = random_points(problem, 400, start=1e-3)
    tolerance = TOLERANCES.get(key.partition("{")[0], 1e-10)
    if key.startswith("allen_cahn"):
        points = points[points[:, 0].abs() < 0.97]
    point = reference_point(problem, points)
    for residual in by_name(problem, problem.residual(point)).values():
        assert residual.shape == (len(points),)
        assert residual.abs().max() < tolerance


@pytest.mark.parametrize("key", FORMULAS)
def test_reference_meets_its_conditions(key):
    problem = problem_of(key)
    # At t = 0 exactly the initial values of Allen-Cahn are not yet periodic in u_x.
    points = random_points(problem, 100, start=1e-3)
    tolerance = 1e-5 if key.startswith(("allen_cahn", "cahn_hilliard")) else 1e-10
    start = 1e-8 if key in ("cahn_hilliard", "van_der_pol") else 1e-10
    given = [one for one in problem.conditions() if isinstance(one, Condition)]  # noise keeps data from being met
    for condition in given:
        for residual in residual_of(condition, problem, lambda p: reference_point(problem, p), points):
            assert residual.dim() == 1
            assert residual.abs().max() < (tolerance if condition.periodic else start)


def smooth_outputs(problem: Problem, points: Tensor, seed: int) -> dict[str, Jet]:
    """Random trigonometric polynomials of the coordinates, periodic where the problem is, one per unknown."""
    rng = np.random.default_rng(seed)
    space = JetSpace(problem.domain.names, problem.derivatives)
    scaled = []
    for name, jet in zip(space.coordinates, space.variables(points), strict=True):
        lower, upper = problem.domain.interval(name)
        scaled.append((jet - lower) * (2 * math.pi / (upper - lower) * (1.0 if name in problem.periodic else 0.37)))
    outputs = {}
    for unknown in problem.unknowns:
        jet = space.constant(points.new_full((len(points),), rng.normal()))
        for _ in range(3):
            term = space.constant(points.new_full((len(points),), rng.normal()))
            for coordinate in scaled:
                term = term * sin(coordinate * int(rng.integers(1, 4)) + rng.uniform(0, 6))
            jet = jet + term
        outputs[unknown] = jet
    return outputs


def exact_fields(problem: Problem, points: Tensor, raw: dict[str, Jet]) -> Mapping[str, Jet]:
    names = problem.domain.names
    variables = JetSpace(names, problem.derivatives).variables(points)
    return by_name(problem, problem.exact(Coordinates(names, variables), Coordinates(problem.unknowns, raw.values())))


@pytest.mark.parametrize("key", EXACT)
def test_exact_form_meets_its_conditions(key):
    problem = problem_of(key)

    def at(points: Tensor) -> Point:
        fields = exact_fields(problem, points, smooth_outputs(problem, points, seed=5))
        return Point(problem.domain.names, points, fields)

    points = random_points(problem, 100, start=1e-2)
    given = [one for one in problem.conditions() if isinstance(one, Condition)]
    for condition in given:
        if condition.inner or condition.symmetry:  # left to the loss, or to the network
            continue
        for residual in residual_of(condition, problem, at, points):
            assert residual.abs().max() < 1e-12


@pytest.mark.parametrize("key", EXACT)
def test_exact_form_is_affine_and_can_reach_the_reference(key):
    problem = problem_of(key)
    points = random_points(problem, 100, start=1e-2)
    one, two = smooth_outputs(problem, points, 1), smooth_outputs(problem, points, 2)
    mixed = {name: one[name] * 0.3 + two[name] * 0.7 for name in one}
    a, b, c = (exact_fields(problem, points, raw) for raw in (one, two, mixed))
    reference = reference_point(problem, points)
    for name in problem.unknowns:
        assert c[name].data.numpy() == pytest.approx((a[name] * 0.3 + b[name] * 0.7).data.numpy(), rel=1e-9, abs=1e-9)
        # Wherever the form does not already hold the reference, the raw output must be able to move it there.
        factor = (a[name] - b[name]).value / (one[name] - two[name]).value
        missing = getattr(reference, name) - a[name].value
        assert (missing.abs() <= 1e4 * factor.abs()).all()


@pytest.mark.parametrize("name", ["burgers", "allen_cahn"])
def test_exact_form_is_finite_in_the_corners(name):
    problem = load_problem_class(name)()
    points = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    fields = exact_fields(problem, points, smooth_outputs(problem, points, 1))
    assert torch.isfinite(fields["u"].data).all()


@pytest.mark.parametrize("diffusion", [1e-4, 1e-2, 0.7])
def test_allen_cahns_kinks_diffuse(diffusion):
    rounding = inspect.getmodule(load_problem_class("allen_cahn")).rounding
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.uniform([-1, 1e-3], [1, 1], (400, 2)))
    points[:2, 0], points[2:4, 1] = torch.tensor([-1.0, 1.0], dtype=torch.float64), 0.0
    x, t = JetSpace(("x", "t"), ("t", "xx")).variables(points)
    added = rounding(x, t, diffusion)
    assert (added["t"] - diffusion * added["xx"]).abs().max() < 1e-12 * added["xx"].abs().max()
    assert added["x"][:2].tolist() == pytest.approx([-2.0, 2.0], abs=1e-12)  # takes the slopes of x² cos πx away
    assert added.data[:, 2:4].abs().max() == 0
    for dtype in (torch.float32, torch.float64):
        early = torch.tensor([[s, 10.0**-n] for s in (-1, -0.5, 0, 1) for n in range(0, 45, 3)], dtype=dtype)
        assert rounding(*JetSpace(("x", "t"), ("t", "xx")).variables(early), diffusion).data.isfinite().all()
    # Near one kink, far from the others: 2ℓ ∫ erfc from z to infinity.
    if diffusion < 0.01:
        for k in range(10, 20):
            length = math.sqrt(4 * diffusion * float(points[k, 1]))
            ends = [(1 - float(points[k, 0])) / length, (1 + float(points[k, 0])) / length]
            expected = sum(2 * length * quad(erfc, z, z + 9)[0] for z in ends)
            assert float(added.value[k]) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_every_problem_has_a_config_and_every_config_a_problem():
    configs = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "conf" / "problem").glob("*.yaml")}
    del configs["table"]  # of `kanpinn fit`: its class is within the package
    assert sorted(name for name, text in configs.items() if "\nequations:" not in text) == NAMES
    required = {"poisson", "helmholtz", "burgers", "allen_cahn", "heat", "wave", "advection"}
    required |= {"regression", "poisson_interface", "kdv", "poisson_nd", "poisson_lshape"}
    assert required <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_config_defaults_are_class_defaults(name):
    config = yaml.safe_load((ROOT / "conf" / "problem" / f"{name}.yaml").read_text())
    assert config.pop("name") == name
    assert config.pop("conditions") in ("soft", "exact")
    assert isinstance(config.pop("tuned"), dict)
    # Choices of other groups that suit the problem; the whole defaults are composed in test_config.
    assert all(key.startswith("override /") for entry in config.pop("defaults", []) for key in entry)
    found = FOUND.get(name, {})  # has a starting value in the class alone
    defaults = {field.name: field.default for field in fields(load_problem_class(name)) if field.name not in found}
    assert config == defaults
    assert {key: type(value) for key, value in config.items()} == {key: type(value) for key, value in defaults.items()}


GENERAL = {
    path: yaml.safe_load(default)
    for file in (ROOT / "conf").glob("*/*.yaml")
    for path, default in re.findall(r"\$\{tuned:([\w.]+),((?:[^{}]|\{\})*)\}", file.read_text(encoding="utf-8"))
}
"""Value of each key that a problem can recommend, where it does not."""


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "problem").glob("*.yaml")), ids=lambda file: file.stem)
def test_no_recommendation_repeats_what_holds_without_it(file):
    section = OmegaConf.create({"tuned": read_yaml(file).get("tuned")})
    for path, default in GENERAL.items():
        places = [f"tuned.{path}", *(f"tuned.{network}.{path}" for network in BACKBONES)]
        shared, *own = (OmegaConf.select(section, place) for place in places)
        assert shared is None or shared != default, path
        assert all(value is None or value != (default if shared is None else shared) for value in own), path


@pytest.mark.parametrize("name", NAMES)
def test_problems_describe_themselves(name):
    cls = load_problem_class(name)
    summary = inspect.getdoc(cls).splitlines()[0]
    assert summary.endswith(".")
    assert ast.get_docstring(ast.parse((ROOT / "problems" / f"{name}.py").read_text()))
    for field in fields(cls):
        assert f"\n    {field.name}: " in inspect.getdoc(cls), f"{field.name} is not explained"
    assert "=" in cls.equation
    assert cls.equation.isascii()
    names = cls().domain.names
    assert set(cls.labels) <= {*names, *cls.unknowns}
    assert set(cls.periodic) <= set(names)
    assert set(cls.positive) <= {field.name for field in fields(cls)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, 10**400])
def test_coefficients_must_be_finite_numbers(name, value):
    cls = load_problem_class(name)
    for field in fields(cls):
        if field.type is bool:
            if value is not True:
                with pytest.raises(UserError, match=rf"^problem\.{field.name}=.*: expected true or false\.$"):
                    cls(**{field.name: value})
            continue
        with pytest.raises(UserError, match=rf"^problem\.{field.name}=.*: expected a .*number\.$"):
            cls(**{field.name: value})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0, -1])
def test_physical_coefficients_must_be_positive(name, value):
    cls = load_problem_class(name)
    for key in cls.positive:
        with pytest.raises(UserError, match=rf"^problem\.{key}={value}: expected a positive (whole )?number\.$"):
            cls(**{key: value})


def test_the_double_pendulum_conserves_its_energy():
    problem = load_problem_class("double_pendulum_lagrangian")()

    def state(values: np.ndarray) -> Coordinates:
        return Coordinates(problem.domain.names, list(torch.from_numpy(values)))

    def energy(values: np.ndarray) -> np.ndarray:
        p = state(values)
        L = problem.reference(p)
        return (L["A"] * p.v1**2 / 2 + L["B"] * p.v1 * p.v2 + L["C"] * p.v2**2 / 2 + L["V"]).numpy()

    def motion(_: float, y: np.ndarray) -> list[float]:
        return [*y[2:], *(float(a[0]) for a in problem.measured(state(y[:, None])))]

    path = solve_ivp(motion, (0, 2), [1.0, -0.5, 0.3, 0.7], rtol=1e-9, atol=1e-11).y
    assert np.ptp(path[0]) > 0.5 and np.ptp(energy(path)) < 1e-7


def test_counts_must_be_whole():
    with pytest.raises(UserError, match=r"^problem\.k=1\.5: expected a positive whole number\.$"):
        load_problem_class("heat")(k=1.5)


@dataclass(frozen=True)
class AcousticSystem(Problem):
    """The wave equation as two equations for two unknowns: u_t = c v_x, v_t = c u_x."""

    c: float = 2.0
    shifts: tuple[float, ...] = (0.25, 0.5)

    domain = Box(x=(0, 2), t=(0, 1))
    unknowns = ("u", "v")
    derivatives = ("t", "x")
    periodic = ("x",)

    def residual(self, p: Point) -> dict[str, Tensor]:
        return {"momentum": p.u_t - self.c * p.v_x, "mass": p.v_t - self.c * p.u_x}

    def conditions(self) -> list[Condition]:
        return [
            Condition("initial", "t-", lambda p: {"u": p.u - sin(math.pi * p.x), "v": p.v}),
            Condition("periodic", "x-", lambda p, q: {"u": p.u - q.u, "v": p.v - q.v}, periodic="x"),
        ]

    def exact(self, p: Coordinates, raw: Coordinates) -> dict[str, Jet]:
        return {"u": sin(math.pi * p.x) + p.t * raw.u, "v": p.t * raw.v}

    def reference(self, p: Coordinates) -> dict[str, Tensor]:
        w = math.pi * self.c * p.t
        return {"u": sin(math.pi * p.x) * cos(w), "v": cos(math.pi * p.x) * sin(w)}


def test_several_unknowns_and_equations_fit():
    problem = AcousticSystem()
    points = random_points(problem, 200)
    residuals = problem.residual(reference_point(problem, points))
    assert set(residuals) == {"momentum", "mass"}
    assert max(r.abs().max() for r in residuals.values()) < 1e-12
    at_exact = lambda p: Point(problem.domain.names, p, exact_fields(problem, p, smooth_outputs(problem, p, 1)))  # noqa: E731
    for at in (lambda p: reference_point(problem, p), at_exact):
        for condition in problem.conditions():
            assert max(r.abs().max() for r in residual_of(condition, problem, at, points)) < 1e-12


def test_a_users_own_class_refuses_nan_too():
    with pytest.raises(UserError, match=r"^problem\.c=nan: expected a finite number\.$"):
        AcousticSystem(c=math.nan)
    with pytest.raises(UserError, match=r"^problem\.shifts=\[0\.1,nan\]: expected finite numbers\.$"):
        AcousticSystem(shifts=(0.1, math.nan))


def test_asking_for_what_is_not_there_says_what_is():
    problem = AcousticSystem()
    point = reference_point(problem, random_points(problem, 3))
    with pytest.raises(UserError, match="add 'xx' to the problem's derivatives"):
        _ = point.u_xx
    with pytest.raises(UserError, match=r"p\.w: no such coordinate or unknown; known are x, t, u, v"):
        _ = point.w


def test_gradient_jumps_at_the_interface_and_flux_and_value_do_not():
    problem = load_problem_class("poisson_interface")()
    points = random_points(problem, 50)
    left, right = (reference_point(problem, beside_plane(problem, points, "x=0", side)) for side in (-1, 1))
    slope = math.pi * sin(3 * math.pi * points[:, 1])
    assert (left.u - right.u).abs().max() < 1e-12
    assert left.u_x.numpy() == pytest.approx(slope.numpy(), abs=1e-12)
    assert right.u_x.numpy() == pytest.approx(2 * slope.numpy(), abs=1e-12)


def test_interface_itself_counts_as_its_right_side():
    problem = load_problem_class("poisson_interface")()
    points = beside_plane(problem, random_points(problem, 50), "x=0", 0)
    point = reference_point(problem, points)
    assert point.u_x.numpy() == pytest.approx(2 * math.pi * np.sin(3 * math.pi * points[:, 1].numpy()), abs=1e-12)
    assert problem.residual(point).abs().max() < 1e-10


@pytest.mark.parametrize("angle", [0.175, 0.0, math.pi / 2, -1.0, 2.0, 5.0])
def test_regression_target_is_scaled_to_the_unit_interval(angle):
    """A grid misses the extremes by its spacing at most (times slopes up to 30 beside kinks), and never passes them."""
    axis = torch.linspace(0, 1, 1001, dtype=torch.float64)
    mesh = torch.meshgrid(axis, axis, indexing="ij")
    problem = load_problem_class("regression")(angle=angle)
    values = problem.reference(Coordinates(("x", "y"), mesh))
    assert 0 <= values.min() < 2e-3
    assert 1 - 1e-5 < values.max() <= 1


def test_regression_extremes_at_the_papers_angle():
    """The chords there are long enough for cos 4πx' = ±1; the rest is a function of y' with a kink at y'² = 2/3."""
    extremes = importlib.import_module("kanpinn.problems.regression").extremes
    z = math.sqrt(2 / 3)
    low = -1 + math.sin(math.pi * z) + math.sin(2 * math.pi * z)

    def falling(y: float) -> float:
        return -math.sin(math.pi * y) - math.sin(2 * math.pi * y) - abs(math.sin(3 * math.pi * y * y))

    high = 1 - minimize_scalar(falling, bounds=(0.3, 0.45), method="bounded", options={"xatol": 1e-12}).fun
    assert extremes(0.175) == pytest.approx((low, high), abs=1e-13)


def test_regression_turns_its_inputs():
    target = importlib.import_module("kanpinn.problems.regression").target
    c, s = math.cos(0.175), math.sin(0.175)
    # (x, y) is (0.25, 0.5) turned back.
    x, y = torch.tensor([c * 0.25 + s * 0.5]), torch.tensor([-s * 0.25 + c * 0.5])
    value = math.cos(math.pi) + math.sin(math.pi / 2) + math.sin(math.pi) + abs(math.sin(0.75 * math.pi))
    assert target(x, y, 0.175).item() == pytest.approx(value, abs=1e-5)


@pytest.mark.parametrize("dim", [1, 7])
def test_dimensions_without_names_are_refused(dim):
    with pytest.raises(UserError, match=rf"^problem\.dim={dim}: expected a whole number from 2 to 6\.$"):
        load_problem_class("poisson_nd")(dim=dim)


def test_dimensions_are_a_coefficient():
    problem = load_problem_class("poisson_nd")(dim=4, k=3)
    assert problem.domain.names == ("x", "y", "z", "w")
    assert problem.derivatives == ("xx", "yy", "zz", "ww")
    assert len(problem.conditions()[0].supports) == 8
    half = torch.full((1, 4), 1 / 6, dtype=torch.float64)
    assert problem.reference(Coordinates(problem.domain.names, half.unbind(1))).item() == pytest.approx(1.0)


def test_corner_function_is_that_of_polar_coordinates_with_its_derivatives():
    """Against reverse-mode derivatives of r^(2/3) sin 2θ/3, and harmonic to the last digit but one."""
    module = importlib.import_module("kanpinn.problems.poisson_lshape")
    problem = load_problem_class("poisson_lshape")()
    points = random_points(problem, 200)
    space = JetSpace(("x", "y"), ("xxx", "xxy", "xyy", "yyy"))
    jet = module.corner(*space.variables(points))
    x, y = (points[:, k].clone().requires_grad_() for k in range(2))
    theta = torch.atan2(y, x) + 2 * math.pi * (y < 0).to(y)
    below = {(): (x * x + y * y) ** (1 / 3) * torch.sin(2 / 3 * theta)}
    for name in space.indices[1:]:
        column = {"x": x, "y": y}[name[-1]]
        (below[name],) = torch.autograd.grad(below[name[:-1]].sum(), column, create_graph=True)
    for name in space.indices:
        assert jet[name].numpy() == pytest.approx(below[name].detach().numpy(), rel=1e-9, abs=1e-9)
    assert (jet["xx"] + jet["yy"]).abs().max() <= 1e-12 * jet["xx"].abs().max()


def test_corner_function_vanishes_on_both_edges_and_at_the_corner():
    module = importlib.import_module("kanpinn.problems.poisson_lshape")
    edges = torch.tensor([[0.5, 0.0], [1.0, 0.0], [0.0, -0.5], [-1e-300, -0.5], [0.0, 0.0]], dtype=torch.float64)
    jet = module.corner(*JetSpace(("x", "y"), ("xx", "yy")).variables(edges))
    assert jet.value.abs().max() < 1e-15
    assert torch.isfinite(jet.data).all()


@pytest.mark.parametrize("name", ["even", "odd", "third", "fourth"])
def test_flow_about_the_edge_of_a_step_is_stokes_and_clings_to_both_walls(name):
    module = importlib.import_module("kanpinn.problems.backward_step")
    power, shift, factor = module.EDGE[name]

    def flow(points):
        found = module.about_edge(*JetSpace(("x", "y"), ("xx", "yy")).variables(points), power, shift)
        return [(factor * part).real for part in found]

    points = 2 * torch.rand(300, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 1
    u, v, p = flow(points[(points > 0).any(1)])
    assert u.value.abs().max() > 0.1
    for residual in (u["x"] + v["y"], p["x"] - u["xx"] - u["yy"], p["y"] - v["xx"] - v["yy"]):
        assert residual.abs().max() < 1e-12 * p["x"].abs().max()
    walls = torch.tensor([[-0.5, 1e-300], [1e-300, -0.3], [-1.0, 0.0]], dtype=torch.float64)
    for velocity in flow(walls)[:2]:
        assert velocity.value.abs().max() < 1e-12


def test_enriched_network_reaches_the_solution_with_a_smooth_and_a_constant_output():
    problem = load_problem_class("poisson_lshape")(a=0.7)
    points = random_points(problem, 100)
    space = JetSpace(("x", "y"), problem.derivatives)
    x, y = space.variables(points)
    smooth = 0.7 * sin(math.pi * x) * sin(math.pi * y)
    raw = Jet(space, torch.stack([smooth.data, space.constant(torch.ones(len(points)).double()).data], dim=-1))
    fields = network_fields(problem, raw, points, exact=False)
    assert set(fields) == {"u"}
    reference, found = reference_point(problem, points), Point(("x", "y"), points, fields)
    for name in ("u", "u_x", "u_yy"):
        assert getattr(found, name).numpy() == pytest.approx(getattr(reference, name).numpy())
    assert problem.residual(found).abs().max() < 1e-10


@dataclass(frozen=True)
class Unbuilt(AcousticSystem):
    """One output more than unknowns, and nothing said of what it is for."""

    outputs = ("u", "v", "w")


def test_further_outputs_need_an_ansatz():
    raw = Jet(JetSpace(("x", "t"), ()), torch.zeros(1, 4, 3))
    with pytest.raises(UserError, match=r"^problem=Unbuilt: outputs u, v, w need an ansatz\.?$"):
        network_fields(Unbuilt(), raw, torch.zeros(4, 2), exact=False)


def lshape_objective() -> tuple[Objective, Tensor]:
    problem, options = load_problem_class("poisson_lshape")(), Kan(width=[3], degree=3, grid=2)
    rng = np.random.default_rng(0)
    backbone = options.build(options.embedding.build(problem.domain, (), rng), 2)
    objective = Objective(Residuals(problem, backbone), Fixed())
    objective.set_points(SAMPLERS["uniform"](interior=9, boundary=8).draw(problem, 0, rng))
    return objective, backbone.initial(rng)


def test_jacobian_of_an_enriched_network_is_that_of_reverse_mode():
    objective, theta = lshape_objective()
    found = objective.linearize(theta).dense()
    r, jacobian = found.residual, found.jacobian
    start = theta.clone().requires_grad_()
    rows = objective.residual(start)[0]
    expected = torch.stack([torch.autograd.grad(row, start, retain_graph=True)[0] for row in rows])
    assert r.numpy() == pytest.approx(rows.detach().numpy(), abs=1e-13)
    assert jacobian.numpy() == pytest.approx(expected.numpy(), abs=1e-11)


def test_output_outside_the_domain_is_nan_and_does_not_count():
    objective, theta = lshape_objective()
    grid = OutputGrid(objective.residuals.problem, 11)
    x, y = np.meshgrid(np.linspace(-1, 1, 11), np.linspace(-1, 1, 11))
    outside = (x > 0) & (y < 0)
    assert np.array_equal(np.isnan(grid.reference["u"]), outside)
    fields = solution_fields(objective.residuals, theta, grid)
    assert all(np.array_equal(np.isnan(values), outside) for values in fields.values())
    l2, linf = grid.errors({"u": 1.25 * grid.reference["u"]})
    assert l2["u"] == pytest.approx(0.25)
    assert linf["u"] == pytest.approx(0.25 * np.nanmax(np.abs(grid.reference["u"])))
