"""Every evaluation of a problem by its examination: where, with which unknowns, how often; and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from support.records import stays

import kanpinn as kp
from kanpinn.errors import UserError
from kanpinn.geometry import Disk, Interface
from kanpinn.least_squares import examination
from kanpinn.least_squares.claims import few_points, undetermined, unmet
from kanpinn.least_squares.examination import check_calls, check_values
from kanpinn.least_squares.missing import Missing, missing_conditions
from kanpinn.least_squares.scales import scales_of
from kanpinn.least_squares.sufficiency import check_parameters, interfaces_too_free, numbers
from kanpinn.pde.problem import output_names
from kanpinn.settings.objects import configuration_of_objects


@dataclass(frozen=True)
class Heard(kp.Problem):
    """A problem that notes what its equations and conditions are evaluated with."""

    equations: Callable[[Any], Any]
    posed: list[Any]
    form: Callable[[Any, Any], Any] | None = None
    given: dict[str, Any] = field(default_factory=dict)
    notes: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(**self.given)

    def noted(self, rule: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same rule, noting its point."""

        def at(p: Any, *more: Any) -> Any:
            found = rule(p, *more)
            names = [f"{u}_{d}" if d else u for u in self.unknowns for d in ("", *self.derivatives)]
            for point in (p, *(one for one in more if hasattr(one, self.unknowns[0]))):
                parts = [getattr(point, name).detach() for name in (*self.domain.names, *names)]
                flat = torch.asinh(torch.cat([part.flatten() for part in parts]).double().nan_to_num(7, 8, 9)).numpy()
                self.notes.append(float(flat @ np.cos(1 + np.arange(len(flat)))))
            return found

        return at

    def residual(self, p: Any) -> Any:
        return self.noted(self.equations)(p)

    def conditions(self) -> list[Any]:
        return [kp.Condition(name, on, self.noted(rule), **more) for name, on, rule, more in self.posed]

    def exact(self, p: Any, raw: Any) -> Any:
        return self.form(p, raw) if self.form else super().exact(p, raw)

    def heard(self) -> list[float]:
        """The number of evaluations, and sums over eight of them each."""
        many = len(self.notes)
        folded = np.pad(self.notes, (0, -many % 8)).reshape(-1, 8) @ np.cos(np.arange(8))
        self.notes.clear()
        return [many, *folded]


@dataclass(frozen=True)
class Seen(Heard):
    """One whose network sees functions of the coordinates."""

    def inputs(self, p: Any) -> Any:
        return [p.x**2, torch.sin(p.y)]


@dataclass(frozen=True)
class Made(Heard):
    """One whose unknowns are made of three outputs."""

    def ansatz(self, p: Any, raw: Any) -> Any:
        return {"u": raw.a + p.x * raw.b, "v": raw.c}


def wave(**more: Any) -> Heard:
    given = {"domain": kp.Box(x=(-1, 2), t=(0.5, 1.0)), "derivatives": ("tt", "xx"), **more.pop("given", {})}
    sides = ("side", ("x-", "x+"), lambda p: 0.1 * p.u, {})
    first = ("first", "t-", lambda p: p.u - torch.sin(p.x), {})
    second = ("second", "t-", lambda p: {"slope": p.u_t, "flux": 0.2 * p.u_t - 1}, {})
    equations = more.pop("equations", lambda p: p.u_tt - 3 * p.u_xx + p.u**3 * torch.exp(p.x))
    return Heard(equations, more.pop("posed", [sides, first, second]), given=given, **more)


PAIR = {"unknowns": ("u", "v"), "derivatives": ("x", "y", "xx"), "domain": kp.Box(x=(0, 1), y=(0, 2))}
HEAT = {"domain": kp.Box(x=(0, 1), t=(0, 1)), "derivatives": ("t", "xx")}
CASES = {
    "wave": wave(),
    "rounded": wave(equations=lambda p: p.u_tt - 3 * p.u_xx + torch.round(4 * p.u) + torch.sign(p.u_x)),
    "kinks": wave(equations=lambda p: p.u_tt - (p.u_xx - 0.3).abs() + torch.where(p.x > 0.4, p.u, p.u * (1 + p.x))),
    "quotient": wave(equations=lambda p: p.u_tt / (p.u_xx**2 + 1e-6) + 1 / p.u),
    "detached": wave(equations=lambda p: p.u_tt - p.u_xx.detach()),
    "partly": wave(equations=lambda p: torch.where(p.x > 1.9, p.u_tt, 1.0)),
    "too few": wave(posed=[("side", "x-", lambda p: p.u, {}), ("first", "t-", lambda p: p.u - 1, {})]),
    "form": Heard(
        lambda p: p.u_t - 0.1 * p.u_xx,
        [("start", "t-", lambda p: p.u - p.x, {}), ("rim", ("x-", "x+"), lambda p: p.u - 1e-3, {})],
        lambda p, raw: {"u": p.x + p.t * p.x * (1 - p.x) * raw.u},
        HEAT,
    ),
    "pair": Heard(
        lambda p: {"one": p.u_xx - p.v_y + 2, "two": p.v_x * p.u + 100 * p.v},
        [
            ("left", "x-", lambda p: p.u, {}),
            ("around", "y-", lambda p, q: {"a": p.v - q.v, "b": p.u - q.u}, {"periodic": "y"}),
        ],
        given=PAIR,
    ),
    "far": Heard(
        lambda p: p.u_x - p.integral(lambda q: q.u**2 * q.v_y, over="x", upper=p.x, nodes=8) - p.v,
        [
            ("left", "x-", lambda p: p.u - 1, {}),
            ("right", "x+", lambda p: p.integral(lambda q: q.v, over="y") - p.v, {}),
        ],
        given={**PAIR, "derivatives": ("x", "y")},
    ),
    "inputs": Seen(
        lambda p: p.u_xx + p.u_y * p.u - 1,
        [("left", "x-", lambda p: p.u_x, {}), ("low", "y-", lambda p: p.u - p.x, {})],
        given={**PAIR, "unknowns": ("u",)},
    ),
    "outputs": Made(
        lambda p: p.u_xx - p.v_y,
        [("left", "x-", lambda p: {"u": p.u, "v": p.v}, {})],
        given={**PAIR, "outputs": ("a", "b", "c")},
    ),
    "interface": Heard(
        lambda p: p.u_xx + p.u_yy - 1,
        [
            ("edge", ("x-", "x+", "y-", "y+"), lambda p: p.u, {}),
            ("sides", Interface(Disk(radius=0.6)), lambda p, q: p.u_x - 3 * q.u_x, {}),
        ],
        given={"domain": kp.Box(x=(-1, 1), y=(-1, 2)), "derivatives": ("xx", "yy")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_the_examination_evaluates(name, monkeypatch) -> None:
    problem = CASES[name]
    monkeypatch.setattr(examination, "jumps", lambda *_: [])  # where these are sought rounding has a say
    exact = problem.form is not None
    setup = configuration_of_objects(
        problem, [kp.Kan(width=[2], grid=2), "problem.conditions=exact" if exact else "seed=0"]
    ).setup
    told: list[Any] = []

    def record(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            found = method(*arguments, **options)
            found = list(found.lines) if isinstance(found, Missing) else found
        except UserError as error:
            found = str(error)[:70]
        told.append([method.__name__, found, problem.heard()])
        return found

    scales = record(scales_of, problem, exact=exact)
    embedding = setup.embedding()
    device = torch.device("cpu")
    left = record(unmet, problem, embedding, torch.float64, device, scales) if exact else ()
    network = setup.network()
    theta, residuals = network.initial(np.random.default_rng(2)), setup.residuals(network)
    sample = few_points(problem, torch.float64, device, 21)
    for method in (check_calls, check_values):
        record(method, residuals, sample, theta)
    for method in (undetermined, missing_conditions, interfaces_too_free, check_parameters):
        record(method, residuals, sample)
    record(numbers, problem)
    assert (left == ("rim",)) == exact
    stays(f"evaluations of {name}", [told, output_names(problem), sample.state()])
