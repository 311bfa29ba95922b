"""How sharply data tell coefficients: state, interval and step of each, in problems of every kind, as they were."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from scipy.stats import norm, t
from support.records import stays

import kanpinn as kp
from kanpinn.backbones.coefficients import coefficients_of, with_coefficients
from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals, Scales
from kanpinn.least_squares.uncertainty import check_coefficients, coefficient_statistics, noise_of
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.unknown import free_coefficients
from kanpinn.samplers import Uniform

TIMES = np.random.default_rng(0).uniform(0, 2, 30)
NOISE = np.random.default_rng(1).standard_normal(30)


@dataclass(frozen=True)
class Fall(kp.Problem):
    """v' = b − a v, and w beside it, from 0; conditions and data are given from outside."""

    a: Any = 1.0
    b: Any = 1.0
    posed: list[Any] = field(default_factory=list)
    domain = kp.Box(t=(0, 2))
    unknowns = ("v", "w")
    derivatives = ("t",)

    def residual(self, p: Any) -> Any:
        return {"fall": p.v_t + self.a * p.v - self.b, "beside": p.w_t - p.v}

    def conditions(self) -> list[Any]:
        return [kp.Condition("start", "t-", lambda p: {"v": p.v, "w": p.w}), *self.posed]


def data(size: float, part: slice = slice(None), sigma: float = 0.0, name: str = "sensors", **more: Any) -> kp.Data:
    """Values of v, with noise."""
    table = {"t": TIMES[part], "v": (1 - np.exp(-1.5 * TIMES) + size * NOISE)[part]}
    return kp.Data(name, {**table, **({"sigma_v": np.full(len(table["t"]), sigma)} if sigma else {}), **more})


LAST = kp.Condition("last", "t+", lambda p: p.v - 0.7)
TWO = {"a": kp.Unknown(1.2), "b": kp.Unknown(0.8, lower=0)}
ONE = {"a": kp.Unknown(1.2, lower=0.0, upper=9.0)}
CASES: dict[str, dict[str, Any]] = {
    "two": {**TWO, "posed": [data(0.01)]},
    "noisy": {**TWO, "posed": [data(2.0)]},
    "given noise": {**TWO, "posed": [data(0.01, sigma=0.02)]},
    "large given noise": {**TWO, "posed": [data(0.01, sigma=5.0)]},
    "two tables": {**TWO, "posed": [data(0.01, slice(0, 20)), data(0.1, slice(20, None), name="more", sigma=0.3)]},
    "both estimated": {**TWO, "posed": [data(0.01, slice(0, 20)), data(0.1, slice(20, None), name="more")]},
    "few": {**TWO, "posed": [data(0.01, slice(0, 3))]},
    "four": {**ONE, "posed": [data(0.3, slice(0, 4))]},
    "six": {**ONE, "posed": [data(0.3, slice(0, 6))]},
    "eight": {**TWO, "posed": [data(0.3, slice(0, 8))]},
    "one datum": {**ONE, "posed": [data(0.01, slice(0, 1))]},
    "no data": {**ONE, "posed": [LAST]},
    "no data, nothing else": {**ONE, "posed": []},
    "both": {**ONE, "posed": [LAST, data(0.05)]},
    "from zero": {"a": 1.5, "b": kp.Unknown(0.0, lower=-1.0), "posed": [data(0.05)]},
    "upper": {"a": 1.5, "b": kp.Unknown(-0.5, upper=3.0), "posed": [data(0.05)]},
    "other unknown": {**ONE, "posed": [kp.Data("sensors", {"t": TIMES[:9], "w": TIMES[:9]})]},
    "start only": {**ONE, "posed": [kp.Data("sensors", {"t": [0.0] * 9, "v": list(NOISE[:9])})]},
}


def objective(problem: Fall) -> tuple[Objective, torch.Tensor]:
    kan = kp.Kan(width=[2], degree=3, grid=2).build(Embedding({"t": (0.0, 2.0)}), 2)
    network = with_coefficients(kan, free_coefficients(problem))
    scales = Scales((2.0, 0.5), {("interior", "fall"): 3.0, ("sensors", "v"): 0.5, ("start", "v"): 0.2})
    found = Objective(
        Residuals(problem, network, scales=scales),
        Fixed({"sensors": 2.0} if any(isinstance(one, kp.Data) for one in problem.posed) else {}),
    )
    found.set_points(Uniform(interior=40, boundary=4).draw(problem, 0, np.random.default_rng(0), dtype=torch.float64))
    return found, network.initial(np.random.default_rng(1)) + 0.1


@pytest.mark.parametrize("name", CASES)
def test_statistics_of_coefficients(name: str, request) -> None:
    problem = Fall(**CASES[name])
    found, theta = objective(problem)
    count, told = len(free_coefficients(problem)), []
    for moved in (0.0, 1.0, -1.0, 4.0, -4.0, 6.0, -6.0, -14.0, 2.5, -800.0):
        at = theta.clone()
        at[-count:] += moved
        told.append(coefficient_statistics(found, at))
        for one, value in coefficients_of(found.backbone, at).items():
            assert told[-1][one]["value"] == value
    stays(request.node.name, told)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(("lower", "upper"), [(0.0, None), (0.0, 9.0), (None, 1.5), (-2.0, 1.5)])
@pytest.mark.parametrize("share", [0.9, 1.1])
def test_a_coefficient_is_at_a_bound_within_a_hundredth_of_the_way_from_its_start(name, lower, upper, share) -> None:
    """Where the step leads beyond it."""
    at, start = (0.0, 1.2) if lower == 0 else (1.5, 1.2)
    given = {name: kp.Unknown(start, lower=lower, upper=upper)}
    found, theta = objective(Fall(**given, posed=[data(0.05)]))

    def value(x: float) -> float:
        theta[-1] = x
        return coefficients_of(found.backbone, theta)[name]

    theta[-1] = brentq(lambda x: value(x) - at - share * 0.01 * (start - at), -30.0, 30.0, xtol=1e-14)
    told = coefficient_statistics(found, theta)[name]
    beyond = (told["value"] + told["step"] - at) * (at - start) > 0
    assert told["value"] == pytest.approx(at + share * 0.01 * (start - at))
    assert told["bound"] == (at if beyond and share < 1 else None)
    assert beyond == (name == "a")


@pytest.mark.parametrize("name", ["two", "given noise"])
def test_intervals_are_those_of_students_distribution(name: str) -> None:
    found, theta = objective(Fall(**CASES[name]))
    u, s, _ = torch.linalg.svd(found.linearize(theta).dense().jacobian, full_matrices=False)
    told = coefficient_statistics(found, theta)["a"]
    rows = u[-30:, s > 1e-11 * s[0]]
    rest = np.eye(30) - (rows @ rows.T).numpy()
    freedom = np.trace(rest @ rest) ** 2 / np.trace(rest @ rest @ rest @ rest)
    factor = norm.ppf(0.975) if name == "given noise" else t.ppf(0.975, max(freedom, 1.0))
    low, high = told["interval_95"]
    assert (high - low) / 2 == pytest.approx(factor * told["std"], rel=1e-4)
    assert (high + low) / 2 == pytest.approx(told["value"])


@pytest.mark.parametrize("left", [0.4, 0.6])
def test_noise_is_known_from_half_a_datum_on(left: float) -> None:
    u = torch.zeros(3, 3, dtype=torch.float64)
    u[range(3), range(3)] = torch.tensor([1.0, 1.0, math.sqrt(1 - math.sqrt(left))]).double()
    noise, freedom = noise_of(torch.tensor([0.0, 0.0, 0.3], dtype=torch.float64), u, known=False)
    if left < 0.5:
        assert noise is None and freedom == 0
    else:
        assert noise == pytest.approx(0.3 / math.sqrt(left)) and freedom == pytest.approx(1.0)
    assert noise_of(torch.ones(3), u, known=True) == (1.0, math.inf)


@dataclass(frozen=True)
class Pattern(kp.Problem):
    """u = f of coefficients."""

    rule: Any = None
    a: Any = field(default_factory=lambda: kp.Unknown(1.0))
    b: Any = field(default_factory=lambda: kp.Unknown(2.0))
    c: Any = field(default_factory=lambda: kp.Unknown(0.5))
    domain = kp.Box(t=(0, 1))
    derivatives = ()

    def residual(self, p: Any) -> Any:
        return p.u - self.rule(self, p)

    def conditions(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (lambda o, p: o.a + o.b * p.t + o.c * p.t**2, None),
        (lambda o, p: 1e-7 * o.a + o.b * p.t + 1e3 * o.c * p.t**2, None),
        (lambda o, p: o.a + o.b * p.t + 0 * o.c, "unknown={c: …}: no equation and no condition depends on c"),
        (lambda o, p: (o.a + o.b) * p.t + o.c, "unknown={a: …, b: …}: no data determine a and b, as one undoes the"),
        (lambda o, p: (o.a + o.b) * (1 + 1e-9 * p.t) + o.c * p.t + o.b * 1e-12 * p.t**2, "no data determine a and b"),
        (lambda o, p: (o.a + o.b) * p.t + o.b * 1e-4 * p.t**2 + o.c, None),
    ],
)
def test_coefficients_that_cannot_be_told_apart_are_refused(rule: Any, told: str | None) -> None:
    problem = Pattern(rule)
    kan = kp.Kan(width=[2], degree=3, grid=2).build(Embedding({"t": (0.0, 1.0)}), 1)
    found = Objective(Residuals(problem, with_coefficients(kan, free_coefficients(problem))), Fixed())
    found.set_points(Uniform(interior=40, boundary=1).draw(problem, 0, np.random.default_rng(0), dtype=torch.float64))
    theta = found.backbone.initial(np.random.default_rng(1))
    if told is None:
        check_coefficients(found, theta)
        return
    with pytest.raises(UserError) as error:
        check_coefficients(found, theta)
    assert told in str(error.value)
    single = Objective(Residuals(problem, kan), Fixed())
    check_coefficients(single, theta)
    assert coefficient_statistics(single, theta) == {}
