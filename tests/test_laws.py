"""Laws of tables: found in rows of known formulas, clean and noisy, and refused where there are none."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sympy

import kanpinn
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.pde.formulas import formula
from kanpinn.pde.grammar import Names
from kanpinn.symbolic.constants import Fit, fitted_constants, refined
from kanpinn.symbolic.fits import CURVES, _built, _good, _law, _without_constants, laws_of
from kanpinn.symbolic.formula import ClosedForm, as_json
from kanpinn.symbolic.hypotheses import fitted_hypothesis
from kanpinn.symbolic.laws import LawSearch
from kanpinn.symbolic.library import values_of
from kanpinn.symbolic.pursuit import eliminated, pursued
from kanpinn.symbolic.signomials import signomials
from kanpinn.symbolic.terms import Terms, products, units

X1, X2, X3 = (sympy.Symbol(name, real=True) for name in ("x1", "x2", "x3"))


def table(formula, lower, upper, noise=0.0, rows=300):
    generator = np.random.default_rng(1)
    points = generator.uniform(lower, upper, (rows, len(lower)))
    values = sympy.lambdify([X1, X2, X3][: len(lower)], formula)(*points.T)
    return points, values + noise * np.sqrt(np.mean(values**2)) * generator.standard_normal(rows)


@pytest.mark.parametrize(
    ("text", "lower", "upper", "noise"),
    [
        ("x1/sqrt(1 - x2**2)", [0, 0], [1, 0.9], 0.0),
        pytest.param("x1*x2**2/(4*pi)", [0, -1], [1, 1], 0.01, marks=pytest.mark.slow),
        pytest.param("x1/sqrt(1 - x2**2/x3**2)", [0, 0, 1], [1, 1, 2], 0.0, marks=pytest.mark.slow),
        pytest.param("x1*(1/x2 + x3)", [0.5, 0.5, -1], [2, 2, 1], 0.01, marks=pytest.mark.slow),
        pytest.param("exp(sin(pi*x1) + x2**2)", [-1, -1], [1, 1], 0.0, marks=pytest.mark.slow),
        pytest.param("sqrt((x1 - x2)**2 + x3**2)", [-1, -1, -1], [1, 1, 1], 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_law_is_found_with_its_constants(text, lower, upper, noise):
    formula = sympy.sympify(text, {"x1": X1, "x2": X2, "x3": X3})
    search = LawSearch(*table(formula, lower, upper, noise), [f"x{k + 1}" for k in range(len(lower))], 30)
    search.find()
    fit = search.exact()
    assert sympy.simplify(fit.expression - formula) == 0 and search.complete()


def test_products_of_powers_are_what_their_texts_say():
    points = np.random.default_rng(0).uniform(0.5, 2, (40, 3)) * [1, -1, 1]
    for found in (products(("x1", "x2", "x3"), points, 300), units(("x1", "x2", "x3"), points, 26)):
        for text, values in zip(found.texts, found.values, strict=True):
            np.testing.assert_allclose(sympy.lambdify([X1, X2, X3], text)(*points.T), values, rtol=1e-12)
        assert len(set(found.texts)) == len(found)


def test_pursuit_and_elimination_find_the_terms_of_a_sum():
    """A sum of three among 200 terms at random, the fourth of its size left as noise."""
    generator = np.random.default_rng(0)
    pool = Terms([str(k) for k in range(200)], np.ones(200), generator.standard_normal((200, 300)))
    target = 2 * pool.values[3] - pool.values[70] + 0.5 * pool.values[150] + 0.01 * generator.standard_normal(300)
    weights = generator.uniform(0.5, 2, 300)
    assert pursued(np.zeros((0, 300)), pool, target, weights, 0.0)[0][1] == (3, 70, 150)
    assert eliminated(pool, target, weights, 0.0)[1] == (3, 70, 150)


@pytest.fixture(scope="module")
def fit(tmp_path_factory):
    """A network fitted to y = 3 x1 x2 + 1/x2 with 0.1 % noise, in a run folder."""
    points, values = table(3 * X1 * X2 + 1 / X2, [-1, 0.5], [1, 2], 1e-3)
    folder = tmp_path_factory.mktemp("fit") / "run"
    options = ("schedule.levels=1", "schedule.steps=20", "threads=1", "output.progress=false", "output.figures=false")
    return kanpinn.fit(points, values, "backbone.width=[3]", *options, folder=folder)


@pytest.mark.slow
def test_the_command_reads_the_law_off_a_fit(fit, capsys, tmp_path):
    assert main(["symbolic", str(fit.folder), "-o", str(tmp_path)]) == 0
    assert "error on the rows held out" in capsys.readouterr().out
    entry = json.loads((tmp_path / "formula.json").read_text(encoding="utf-8"))["y"]
    found = sympy.sympify(entry["sympy"], {"x1": X1, "x2": X2})
    assert sympy.simplify(found - 3 * X1 * X2 - 1 / X2) == 0
    assert entry["error_on_rows_held_out"]["law"] < 2e-3 and entry["error"] < 0.1


def test_a_hypothesis_is_fitted_to_the_rows(fit):
    entry = as_json(laws_of(fit.residuals, fit.theta, ["y = a*x1*x2 + b/x2"]))["y"]
    assert (
        sorted(one["value"] for one in entry["constants"]) == pytest.approx([1, 3], abs=1e-3) or not entry["constants"]
    )
    with pytest.raises(UserError, match="is no number at"):
        laws_of(fit.residuals, fit.theta, ["y = log(x1)"])


def test_a_function_that_is_no_number_is_refused(fit):
    with pytest.raises(UserError, match="no number for any x"):
        laws_of(fit.residuals, fit.theta, forms=["sqrt(-1 - x**2)"])
    with pytest.raises(UserError, match=r"--form='f\(x\)'"):
        laws_of(fit.residuals, fit.theta, forms=["f(x)"])


@pytest.mark.slow
def test_values_at_random_have_no_law():
    generator = np.random.default_rng(0)
    run = kanpinn.fit(
        generator.uniform(0, 1, (60, 2)),
        generator.standard_normal(60),
        *("backbone.width=[]", "schedule.levels=1", "schedule.steps=3", "threads=1", "output.progress=false"),
    )
    assert as_json(laws_of(run.residuals, run.theta, seconds=1.0))["y"]["sympy"] is None


def test_a_factor_for_the_noise_of_one_row_is_taken_away():
    """1/x² is large where x is nearly 0, and gains by that row; its error is that of a fit without the row."""
    x, y = np.random.default_rng(0).uniform(0, 1, (2, 300))
    x[7] = 1e-4
    values = 2 * x * y + 5e-3 * np.random.default_rng(1).standard_normal(300)
    a, b = (sympy.Symbol(name, real=True) for name in "xy")
    names, points = ("x", "y"), np.stack([x, y], 1)
    _, residual, left_out, _ = fitted_constants(2.1 * a * b + 1e-7 / a**2, names, points, values)
    others = np.arange(300) != 7
    again = fitted_constants(2.1 * a * b + 1e-7 / a**2, names, points[others], values[others])[0]
    missed = values - values_of(again, names, points)
    size = np.sqrt(np.mean(values**2))
    assert left_out == pytest.approx(np.sqrt(np.mean(missed[others] ** 2) + missed[7] ** 2 / 300) / size, rel=0.02)
    search = LawSearch(points, values, names)
    search.add(2.1 * a * b * sympy.exp(1e-8 / a**2))
    search.shorten()
    assert search.laws[0].expression.subs({a: 1, b: 1}) == pytest.approx(2.0, abs=0.01)
    assert not search.laws[0].expression.has(sympy.exp) and residual < left_out


def test_a_law_of_too_many_terms_is_shortened():
    """Two sines of nearly one frequency say together what one says alone."""
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 200))
    search = LawSearch(np.stack([x, y], 1), -np.exp(np.sin(np.pi * x) + y**2), ("x", "y"))
    a, b = (sympy.Symbol(name, real=True) for name in "xy")
    terms = -0.015 * a**3 * sympy.cos(a) + 0.757 * sympy.sin(3.085 * a) + 0.245 * sympy.sin(3.284 * a)
    search.add(-1.0 * sympy.exp(terms + 1.0001 * b**2))
    assert search.laws[0].residual > 1e-9
    search.shorten()
    assert sympy.simplify(search.exact().expression + sympy.exp(sympy.sin(sympy.pi * a) + b**2)) == 0


def test_exponents_of_a_sum_of_products_are_found_with_signs_and_a_function():
    x = np.random.default_rng(0).uniform([0.5, -1, 0.5, 0.1], [2, 1, 2, 6], (300, 4))
    within = Terms(["sin(x4)", "cos(x4)"], np.full(2, 2.5), np.stack([np.sin(x[:, 3]), np.cos(x[:, 3])]))
    target = 3 * x[:, 0] / np.sqrt(x[:, 2]) - 0.5 * x[:, 0] * x[:, 1] ** 3 * x[:, 2] ** -2 * np.cos(x[:, 3])
    missed, terms = signomials(("x1", "x2", "x3", "x4"), x, target, np.ones(300), within, 2)[0]
    assert missed < 1e-12
    assert set(terms.texts) == {"x1*x3**(-1/2)", "x1*x2**(3)*x3**(-2)*cos(x4)"}


def test_elimination_leaves_out_terms_that_are_sums_of_cheaper_ones():
    a, b = np.random.default_rng(0).uniform(0, 1, (2, 100))
    pool = Terms(
        ["(a + b)**2", "a**2", "b**2", "a*b"],
        np.array([4.0, 1.5, 1.5, 2.0]),
        np.stack([(a + b) ** 2, a**2, b**2, a * b]),
    )
    assert eliminated(pool, a**2 + 3 * b**2, np.ones(100), 0.0)[1] == (1, 2)


def test_of_more_terms_than_rows_the_cheapest_are_left_to_choose_from():
    values = np.random.default_rng(1).normal(size=(9, 5))
    pool = Terms([f"f{k}" for k in range(9)], np.arange(9.0), values)
    found = eliminated(pool, 2 * values[1] - values[3], np.ones(5), 0.0)
    assert found is not None and set(found[1]) <= set(range(5))


def test_a_quotient_of_sums_is_found_among_all_triples():
    """y = 1 + x/(1 − x/5) is 1 + 4x/5 + xy/5; pairs of other terms come so close that none of it is followed."""
    x = np.random.default_rng(0).uniform(0, 1, 200)
    y = 1 + x / (1 - x / 5)
    near = [x**k for k in np.linspace(0.3, 4, 30)]
    pool = Terms(
        ["1", "x", "#x", *("near" for _ in near)],
        np.array([0, 1, 2.5, *(1.2 for _ in near)]),
        np.stack([np.ones(200), x, x * y, *near]),
    )
    once = np.array([0, 0, 1] + [0] * 30)
    assert pursued(np.zeros((0, 200)), pool, y, np.ones(200), 0.0, once)[0][1] == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "constants", "lower", "upper"),
    [
        ("A*exp(-B/x1)", {"A": 1e13, "B": 9021.0}, 273, 400),  # a constant far larger than 1 and than x1
        ("10**(A - B/(C + x1))", {"A": 8.07131, "B": 1730.63, "C": -39.724}, 273, 400),
        ("a*sin(w*x1)", {"a": 2.0, "w": 57.3}, 0, 10),  # one of many frequencies
        ("L/(1 + exp(-k*(x1 - m)))", {"L": 7.0, "k": 1.5, "m": 1.0}, -5, 5),  # is written anew, with other constants
    ],
)
def test_a_right_hypothesis_is_found_to_hold_in_any_units(text, constants, lower, upper):
    names = Names(("x1",), (), tuple(sorted(constants)))
    expression = formula(text, names, "--try").expression
    points = np.random.default_rng(1).uniform(lower, upper, (300, 1))
    wanted = sympy.lambdify([X1, *expression.free_symbols - {X1}], expression)
    values = wanted(points[:, 0], *(constants[one.name] for one in expression.free_symbols - {X1}))
    fit, found = fitted_hypothesis("y", expression, ("x1",), points, values, 1e-6, random=True)
    assert fit.residual < 1e-11
    # The sine of -w x1 is the same with -a.
    assert {name: abs(value) for name, (value, _) in found.items()} == pytest.approx(
        {name: abs(value) for name, value in constants.items()}, rel=1e-7
    )


def test_constants_that_undo_each_other_become_the_simplest():
    points = np.random.default_rng(1).uniform([0.5, 0.5], [3, 3], (200, 2))
    values = np.log(points[:, 0]) + np.sin(points[:, 1])
    given = sympy.log(5.4 * X1) + sympy.sin(X2) - 1.6
    for random in (False, True):
        fit = refined(given, ("x1", "x2"), points, values, 1e-6, random=random)
        assert fit.expression == sympy.log(X1) + sympy.sin(X2) and not fit.free


def test_the_constants_listed_are_those_of_the_formula_shown():
    """Also where SymPy joins some, and where nothing is rounded; each has the deviation of the whole fit."""
    x = np.linspace(-1, 1, 300)[:, None]
    values = 1.234567 * np.exp(0.7654321 * x[:, 0]) + 1e-3 * np.random.default_rng(0).standard_normal(300)
    joined = refined(0.9 * sympy.exp(0.7 * X1 + sympy.Symbol("c")).subs("c", 0.25), ("x1",), x, values, 1e-9)
    text = sympy.Float(0.9) * sympy.exp(sympy.Float(0.25) + sympy.Float(0.7) * X1, evaluate=False)
    for fit in (joined, refined(text, ("x1",), x, values, 1e-9)):
        assert fit is not None
        floats = sorted(map(float, fit.expression.atoms(sympy.Float)))
        assert sorted(value for value, _ in fit.free.values()) == floats and len(floats) == 2
        slopes = np.stack([np.exp(floats[0] * x[:, 0]) * floats[1] * x[:, 0], np.exp(floats[0] * x[:, 0])], 1)
        wanted = 1e-3 * np.sqrt(np.diag(np.linalg.inv(slopes.T @ slopes)))
        found = [fit.free[f"{one:.12g}"][1] / np.sqrt(3) for one in floats]  # deviations hold a factor √3
        assert found == pytest.approx(wanted, rel=0.1)


def test_constants_of_a_negative_law_have_its_signs(fit, monkeypatch):
    law = Fit(-1.7 * X1, 0.0, {"1.7": (1.7, 0.1)})
    monkeypatch.setattr("kanpinn.symbolic.laws.LawSearch.find", lambda _: [])
    monkeypatch.setattr("kanpinn.symbolic.laws.LawSearch.exact", lambda _: law)
    monkeypatch.setattr("kanpinn.symbolic.laws.LawSearch.complete", lambda _: True)
    monkeypatch.setattr("kanpinn.symbolic.fits._built", lambda *_: [])
    rows = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    found, _ = _law(fit.residuals, fit.theta, "y", (rows, -1.7 * rows[:, 0]), 0.1, (), 1.0)
    assert found is not None and [value for value, _ in found.free.values()] == [-1.7]


def test_values_that_leave_no_digits_end_in_no_traceback():
    points = np.arange(45.0)[:, None]
    search = LawSearch(points, 1e9 + 1e-3 * points[:, 0], ("x1",), 3.0)
    search.find()
    assert search.exact() is not None


@pytest.mark.slow
def test_the_structure_of_a_noisy_fit_is_asked_at_its_error_without_the_noise(monkeypatch):
    """With 2 % noise the network misses its rows by more than 1e-2, but not the function."""
    monkeypatch.setattr("kanpinn.symbolic.laws.LawSearch.find", lambda _: [])
    monkeypatch.setattr("kanpinn.symbolic.laws.LawSearch.complete", lambda _: False)
    points, values = table("exp(x2)*sin(3*x1)", [-1, -1], [1, 1], noise=0.02, rows=400)
    words = ("backbone.width=[3]", "backbone.grid=3", "schedule.levels=1", "schedule.steps=40", "output.figures=false")
    solution = kanpinn.fit(points, values, *words)
    law = laws_of(solution.residuals, solution.theta).forms["y"]
    assert law.data["network"] > 1e-2
    assert law.fit is not None and sympy.simplify(law.fit.expression - sympy.exp(X2) * sympy.sin(3 * X1)) == 0


def test_a_network_is_asked_where_its_error_without_the_noise_is_small(monkeypatch, fit):
    """Its distance from the rows, here 0.02, says that it is not asked; its error as a function, 0.01, that it is."""
    asked = []

    class Asked:
        def __init__(self, *options):
            asked.append(options[2])

        def find(self, field):
            asked[-1] = asked[-1], field.tolerance
            return 2 * X1 + 0.1 if field.tolerance == 0.01 else None

    monkeypatch.setattr("kanpinn.symbolic.fits.Search", Asked)
    monkeypatch.setattr("kanpinn.symbolic.fits.fit_errors", lambda *_: {"y": 0.01})
    assert list(_built(fit.residuals, fit.theta, "y", 0.02, ())) == [2 * X1 + 0.1, 2 * X1]
    assert asked == [(close, 0.01) for close in CURVES]
    monkeypatch.setattr("kanpinn.symbolic.fits.fit_errors", lambda *_: {"y": 0.06})
    asked.clear()
    assert list(_built(fit.residuals, fit.theta, "y", 0.07, ())) == [] == asked


def test_expressions_are_given_without_their_constants_too():
    found = list(_without_constants(2 * sympy.cos(X1 + 0.1) * (sympy.sin(X2) + 0.01)))
    plain = [2 * sympy.cos(X1) * sympy.sin(X2), 2 * sympy.cos(X1) * (sympy.sin(X2) + 0.01)]
    assert len(found) == 4 and all(one in found for one in plain)
    assert sympy.sin(3 * X1) in _without_constants(sympy.sin(3 * X1 + 0.01) + 0.1)  # one within the other
    many = sympy.Add(*(sympy.sin(X1 + k) for k in range(5)))
    assert len(list(_without_constants(many))) == 2


def test_laws_say_how_far_they_go():
    form = ClosedForm("y", Fit(X1, 0.0, {}), error=0.2, data={"law": 1e-4, "network": 1e-3})
    assert form.verdict(0.0).startswith("not exact: other formulas may fit")
    form.data["law"] = 1e-13
    assert form.verdict(0.0) is None
    form.hypothesis = "y = x1"
    assert form.verdict(0.0).startswith("holds")
    form.data = {"law": 0.7, "network": 0.6}  # a network that says nothing confirms nothing
    assert form.verdict(0.0) == "does not hold, with the constants found: it misses 7.0e-01, more than 5.0e-01"
    form.data = None
    assert form.verdict(0.1).startswith("does not hold") and form.verdict(0.3).startswith("holds")


def test_sums_of_many_fitted_terms_are_no_laws():
    values, law = np.arange(1.0, 9.0), Fit(X1, 0.0, {str(k): (float(k), 0.1) for k in range(11)})
    assert not _good(law, values * (1 + 1e-8), values, 1e-3, whole=True)
    assert _good(law, values, values, 1e-3, whole=True)  # exact
    assert _good(replace(law, free={}), values * (1 + 1e-8), values, 1e-3, whole=True)
