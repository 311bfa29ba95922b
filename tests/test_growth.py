"""Sources that grow without bound towards the boundary, and others that do not."""

from __future__ import annotations

import re

import pytest
import torch

from kanpinn.backbones import Kan
from kanpinn.backbones.embedding import Embedding
from kanpinn.least_squares.claims import few_points
from kanpinn.least_squares.growth import growing_sources
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.text_problem import text_problem


@pytest.mark.parametrize(
    ("domain", "equation", "told"),
    [
        ({"x": [0, 1]}, "u_xx = 1/x", [("x=0", 1e2, 1e6)]),
        ({"x": [1, 5]}, "u_xx = (5 - x)**(-0.25)", [("x=5", 0.04**-0.25, 4e-6**-0.25)]),
        ({"x": [0, 1]}, "u_xx = (1 - x)**(-0.23)", []),
        ({"x": [0, 1]}, "u_xx = 1/(x*(1 - x))", [("x=0", 1e2 / 0.99, 1e6)]),
        ({"x": [0, 1], "y": [0, 2]}, "laplace(u) = 1/sqrt(x**2 + (y - 2)**2)", [("x=0, y=2", 44.7, 4.47e5)]),
        ({"x": [0, 1], "y": [-1, 2]}, "laplace(u) = 1/((1 - x)**2 + 4*(y + 1)**2)", [("x=1, y=-1", 270, 2.7e10)]),
        ("Disk(radius=2, name='rim')", "laplace(u) = 1/(4 - x**2 - y**2)", [("rim", 6.31, 6.25e4)]),
        ("Disk(radius=2, name='rim')", "laplace(u) = 1/(x**2 + y**2)", []),
        ({"x": [0, 1]}, ["u_xx = 1/x", "v_xx = 2/(1 - x)"], [("x=0", 1e2, 1e6), ("x=1", 2e2, 2e6)]),
        ({"x": [0, 1]}, "u_xx + u_x/x = log(x)", []),
        ({"x": [0, 1]}, "u_xx = exp(100*x)/(x + 1e-3)", []),
        ({"x": [0, 1]}, "u_xx = u**2/x", []),
        ({"x": [0, 1]}, "x*u_xx = 1", [("x=0", 1e2, 1e6)]),
        ({"x": [0, 1]}, "sqrt(x)*u_xx = 1 - x", [("x=0", 9.9, 1e3)]),
        ({"x": [0, 1]}, "x*u_xx = sin(x)", []),
        ({"x": [0, 1]}, "x*u_xx + u_x = 1", []),
        ({"x": [0, 1]}, "u_xx + u_x/x = 1/x", []),
        ({"x": [0, 1]}, "u_x = 1 + (1 - u)/x", []),
        ({"x": [-1, 1]}, "(1 - x**2)*u_xx - 2*x*u_x = 1", []),
    ],
)
def test_sources_without_bound_at_the_boundary_are_told(domain, equation, told) -> None:
    """At 1e-2, 1e-4 and 1e-6 of the domain from a face or, in all coordinates, from a corner, u of order one."""
    many = isinstance(equation, list)
    equations = {f"e{k}": one for k, one in enumerate(equation)} if many else equation
    text = {"domain": domain, "equations": equations, "unknowns": ["u", "v"][: 1 + many]}
    edge = {"on": "boundary", "equation": {name: f"{name} = 0" for name in text["unknowns"]}}
    problem = text_problem("odd", {**text, "conditions": {"edge": edge}})
    network = Kan(width=[2]).build(Embedding({k: problem.domain.interval(k) for k in problem.domain.names}), 1 + many)
    found = growing_sources(Residuals(problem, network), few_points(problem, torch.float64, torch.device("cpu")))
    assert len(found) == len(told)
    for k, (line, (place, near, nearest)) in enumerate(zip(found, told, strict=True)):
        who, _, rest = line.partition(": what it holds beside its unknowns grows without bound towards ")
        where, _, sizes = rest.partition(";")[0].partition(", relative to its terms: ")
        assert (who, where) == (f"equation 'e{k}'" if many else "residual", place)
        first, last = re.fullmatch("(.*) at 0.01 of the domain from it, (.*) at 1e-06", sizes).groups()
        terms = 1 + ("laplace" in str(equation))
        assert 0.6 < float(first) * terms / near < 1.7 and 0.7 < float(last) / float(first) / (nearest / near) < 1.4
