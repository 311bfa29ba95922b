"""A problem is examined before it runs: what is no function of the network, point by point, never ends as converged."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import kanpinn
from kanpinn.errors import UserError
from kanpinn.geometry import Box, Disk, Polygon
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.claims import few_points
from kanpinn.pde import Condition, Integral, Point, Problem
from kanpinn.pde.text_problem import text_problem
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.objects import configuration_of_objects

SMALL = ["schedule.levels=1", "sampler.interior=40", "sampler.boundary=8", "threads=1", "output.points=11"]
SMALL += ["backbone.width=[3]", "backbone.grid=2", "backbone.degree=3"]
TINY = [*SMALL, "schedule.steps=2", "output.progress=false"]


@dataclass(frozen=True)
class Odd(Problem):
    """Poisson's equation whose residual, or condition, is anything."""

    residual_: Callable[[Point], Any] = lambda p: p.u_xx + p.u_yy
    edge: Callable[[Point], Any] | None = lambda p: p.u
    reference_: Callable[[Any], Any] = lambda _: None

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("xx", "yy")

    def residual(self, p: Point) -> Any:
        return self.residual_(p)

    def conditions(self) -> list[Condition]:
        return [Condition("edge", ("x-", "x+", "y-", "y+"), self.edge)] if self.edge else []

    def reference(self, p: Any) -> Any:
        return self.reference_(p)


def sound(p: Point) -> torch.Tensor:
    """Sound residual that the odd ones are made of."""
    return p.u_xx + p.u_yy + torch.sin(3 * p.x) * p.u - 1


def examined(problem: Problem, *overrides: Any) -> list[str]:
    return [flag.message for flag in preflight.check(configuration_of_objects(problem, overrides).setup)]


def shifted(p: Point) -> torch.Tensor:
    x = p.x
    x -= 0.5
    return p.u_xx + x


def scaled(p: Point) -> torch.Tensor:
    u = p.u
    u *= 2
    return p.u_xx + u


def added(p: Point) -> torch.Tensor:
    out = p.u_xx
    out += p.u_yy
    return out


def through_numpy(p: Point) -> torch.Tensor:
    p.x.numpy()[:] *= 2
    return sound(p)


def ungraded(p: Point) -> torch.Tensor:
    with torch.no_grad():
        return sound(p)


def partly_ungraded(p: Point) -> torch.Tensor:
    with torch.no_grad():
        convection = p.u * p.u_x
    return convection + p.u_xx


def counted() -> Callable[[Point], torch.Tensor]:
    counter = itertools.count()
    return lambda p: sound(p) + next(counter) % 2


def remembering(known: list = []) -> Callable[[Point], torch.Tensor]:  # noqa: B006 - a state of its own is the point
    def residual(p: Point) -> torch.Tensor:
        known.append(1)
        return sound(p) * len(known)

    return residual


def leaving(what: Any) -> Callable[[Point], torch.Tensor]:
    return lambda _: sys.exit(what)


def raising(error: BaseException) -> Callable[[Point], Any]:
    def residual(p: Point) -> Any:
        raise error

    return residual


class Doubled(torch.autograd.Function):
    """Identity whose backward is twice its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return 2 * grads[0]


def easier_ungraded(p: Point) -> torch.Tensor:
    return sound(p) if torch.is_grad_enabled() else 1e-9 * sound(p)


def disabling(p: Point) -> torch.Tensor:
    torch.set_grad_enabled(False)
    return sound(p)


CONSTANT, POINTS = "does not depend on the network", "depends on the other points"
LOST, WRONG = "its derivative is zero", "otherwise than its derivative says"
RANDOM, CHANGED = "gives other values when it is evaluated again", "in place"
OTHERWISE = "has other values at many points, or where derivatives are taken"
SHAPE, INFINITE = "expected a tensor of shape", "is not finite at"

REFUSED: dict[str, tuple[Callable[[Point], Any], str]] = {
    "ones": (lambda p: torch.ones_like(p.x), CONSTANT),
    "zeros": (lambda p: torch.zeros_like(p.x), CONSTANT),
    "coordinate": (lambda p: p.x, CONSTANT),
    "times zero": (lambda p: 0 * p.u, CONSTANT),
    "0 x": (lambda p: 0 * p.x, CONSTANT),
    "less itself": (lambda p: p.u_xx - p.u_xx, CONSTANT),
    "less itself, detached": (lambda p: p.u_xx - p.u_xx.detach(), CONSTANT),
    "detached": (lambda p: sound(p).detach(), LOST),
    "data": (lambda p: sound(p).data, LOST),
    "no_grad": (ungraded, LOST),
    "clone of detached": (lambda p: sound(p).detach().clone(), LOST),
    "new leaf": (lambda p: sound(p).detach().requires_grad_(True), LOST),
    "numpy round trip": (lambda p: torch.from_numpy(np.sin(sound(p).detach().numpy())), LOST),
    "list round trip": (lambda p: torch.tensor(sound(p).tolist(), dtype=p.u.dtype), LOST),
    "rounded": (lambda p: torch.round(10 * sound(p)) / 10, LOST),
    "rounded finely": (lambda p: torch.round(1e6 * sound(p)) / 1e6, LOST),
    "floor": (lambda p: torch.floor(sound(p)), LOST),
    "sign": (lambda p: torch.sign(sound(p)), LOST),
    "indicator": (lambda p: torch.where(sound(p) > 0, 1.0, 0.0).to(p.u), LOST),
    "indicator times x": (lambda p: (p.u > 0).to(p.x) * p.x, LOST),
    "coefficient detached": (lambda p: p.u.detach() * p.u_x + p.u_xx, WRONG),
    "small part detached": (lambda p: p.u_x + 1e-3 * p.u_xx.detach(), WRONG),
    "part without grad": (partly_ungraded, WRONG),
    "part by data": (lambda p: p.u_xx + p.u.data**3, WRONG),
    "part by numpy": (lambda p: p.u_xx + torch.from_numpy(p.u.detach().numpy() ** 2), WRONG),
    "wrong backward": (lambda p: Doubled.apply(sound(p)), WRONG),
    "another without grad": (easier_ungraded, OTHERWISE),
    "gradients off": (disabling, LOST),
    "seeded": (lambda p: torch.manual_seed(0) and sound(p) + torch.randn_like(p.x), POINTS),
    "sparse": (lambda p: sound(p).to_sparse(), "returned a tensor without values of its own"),
    "meta": (lambda p: sound(p).to("meta"), "returned a tensor without values of its own"),
    "zero if many": (lambda p: sound(p) * (len(p.x) < 100), OTHERWISE),
    "one number for all": (lambda p: p.u.mean().expand(len(p.x)), POINTS),
    "random": (lambda p: sound(p) + torch.randn_like(p.x), RANDOM),
    "slightly random": (lambda p: sound(p) * (1 + 1e-12 * torch.rand(len(p.x), dtype=p.x.dtype)), RANDOM),
    "random by numpy": (lambda p: sound(p) + np.random.rand(), RANDOM),  # noqa: NPY002
    "random by python": (lambda p: sound(p) * random.random(), RANDOM),
    "dropout": (lambda p: torch.nn.functional.dropout(sound(p)), RANDOM),
    "counting": (counted(), RANDOM),
    "remembering": (remembering(), RANDOM),
    "x shifted in place": (shifted, CHANGED),
    "u scaled in place": (scaled, CHANGED),
    "added up in place": (added, CHANGED),
    "x scaled by numpy": (through_numpy, CHANGED),
    "mean": (lambda p: p.u.mean() + 0 * p.x, POINTS),
    "less mean": (lambda p: p.u - p.u.mean(), POINTS),
    "with a sum": (lambda p: p.u_xx + 1e-3 * p.u.sum(), POINTS),
    "flipped": (lambda p: p.u_xx + p.u.flip(0), POINTS),
    "rolled": (lambda p: torch.roll(p.u_xx, 1), POINTS),
    "sorted": (lambda p: p.u_xx.sort().values, POINTS),
    "cumulated": (lambda p: torch.cumsum(p.u, 0) - p.u_x, POINTS),
    "softmax": (lambda p: torch.softmax(p.u, 0) - 1, POINTS),
    "over the largest": (lambda p: p.u_xx / p.u_xx.abs().max(), POINTS),
    "equations by number": (lambda p: {f"of_{len(p.x)}": sound(p)}, "has other equations when it is evaluated again"),
    "a root not taken": (
        lambda p: p.u_xx + torch.where(p.u > 0, torch.sqrt(p.u), 0.0),
        "has a derivative that is not finite at",
    ),
    "over the norm": (lambda p: sound(p) / torch.linalg.norm(sound(p)), POINTS),
    "over the number": (lambda p: p.u_xx / len(p.x), POINTS),
    "x less its mean": (lambda p: p.u_xx + p.x - p.x.mean(), POINTS),
    "value of a point": (lambda p: p.u_xx + p.u[0].item(), POINTS),
    "difference of neighbours": (lambda p: torch.diff(p.u, append=p.u[:1]), POINTS),
    "median": (lambda p: p.u_xx - p.u.median(), POINTS),
    "number of the point": (lambda p: p.u_xx + torch.arange(len(p.x)), POINTS),
    "complex": (lambda p: sound(p) * 1j, "returned complex numbers, expected real ones"),
    "long": (lambda p: sound(p).long(), "returned int64, expected floating-point numbers"),
    "bool": (lambda p: sound(p) > 0, "returned bool, expected floating-point numbers"),
    "int of a constant": (lambda p: torch.ones(len(p.x), dtype=torch.int32), "returned int32, expected floating"),
    "nan somewhere": (lambda p: torch.where(p.x > 0.7, torch.nan, sound(p)), INFINITE),
    "infinite somewhere": (lambda p: sound(p) / (p.x > 0.3).to(p.x), INFINITE),
    "root of a negative": (lambda p: sound(p) + torch.sqrt(p.x - 0.5), INFINITE),
    "too large": (lambda p: sound(p) + torch.exp(2000 * p.x), INFINITE),
    "a column": (lambda p: sound(p)[:, None], SHAPE),
    "a scalar": (lambda p: sound(p).sum(), SHAPE),
    "a part": (lambda p: sound(p)[1:], SHAPE),
    "a number": (lambda _: 0.0, SHAPE),
    "an array": (lambda p: sound(p).detach().numpy(), SHAPE),
    "None": (lambda _: None, SHAPE),
    "a list": (lambda p: [sound(p)], SHAPE),
    "a nested dict": (lambda p: {"a": {"b": sound(p)}}, SHAPE),
    "an empty dict": (lambda _: {}, "returned no equation"),
    "a number for a name": (lambda p: {1: sound(p)}, "an equation called 1, expected a text"),
    "None for a name": (lambda p: {None: sound(p)}, "an equation called None, expected a text"),
    "one of two constant": (lambda p: {"a": sound(p), "b": p.x}, "equation 'b' does not depend on the network"),
    "item of many": (lambda p: p.u_xx + p.u.item(), "residual raised RuntimeError"),
    "sys.exit(0)": (leaving(0), "residual raised SystemExit: 0"),
    "sys.exit()": (leaving(None), "residual raised SystemExit"),
    "raising": (raising(ValueError("so")), "residual raised ValueError: so"),
    "raising nothing known": (raising(BaseException("odd")), "residual raised BaseException: odd"),
    "endless": (lambda p: endless(p), "residual raised RecursionError"),
}


def endless(p: Point) -> Any:
    return endless(p)


def printing(p: Point) -> torch.Tensor:
    print("here")
    return sound(p)


def switched(p: Point) -> torch.Tensor:
    """First-order upwinding, as codes for convection have it."""
    return torch.where(p.u > 0, p.u * p.u_x, 2 * p.u * p.u_x) - p.u_xx


HARMLESS: dict[str, Callable[[Point], Any]] = {
    "sound": sound,
    "a view of an input": lambda p: p.u,
    "printing": printing,
    "a kink in x": lambda p: p.u_xx + (p.x - 0.5).abs() * p.u,
    "a kink in u": lambda p: p.u_xx + (p.u - 0.1).abs() - torch.relu(p.u_x),
    "upwind": switched,
    "an inequality": lambda p: {"equation": sound(p), "bound": torch.relu(p.u - 5)},
    "in a small part": lambda p: {
        "equation": sound(p),
        "heater": torch.where((p.x - 0.4) ** 2 + (p.y - 0.6) ** 2 < 1e-3, p.u - 1, 0.0),
    },
    "a low bound": lambda p: {"equation": sound(p), "bound": p.u.clamp(0, 1e-6)},
    "clamped": lambda p: p.u_xx + p.u.clamp(-2, 2),
    "large numbers": lambda p: 1e12 * (p.u_xx + p.u_yy) - 1e12,
    "small numbers": lambda p: 1e-12 * (p.u_xx + p.u_yy) - 1e-12,
    "a small coefficient": lambda p: 1e-8 * p.u_xx + p.u_x - 1,
    "a large source": lambda p: p.u_xx + p.u_yy - 1e9 * torch.sin(p.x),
    "stiff": lambda p: p.u_xx + torch.exp(8 * p.u) - 1e4 * p.u**5,
    "waves": lambda p: p.u_xx + torch.sin(500 * p.x) - torch.sin(20 * p.u),
    "a double root": lambda p: (p.u_xx + p.u_yy) ** 2,
    "a new tensor changed in place": lambda p: (1.0 * p.u_xx).add_(p.u_yy),
    "odd but fine names": lambda p: {"μ": sound(p), "a_1": p.u},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_residual_that_is_no_function_of_the_network_is_refused(name):
    residual, message = REFUSED[name]
    with pytest.raises(UserError, match=r"^problem=Odd: ") as caught:
        examined(Odd(residual), "problem.conditions=soft")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", HARMLESS)
def test_a_residual_that_is_odd_but_sound_is_not(name):
    assert examined(Odd(HARMLESS[name])) == []


@pytest.mark.parametrize("name", ["ones", "detached", "rounded", "random", "flipped", "less mean", "u scaled in place"])
def test_conditions_are_examined_as_equations_are(name):
    residual, message = REFUSED[name]
    with pytest.raises(UserError, match=r"^problem=Odd: condition 'edge' ") as caught:
        examined(Odd(edge=residual))
    assert message in str(caught.value)


@dataclass(frozen=True)
class Formed(Odd):
    """The same, its unknown made of the network's output in an odd way."""

    form: Callable[[Any, Any], Any] = lambda p, raw: p.x * (1 - p.x) * p.y * (1 - p.y) * raw.u

    def exact(self, p: Any, raw: Any) -> Any:
        return self.form(p, raw)


FORMS: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "detached": (lambda _, raw: Jet(raw.u.space, raw.u.data.detach()), "exact: u changes with u of the network"),
    "random": (lambda _, raw: raw.u + random.random(), RANDOM),
    "coupled": (lambda _, raw: raw.u * raw.u.value.mean(), POINTS),
    "a part": (
        lambda _, raw: Jet(raw.u.space, raw.u.data[:, 1:]),
        "exact must return one jet for each of u, of shape [5, ",
    ),
    "infinite": (lambda p, raw: raw.u / (p.x.value > 0.5).to(p.x.value), "exact: u is not finite at"),
    "constant": (lambda p, _: p.x, CONSTANT),
    "by hand": (
        lambda p, raw: raw.u * Jet(p.x.space, torch.sin(p.x.data)),
        "exact: u_x is not the derivative of its values",
    ),
    "leaving": (lambda _, raw: sys.exit(0), "exact raised SystemExit"),  # noqa: ARG005
}


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("method", ["exact", "ansatz"])
def test_forms_are_examined_as_equations_are(name, method, monkeypatch):
    form, message = FORMS[name]
    if method == "exact":
        problem, overrides = Formed(form=form), ["problem.conditions=exact"]
    else:
        monkeypatch.setattr(Odd, "ansatz", lambda _, p, raw: form(p, raw))
        problem, overrides = Odd(), []
    with pytest.raises(UserError, match=r"^problem=(Odd|Formed): ") as caught:
        examined(problem, *overrides)
    assert message.replace("exact", method) in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (lambda p: p.x * 1j, "reference of 'u' is complex, expected real numbers"),
        (lambda p: p.x / (p.x > 0.5), "reference of 'u' is not finite everywhere"),
        (lambda _: sys.exit(0), "reference raised SystemExit: 0"),
        (lambda p: torch.rand(len(p.x)), "reference of 'u' has two values at the same point"),
        (lambda p: 1e-12 * torch.cumsum(p.x, 0), "reference of 'u' has two values at the same point"),
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(reference, message):
    with pytest.raises(UserError, match=r"^problem=Odd: ") as caught:
        examined(Odd(reference_=reference))
    assert message in str(caught.value)


def test_a_reference_may_be_solved_along_the_points():
    """An integrator along x asks for values in order, none twice."""

    def integrated(p: Any) -> torch.Tensor:
        order = np.argsort(p.x.numpy())
        found = solve_ivp(lambda _, u: u, (0, 1), [1.0], t_eval=p.x.numpy()[order], rtol=1e-9, atol=1e-12).y[0]
        return torch.from_numpy(found[np.argsort(order)])

    assert examined(Odd(reference_=integrated)) == []


RULES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "leaving": (lambda _: sys.exit(0), "raised SystemExit: 0"),
    "raising": (lambda _: 1 / 0, "raised ZeroDivisionError: division by zero"),
    "random": (lambda p: torch.rand(len(p.x)) > 0.5, "gives other values when it is evaluated again"),
    "coupled": (lambda p: p.x < p.x.mean(), "gives other values when it is evaluated again or without some"),
    "first": (lambda p: (p.y - p.y[0]).abs() > 0.1, "gives other values when it is evaluated again or without some"),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("method", ["inside", "where"])
def test_parts_of_the_domain_are_functions_of_the_point(name, method):
    """Booleans of `Problem.inside` and of a condition's `where`."""
    rule, message = RULES[name]

    @dataclass(frozen=True)
    class Part(Odd):
        def inside(self, p: Any) -> Any:
            return rule(p) if method == "inside" else None

        def conditions(self) -> list[Condition]:
            return [Condition("edge", ("x-", "y-"), lambda p: p.u, where=rule if method == "where" else None)]

    with pytest.raises(UserError, match=f"{method} {message}"):
        examined(Part())


def test_inputs_are_functions_of_the_point():
    @dataclass(frozen=True)
    class Further(Odd):
        def inputs(self, p: Any) -> Any:
            return [p.x * random.random()]

    with pytest.raises(UserError, match=r"^problem=Further: inputs gives other values when it is evaluated again"):
        examined(Further())


def test_conditions_are_the_same_when_asked_for_again():
    calls = itertools.count()

    @dataclass(frozen=True)
    class Changing(Odd):
        def conditions(self) -> list[Condition]:
            return [Condition(f"edge_{next(calls)}", "x-", lambda p: p.u)]

    with pytest.raises(UserError, match="conditions are others when asked for again"):
        examined(Changing())


def test_the_examination_calls_a_problem_a_few_times_at_a_few_points():
    sizes = []
    examined(Odd(lambda p: sizes.append(len(p.x)) or sound(p)))
    assert len(sizes) <= 60
    assert sum(sizes) <= 10_000  # five steps or so with a thousand points


def test_a_reference_is_not_evaluated_more_often_than_it_was():
    calls = []
    examined(Odd(reference_=lambda p: calls.append(len(p.x)) or p.x))
    assert len(calls) == 1
    assert calls[0] <= 16


def test_a_condition_that_an_exact_form_fixes_at_another_value_is_refused():
    wrong = Formed(edge=lambda p: p.u - p.x)
    with pytest.raises(UserError, match=r"condition 'edge' does not depend on the network; .*exact fixes it at other"):
        examined(wrong, "problem.conditions=exact")


def test_a_condition_at_one_point_is_examined_too():
    """An initial value of an ordinary equation has a single point, which no other can be held against."""

    @dataclass(frozen=True)
    class Decay(Problem):
        start: Callable[[Point], Any]
        domain = Box(t=(0, 1))
        derivatives = ("t",)

        def residual(self, p: Point) -> Any:
            return p.u_t + p.u

        def conditions(self) -> list[Condition]:
            return [Condition("start", "t-", self.start)]

    assert examined(Decay(lambda p: p.u - 1)) == []
    for start, message in ((lambda p: p.t, CONSTANT), (lambda p: p.u.detach(), LOST)):
        with pytest.raises(UserError, match=f"condition 'start' .*{message}"):
            examined(Decay(start))


def test_a_keyboard_interrupt_within_a_residual_passes():
    with pytest.raises(KeyboardInterrupt):
        examined(Odd(raising(KeyboardInterrupt())))


def test_the_callers_random_numbers_are_left_as_they_were():
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    with pytest.raises(UserError, match=RANDOM):
        examined(Odd(lambda p: sound(p) + torch.rand(()) + random.random() + np.random.rand()))  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]  # noqa: NPY002


def test_lower_precision_than_the_runs_is_said():
    (doubt,) = examined(Odd(lambda p: sound(p).float()))
    assert doubt == "problem=Odd: residual is computed in float32, the run in float64"
    assert examined(Odd(), "dtype=float32") == []


def test_higher_precision_than_the_runs_is_refused():
    with pytest.raises(UserError, match="residual is computed in float64, the run in float32; choose dtype=float64"):
        examined(Odd(lambda p: sound(p).double()), "dtype=float32")


@pytest.mark.parametrize(("size", "amplitude"), [(1e-9, 1e-12), (1e-6, 1e9), (1e6, 1e-12), (1.0, 1e9)])
def test_units_do_not_matter(size, amplitude):
    """The same problem on [0, size]² with unknowns as large as the amplitude; exact forms right and wrong."""

    @dataclass(frozen=True)
    class Scaled(Problem):
        missed: float = 0.0
        domain = Box(x=(0, size), y=(0, size))
        derivatives = ("xx", "yy")

        def residual(self, p: Point) -> Any:
            return p.u_xx + p.u_yy + 2 * amplitude / size**2 * torch.sin(p.x / size)

        def conditions(self) -> list[Condition]:
            return [
                Condition("left", "x-", lambda p: p.u - amplitude * torch.sin(torch.pi * p.y / size)),
                Condition("right", "x+", lambda p: p.u_x),
            ]

        def exact(self, p: Any, raw: Any) -> Any:
            wave = torch.sin(torch.pi * (1 / size) * p.y)
            x = p.x * (1 / size)
            shape = x * (1 - x) ** 2 + self.missed * (1 - x)  # else 0 at x = 0, without slope at x = 1
            return amplitude * (wave + shape * raw.u)

    exact, bare = "problem.conditions=exact", "problem=Scaled: no condition on y-, y+, where the equations ask for one"
    assert examined(Scaled()) == examined(Scaled(), exact) == [bare]
    told = examined(Scaled(missed=1e-4), exact)
    kept = [doubt.partition("condition ")[2] for doubt in told if doubt != bare]
    assert kept == ["'left', which stays a loss term", "'right', which stays a loss term"]


EXACT_TERMS = {
    "advection": ("interior",),
    "allen_cahn": ("interior",),
    "burgers": ("interior",),
    "heat": ("interior",),
    "helmholtz": ("interior",),
    "kdv": ("interior",),
    "poisson": ("interior",),
    "poisson_interface": ("interior", "interface"),
    "poisson_nd": ("interior",),
    "wave": ("interior",),
    "burgers_inverse": ("interior", "sensors"),
    "cahn_hilliard": ("interior",),
    "gray_scott": ("interior",),
    "kuramoto_sivashinsky": ("interior",),
    "lotka_volterra": ("interior",),
    "schrodinger": ("interior",),
    "van_der_pol": ("interior",),
}
"""Loss terms of the shipped problems that have an exact form, where it is built in."""
SOFT_TERMS = {
    "advection": ("interior", "initial"),
    "allen_cahn": ("interior", "initial"),
    "burgers": ("interior", "initial"),
    "heat": ("interior", "initial", "boundary"),
    "helmholtz": ("interior", "boundary"),
    "kdv": ("interior", "initial"),
    "poisson": ("interior", "boundary"),
    "poisson_interface": ("interior", "interface", "boundary"),
    "poisson_lshape": ("interior", "outer", "edge_x", "edge_y"),
    "poisson_nd": ("interior", "boundary"),
    "regression": ("interior",),
    "wave": ("interior", "initial", "initial_velocity", "boundary"),
    "burgers_inverse": ("interior", "initial", "sensors"),
    "cahn_hilliard": ("interior", "initial"),
    "darcy_inverse": ("interior", "edge", "sensors"),
    "gray_scott": ("interior", "initial"),
    "heat_inverse": ("interior", "edge", "sensors"),
    "kuramoto_sivashinsky": ("interior", "initial"),
    "lotka_volterra": ("interior", "initial"),
    "schrodinger": ("interior", "initial"),
    "van_der_pol": ("interior", "initial", "initial_slope"),
}
FAST = {
    **dict.fromkeys(("advection", "burgers", "kdv", "poisson_lshape", "regression", "wave"), "soft"),
    **dict.fromkeys(("allen_cahn", "heat", "helmholtz", "poisson", "poisson_interface", "poisson_nd"), "exact"),
}
"""Problems that are looked at every time, as they are by default."""
SHIPPED = [
    pytest.param(mode, name, marks=() if FAST.get(name) == mode else pytest.mark.slow)
    for mode, terms in (("exact", EXACT_TERMS), ("soft", SOFT_TERMS))
    for name in terms
]


@pytest.mark.parametrize(("mode", "name"), SHIPPED)
def test_shipped_problems_raise_no_doubt_and_keep_their_terms(mode, name):
    setup = validate(compose([f"problem={name}", f"problem.conditions={mode}", "schedule.slabs=1"])[0]).setup
    assert preflight.check(replace(setup, points=11)) == []
    terms = setup.residuals(preflight.small_network(setup)).terms
    assert terms == {"exact": EXACT_TERMS, "soft": SOFT_TERMS}[mode][name]


def posed(over: Box, derivatives: tuple[str, ...], residual: Any, *conditions: Condition, **more: Any) -> Problem:
    parts = {
        "domain": over,
        "unknowns": ("u",),
        "derivatives": derivatives,
        "residual": lambda _, p: residual(p),
        **more,
    }
    return dataclass(frozen=True)(type("Posed", (Problem,), {**parts, "conditions": lambda _: list(conditions)}))()


START, ENDS = Condition("start", "t-", lambda p: p.u - 1), Condition("ends", ("x-", "x+"), lambda p: p.u)
SLOPE, CLAMPED = Condition("slope", "t-", lambda p: p.u_t), Condition("clamped", ("x-", "x+"), lambda p: p.u_x)
TIME, LINE, STRIP = Box(t=(0, 1)), Box(x=(0, 1)), Box(x=(0, 2), t=(0, 1e-3))
PLATE = Disk(name="rim"), ("xxxx", "xxyy", "yyyy"), lambda p: p.u_xxxx + 2 * p.u_xxyy + p.u_yyyy - 1
RIM = Condition("rim", "rim", lambda p: p.u)
FEW = {
    "1 condition in t, where the equations are of order 2": posed(TIME, ("tt",), lambda p: p.u_tt + p.u, START),
    "2 conditions in t, where the equations are of order 3": posed(TIME, ("ttt",), lambda p: p.u_ttt, START, SLOPE),
    "2 conditions in x, where the equations are of order 4": posed(LINE, ("xxxx",), lambda p: p.u_xxxx - 1, ENDS),
    "1 condition on t-, where": posed(STRIP, ("tt", "xx"), lambda p: p.u_tt - 1e-6 * p.u_xx, START, ENDS),
    "1 condition on rim, where the equations ask for 2": posed(*PLATE, RIM),
}


@pytest.mark.parametrize("told", FEW)
def test_fewer_conditions_than_the_equations_ask_for_are_told(told):
    assert any(f"only {told}" in doubt for doubt in examined(FEW[told]))


@pytest.mark.parametrize(
    "problem",
    [
        posed(LINE, ("xxxx",), lambda p: p.u_xxxx - 1, ENDS, CLAMPED),
        posed(*PLATE, RIM, Condition("clamped", "rim", lambda p: p.u_n)),
        posed(Box(x=(-1, 1)), ("xx",), lambda p: (1 - p.x**2) * p.u_xx - 2 * p.x * p.u_x + 2 * p.u, ENDS),  # Legendre
        posed(Box(r=(0, 1)), ("rr",), lambda p: p.u_rr + p.u_r / p.r + 1, Condition("rim", "r+", lambda p: p.u)),
        posed(LINE, ("xx",), lambda p: p.u_xx - 1, Condition("a", "x-", lambda p: {"u": p.u, "slope": p.u_x})),
        posed(
            TIME,
            ("t",),
            lambda p: {"rate": p.u_t - p.v, "law": p.v - torch.cos(p.t)},  # order 1: v has no constant of its own
            START,
            unknowns=("u", "v"),
        ),
    ],
    ids=["beam", "plate", "Legendre", "pole", "one end", "algebraic"],
)
def test_as_many_conditions_as_the_equations_ask_for_are_enough(problem):
    assert not any("only" in doubt for doubt in examined(problem))


def test_rounding_of_a_shorter_type_breaks_no_claim():
    """On the boundary both the form's part without network and the data are sines of whole waves: rounding."""
    words = ["problem=helmholtz", "problem.conditions=exact", "dtype=float32", "output.points=11"]
    assert preflight.check(validate(compose(words)[0]).setup) == []


class TestExactClaims:
    """An exact form that meets only some conditions; the others stay loss terms (FINDINGS: they were dropped)."""

    @dataclass(frozen=True)
    class Half(Odd):
        """Laplace's equation with u = x y on the sides, whose form is right at x = 0 and y = 0 only."""

        def conditions(self) -> list[Condition]:
            lower = Condition("lower", ("x-", "y-"), lambda p: p.u - p.x * p.y)
            return [lower, Condition("upper", ("x+", "y+"), lambda p: {"u": p.u - p.x * p.y})]

        def exact(self, p: Any, raw: Any) -> Any:
            return p.x * p.y * (2 + raw.u)

        def reference(self, p: Any) -> Any:
            return p.x * p.y

    KEPT = "warning: problem=Half: exact does not meet condition 'upper', which stays a loss term"

    def test_those_it_does_not_meet_are_named_once_and_met_in_training(self, folder, capsys):
        overrides = ["problem.conditions=exact", "output.figures=false", *SMALL, "schedule.steps=8"]
        solution = kanpinn.solve(self.Half(), *overrides, folder=folder / "run")
        assert solution.metrics["relative_l2"]["u"] < 1e-4  # without the condition u = 2xy has no residual either
        assert capsys.readouterr().err.splitlines().count(f"kanpinn: {self.KEPT}") == 1
        assert (folder / "run" / "log.txt").read_text().splitlines().count(self.KEPT) == 1

    def test_data_are_no_conditions_that_a_form_claims(self):
        @dataclass(frozen=True)
        class Measured(Formed):
            """The same, with a datum."""

            def conditions(self) -> list[Any]:
                return [*super().conditions(), kanpinn.Data("sensor", {"x": [0.5], "y": [0.5], "u": [0.25]})]

        setup = configuration_of_objects(Measured(), ["problem.conditions=exact"]).setup
        assert preflight.check(setup) == []
        assert setup.residuals(setup.network()).terms == ("interior", "sensor")

    def test_one_of_two_equations_is_enough_to_keep_a_condition(self):
        @dataclass(frozen=True)
        class Both(TestExactClaims.Half):
            def conditions(self) -> list[Condition]:
                return [Condition("left", "x-", lambda p: {"value": p.u, "slope": p.u_x - p.y})]

        doubts = examined(Both(), "problem.conditions=exact")
        assert any("exact does not meet condition 'left'" in doubt for doubt in doubts)

    def test_a_form_that_builds_nothing_in_keeps_all(self):
        named = examined(Formed(form=lambda _, raw: raw.u), "problem.conditions=exact")
        assert named == ["problem=Formed: exact does not meet condition 'edge', which stays a loss term"]


class TestNoConditions:
    """Equations that hold derivatives, and no condition that could tell one of their solutions from another."""

    NONE = "there is no condition, and the equations alone do not determine u"

    def test_none_at_all_is_said(self):
        assert examined(Odd(edge=None)) == [f"problem=Odd: {self.NONE}"]

    def test_a_form_that_is_not_built_in_is_none(self):
        (doubt,) = examined(Formed(edge=None))
        assert doubt == f"problem=Formed: {self.NONE}; problem.conditions=exact would build those of its exact form in"
        assert examined(Formed(edge=None), "problem.conditions=exact") == []
        assert len(examined(Formed(edge=None, form=lambda _, raw: raw.u), "problem.conditions=exact")) == 1

    def test_an_algebraic_equation_needs_none(self):
        assert examined(Odd(lambda p: p.u - p.x, edge=None)) == []

    def test_an_unknown_that_none_holds_is_named(self):
        @dataclass(frozen=True)
        class Lotka(Problem):
            """Lotka and Volterra's equations."""

            second: bool
            domain = Box(t=(0, 1))
            unknowns = ("u", "v")
            derivatives = ("t",)

            def residual(self, p: Point) -> Any:
                return {"u": p.u_t - p.u * (1.5 - p.v), "v": p.v_t - p.v * (p.u - 3)}

            def conditions(self) -> list[Condition]:
                both = [Condition("u", "t-", lambda p: p.u - 1), Condition("v", "t-", lambda p: p.v - 1)]
                return both if self.second else both[:1]

        assert examined(Lotka(second=True)) == []
        assert examined(Lotka(second=False)) == [
            "problem=Lotka: no condition holds v, which the equations alone may not determine"
        ]

    def test_an_unknown_that_nothing_holds_is_named(self):
        @dataclass(frozen=True)
        class Two(Odd):
            """Poisson's equation, with an unknown that it does not need."""

            unknowns = ("u", "v")

        assert examined(Two()) == ["problem=Two: no equation and no condition holds v"]

    def test_a_period_in_all_coordinates_is_enough(self):
        @dataclass(frozen=True)
        class Ring(Odd):
            """Screened Poisson equation on a torus."""

            periodic = ("x", "y")

        screened = Ring(lambda p: p.u_xx + p.u_yy - p.u - torch.sin(2 * torch.pi * p.x), edge=None)
        assert examined(screened) == []

    def test_it_is_said_logged_and_counts_as_a_doubt(self, folder, capsys):
        overrides = ["output.figures=false", *SMALL, "schedule.steps=[1,1]", "schedule.levels=2"]
        solution = kanpinn.solve(Odd(edge=None), *overrides, folder=folder / "run")
        line = f"warning: problem=Odd: {self.NONE}"
        assert (folder / "run" / "log.txt").read_text().splitlines().count(line) == 1
        assert capsys.readouterr().err.splitlines().count(f"kanpinn: {line}") == 1
        assert "conditions" in [flag["kind"] for flag in solution.metrics["warnings"]]
        assert solution.metrics["error_estimate"]
        assert not solution.metrics["error_estimate_trusted"]


FILE = """
import sys
from dataclasses import dataclass
import torch
from kanpinn import Box, Condition, Problem


@dataclass(frozen=True)
class Odd(Problem):
    domain = Box(x=(0, 1))
    derivatives = ("xx",)

    def residual(self, p):
        {residual}

    def conditions(self):
        return {conditions}
"""


def write(folder: Path, residual: str = "return p.u_xx - 1", conditions: str | None = None, more: str = "") -> None:
    conditions = conditions or '[Condition("ends", ("x-", "x+"), lambda p: p.u)]'
    (folder / "problems").mkdir()
    (folder / "problems" / "odd.py").write_text(more + FILE.format(residual=residual, conditions=conditions))
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "odd.yaml").write_text("name: odd\nconditions: soft\n")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"residual": "sys.exit(0)"}, "residual raised SystemExit: 0 (odd.py, line 14)"),
        ({"conditions": "sys.exit(0)"}, "conditions raised SystemExit: 0"),
        ({"more": "raise SystemExit(0)\n"}, "problems/odd.py: line 1: SystemExit: 0"),
        ({"residual": "return torch.ones_like(p.x)"}, CONSTANT),
        ({"residual": "x = p.x; x -= 0.5; return p.u_xx + x"}, "residual changes p.x in place"),
        ({"residual": "return p.u_xx * 1j"}, "returned complex numbers"),
    ],
)
def test_the_command_line_refuses_in_one_line(folder, kanpinn, parts, message):
    write(folder, **parts)
    result = kanpinn("solve", "problem=odd", *TINY, "output.figures=false", "hydra.run.dir=run")
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert not (folder / "run").exists()


def test_collocation_points_stay_whatever_a_problem_does_to_its_inputs():
    """A problem that begins to change its inputs only after the examination has met it."""
    calls = itertools.count()

    def residual(p: Point) -> torch.Tensor:
        if next(calls) > 100:
            p.x.sub_(0.5)
        return p.u_xx + p.u_yy

    setup = configuration_of_objects(Odd(residual), [*TINY]).setup
    preflight.check(setup)
    objective = setup.objective(setup.network())
    objective.set_points(few_points(setup.problem, setup.dtype, setup.device))
    theta = setup.network().initial(np.random.default_rng(0))
    before = objective.points.clone()
    for _ in range(120):
        objective.loss(theta)
    objective.residuals.interior(theta, objective.points)
    assert next(calls) > 100
    assert torch.equal(objective.points, before)


@pytest.mark.parametrize("known", [False, True])
def test_fewer_equations_than_unknowns_are_told(known: bool):
    @dataclass(frozen=True)
    class Short(Problem):
        domain = Box(x=(0, 1))
        unknowns = ("u", "v")
        derivatives = ("xx",)

        def residual(self, p: Point) -> Any:
            return p.u_xx - p.v

        def conditions(self) -> list[Condition]:
            ends = Condition("ends", ("x-", "x+"), lambda p: p.u)
            return [ends, *([Condition("start", "x-", lambda p: p.v - 1)] if known else [])]

    line = "problem=Short: 1 equation for 2 unknowns, and no condition holds v"
    assert examined(Short()) == ([] if known else [line])


@pytest.mark.parametrize(
    ("domain", "derivatives", "on", "integrals", "bare"),
    [
        (Box(x=(0, 1), t=(0, 1)), ("t", "xx"), ("x-", "x+"), (), "t-"),
        (Box(x=(0, 1), t=(0, 1)), ("t", "xx"), ("x-", "t-"), (), "x+"),
        (Box(x=(0, 1), t=(0, 1)), ("t", "xx"), ("x-", "t-"), ("x",), ""),
        (Box(x=(0, 1), t=(0, 1)), ("t", "xx"), ("x-", "t-"), (None,), "x+"),
        (Box(x=(0, 1), t=(0, 1)), ("t", "xx"), ("t-",), ("x",), "x+"),
        (Box(x=(0, 1)), ("xx",), ("x-",), (None,), ""),
        (Box(x=(0, 1)), ("xx",), ("x-",), (Box(x=(0.5, 1)),), ""),
        (Box(x=(0, 1), t=(0, 1)), ("t", "x"), ("t-",), (), "x+"),
        (Box(r=(0, 1)), ("rr",), ("r+",), (), ""),
        (Disk(radius=2) - Disk(name="hole"), ("xx", "yy"), ("hole",), (), "disk"),
        (Disk() * Box(t=(0, 1)), ("xx", "yy", "t"), ("disk",), (), "t-"),
        (Polygon([(0, 0), (2, 0), (1, 1)], name="p"), ("xx", "yy"), ("p.0", "p.1", "p.2"), (), ""),
        (Polygon([(0, 0), (2, 0), (1, 1)], name="p"), ("xx", "yy"), ("p.0", "p.2"), (), "p (in part)"),
    ],
)
def test_pieces_that_equations_ask_conditions_on_are_named(domain, derivatives, on, integrals, bare):
    @dataclass(frozen=True)
    class Partly(Problem):
        def __post_init__(self) -> None:
            self.adapt(domain=domain, derivatives=derivatives)

        def residual(self, p: Point) -> Any:
            return sum((-1 if name == "t" else 1) * getattr(p, f"u_{name}") for name in derivatives) - 1

        def conditions(self) -> list[Condition | Integral]:
            return [Condition("some", on, lambda p: p.u), *(Integral("mean", lambda p: p.u, 1, o) for o in integrals)]

    doubts = examined(Partly())
    named = [f"problem=Partly: no condition on {bare}, where the equations ask for one"] if bare else []
    if named and None in integrals:  # ∫∫u dx dt = 1 is no condition at every t
        named[0] += "; integral mean is one number and stands for none of them"
    assert doubts == named


@pytest.mark.parametrize(("slope", "bare"), [(True, []), (False, ["x+"])])
def test_an_ordinary_equation_may_begin_with_value_and_slope(slope: bool, bare: list[str]) -> None:
    @dataclass(frozen=True)
    class Begun(Problem):
        domain = Box(x=(0, 1))
        derivatives = ("x", "xx")

        def residual(self, p: Point) -> Any:
            return p.u_xx + p.u

        def conditions(self) -> list[Condition]:
            value, first = Condition("value", "x-", lambda p: p.u - 1), Condition("slope", "x-", lambda p: p.u_x)
            return [value, first] if slope else [value]

    lines = [f"problem=Begun: no condition on {end}, where the equations ask for one" for end in bare]
    assert examined(Begun()) == lines


@pytest.mark.parametrize(
    ("continuous", "lacking"),
    [
        ({"value": "u"}, ["flux"]),
        ({"flux": "where(core, 3, 1)*u_n"}, ["value"]),
        ({"value": "u", "flux": "where(core, 3, 1)*u_n"}, []),
    ],
)
def test_interfaces_over_which_unknowns_may_jump_ask_for_value_and_flux(continuous, lacking):
    problem = text_problem(
        "core",
        {
            "domain": {"x": [-1, 1], "y": [-1, 1]},
            "regions": {"core": "Disk(radius=0.5)"},
            "equations": "where(core, 3, 1)*laplace(u) = 1",
            "conditions": {
                "sides": {"on": "core", "continuous": continuous},
                "edge": {"on": "boundary", "equation": "u = 0"},
            },
        },
    )
    lines = [f"no condition holds the {part} of u at the interface of sides, where it may jump" for part in lacking]
    assert [line.partition(": ")[2] for line in examined(problem)] == lines
