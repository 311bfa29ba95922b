"""Jet arithmetic and functions against nested torch.func derivatives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from support.naive_network import at_points
from torch import Tensor

from kanpinn.jets.bessel import BESSEL, KINDS, bessel
from kanpinn.jets.cotangents import chain_cotangent, product_cotangent
from kanpinn.jets.functions import FUNCTIONS
from kanpinn.jets.indices import index_of
from kanpinn.jets.jet import Jet, JetSpace

NAMES = ("x", "y", "t")
THIRD = tuple("".join(c) for c in itertools.combinations_with_replacement(NAMES, 3))
SPACES = {
    "value": (),
    "heat": ("t", "xx"),
    "kdv": ("t", "xxx"),
    "every third": THIRD,
    "fourth": ("xxyy", "tttt"),
}

EXPRESSIONS: dict[str, Callable[..., Tensor]] = {
    "sum": lambda x, y, t: x + y - t + 2 - (3 - x) + (-y),
    "product": lambda x, y, t: x * y * t * 2.5,
    "quotient": lambda x, y, t: (1 + x * y) / (2 + t * t) + 3 / (x + 4) - y / 2,
    "powers": lambda x, y, t: x**2 + (y + 2) ** 3 * t - (2 + x) ** -1.5 + (t + 3) ** 0.5,
    "polynomial at negative arguments": lambda x, y, t: (x - 5) ** 3 + (y - 7) ** -2 * t,
    "sines": lambda x, y, t: torch.sin(math.pi * x) * torch.cos(2 * y) * torch.exp(-t),
    "composition": lambda x, y, t: torch.tanh(torch.sin(x * y) + t**2) / torch.cosh(x - t),
    "logarithm": lambda x, y, t: torch.log(2 + x * y) * torch.sqrt(3 + t * x) - torch.sinh(y),
    "kinks": lambda x, y, t: abs(x - 0.1) * y + torch.abs(t * y) ** 3,
    "choices": lambda x, y, t: (
        torch.where(x > y * t, torch.sin(x * t), 2.0) * torch.maximum(x, y) + torch.minimum(t, x)
    ),
    "angles": lambda x, y, t: torch.atan2(x * t + y, y - t) * x + torch.atan2(y, torch.ones_like(POINTS[0, 0]) * 0.3),
    "gates": lambda x, y, t: torch.sigmoid(x - y) * t + torch.nn.functional.silu(x * t),
}
POINTS = torch.from_numpy(np.random.default_rng(0).uniform(-0.9, 0.9, (7, 3)))


def check(jet: Jet, f: Callable[[Tensor], Tensor], points: Tensor = POINTS, names: tuple[str, ...] = NAMES) -> None:
    """Every component of `jet` is the nested derivative of f, to 1e-10 of its size."""
    for name in jet.space.indices:
        expected = at_points(f, names, name, points)
        assert float((jet[name] - expected).abs().max()) <= 1e-10 * max(1.0, float(expected.abs().max())), name


@pytest.mark.parametrize("derivatives", SPACES.values(), ids=SPACES)
@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expressions_carry_their_derivatives(expression: Callable[..., Tensor], derivatives: tuple[str, ...]) -> None:
    space = JetSpace(NAMES, derivatives)
    result = expression(*space.variables(POINTS))
    check(result, lambda p: expression(p[0], p[1], p[2]))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in BESSEL])
def test_every_function_has_the_right_derivatives(name: str) -> None:
    x = torch.linspace(0.2, 0.9 if name in ("asin", "acos") else 1.5 if name == "tan" else 3, 9, dtype=torch.float64)[
        :, None
    ]
    function = getattr(torch, name, None) or getattr(torch.nn.functional, name)
    jet = function(JetSpace(("x",), ("xxxxx",)).variables(x)[0])
    check(jet, lambda p: function(p[0]), x, ("x",))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_gives_as_many_derivatives_as_asked_for(name: str) -> None:
    x = torch.linspace(0.2, 0.9, 5, dtype=torch.float64)
    most = FUNCTIONS[name](x, 6)
    for order in range(7):
        found = FUNCTIONS[name](x, order)
        assert len(found) == order + 1
        assert all(torch.allclose(one, other, rtol=1e-14) for one, other in zip(found, most, strict=False))


@pytest.mark.parametrize("kind", KINDS)
def test_bessel_functions_have_the_right_values_and_solve_their_equation(kind: str) -> None:
    x = torch.linspace(0.3, 9, 6, dtype=torch.float64)
    (jet,) = JetSpace(("x",), ("xxxx",)).variables(x[:, None])
    sign = 1 if kind in "jy" else -1
    for n in (0, 1, 3):
        y = bessel(kind, n, jet).data
        exact = [float(getattr(mpmath, f"bessel{kind}")(n, float(v))) for v in x]
        assert torch.allclose(y[0], torch.tensor(exact, dtype=torch.float64), rtol=1e-12, atol=1e-15)
        low, high = bessel(kind, n - 1, x), bessel(kind, n + 1, x)
        slope = {"j": low - high, "y": low - high, "i": low + high, "k": -low - high}[kind] / 2  # DLMF 10.6.1, 10.29.1
        assert torch.allclose(y[1], slope, rtol=1e-12, atol=1e-14)
        for m in range(3):  # the m-th derivative of x² y″ + x y′ + (± x² − n²) y = 0
            terms = [x * x * y[m + 2], (2 * m + 1) * x * y[m + 1], (m * m - n * n) * y[m], sign * x * x * y[m]]
            terms += [sign * 2 * m * x * y[m - 1]] * (m > 0) + [sign * m * (m - 1) * y[m - 2]] * (m > 1)
            assert bool((sum(terms).abs() <= 1e-11 * sum(term.abs() for term in terms)).all())
    names = ("bessel", 0) if kind in "jy" else ("modified_bessel", 1)
    own = getattr(torch.special, f"{names[0]}_{kind}{names[1]}")(jet)
    assert torch.equal(own.data, bessel(kind, names[1], jet).data)
    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(bessel(kind, 3, leaf).sum(), leaf, create_graph=True)
    assert torch.equal(slope, bessel(kind, 3, jet)["x"])
    (second,) = torch.autograd.grad(slope.sum(), leaf)
    assert torch.equal(second, bessel(kind, 3, jet)["xx"])


def test_comparisons_look_at_values_from_either_side() -> None:
    points = torch.tensor([[-1.0], [0.0], [2.0]], dtype=torch.float64)
    (x,) = JetSpace(("x",), ("x",)).variables(points)
    zero = torch.zeros(3, dtype=torch.float64)
    assert (x < 0).tolist() == (zero > x).tolist() == torch.gt(zero, x).tolist() == [True, False, False]
    assert (x <= zero).tolist() == (x <= 0).tolist() == (zero >= x).tolist() == [True, True, False]
    assert (x > x * x).tolist() == [False, False, False]
    assert (x * x >= x).tolist() == [True, True, True]


def test_the_angle_is_right_in_every_quadrant_and_on_the_axes() -> None:
    space = JetSpace(("x", "y"), ("xx", "yy"))
    at = torch.linspace(-math.pi, math.pi, 17, dtype=torch.float64)[:-1]
    x, y = space.variables(torch.stack([3 * torch.cos(at), 3 * torch.sin(at)], dim=1))
    angle = torch.atan2(y, x)
    assert torch.allclose(angle[""].cos(), at.cos()) and torch.allclose(angle[""].sin(), at.sin())
    assert torch.allclose(angle["x"], -at.sin() / 3) and torch.allclose(angle["y"], at.cos() / 3)
    assert torch.allclose(angle["xx"], -angle["yy"])  # harmonic


def test_coordinates_may_have_names_of_any_length() -> None:
    names = ("r", "theta", "t")
    space = JetSpace(names, ("rr", "theta_theta", "rtheta", "t"))
    r, theta, t = space.variables(POINTS)
    jet = torch.exp(r * t) * torch.sin(3 * theta)
    check(jet, lambda p: torch.exp(p[0] * p[2]) * torch.sin(3 * p[1]), names=names)
    assert torch.equal(jet["thetar"], jet["r_theta"])
    with pytest.raises(KeyError):
        jet["th"]


@pytest.mark.parametrize("name", ["thet", "_", "x__x", "z"])
def test_a_name_that_is_no_chain_of_coordinates_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not made of the coordinates x, theta"):
        index_of(name, ("x", "theta"))


def test_a_name_of_two_readings_needs_separators() -> None:
    with pytest.raises(ValueError, match="can be read in more than one way; put '_'"):
        index_of("abc", ("a", "bc", "ab", "c"))
    assert index_of("ab_c", ("a", "bc", "ab", "c")) == ("ab", "c")


def test_absolute_value_at_its_kink_has_the_slope_from_the_right() -> None:
    points = torch.tensor([[-1e-300], [-0.0], [0.0], [1e-300]], dtype=torch.float64)
    jet = abs(JetSpace(("x",), ("xx",)).variables(points)[0])
    assert jet["x"].tolist() == [-1.0, 1.0, 1.0, 1.0]
    assert jet["xx"].tolist() == [0.0] * 4
    assert abs(JetSpace(("x",), ()).variables(points)[0]).data.tolist() == [[1e-300, 0.0, 0.0, 1e-300]]


def test_products_with_tensors_and_from_the_left() -> None:
    space = JetSpace(("x",), ("xx",))
    points = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    (x,) = space.variables(points)
    a = torch.arange(1.0, 6.0, dtype=torch.float64)
    for jet in (x * x * a, a * (x * x), torch.mul(a, x * x)):
        assert torch.equal(jet.data, torch.stack([a * points[:, 0] ** 2, 2 * a * points[:, 0], 2 * a]))
    for jet in (a - x, -(x - a), torch.sub(a, x)):
        assert torch.equal(jet.data, torch.stack([a - points[:, 0], -torch.ones_like(a), torch.zeros_like(a)]))
    assert torch.equal((a / (x + 2)).data, (a * (x + 2) ** -1.0).data)
    assert torch.equal((a + x).data, (x + a).data)
    assert torch.equal(((x + 2) / a)[""], (points[:, 0] + 2) / a)


def test_numbers_beside_jets_keep_the_precision_of_the_jets() -> None:
    for dtype in (torch.float64, torch.float32):
        (x,) = JetSpace(("x",), ("x",)).variables(torch.tensor([[-1.0], [1.0]], dtype=dtype))
        data = torch.where(x > 0, x, 0.1).data  # type: ignore[call-overload]
        assert data.dtype == dtype
        assert torch.equal(data[0], torch.tensor([0.1, 1.0], dtype=dtype))


def test_lower_derivatives_come_along_and_no_others() -> None:
    space = JetSpace(("x", "t"), ("t", "xxt"))
    assert space.indices == ((), ("x",), ("t",), ("x", "x"), ("x", "t"), ("x", "x", "t"))
    assert space.order == 3
    assert JetSpace(("x", "t"), ()).indices == ((),)


def test_the_order_of_coordinates_does_not_matter() -> None:
    space = JetSpace(("x", "t"), ("tx",))
    x, t = space.variables(torch.tensor([[2.0, 3.0]], dtype=torch.float64))
    jet = x * x * t
    assert torch.equal(jet["xt"], jet["tx"])
    assert float(jet["tx"]) == 4.0


@pytest.mark.parametrize("name", ["t", "xxx", "xt", "z"])
def test_a_derivative_not_declared_is_a_key_error(name: str) -> None:
    x, _ = JetSpace(("x", "t"), ("xx",)).variables(torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(KeyError):
        x[name]


def test_a_derivative_by_an_unknown_coordinate_is_refused() -> None:
    with pytest.raises(ValueError, match="'xz' is not made of the coordinates x, t"):
        JetSpace(("x", "t"), ("xz",))


def test_functions_without_derivatives_are_refused_by_name() -> None:
    (x,) = JetSpace(("x",), ("x",)).variables(torch.ones(2, 1, dtype=torch.float64))
    with pytest.raises(TypeError, match=r"torch\.relu is not defined for jets; use one of .*tanh"):
        torch.relu(x)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot be combined with str"):
        x + "1"
    with pytest.raises(TypeError):
        x**x  # type: ignore[operator]
    with pytest.raises(TypeError):
        torch.ones(2, dtype=torch.float64) ** x  # type: ignore[operator]


def test_set_partitions_are_counted_by_bell_numbers() -> None:
    for order, bell in ((1, 1), (2, 2), (3, 5), (4, 15), (5, 52)):
        space = JetSpace(("x",), ("x" * order,))
        assert sum(count for terms in space.chain[-1] for _, count in terms) == bell
        assert sum(count for *_, count in space.leibniz[-1]) == 2**order


def test_constants_have_no_derivatives() -> None:
    jet = JetSpace(("x", "y"), ("xy",)).constant(torch.tensor([3.0, 4.0]))
    assert jet.data.tolist() == [[3.0, 4.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("derivatives", SPACES.values(), ids=SPACES)
def test_the_cotangent_of_a_product_equals_autograds(derivatives: tuple[str, ...]) -> None:
    space = JetSpace(NAMES, derivatives)
    f, g, cotangent = torch.from_numpy(np.random.default_rng(1).standard_normal((3, len(space), 5)))
    f.requires_grad_(True)
    (expected,) = torch.autograd.grad((Jet(space, f) * Jet(space, g)).data, f, cotangent)
    assert torch.allclose(product_cotangent(Jet(space, g), cotangent), expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("known", [False, True], ids=["", "monomials known"])
@pytest.mark.parametrize("derivatives", SPACES.values(), ids=SPACES)
def test_the_cotangent_of_a_composition_equals_autograds(derivatives: tuple[str, ...], known: bool) -> None:
    space = JetSpace(NAMES, derivatives)
    g, cotangent = torch.from_numpy(np.random.default_rng(2).standard_normal((2, len(space), 5)))
    jet, f = Jet(space, g), FUNCTIONS["exp"](g[0] / 2, space.order + 1)
    scaled = [0.5**d * value for d, value in enumerate(f)]  # derivatives of exp(x/2)
    monomials = [[jet.monomial(terms) for terms in by_order] for by_order in space.chain] if known else None
    found = chain_cotangent(jet, lambda a, d: cotangent[a] * scaled[d], monomials)
    leaf = g.clone().requires_grad_(True)
    outer = [0.5**d * value for d, value in enumerate(FUNCTIONS["exp"](leaf[0] / 2, space.order))]
    (expected,) = torch.autograd.grad(Jet(space, leaf).compose(outer).data, leaf, cotangent)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)
