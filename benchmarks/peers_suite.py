"""Problems, time limits, solvers and their settings of `make bench`, and whose turn it is when."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kanpinn.settings.discovery import choices

LIMITS = (10, 30, 60, 120)
SEEDS = (0, 1, 2, 3, 4)
END = 10**6
"""The time limit of a run that goes to the solver's own end, s: none, in effect."""

CASES: dict[str, tuple[str, ...]] = {
    "poisson": ("problem=poisson",),
    "poisson_4": ("problem=poisson", "problem.kx=4", "problem.ky=4"),
    "helmholtz": ("problem=helmholtz",),
    "heat": ("problem=heat",),
    "wave": ("problem=wave",),
    "advection": ("problem=advection",),
    "advection_40": ("problem=advection", "problem.c=40"),
    "burgers": ("problem=burgers",),
    "allen_cahn": ("problem=allen_cahn",),
    "kdv": ("problem=kdv",),
    "poisson_5d": ("problem=poisson_nd", "problem.dim=5"),
    "poisson_lshape": ("problem=poisson_lshape",),
}
"""The suite: by name, what kanpinn solves."""

TITLES = {
    "poisson": "Poisson, sin πx sin πy",
    "poisson_4": "Poisson, sin 4πx sin 4πy",
    "helmholtz": "Helmholtz, sin πx sin 4πy",
    "heat": "Heat",
    "wave": "Wave",
    "advection": "Advection, speed 30",
    "advection_40": "Advection, speed 40",
    "burgers": "Burgers, ν = 0.01/π",
    "allen_cahn": "Allen–Cahn, D = 10⁻⁴",
    "kdv": "Korteweg–de Vries",
    "poisson_5d": "Poisson, 5-D",
    "poisson_lshape": "Poisson, L-shape",
}


@dataclass(frozen=True)
class Solver:
    """One competitor.

    Attributes:
        name: As it stands in tables and figures.
        script: Its script in benchmarks/peers/.
        overrides: Of kanpinn: what it is told besides the problem.
        tuned: Of kanpinn: further overrides by problem and time limit, of a problem for all limits under None.
        excluded: Cases it cannot do.
        options: Of a peer: further words of its script.
        ours: Whether it is part of this package.
    """

    name: str
    script: str
    overrides: tuple[str, ...] = ()
    tuned: dict[tuple[str, int | None], tuple[str, ...]] = field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    ours: bool = False
    options: tuple[str, ...] = ()

    def settings(self, case: str, limit: int) -> tuple[str, ...]:
        """Return the overrides of one run; of a peer its options.

        Args:
            case: The case.
            limit: The time limit, s.
        """
        if not self.ours:
            return self.options
        return (*CASES[case], *self.overrides, *self.tuned.get((case, None), ()), *self.tuned.get((case, limit), ()))


# One network on one level and the whole time interval, whatever a problem recommends for kanpinn's own.
MLP = (
    *("backbone=mlp", "backbone.width=[30,30,30]", "schedule=single", "schedule.levels=1", "schedule.steps=1000000"),
    *("schedule.slabs=1", "schedule.tolerance=null", "sampler.interior=3000", "sampler.resample_every=500"),
)

PYKAN = ("poisson", "poisson_4", "helmholtz", "heat", "burgers")
"""Its example is Poisson's equation; these need nothing that it does not have: values on faces, second derivatives."""

# In time slabs there is no solution before the last one: fewer of them, with fewer intervals.
TUNED = {
    ("kdv", 10): ("backbone.grid=176", "schedule.slabs=20"),
    ("kdv", 30): ("backbone.grid=288", "schedule.slabs=20"),
}

# The points of KdV's default are made for its splines.
SCATTERED = {("kdv", None): ("sampler=adaptive",)}

SOLVERS: dict[str, Solver] = {
    "kanpinn": Solver("kanpinn", "kanpinn_run.py", tuned=TUNED, ours=True),
    "ssbroyden": Solver("SSBroyden MLP", "kanpinn_run.py", (*MLP, "optimizer=ssbroyden"), SCATTERED, ours=True),
    "deepxde": Solver("DeepXDE", "deepxde_run.py"),
    "jaxkan": Solver("jaxKAN", "jaxkan_run.py", excluded=("poisson_lshape",)),
    "pykan": Solver("pykan", "pykan_run.py", excluded=tuple(c for c in CASES if c not in PYKAN)),
    "deepxde64": Solver("DeepXDE, float64", "deepxde_run.py", options=("--float64",)),
    "jaxkan64": Solver("jaxKAN, float64", "jaxkan_run.py", excluded=("poisson_lshape",), options=("--float64",)),
}
"""The competitors by key. The defaults of kanpinn's problems are made for 60 s; `tuned` is for other limits."""


def present(overrides: Sequence[str]) -> bool:
    """Return whether kanpinn knows every choice of a group that overrides make.

    Args:
        overrides: Overrides; those with a dot in their key are options and do not count.

    Returns:
        The answer.
    """
    chosen = [word.partition("=") for word in overrides if "." not in word.partition("=")[0]]
    return all(name in choices(group) for group, _, name in chosen)


@dataclass(frozen=True)
class Turn:
    """One solver's go at one case and seed: one process, or several where its settings depend on the time limit.

    Attributes:
        solver: Its key.
        case: The case.
        seed: The seed.
    """

    solver: str
    case: str
    seed: int


def turns(cases: Sequence[str], solvers: Sequence[str], seeds: Sequence[int]) -> Iterator[Turn]:
    """The runs in their order: seed by seed and case by case, the solvers right after one another.

    What disturbs the machine for a while then hits all solvers alike, and an interrupted benchmark is a smaller one.
    Who begins changes from case to case.

    Args:
        cases: Keys of `CASES`.
        solvers: Keys of `SOLVERS`.
        seeds: The seeds.

    Yields:
        One turn after the other.
    """
    for seed in seeds:
        for number, case in enumerate(cases):
            able = [solver for solver in solvers if case not in SOLVERS[solver].excluded]
            first = (seed + number) % len(able) if able else 0
            for solver in (*able[first:], *able[:first]):
                yield Turn(solver, case, seed)
