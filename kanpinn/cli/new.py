"""`kanpinn new NAME`: a commented problem to start from, as text or in Python; it solves as it stands."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kanpinn.cli.main import Parser
from kanpinn.errors import EXIT_DONE, UserError, invalid
from kanpinn.io.atomic import write_text
from kanpinn.settings.discovery import problem_names

TEXT = """\
# Heat in a plate with a hole.
# Edit it to what you have; `kanpinn solve problem=NAME` solves it as it stands.
name: NAME
# Regions: {x: [0, 1], t: [0, 2]} (intervals), Box, Disk, Ellipse, Polygon, Ball, Mesh, joined by -, &, |, *;
# `kanpinn list geometries` shows them. For an evolution problem: (…) * Box(t=[0, 1]).
domain: "Box(x=[-1, 1], y=[-1, 1]) - Disk(center=[0.2, 0], radius=0.4, name='hole')"
unknowns: [u]
# Every other number is a coefficient: kanpinn solve problem=NAME problem.k=3
k: 2.0
# u_x, u_xx, u_xy and so on are derivatives; laplace(u), grad(u), div((a, b)), dot(a, b), d(a, x), where(x < 0, a, b)
# and sin, exp, sqrt … are functions. One line per equation.
equations:
  heat: "div((1 + 0.1*x) * grad(u)) - k*u = -exp(-x**2)"
# on: a piece of the boundary, or several: [x-, x+]; "boundary" is all of it. u_n is the derivative along the outward
# normal (n_x, n_y). Time has t- at its start. For a periodic coordinate: {periodic: x}.
conditions:
  walls: {on: [x-, x+, y-, y+], equation: "u = 0"}
  hole:  {on: hole, equation: "u_n = 1 - u"}
form: soft  # terms of the loss; exact: those that give values of u are built into the network
# The solution, if you know it: {u: "sin(pi*x)"}
reference: {}
# Defaults for this problem, as on the command line.
tuned:
  kan: {width: [5], degree: 5, grid: 4}
  sampler: {interior: 600, boundary: 120, resample_every: 5}
  schedule: {levels: 2, steps: 25}
"""

CONFIG = """\
name: NAME
k: 2.0
conditions: soft  # terms of the loss; exact: those that give values of u are built into the network
tuned:
  kan: {width: [5], degree: 5, grid: 4}
  sampler: {interior: 600, boundary: 120, resample_every: 5}
  schedule: {levels: 2, steps: 25}
"""

PYTHON = '''\
"""Heat in a plate with a hole: edit it to what you have."""

from dataclasses import dataclass

from torch import Tensor, exp

from kanpinn import Condition, Problem
from kanpinn.geometry import Box, Disk


@dataclass(frozen=True)
class CLASS(Problem):
    """Heat in a plate with a hole, -laplace(u) + k u = exp(-x^2).

    Attributes:
        k: Heat lost per degree; every field is a coefficient: kanpinn solve problem=NAME problem.k=3
    """

    k: float = 2.0

    # Regions are joined by -, &, | and *: for an evolution problem (…) * Box(t=(0, 1)).
    domain = Box(x=(-1, 1), y=(-1, 1)) - Disk([0.2, 0], 0.4, name="hole")
    unknowns = ("u",)
    derivatives = ("xx", "yy")  # those that are used below; lower ones come along
    equation = "-u_xx - u_yy + k u = exp(-x^2)"  # for figures and files

    def residual(self, p) -> Tensor:
        """What must vanish, [N]; for several equations a dict of them."""
        return -p.u_xx - p.u_yy + self.k * p.u - exp(-(p.x**2))

    def conditions(self) -> list[Condition]:
        return [
            Condition("walls", ("x-", "x+", "y-", "y+"), lambda p: p.u),
            Condition("hole", "hole", lambda p: p.u_n - (1 - p.u)),  # u_n: along the outward normal
        ]

    # def reference(self, p) -> Tensor: the solution, if you know it
'''


def run(argv: Sequence[str]) -> int:
    """Write the files; raises UserError if the name is none, or taken."""
    parser = Parser(prog="kanpinn new", description="Write a problem to start from; it solves as it stands.")
    parser.add_argument("name", metavar="NAME", help="name of the problem: letters, digits and underscores")
    parser.add_argument("--python", action="store_true", help="a class in ./problems beside the config, not text alone")
    arguments = parser.parse_args(argv)
    name = arguments.name
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        other = re.sub(r"^[^a-z]+|[^a-z0-9_]", "", re.sub(r"[\s.-]", "_", name.lower()))
        advice = f", such as {other}" if other else ""
        raise invalid("NAME", name, f"small letters, digits and underscores, a letter first{advice}")
    if name in problem_names():
        raise UserError(f"NAME={name}: a problem of that name is there already")
    files = {Path("conf") / "problem" / f"{name}.yaml": CONFIG if arguments.python else TEXT}
    if arguments.python:
        files[Path("problems") / f"{name}.py"] = PYTHON
    for file in files:
        if file.exists():
            raise UserError(f"{file}: is there already")
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text.replace("NAME", name).replace("CLASS", name.title().replace("_", "")))
        print(f"wrote {file}")
    print(f"solve it: kanpinn solve problem={name}")
    return EXIT_DONE
