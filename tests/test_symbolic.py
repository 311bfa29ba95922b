"""Closed forms: curves, structure and constants of known functions, and formulas put into equations."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import sympy
import torch

import kanpinn
from kanpinn.errors import UserError
from kanpinn.explain.structure import Field
from kanpinn.least_squares.residuals import Scales
from kanpinn.pde.text_problem import text_problem
from kanpinn.symbolic import formula
from kanpinn.symbolic.constants import Fit, refined
from kanpinn.symbolic.curves import fitted
from kanpinn.symbolic.formula import as_json, as_markdown, closed_forms
from kanpinn.symbolic.library import LIBRARY, library
from kanpinn.symbolic.structure import Search
from kanpinn.symbolic.substitution import exact, rest_of

X, Y, T = (sympy.Symbol(name, real=True) for name in "xyt")
PI = np.pi


def noise(points, size):
    """A smooth disturbance, as a network's error is."""
    phases = np.random.default_rng(0).standard_normal((points.shape[1], 3))
    return size * np.sin(5 * points @ phases).sum(1)


@pytest.mark.parametrize(
    ("formula", "form"),
    [("x*(1 - x)", None), ("sin(3*x + 1)", "sin"), ("2*exp(-5*x)", "exp"), ("0.5/cosh(4*x - 2)**2", "cosh")],
)
def test_a_curve_is_recognised_through_a_small_error(formula, form):
    x = np.linspace(0, 1, 200)
    wanted = sympy.lambdify("x", formula)(x)
    found = fitted(x, wanted + noise(x[:, None], 1e-9), 1e-7, LIBRARY, X)
    assert found is not None and found.residual < 1e-8
    assert form is None or form in str(found.expression)
    np.testing.assert_allclose(sympy.lambdify(X, found.expression)(x), wanted, atol=1e-7)


def test_a_curve_that_nothing_fits_is_refused():
    x = np.linspace(0, 1, 200)
    assert fitted(x, np.abs(np.sin(9 * x)) ** 1.5, 1e-7, LIBRARY[:1], X) is None


@pytest.mark.parametrize(
    ("formula", "texts"),
    [
        ("sin(pi*x)*exp(-t/2)", ["product of a function of x and one of t"]),
        ("x**2 + cos(3*t)", ["sum of a function of x and one of t"]),
        ("tanh(2*x - 3*t)", ["function of x + -1.5 t"]),
        ("x*cos(5*pi*t) + (x*t)**3", ["sum of 2 products"]),  # klein_gordon
        pytest.param(
            "1/(x + exp(t))",
            ["1/g of a function", "sum of a function of x and one of t"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_structure_and_constants_of_known_functions(formula, texts):
    wanted = sympy.lambdify([X, T], sympy.sympify(formula, {"x": X, "t": T}))

    def value(points):
        return wanted(*points.T) + noise(points, 1e-9)

    field = Field(value, ("x", "t"), np.array([0.2, 0.0]), np.array([1.0, 1.0]), 1e-7)
    search = Search(LIBRARY)
    expression = search.find(field)
    assert [one.text for one in search.findings][: len(texts)] == texts
    points = field.points(500, 1)
    found = refined(expression, field.names, points, value(points), 1e-8)
    assert found is not None and not found.free  # every constant is exact
    assert sympy.simplify(found.expression - sympy.sympify(formula, {"x": X, "t": T})) == 0


def test_the_wave_of_burgers_equation_leaves_nothing_of_it():
    text = {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "unknowns": ["u"],
        "nu": 0.05,
        "equations": "u_t + reference(u)*u_x = nu*u_xx",
        "conditions": {"initial": {"on": "t-", "equation": "u = reference(u)"}},
        "reference": {"u": "(1 - tanh((x - t/2)/(4*nu)))/2"},
    }
    problem = text_problem("wave", text)
    wave = (1 - sympy.tanh(5 * X - 5 * T / 2)) / 2

    def value(points):
        return sympy.lambdify([X, T], wave)(*points.T) + noise(points, 1e-9)

    field = Field(value, ("x", "t"), np.array([-1.0, 0.0]), np.array([1.0, 1.0]), 1e-7)
    found = refined(Search(LIBRARY).find(field), field.names, field.points(500, 1), value(field.points(500, 1)), 1e-8)
    assert sympy.simplify(found.expression - wave) == 0 and not found.free
    rests = rest_of(problem, {"u": found.expression}, Scales())
    assert max(rest.largest for rest in rests) < 1e-12
    assert next(rest.formula for rest in rests if rest.term == "interior") == 0


def test_a_search_ends_when_its_time_is_over():
    field = Field(lambda p: np.sin(3 * p[:, 0] * p[:, 1] ** 2), ("x", "t"), np.zeros(2), np.ones(2), 1e-9)
    search = Search(LIBRARY, 0.0)
    assert search.find(field) is None
    assert [one.text for one in search.findings] == ["the search ended after 0 seconds (--seconds)"]
    x = np.linspace(0, 1, 200)
    assert fitted(x, np.abs(np.sin(9 * x)) ** 1.5, 1e-7, LIBRARY, X, end=0.0) is None


def test_constants_that_are_no_exact_numbers_keep_their_values_with_deviations():
    points = np.random.default_rng(0).uniform(0, 1, (300, 1))
    values = 1.2345678 * np.exp(-0.87654321 * points[:, 0]) + noise(points, 1e-9)
    found = refined(1.2 * sympy.exp(-0.9 * X), ("x",), points, values, 1e-9)
    assert sorted(v for v, _ in found.free.values()) == pytest.approx([-0.87654321, 1.2345678], abs=1e-7)
    assert all(0 < deviation < 1e-8 for _, deviation in found.free.values())


@pytest.mark.parametrize("size", [1e-3, 3e-3])
def test_a_rough_function_keeps_its_form_and_constants(size):
    """Rough tolerances must merge no constants that differ, nor drop what matters."""
    points = np.random.default_rng(0).uniform(0, 1, (400, 2))
    values = np.sin(PI * points[:, 0]) * np.exp(-3.9 * points[:, 1]) + noise(points, size / 10)
    start = 1.02 * sympy.sin(3.15 * X + 0.001) * (sympy.exp(-3.8 * T) + 0.002)
    found = refined(start, ("x", "t"), points, values, size)
    own = sympy.lambdify([X, T], found.expression)(*points.T)
    assert found.residual < size and np.abs(own - values).max() < 0.05


def test_constants_of_a_form_that_does_not_fit_are_not_made_exact():
    points = np.random.default_rng(0).uniform(0, 1, (400, 1))
    found = refined(1.1 * sympy.exp(-2.9631 * X), ("x",), points, np.cos(3 * points[:, 0]), 1e-6)
    assert found.residual > 0.1 and len(found.free) == 2


@pytest.mark.parametrize("value", [0.1, 0.01 / PI, 2.5, PI, -3.0])
def test_coefficients_become_exact_numbers(value):
    assert float(exact(value)) == pytest.approx(value, rel=1e-15) and not exact(value).has(sympy.Float)


@dataclass(frozen=True)
class Heat(kanpinn.Problem):
    rate: float = 0.1

    domain = kanpinn.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t", "xx")

    def residual(self, p):
        return p.u_t - self.rate * p.u_xx

    def conditions(self):
        return [kanpinn.Condition("initial", "t-", lambda p: p.u - torch.sin(PI * p.x))]


def test_a_solution_leaves_nothing_of_the_equation_and_another_function_does():
    right = sympy.sin(sympy.pi * X) * sympy.exp(-(sympy.pi**2) * T / 10)
    inside, initial = rest_of(Heat(), {"u": right}, Scales())
    assert inside.formula == 0 and inside.largest < 1e-14 and initial.largest < 1e-14
    inside, initial = rest_of(Heat(), {"u": right * (1 + X)}, Scales())
    difference = inside.formula + sympy.pi / 5 * sympy.cos(sympy.pi * X) * sympy.exp(-(sympy.pi**2) * T / 10)
    assert sympy.simplify(difference) == 0
    assert inside.largest == pytest.approx(0.2 * PI, rel=0.2) and initial.largest > 0.5


@dataclass(frozen=True)
class Decay(kanpinn.Problem):
    domain = kanpinn.Box(t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t + 2 * p.u

    def conditions(self):
        return [kanpinn.Condition("start", "t-", lambda p: p.u - 3)]


@pytest.fixture(scope="module")
def decay():
    """A network of u = 3 exp(-2t) to about 1e-9."""
    options = ("threads=1", "seed=0", "output.progress=false", "sampler.interior=60", "output.figures=false")
    return kanpinn.solve(Decay(), kanpinn.Kan(width=[], degree=7, grid=8), "schedule.levels=1", *options)


def test_a_solution_is_read_off_its_network(decay):
    found = closed_forms(decay.residuals, decay.theta, 1e-7)
    entry = as_json(found)["u"]
    assert entry["sympy"] == "3*exp(-2*t)" and entry["simplified_residual"] == {"residual": "0"}
    assert entry["error"] < 1e-8 and entry["conditions"]["start"] < 1e-14
    assert "3 e^{- 2 t}" in as_markdown(found, "decay")


def test_a_form_with_constants_gives_way_to_a_simpler_one_at_a_wider_tolerance(decay, monkeypatch):
    clumsy, plain = sympy.sqrt(1.5 * sympy.exp(-4 * T) + T**2 - T**3), 3 * sympy.exp(-2 * T)
    asked = []

    def find(_, field):
        asked.append(field.tolerance)
        return clumsy if len(asked) == 1 else plain

    def refined(expression, *_):
        return Fit(expression, 0.0, {"1.5": (1.5, 0.1)} if expression is clumsy else {})

    monkeypatch.setattr(Search, "find", find)
    monkeypatch.setattr(formula, "refined", refined)
    found = closed_forms(decay.residuals, decay.theta, 1e-7)
    assert asked == pytest.approx([1e-7, 1e-5]) and found.forms["u"].fit.expression == plain


def test_a_hypothesis_is_tested_and_a_wrong_one_told_by_its_numbers(decay):
    right = as_json(closed_forms(decay.residuals, decay.theta, 1e-7, ["u = a*exp(-b*t)"]))["u"]
    assert right["sympy"] == "3*exp(-2*t)" and right["hypothesis"] == "u = a*exp(-b*t)"
    wrong = as_json(closed_forms(decay.residuals, decay.theta, 1e-7, ["u = a + b*t"]))["u"]
    assert 0.01 < wrong["error"] < 0.5 and wrong["residual"] > 0.1


@dataclass(frozen=True)
class Found(Decay):
    """The same with its rate to be found, from a start of 1."""

    rate: float = kanpinn.Unknown(1.0)

    def residual(self, p):
        return p.u_t + self.rate * p.u

    def conditions(self):
        times = np.linspace(0, 1, 30)
        return [*super().conditions(), kanpinn.Data("sensors", {"t": times, "u": 3 * np.exp(-2 * times)})]


def test_equations_hold_coefficients_as_they_were_found():
    options = ("schedule.levels=1", "threads=1", "output.progress=false", "sampler.interior=60")
    run = kanpinn.solve(Found(), kanpinn.Kan(width=[], degree=7, grid=8), *options)
    entry = as_json(closed_forms(run.residuals, run.theta, 1e-6, ["u = a*exp(-b*t)"]))["u"]
    assert entry["sympy"] == "3*exp(-2*t)" and entry["residual"] < 1e-5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v = t", "--try=v: unknown. Valid choices: u"),
        ("u", "expected an unknown, '='"),
        ("u = a*sin(t", "letter"),
        ("u = ", "'='"),
    ],
)
def test_a_hypothesis_that_cannot_be_read_is_refused(decay, text, message):
    with pytest.raises(UserError, match=message):
        closed_forms(decay.residuals, decay.theta, 1e-7, [text])


def test_rough_solutions_are_refused(decay):
    with pytest.raises(UserError, match="--try: two formulas of one unknown"):
        closed_forms(decay.residuals, decay.theta, 1e-3, ["u = a", "u = b*x"])
    with pytest.raises(UserError, match="needs one below"):
        closed_forms(decay.residuals, decay.theta, 0.1)


def test_the_library_takes_further_functions_and_refuses_what_is_none():
    assert library(["x*exp(-x)"])[-1].value(np.array([1.0])) == pytest.approx(np.exp(-1))
    with pytest.raises(UserError, match="y"):
        library(["y + 1"])[-1].of(X)


def test_the_command_writes_formula_files(decay, tmp_path, capsys):
    from kanpinn.cli.main import main

    decay.save(tmp_path / "run")
    assert main(["symbolic", str(tmp_path / "run"), "--tolerance", "1e-7"]) == 0
    assert "u = 3*exp(-2*t)" in capsys.readouterr().out
    written = json.loads((tmp_path / "run" / "formula.json").read_text(encoding="utf-8"))
    assert written["u"]["latex"] == "3 e^{- 2 t}" and (tmp_path / "run" / "formula.md").exists()
    assert main(["symbolic", str(tmp_path / "run"), "--tolerance", "-1"]) == 2
