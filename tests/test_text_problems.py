"""Problems as text: twins of the shipped ones, what text may say, and what is refused with its place."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from kanpinn.errors import KanpinnWarning, UserError
from kanpinn.geometry import Coordinates
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde import Condition, Point
from kanpinn.pde.condition import pieces_of
from kanpinn.pde.formulas import formula, number
from kanpinn.pde.grammar import Names
from kanpinn.pde.text_problem import text_problem
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.config import problem_as_text
from kanpinn.settings.discovery import load_problem_class
from kanpinn.settings.user_files import read_yaml

SQUARE = {"x": [-1, 1], "y": [-1, 1]}
EDGE = ["x-", "x+", "y-", "y+"]
HOLES = [(x, y) for x in (-0.3, 0.3) for y in (-0.3, 0.3)]
OFFSETS = [(f"(x - {x})/0.1", f"(y - {y})/0.1") for x, y in HOLES]
PULSE = "exp(-(20/pi*sin(pi*x/100))**2)"
NAVIER_STOKES = {
    "momentum_x": "u*u_x + v*u_y + p_x = laplace(u)/Re",
    "momentum_y": "dot((u, v), grad(v)) + p_y = laplace(v)/Re",
    "mass": "div((u, v)) = 0",
}
TWINS: dict[str, dict] = {
    "poisson": {
        "domain": SQUARE,
        "kx": 1.0,
        "ky": 1.0,
        "equations": "laplace(u) = -((kx*pi)**2 + (ky*pi)**2) * sin(kx*pi*x) * sin(ky*pi*y)",
        "conditions": {"boundary": {"on": EDGE, "equation": "u = sin(kx*pi*x)*sin(ky*pi*y)"}},
        "reference": {"u": "sin(kx*pi*x)*sin(ky*pi*y)"},
    },
    "helmholtz": {
        "domain": SQUARE,
        "a1": 1,
        "a2": 4,
        "k": 1,
        "equations": "div(grad(u)) + k**2*u = (k**2 - (a1*pi)**2 - (a2*pi)**2) * sin(a1*pi*x) * sin(a2*pi*y)",
        "conditions": {"boundary": {"on": "boundary", "equation": "u = sin(a1*pi*x)*sin(a2*pi*y)"}},
        "reference": {"u": "sin(a1*pi*x)*sin(a2*pi*y)"},
    },
    "burgers": {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "nu": 0.01 / math.pi,
        "equations": "u_t + d(u**2/2, x) = nu*u_xx",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = -sin(pi*x)"},
            "boundary": {"on": ["x-", "x+"], "equation": "u = 0"},
        },
    },
    "allen_cahn": {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "D": 1e-4,
        "equations": "u_t = D*laplace(u) + 5*(u - u**3)",
        "conditions": {"initial": {"on": "t-", "equation": "u = x**2*cos(pi*x)"}, "periodic": {"periodic": "x"}},
    },
    "heat": {
        "domain": {"x": [0, 1], "t": [0, 1]},
        "alpha": 0.4,
        "k": 1,
        "equations": "u_t = alpha*u_xx",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = sin(k*pi*x)"},
            "boundary": {"on": ["x-", "x+"], "equation": "0 = -u"},
        },
        "reference": {"u": "exp(-alpha*(k*pi)**2*t)*sin(k*pi*x)"},
    },
    "wave": {
        "domain": {"x": [0, 1], "t": [0, 1]},
        "c": 2,
        "a": 0.5,
        "m": 4,
        "equations": "u_tt = c**2*u_xx",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = sin(pi*x) + a*sin(m*pi*x)"},
            "initial_velocity": {"on": "t-", "equation": "u_t = 0"},
            "boundary": {"on": ["x-", "x+"], "equation": "u = 0"},
        },
        "reference": {"u": "sin(pi*x)*cos(c*pi*t) + a*sin(m*pi*x)*cos(m*c*pi*t)"},
    },
    "advection": {
        "domain": {"x": [0, "2*pi"], "t": [0, 1]},
        "c": 30.0,
        "equations": "u_t + c*u_x = 0",
        "conditions": {"initial": {"on": "t-", "equation": "u = sin(x)"}, "periodic": {"periodic": "x"}},
        "reference": {"u": "sin(x - c*t)"},
    },
    "kdv": {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "delta": 0.022,
        "equations": "u_t + u*u_x + delta**2*u_xxx = 0",
        "conditions": {"initial": {"on": "t-", "equation": "u = cos(pi*x)"}, "periodic": {"periodic": "x"}},
    },
    "poisson_nd": {
        "domain": {one: [0, 1] for one in "xyzwv"},
        "k": 1,
        "equations": "laplace(u) + 5*(k*pi)**2 * sin(k*pi*x)*sin(k*pi*y)*sin(k*pi*z)*sin(k*pi*w)*sin(k*pi*v) = 0",
        "conditions": {"boundary": {"on": "boundary", "equation": "u = 0"}},
    },
    "poisson_interface": {
        "domain": SQUARE,
        "k": 3,
        "inputs": ["2*abs(x) - 1"],
        "equations": "where(x < 0, 1, 1/2)*(laplace(u) - laplace(reference(u))) = 0",
        "conditions": {
            "interface": {"on": "x=0", "continuous": "where(x < 0, 1, 1/2)*u_x"},
            "boundary": {"on": EDGE, "equation": "u = 0"},
        },
        "reference": {"u": "where(x < 0, sin(pi*x), sin(2*pi*x))*sin(k*pi*y)"},
    },
    "poisson_lshape": {
        "domain": "Box(x=[-1, 1], y=[-1, 1], name='outer') - Box(x=[0, 1], y=[-1, 0], name='edge')",
        "a": 1,
        "equations": "laplace(u) = -2*pi**2*a*sin(pi*x)*sin(pi*y)",
        "conditions": {
            "outer": {"on": "outer", "equation": "u = reference(u)"},
            "edge_x": {"on": "edge.x-", "equation": "u = 0"},
            "edge_y": {"on": "edge.y+", "equation": "u = 0"},
        },
        "reference": {"u": "(x**2 + y**2)**(1/3)*sin(2/3*(atan2(-x - y, y - x) + 3*pi/4)) + a*sin(pi*x)*sin(pi*y)"},
    },
    "poisson_holes": {
        "domain": "Box(x=[-0.5, 0.5], y=[-0.5, 0.5], name='square')"
        + "".join(f" - Disk([{x}, {y}], 0.1, name='hole{k}')" for k, (x, y) in enumerate(HOLES)),
        "inputs": [f"0.9*({along})/max(({x})**2 + ({y})**2, 0.81)" for x, y in OFFSETS for along in (x, y)],
        "equations": "laplace(u) = 0",
        "conditions": {
            "square": {"on": "square", "equation": "u = 1"},
            "holes": {"on": ["hole0", "hole1", "hole2", "hole3"], "equation": "u = 0"},
        },
    },
    "burgers_inverse": {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "nu": 0.01,
        "equations": "u_t + u*u_x = nu*u_xx",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = -sin(pi*x)"},
            "boundary": {"on": ["x-", "x+"], "equation": "u = 0"},
        },
    },
    "darcy_inverse": {
        "domain": {"x": [0, 1], "y": [0, 1]},
        "unknowns": ["u", "a"],
        "equations": "div(a*grad(u)) = div(reference(a)*grad(reference(u)))",
        "conditions": {"edge": {"on": EDGE, "equation": "a = reference(a)"}},
        "reference": {"u": "sin(pi*x)*sin(pi*y)", "a": "1/(1 + x**2 + y**2 + (x - 1)**2 + (y - 1)**2)"},
    },
    "heat_inverse": {
        "domain": {**SQUARE, "t": [0, 1]},
        "unknowns": ["u", "a"],
        "depends": {"a": ["x", "y"]},
        "equations": "u_t - div(a*grad(u)) = d(reference(u), t) - div(reference(a)*grad(reference(u)))",
        "conditions": {"edge": {"on": EDGE, "equation": "a = 2"}},
        "reference": {"u": "exp(-t)*sin(pi*x)*sin(pi*y)", "a": "2 + sin(pi*x)*sin(pi*y)"},
    },
    "cahn_hilliard": {
        "domain": {"x": [-1, 1], "t": [0, 1]},
        "gamma": 0.01,
        "epsilon": 1e-6,
        "equations": "u_t = laplace(gamma*(u**3 - u) - epsilon*u_xx)",
        "conditions": {"initial": {"on": "t-", "equation": "u = -cos(2*pi*x)"}, "periodic": {"periodic": "x"}},
    },
    "kuramoto_sivashinsky": {
        "domain": {"x": [0, "8*pi"], "t": [0, 10]},
        "nu": 1.0,
        "equations": "u_t + u*u_x + u_xx + nu*u_xxxx = 0",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = cos(x/4)*(1 + sin(x/4))"},
            "periodic": {"periodic": "x"},
        },
    },
    "gray_scott": {
        "domain": {"x": [-50, 50], "t": [0, 100]},
        "unknowns": ["u", "v"],
        "D": 1.0,
        "F": 0.026,
        "k": 0.055,
        "equations": {"feed": "u_t = D*u_xx - u*v**2 + F*(1 - u)", "activator": "v_t = D/2*v_xx + u*v**2 - (F + k)*v"},
        "conditions": {
            "initial": {"on": "t-", "equation": {"u": f"u = 1 - {PULSE}/2", "v": f"v = {PULSE}/4"}},
            "periodic": {"periodic": "x"},
        },
    },
    "schrodinger": {
        "domain": {"x": [-5, 5], "t": [0, "pi/2"]},
        "unknowns": ["u", "v"],
        "equations": {"real": "v_t = u_xx/2 + (u**2 + v**2)*u", "imaginary": "u_t = -v_xx/2 - (u**2 + v**2)*v"},
        "conditions": {
            "initial": {
                "on": "t-",
                "equation": {"u": "u = " + " + ".join(f"2/cosh(x - {10 * m})" for m in range(-4, 5)), "v": "v = 0"},
            },
            "periodic": {"periodic": "x"},
        },
    },
    "lotka_volterra": {
        "domain": {"t": [0, 10]},
        "unknowns": ["u", "v"],
        "a": 1.5,
        "b": 1.0,
        "c": 3.0,
        "d": 1.0,
        "equations": {"prey": "u_t = u*(a - b*v)", "predators": "v_t = v*(d*u - c)"},
        "conditions": {"initial": {"on": "t-", "equation": {"u": "u = 1", "v": "v = 1"}}},
    },
    "van_der_pol": {
        "domain": {"t": [0, 15]},
        "mu": 2.0,
        "equations": "u_tt = mu*(1 - u**2)*u_t - u",
        "conditions": {
            "initial": {"on": "t-", "equation": "u = 2"},
            "initial_slope": {"on": "t-", "equation": "u_t = 0"},
        },
    },
    "cavity": {
        "domain": {"x": [0, 1], "y": [0, 1]},
        "unknowns": ["u", "v", "p"],
        "Re": 100.0,
        "equations": NAVIER_STOKES,
        "conditions": {
            "lid": {"on": "y+", "equation": {"u": "u = 4*x*(1 - x)", "v": "v = 0"}},
            "walls": {"on": ["x-", "x+", "y-"], "equation": {"u": "u = 0", "v": "v = 0"}},
            "gauge": {"on": {"x": [0], "y": [0]}, "equation": "p = 0"},
        },
    },
    "backward_step": {
        "domain": "Box(x=[-1, 4], y=[-1/2, 1/2], name='channel') - Box(x=[-1, 0], y=[-1/2, 0], name='step')",
        "unknowns": ["u", "v", "p"],
        "Re": 100.0,
        "equations": {
            name: f"min(2*sqrt(x**2 + y**2), 1)**0.5*({text.replace('=', '- (')})) = 0"
            for name, text in NAVIER_STOKES.items()
        },
        "conditions": {
            "inflow": {"on": "channel.x-", "equation": {"u": "u = 24*y*(1/2 - y)", "v": "v = 0"}},
            "walls": {"on": ["channel.y-", "channel.y+", "step"], "equation": {"u": "u = 0", "v": "v = 0"}},
            "outflow": {"on": "channel.x+", "equation": {"u": "u_x/Re = p", "v": "v_x = 0"}},
        },
    },
    "cylinder": {
        "domain": "Box(x=[0, 2.2], y=[0, 0.41], name='channel') - Disk([0.2, 0.2], 0.05, name='cylinder')",
        "unknowns": ["u", "v", "p"],
        "nu": 0.001,
        "U": 0.3,
        "inputs": [
            f"0.9*({along})/max(((x - 0.2)/0.05)**2 + ((y - 0.2)/0.05)**2, 0.81)"
            for along in ("(x - 0.2)/0.05", "(y - 0.2)/0.05")
        ],
        "equations": {name: text.replace("/Re", "*nu") for name, text in NAVIER_STOKES.items()},
        "conditions": {
            "inflow": {"on": "channel.x-", "equation": {"u": "u = 4*U*y*(0.41 - y)/0.41**2", "v": "v = 0"}},
            "walls": {"on": ["channel.y-", "channel.y+", "cylinder"], "equation": {"u": "u = 0", "v": "v = 0"}},
            "outflow": {"on": "channel.x+", "equation": {"u": "nu*u_x = p", "v": "nu*v_x = 0"}},
        },
    },
    "pendulum_lagrangian": {
        "domain": {"q": [-3, 3], "v": [-2, 2]},
        "unknowns": ["T", "V"],
        "depends": {"T": ["v"], "V": ["q"]},
        "omega": 1.0,
        "equations": "T_vv*omega**2*sin(q) = V_q",
        "conditions": {
            "mass": {"on": {"q": 0, "v": 0}, "equation": {"T": "T = 0", "momentum": "T_v = 0", "mass": "T_vv = 1"}},
            "rest": {"on": {"q": 0, "v": 0}, "equation": "V = 0"},
        },
        "reference": {"T": "v**2/2", "V": "omega**2*(1 - cos(q))"},
    },
    "oscillator_energy": {
        "domain": "Disk(name='rim', names=['x', 'p'])",
        "unknowns": ["H"],
        "equations": "p*H_x - x*H_p = 0",
        "conditions": {"kinetic": {"on": {"x": 0}, "equation": "H = p**2/2"}},
        "reference": {"H": "(x**2 + p**2)/2"},
    },
    "neo_hookean": {
        "domain": {"F11": [0.8, 1.2], "F12": [-0.2, 0.2], "F21": [-0.2, 0.2], "F22": [0.8, 1.2]},
        "unknowns": ["P11", "P12"],
        "E": 1.0,
        "nu": 0.2,
        "inputs": ["(F11*F22 - F12*F21 - 1.04)/0.44"],
        "equations": {"P11": "P11 = reference(P11)", "P12": "P12 = reference(P12)"},
        "reference": {
            "P11": "E/2/(1 + nu)*(F11**2 + F12**2 - 1) + E*nu/(1 + nu)/(1 - 2*nu)*log(F11*F22 - F12*F21)",
            "P12": "E/2/(1 + nu)*(F11*F21 + F12*F22)",
        },
    },
    "peaks": {
        "domain": {"x": [-1, 1]},
        "equations": "u = " + " + ".join(f"exp(-300*(x - {0.4 * k})**2)" for k in range(-2, 3)),
    },
}
PLAIN = {
    "burgers_inverse": {"nu": 0.01},
    "poisson_lshape": {"enrichment": False},
    "poisson_holes": {"logarithms": False},
    "cavity": {"corners": False},
    "backward_step": {"corner": False},
}
"""Arguments with which unknowns are the network's outputs, and coefficients numbers."""

WITHOUT = {"regression": "the extremes of its target", "double_pendulum_lagrangian": "accelerations, a page long"}
"""Problems of a class that have no twin, for what a text cannot say in a line."""

SHIPPED = {
    path.stem: read_yaml(path)
    for path in sorted((Path(__file__).parents[1] / "conf" / "problem").glob("*.yaml"))
    if "\nequations:" in path.read_text(encoding="utf-8")
}


def test_problems_without_a_twin_are_few() -> None:
    classes = {path.stem for path in (Path(__file__).parents[1] / "problems").glob("[!_]*.py")}
    assert classes - {*TWINS} == {*WITHOUT}


def anywhere(names: tuple[str, ...], points: torch.Tensor, fields: dict[str, Jet]) -> Point:
    """Points with unknowns of any values and derivatives, and normals of any direction."""
    return Point(names, points, fields, torch.nn.functional.normalize(torch.rand_like(points) - 0.5))


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_of_a_shipped_problem_has_its_residuals(name: str) -> None:
    ours = load_problem_class(name)(**PLAIN.get(name, {}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what jumps in poisson_interface is stated by a condition
        twin = text_problem(name, TWINS[name])
    names = ours.domain.names
    assert (twin.domain.names, twin.unknowns, twin.depends) == (names, ours.unknowns, dict(ours.depends))
    assert twin.domain.lower == pytest.approx(ours.domain.lower) and twin.domain.upper == pytest.approx(
        ours.domain.upper
    )
    torch.manual_seed(0)
    lower, upper = torch.tensor(ours.domain.lower), torch.tensor(ours.domain.upper)
    unit = torch.rand(2, 40, len(names), dtype=torch.float64)
    unit[..., 0] = unit[..., 0] / 2 + torch.tensor([[0.0], [0.5]])  # on both sides of a plane in the middle
    space = JetSpace(names, tuple({*ours.derivatives, *twin.derivatives, *names}))

    def fields() -> dict[str, Jet]:
        return {one: Jet(space, torch.randn(len(space), 40, dtype=torch.float64)) for one in ours.unknowns}

    p, q = (anywhere(names, lower + part * (upper - lower), fields()) for part in unit)
    pairs = {"equations": (ours.residual(p), twin.residual(p))}
    conditions = [one for one in ours.conditions() if isinstance(one, Condition)]
    assert [one.name for one in conditions] == [one.name for one in twin.conditions()]
    for left, right in zip(conditions, twin.conditions(), strict=True):
        two_sided = right.periodic or "continuous" in TWINS[name]["conditions"][right.name]
        mine = (p, q) if two_sided else (p, p) if left.inner else (p,)
        pairs[left.name] = left.residual(*mine), right.residual(*(mine if two_sided else (p,)))
    for term, both in pairs.items():
        expected, found = (list(one.values()) if isinstance(one, dict) else [one] for one in both)
        assert len(found) == len(expected), term
        for one in expected:  # equations of periodicity come in another order
            near = min(float((other.abs() - one.abs()).abs().max()) for other in found)
            assert near <= 1e-12 * float(one.abs().max()), term
    variables = Coordinates(names, space.variables(lower + unit[0] * (upper - lower)))
    mine, found = ours.inputs(variables), twin.inputs(variables)
    assert len(mine) == len(found)
    for left, right in zip(mine, found, strict=True):
        assert torch.allclose(left.data, right.data, rtol=1e-11, atol=1e-11)
    if "reference" in TWINS[name]:
        at = Coordinates(names, (lower + unit[0] * (upper - lower)).unbind(1))
        known, mine = twin.reference(at), ours.reference(at)
        for key, value in (mine if isinstance(mine, dict) else {ours.unknowns[0]: mine}).items():
            assert torch.allclose(known[key], value, rtol=1e-12, atol=1e-13)


class At:
    """Values by name."""

    def __init__(self, **values: list[float]) -> None:
        for name, value in values.items():
            setattr(self, name, torch.tensor(value, dtype=torch.float64))


NAMES = Names(("x", "y", "t"), ("u", "v"), ("k",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2*k + 1", 7.0),
        ("u_x*v - u_t/k", 0.5 * 5 - 4 / 3),
        ("dot((u, v), grad(u))", 2 * 0.5 + 5 * 0.25),
        ("d(u*v, x)", 0.5 * 5 + 2 * 6),
        ("div(u*grad(v))", 0.5 * 6 + 2 * 9 + 0.25 * 8 + 2 * 7),
        ("where(x < 1 and y > 0, u, v)", 2.0),
        ("where(x >= 1, u, where(y > 5, 1, v))", 5.0),
        ("max(x, y, 0.4) + min(u, 1)", 1.7),
        ("abs(-u)**1.5 + sqrt(4*v)", 2**1.5 + 20**0.5),
        ("atan2(y, x) + erf(x) + sign(-u)", math.atan2(0.7, 0.3) + math.erf(0.3) - 1),
        ("exp(k) + sin(pi/6)", math.exp(3) + 0.5),
        ("u_n - n_x", 11 - 0.6),
        ("laplace(v) = u", 9 + 7 - 2),
        ("x = 2", 0.3 - 2),
        ("3", 3.0),
        ("-(u, v) and 1" if False else "dot(-(u, v), (1, 1))", -7.0),
    ],
)
def test_formulas_have_their_values(text: str, expected: float) -> None:
    point = At(
        x=[0.3],
        y=[0.7],
        t=[0.1],
        u=[2.0],
        v=[5.0],
        u_x=[0.5],
        u_y=[0.25],
        u_t=[4.0],
        v_x=[6.0],
        v_y=[8.0],
        v_x_x=[9.0],
        v_y_y=[7.0],
        u_n=[11.0],
        n_x=[0.6],
    )
    assert formula(text, NAMES, "here")(point, {"k": 3.0}).tolist() == pytest.approx([expected])


def test_the_derivatives_that_are_needed_are_found() -> None:
    assert formula("u_xy + laplace(v*u)", NAMES, "").derivatives == {"x_y", "x_x", "y_y", "x", "y"}
    assert formula("v_n", NAMES, "").derivatives == {"x", "y"}
    assert formula("u", NAMES, "").derivatives == set()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("u_xz = 0", r"letter 1: u_xz: derivative 'xz' is not made of the coordinates x, y, t"),
        ("u + w", r"letter 5: w: unknown"),
        ("sin(x) + sinn(y)", r"letter 10: sinn\(y\): no such function; did you mean sinh\?|did you mean sin\?"),
        ("u = v = 0", "letter 7: a second '='"),
        ("u ==0", "letter 1: u ==0: is not known"),
        ("u^2", r"letter 1: u\^2: write \*\* for powers"),
        ("u =", "letter 4: nothing stands here"),
        ("", "letter 1: nothing stands here"),
        ("u +* v", "letter 4: is no formula"),
        ("u_x = (", "letter 7: this bracket is not closed"),
        ("grad(u)", "is no number"),
        ("grad(u) + 1", "letter 1: .*a number and a vector"),
        ("grad(u)*grad(v)", "vectors are added"),
        ("dot(grad(u), (1, 2, 3))", "expected dot"),
        ("div(u)", r"expected div\(\(a, b\)\)"),
        ("sin(u, v)", "expected 1 argument"),
        ("u < v", "is no number"),
        ("1/0", "divided by 0"),
        ("9**9**9", "power of at most 64"),
        ("u.real", "letter 1: u.real: is not known"),
        ("__import__('os')", "no such function"),
        ("airyai(x)", "no such function; functions are .*sin, .*"),
        ("(lambda: 1)()", "is not known"),
        ("[u for u in v]", "is not known"),
        ("u if x else v", "is not known"),
        ("'text'", "is not known"),
        ("sin(x=1)", "letter 4: this bracket is not closed"),
        ("d(sign(u), x)", "holds a derivative that is no function"),
        ("(" * 300 + "u" + ")" * 300, "is no formula|too deep"),
        ("u" + "+u" * 3000, "a formula has at most"),
    ],
)
def test_text_that_does_not_parse_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        formula(text, NAMES, "problem.equations.heat")
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("problem.equations.heat")


def test_numbers_may_be_formulas_of_coefficients() -> None:
    assert number("2*pi*k", {"k": 0.5}, "here") == pytest.approx(math.pi)
    with pytest.raises(UserError, match="u: unknown"):
        number("2*u", {"k": 0.5}, "here")


PLATE = {
    "domain": "Box(x=[-1, 1], y=[-1, 1]) - Disk([0, 0], radius=R, name='hole')",
    "R": 0.5,
    "equations": {"heat": "laplace(u) = 1"},
    "conditions": {"edge": {"on": ["x-", "x+", "y-", "y+"], "equation": "u = 0"}},
}


def test_a_domain_follows_its_coefficients() -> None:
    from dataclasses import replace

    problem = text_problem("plate", PLATE)
    assert problem.domain.piece("hole").chart.measure == pytest.approx(math.pi)
    assert replace(problem, R=0.25).domain.piece("hole").chart.measure == pytest.approx(math.pi / 2)
    assert problem.derivatives == ("x_x", "y_y")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"domain": None}, "problem.domain: missing"),
        ({"equations": {}}, "problem.equations: missing"),
        ({"domain": "Disk("}, "problem.domain='Disk\\('.*is no region here"),
        ({"domain": "Disc(radius=1)"}, "region=Disc: unknown. Did you mean 'Disk'"),
        ({"domain": "Disk(radius=1, colour=2)"}, "colour'; its arguments are center, radius, name, names"),
        ({"domain": "Disk(radius=2*S)"}, "Disk.radius=2.S.': letter 15: S: unknown"),
        ({"domain": "Disk(radius=-1)"}, "problem.domain='Disk.*': letter 1: Disk: radius=-1: expected a positive"),
        ({"domain": "Disk() - Disk(radius=2, name='a')"}, "problem.domain=.*: letter 1: nothing is left"),
        ({"domain": "open('/etc/passwd')"}, "region=open: unknown"),
        ({"domain": "1 + 2"}, "is no region"),
        ({"domain": {"x": [0, 1, 2]}}, "problem.domain.x=.*two numbers"),
        ({"domain": {"x": [1, 0]}}, r"problem.domain: Box\(x=\(1, 0\)\): expected finite ends"),
        ({"unknowns": ["x"]}, "the name x has two meanings: coordinate and unknown; unknowns: .v. would"),
        ({"y": 1.0}, "the name y has two meanings: coordinate and coefficient"),
        ({"u": 1.0}, "the name u has two meanings: unknown and coefficient; unknowns: .v. would call the unknown v"),
        ({"unknowns": ["u", "u"]}, "the name u has two meanings: given twice as unknown"),
        ({"equations": {"heat": "R = 1"}}, "problem.equations.heat=R = 1: holds no unknown; they are u"),
        ({"equations": "u - u = 1"}, "problem.equations=u - u = 1: holds no unknown"),
        ({"k": "fast"}, "problem.k=fast: expected a number"),
        ({"reference": {"w": "1"}}, "problem.reference.w=1: unknown key"),
        ({"conditions": {"edge": {"on": "x-"}}}, "problem.conditions.edge.equation: missing"),
        ({"conditions": {"edge": {"at": "x-", "equation": "u"}}}, "problem.conditions.edge.at=x-: unknown key"),
        ({"conditions": {"edge": "u = 0"}}, "problem.conditions.edge=u = 0: expected on and equation"),
        ({"conditions": {"edge": {"periodic": "x", "equation": "u = 1"}}}, "edge.equation=u = 1: unknown key"),
        ({"labels": "x"}, "problem.labels=x: expected a name and a unit"),
        ({"positive": ["q"]}, "problem.positive=q: unknown. Valid choices: R"),
        ({"conditions": {"edge": {"periodic": "z"}}}, "periodic=z: unknown"),
        ({"conditions": {"edge": {"on": {"q": [1]}, "equation": "u = 0"}}}, "problem.conditions.edge.on=q: unknown"),
        (
            {"conditions": {"m": {"integral": "u", "equals": "x + y", "over": "x"}}},
            "m.equals=.*of y, as x is integrated",
        ),
        (
            {"conditions": {"m": {"integral": "u", "equals": "x"}}},
            "m.equals=x: expected a formula of coefficients, as x is",
        ),
        ({"depends": {"u": ["x"]}, "equations": "u_xx + u_y = 0"}, "u_y: u does not depend on y; depends has u: .x."),
        ({"depends": {"u": ["x"]}, "equations": "u_xx + d(u_x, y) = 0"}, "u does not depend on y"),
        ({"equations": {"heat": ["u"]}}, "problem.equations.heat=.*expected a formula as text"),
    ],
)
def test_a_problem_that_is_none_is_refused_by_key(changed: dict, words: str) -> None:
    with pytest.raises(UserError, match=words) as refused:
        text_problem("plate", {**PLATE, **changed})
    assert "\n" not in str(refused.value)


FEW = ("threads=1", "schedule.levels=1", "schedule.steps=4", "output.figures=false", "output.points=9")


@pytest.mark.parametrize("python", [(), ("--python",)], ids=["text", "python"])
def test_a_new_problem_solves_as_it_stands(kanpinn, folder: Path, python: tuple[str, ...]) -> None:
    assert kanpinn("new", "plate", *python).code == 0
    assert kanpinn("solve", "problem=plate", *FEW, "problem.k=3", "hydra.run.dir=run").code == 0
    assert "no text that could be stored" not in (folder / "run" / "log.txt").read_text(encoding="utf-8")
    (folder / "points.csv").write_text("x,y\n-0.5,0.5\n")
    done = kanpinn("evaluate", "run", "--points", "points.csv")
    assert done.code == 0
    assert done.out.startswith("x,y,u\n-0.5,0.5,")
    told = kanpinn("list", "problems", "plate").out
    assert "problem.k" in told and (python or "\n\ndiv(" in told)
    again = kanpinn("new", "plate")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "is there already" in again.err


def test_equations_may_hold_unknowns_in_any_way() -> None:
    texts = ["laplace(u) = 1", "integral(u) = 1", "u = 1 + integral(exp(x - s)*u(s, y), s, -1, x)"]
    for text in texts:
        text_problem("plate", {**PLATE, "equations": text})
    text_problem("plate", {**PLATE, "conditions": {"rim": {"on": "hole", "equation": "u_n = 1"}}})


def test_mistakes_in_a_file_of_text_are_one_line(kanpinn, folder: Path) -> None:
    (folder / "conf" / "problem").mkdir(parents=True)
    text = "name: ring\ndomain: Disk()\nequations: {heat: laplace(u) = exp(-xx)}\n"
    text += "conditions: {rim: {on: rim, equation: u = 0}}\n"
    (folder / "conf" / "problem" / "ring.yaml").write_text(text)
    done = kanpinn("solve", "problem=ring", *FEW)
    assert done.code == 2
    assert "problem.equations.heat=" in done.err
    assert "letter 19: xx: unknown" in done.err
    (folder / "conf" / "problem" / "ring.yaml").write_text(text.replace("-xx", "-x"))
    done = kanpinn("solve", "problem=ring", *FEW)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "condition rim: on=rim: unknown. Valid choices: disk" in done.err


@pytest.mark.parametrize("name", SHIPPED)
def test_the_reference_of_a_shipped_text_solves_it(name: str) -> None:
    text = OmegaConf.to_container(SHIPPED[name], resolve=False)
    problem = problem_as_text({key: value for key, value in text.items() if key != "defaults"})
    names, space = problem.domain.names, JetSpace(problem.domain.names, problem.derivatives)

    def at(points: torch.Tensor, normals: torch.Tensor | None = None) -> Point:
        columns = [column.clone().requires_grad_() for column in points.unbind(1)]
        jets = {}
        for unknown, value in (problem.reference(Coordinates(names, columns)) or {}).items():
            parts = {(): value}
            for index in space.indices[1:]:
                column, below = columns[names.index(index[-1])], parts[index[:-1]].sum()
                (parts[index],) = torch.autograd.grad(below, column, create_graph=True, materialize_grads=True)
            jets[unknown] = Jet(space, torch.stack([parts[index] for index in space.indices]).detach())
        return Point(names, points, jets, normals)

    sample = SAMPLERS["sobol"](interior=64, boundary=32).draw(problem, 0, np.random.default_rng(0))
    if set(problem.reference(Coordinates(names, sample.interior.points.unbind(1))) or ()) != set(problem.unknowns):
        return  # there is none, or it is computed and tested with the others
    found = {"equations": problem.residual(at(sample.interior.points))}
    for condition in problem.conditions():
        chosen, paired = sample.conditions[condition.name], sample.paired.get(condition.name)
        pair = [] if paired is None else [at(paired, None if chosen.normals is None else -chosen.normals)]
        found[condition.name] = condition.residual(at(chosen.points, chosen.normals), *pair)
    for term, residual in found.items():
        for equation, value in (residual if isinstance(residual, dict) else {"": residual}).items():
            assert value.abs().max() < 1e-9, f"{term} {equation}"


INCLUSION = {
    "domain": SQUARE,
    "regions": {"core": "Disk(radius=0.5)"},
    "equations": "div(where(core, 2, 1)*grad(u)) = 0",
    "conditions": {"sides": {"on": "core", "continuous": {"value": "u", "flux": "where(core, 2, 1)*u_n"}}},
}


def test_regions_inside_the_domain_split_the_unknowns_and_coefficients() -> None:
    problem = text_problem("inclusion", INCLUSION)
    assert problem.outputs == ("u", "ucore")
    (sides,) = problem.conditions()
    assert sides.inner
    p = Coordinates(("x", "y"), torch.tensor([[0.1, 0.9], [0.2, 0.9]], dtype=torch.float64))
    raw = Coordinates(("u", "ucore"), [torch.zeros(2), torch.ones(2)])
    assert problem.ansatz(p, raw)["u"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"regions": "Disk()"}, "problem.regions=Disk.*regions by name"),
        ({"regions": {"core": "Disc()"}}, r"problem.regions.core='Disc\(\)': letter 1"),
        ({"regions": {"u": "Disk()"}}, "the name u has two meanings"),
        ({"regions": {"core": "Disk([5, 5], radius=1)"}}, "problem.regions.core: lies outside the domain"),
        ({"regions": {"core": "Ball(radius=0.5)"}}, "problem.regions.core: has a coordinate z; those of the domain"),
        ({"equations": "core*u = 0"}, "letter 1: core.u: a comparison or a region is no number"),
        ({"conditions": {"c": {"on": "x-", "continuous": "u"}}}, "problem.conditions.c.on=x-: expected regions inside"),
    ],
)
def test_regions_inside_that_are_none_are_refused(changed, words: str) -> None:
    with pytest.raises(UserError, match=words):
        text_problem("inclusion", {**INCLUSION, **changed})


@pytest.mark.parametrize(
    ("equation", "warned"),
    [
        ("div(where(core, 2, 1)*grad(u)) = 0", True),
        ("d(where(x > 0, 2, 1)*u_x, x) = -1", True),
        ("laplace(where(x > 0, x, 0)*u) = 0", True),
        ("div(where(x > 0.5, x, 0.5)*grad(u)) = 0", False),
        ("d(where(y > 0, 2, 1)*u_x, x) = 0", False),
        ("laplace(u) = where(core, 2, 1)", False),
    ],
)
def test_a_jump_under_a_derivative_is_told_unless_a_condition_states_it(equation: str, warned: bool) -> None:
    given = {**INCLUSION, "equations": equation}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", KanpinnWarning)
        text_problem("inclusion", given)
        assert not told
        text_problem("inclusion", {**given, "conditions": {}})
    assert [str(one.message).count("is no part of this equation") for one in told] == [1] * warned


def test_a_coefficient_that_no_text_names_is_told() -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", KanpinnWarning)
        text_problem("inclusion", {**INCLUSION, "kappa_2": 3})
    found = [str(one.message) for one in told]
    assert found == ["problem.kappa_2=3: neither equations nor conditions nor domain name it; it has no effect"]


def test_coordinates_left_out_of_points_take_any_value():
    gauge = {"on": {"y": [0.5, -0.5]}, "equation": "u = 0"}
    given = {"domain": {"x": [-1, 1], "y": [-1, 1], "t": [0, 2]}, "equations": "u_t = laplace(u)"}
    problem = text_problem("gauged", {**given, "conditions": {"gauge": gauge}})
    (piece,) = pieces_of(problem.conditions()[0], problem.domain)
    points = piece.chart.stretched(np.random.default_rng(0).random((200, piece.chart.dimension)))
    assert sorted(set(points[:, 1])) == [-0.5, 0.5]
    assert np.ptp(points[:, 0]) > 1.9
    assert np.ptp(points[:, 2]) > 1.9
