"""Conditions that are missing, and right problems of which nothing is said."""

from __future__ import annotations

import re

import pytest
import torch

from kanpinn.backbones import Kan
from kanpinn.backbones.embedding import Embedding
from kanpinn.least_squares.claims import few_points, undetermined
from kanpinn.least_squares.missing import missing_conditions
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.text_problem import text_problem

LINE, TIME, STRIP = {"x": [0, 1]}, {"t": [0, 1]}, {"x": [0, 1], "t": [0, 1]}
SQUARE, CUBE = {"x": [0, 1], "y": [0, 1]}, {"x": [0, 1], "y": [0, 1], "t": [0, 1]}
ZERO = "u = 0"


def on(place, *equations, **more):
    return {"on": place, "equation": {f"r{k}": one for k, one in enumerate(equations)}, **more}


BARE = "no condition on {}, where the equations ask for one".format
TURNED = f"{BARE('{}')}; they run from there, and from {{}} they are ill-posed".format
ORDER = "only {0} in {1}, where the equations are of order {2} and ask for {2}".format
FEW = "only 1 condition on {}, where the equations ask for 2".format
MIXED = ["q = u_x", "q_x + pi**2*sin(pi*x) = 0"]
PLANE = ["q = u_x", "r = u_y", "q_x + r_y + 1 = 0"]
SOUND = ["u_t + v_x = 0", "v_t + u_x = 0"]
STOKES = ["u_xx + u_yy = p_x", "v_xx + v_yy = p_y", "u_x + v_y = 0"]
KDV = "u_t + u*u_x + 0.01*u_xxx = 0"
QUANTUM = ["u_t + v_xx = 0", "v_t - u_xx = 0"]
SHEET = ["u_t + v*u_x = 0.01*u_vv"]
OPTION = "u_t + 0.02*s**2*u_ss + 0.05*s*u_s = 0.05*u"
BEGIN, ENDS, EDGE = on("t-", "u = sin(pi*x)"), on(["x-", "x+"], ZERO), on("boundary", ZERO)
REST = on("t-", ZERO, "u_t = 0")

RIGHT = {
    "Poisson on a line": (LINE, "u_xx = -1", EDGE),
    "initial values in x": (LINE, "u_xx = -u", on("x-", "u = 1", "u_x = 0")),
    "Lane and Emden": ({"r": [0, 1]}, "r*u_rr + 2*u_r + r*u = 0", on("r-", "u = 1", "u_r = 0")),
    "mixed on a line": (LINE, MIXED, ENDS),
    "mixed, u and q": (LINE, MIXED, on("x-", ZERO, "q = 1")),
    "mixed on a square": (SQUARE, PLANE, EDGE),
    "beam": (LINE, "u_xxxx = 1", on("boundary", ZERO, "u_xx = 0")),
    "Legendre": ({"x": [-1, 1]}, "(1-x**2)*u_xx - 2*x*u_x + 6*u = 0", on("x+", "u = 1")),
    "ODE from its end": (TIME, "u_t = -u", on("t+", "u = 1")),
    "transport": (STRIP, "u_t + u_x = 0", BEGIN, on("x-", ZERO)),
    "transport to the left": (STRIP, "u_t - u_x = 0", BEGIN, on("x+", ZERO)),
    "transport from the end": (STRIP, "u_t + u_x = 0", on("t+", ZERO), on("x+", ZERO)),
    "transport from the side": (STRIP, "u_t + u_x = 0", on(["x-", "t-"], ZERO)),
    "transport that leaves": (STRIP, "u_t + (x-1/2)*u_x = 0", BEGIN),
    "steady transport": (SQUARE, "2*u_x + u_y = 1", on(["x-", "y-"], ZERO)),
    "steady transport, back": (SQUARE, "2*u_x + u_y = 1", on(["x+", "y+"], ZERO)),
    "rotation": (
        {"x": [-1, 1], "y": [-1, 1]},
        "x*u_y - y*u_x = 0",
        on("x-", ZERO, where="y > 0"),
        on("x+", ZERO, where="y < 0"),
        on("y-", ZERO, where="x < 0"),
        on("y+", ZERO, where="x > 0"),
    ),
    "rarefaction": (STRIP, "u_t + u*u_x = 0", BEGIN),
    "heat": (STRIP, "u_t = u_xx", BEGIN, ENDS),
    "heat in parts": (STRIP, "u_t = u_xx", BEGIN, on("x-", ZERO), *(on("x+", ZERO, where=f"t {c} 0.3") for c in "<>")),
    "heat of porous bodies": (STRIP, "u_t = u*u_xx + u_x**2", BEGIN, ENDS),
    "thin layer": (STRIP, "u_t + u_x = 1e-4*u_xx", BEGIN, ENDS),
    "heat from the end": (STRIP, "u_t + 0.1*u_xx = 0", on("t+", "u = sin(pi*x)"), ENDS),
    "option": ({"s": [0, 200], "t": [0, 1]}, OPTION, on("t+", "u = max(s - 100, 0)"), on("s+", "u = s - 100")),
    "kinetic": (
        {"x": [0, 1], "v": [-1, 1], "t": [0, 1]},
        SHEET,
        on(["t-", "v-", "v+"], ZERO),
        on("x-", ZERO, where="v > 0"),
        on("x+", ZERO, where="v < 0"),
    ),
    "wave": (STRIP, "u_tt = u_xx", REST, ENDS),
    "wave along x": (STRIP, "u_tt = u_xx", on("x-", ZERO, "u_x = 0"), on(["t-", "t+"], ZERO)),
    "Goursat": (STRIP, "u_xt = u", on(["x-", "t-"], "u = 1")),
    "telegraph": (STRIP, "u_tt + u_t + u = u_xx", REST, on(["x-", "x+"], "u_x = 0")),
    "Korteweg and de Vries": (STRIP, "u_t + u*u_x + 0.01*u_xxx = 0", BEGIN, ENDS, on("x+", "u_x = 0")),
    "sound": (STRIP, SOUND, on("t-", ZERO, "v = 0"), ENDS),
    "reaction": (STRIP, ["u_t = 0.1*u_xx - u*v", "v_t = u*v"], on("t-", ZERO, "v = 1"), ENDS),
    "state and adjoint": (
        STRIP,
        ["u_t - u_xx = q", "-q_t - q_xx = u"],
        BEGIN,
        on("t+", "q = 0"),
        on(["x-", "x+"], ZERO, "q = 0"),
    ),
    "transport and adjoint": (
        STRIP,
        ["u_t + u_x = q", "q_t + q_x = -u"],
        on(["t-", "x-"], ZERO),
        on(["t+", "x+"], "q = 0"),
    ),
    "growth beside heat": (
        STRIP,
        ["u_t = 2*u", "v_t = v_xx - u"],
        on("t-", "u = 1", "v = 0"),
        on(["x-", "x+"], "v = 0"),
    ),
    "decay from a side": (SQUARE, ["u_x = -5*u", "v_xx + v_yy = u"], on("x+", "u = 1"), on("boundary", "v = 0")),
    "decay from the other": (SQUARE, ["u_x = -5*u", "v_xx + v_yy = u"], on("x-", "u = 1"), on("boundary", "v = 0")),
    "Schrödinger": (STRIP, QUANTUM, on("t-", ZERO, "v = 1"), on(["x-", "x+"], ZERO, "v = 0")),
    "beam in time": (STRIP, "u_tt + u_xxxx = 0", REST, on(["x-", "x+"], ZERO, "u_xx = 0")),
    "stream with growth": ("Disk(name='rim')", "u_x = 20*u", on("rim", "u = 1", where="x < 0")),
    "a condition in small units": (LINE, "u_xxxx = 1", ENDS, on(["x-", "x+"], "1e-12*u_xx = 0")),
    "parts of a side": (LINE, "u_xx = 1", on("x-", ZERO, "2*u = 0"), on("x+", ZERO)),
    "Stokes": (SQUARE, STOKES, on("boundary", ZERO, "v = 0"), {"integral": "p", "equals": "0"}),
    "Cauchy and Riemann": (SQUARE, ["u_x = v_y", "u_y = -v_x"], EDGE, {"integral": "v", "equals": "0"}),
    "more equations than unknowns": (SQUARE, ["u_x = y", "u_y = x"], on("x-", ZERO)),
    "Helmholtz": (SQUARE, "laplace(u) + 400*u = 1", EDGE),
    "plate": (SQUARE, "u_xxxx + 2*u_xxyy + u_yyyy = 1", on("boundary", ZERO, "u_n = 0")),
    "disk": ("Disk(name='rim')", "laplace(u) = 1", EDGE),
    "disk in a stream": ("Disk(name='rim')", "u_x = 1", on("rim", ZERO, where="x < 0")),
    "plate with an edge held, one free": (SQUARE, "laplace(u) = 1", on("x-", ZERO), on(["x+", "y-", "y+"], "u_n = 0")),
}

WRONG = {
    "Korteweg and de Vries without a start": (STRIP, KDV, ENDS, on("x+", "u_x = 0"), BARE("t-")),
    "beam in time without a start": (STRIP, "u_tt + u_xxxx = 0", on(["x-", "x+"], ZERO, "u_xx = 0"), BARE("t-, t+")),
    "beam in time, half a start": (STRIP, "u_tt + u_xxxx = 0", BEGIN, on(["x-", "x+"], ZERO, "u_xx = 0"), FEW("t-")),
    "Schrödinger without a start": (STRIP, QUANTUM, on(["x-", "x+"], ZERO, "v = 0"), BARE("t-")),
    "Schrödinger, half a start": (STRIP, QUANTUM, BEGIN, on(["x-", "x+"], ZERO, "v = 0"), ORDER("1 condition", "t", 2)),
    "one condition twice": (LINE, "u_xxxx = 1", ENDS, on(["x-", "x+"], "2*u = 0"), ORDER("2 conditions", "x", 4)),
    "one condition twice on a plate": (
        SQUARE,
        "u_xxxx + 2*u_xxyy + u_yyyy = 1",
        EDGE,
        on(["x-", "y-"], "u_n = 0"),
        on(["x+", "y+"], "3*u = 0"),
        FEW("x+, y+"),
    ),
    "half of a boundary": (
        SQUARE,
        "laplace(u) = -1",
        on("boundary", ZERO, where="x < 0.5"),
        BARE("x+, y- (in part), y+ (in part)"),
    ),
    "half of a face": (
        SQUARE,
        "laplace(u) = -1",
        on(["y-", "y+", "x+"], ZERO),
        on("x-", ZERO, where="y < 0.5"),
        BARE("x- (in part)"),
    ),
    "inflow": (STRIP, "u_t + u_x = 0", BEGIN, BARE("x-")),
    "inflow at the other end": (STRIP, "u_t - u_x = 0", BEGIN, BARE("x+")),
    "outflow for inflow": (STRIP, "u_t + u_x = 0", BEGIN, on("x+", ZERO), BARE("x-")),
    "transport from nowhere": (STRIP, "u_t + u_x = 0", on("x-", ZERO), BARE("t-")),
    "stream that enters": (STRIP, "u_t + (1/2-x)*u_x = 0", BEGIN, BARE("x-, x+")),
    "steady transport": (SQUARE, "2*u_x + u_y = 1", on("x-", ZERO), BARE("y-")),
    "disk in a stream": ("Disk(name='rim')", "u_x = 1", on("rim", ZERO, where="x < -0.5"), BARE("rim (in part)")),
    "one end of a line": (LINE, "u_xx = -1", on("x-", ZERO), BARE("x+")),
    "heat without a start": (STRIP, "u_t = u_xx", ENDS, BARE("t-")),
    "heat with one end": (STRIP, "u_t = u_xx", BEGIN, on("x-", ZERO), BARE("x+")),
    "heat, two at one end": (STRIP, "u_t = u_xx", BEGIN, on("x-", ZERO, "u_x = 0"), BARE("x+")),
    "heat backwards": (STRIP, "u_t = 0.1*u_xx", on("t+", ZERO), ENDS, TURNED("t-", "t+")),
    "growth from the start": (STRIP, "u_t + 0.1*u_xx = 0", BEGIN, ENDS, TURNED("t+", "t-")),
    "wave without a velocity": (STRIP, "u_tt = u_xx", BEGIN, ENDS, FEW("t-")),
    "wave with one end": (STRIP, "u_tt = u_xx", REST, on("x-", ZERO), BARE("x+")),
    "Korteweg and de Vries": (STRIP, "u_t + u*u_x + 0.01*u_xxx = 0", BEGIN, ENDS, FEW("x+")),
    "beam": (LINE, "u_xxxx = 1", ENDS, ORDER("2 conditions", "x", 4)),
    "oscillator": (
        TIME,
        "u_tt = -u",
        on("t-", "u = 1"),
        ORDER("1 condition", "t", 2),
    ),
    "ring, inner rim": ({"r": [1, 2]}, "r*u_rr + u_r = 0", on("r+", ZERO), BARE("r-")),
    "ring, outer rim": ({"r": [1, 2]}, "r*u_rr + u_r = 0", on("r-", ZERO), BARE("r+")),
    "mixed on a line": (LINE, MIXED, on("x-", ZERO), BARE("x+")),
    "mixed on a square": (SQUARE, PLANE, on(["x-", "x+", "y-"], ZERO), BARE("y+")),
    "sound": (STRIP, SOUND, on("t-", ZERO, "v = 0"), on("x-", ZERO), BARE("x+")),
    "sound from pressure": (
        STRIP,
        SOUND,
        BEGIN,
        ENDS,
        ORDER("1 condition", "t", 2),
    ),
    "Stokes": (SQUARE, STOKES, on("boundary", ZERO), {"integral": "p", "equals": "0"}, FEW("x-, x+, y-, y+")),
    "kinetic": (
        {"x": [0, 1], "v": [-1, 1], "t": [0, 1]},
        SHEET,
        on(["t-", "v-", "v+"], ZERO),
        on("x-", ZERO, where="v > 0"),
        BARE("x+ (in part)"),
    ),
    "plate": (SQUARE, "u_xxxx + 2*u_xxyy + u_yyyy = 1", EDGE, FEW("x-, x+, y-, y+")),
    "disk": ("Disk(name='rim')", "laplace(u) = 1", on("rim", ZERO, where="y < 0"), BARE("rim (in part)")),
    "Cauchy's data": (SQUARE, "laplace(u) = 1", on(["x-", "x+"], ZERO), on("y-", ZERO, "u_y = 0"), BARE("y+")),
}


def said(domain, equations, *conditions) -> list[str]:
    equations = {f"e{k}": one for k, one in enumerate(equations)} if isinstance(equations, list) else equations
    names = [name for name in "uvpqr" if re.search(rf"\b{name}(_|\b)", str(equations)) and name not in domain]
    named = {f"c{k}": one for k, one in enumerate(conditions)}
    problem = text_problem("posed", {"unknowns": names, "domain": domain, "equations": equations, "conditions": named})
    network = Kan(width=[2]).build(
        Embedding({name: problem.domain.interval(name) for name in problem.domain.names}), len(problem.unknowns)
    )
    residuals = Residuals(problem, network)
    sample = few_points(problem, torch.float64, torch.device("cpu"))
    missing = missing_conditions(residuals, sample)
    return [*missing.lines, *undetermined(residuals, sample, enough=missing.enough)]


@pytest.mark.parametrize("name", RIGHT)
def test_nothing_is_said_of_right_problems(name: str) -> None:
    assert said(*RIGHT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_missing_conditions_are_named(name: str) -> None:
    *problem, expected = WRONG[name]
    assert said(*problem)[0] == expected


def test_an_unknown_without_a_start_is_named_though_every_piece_has_conditions() -> None:
    start, ends = on("t-", "v = 1"), on(["x-", "x+"], "v = 1")
    assert said(STRIP, ["u_t = -u*v", "v_t = v_xx"], start, ends) == [
        "no condition holds u, which the equations alone may not determine"
    ]


def test_an_unknown_that_no_other_tells_of_is_named_however_many_conditions_others_have() -> None:
    apart = ["u_xx = 1", "v_xx = v"]
    assert said(LINE, apart, ENDS, on("x-", "u_x = 0"), on("x+", "u_x = 0")) == [
        "no condition holds v, which the equations alone may not determine"
    ]
