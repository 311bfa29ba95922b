"""The four experiments of Southworth et al. 2026 (arXiv:2603.04827): variants, readings, the paper's numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

SOURCE = "Southworth et al. 2026"
SCHEDULES = ("coarse", "fine", "multilevel")


@dataclass(frozen=True)
class Variant:
    """One network with one optimiser and one schedule.

    Attributes:
        name: Its name within the experiment, such as "spline multilevel".
        words: Overrides that make it.
        steps: Optimiser steps, one number per level trained; none for those of the config.
        kind: spline, relu, mlp (the paper's three), ours (the spline network by `OURS`) or default.
        paper: The paper's mean loss over five seeds, if it prints one.
    """

    name: str
    words: tuple[str, ...]
    steps: tuple[int, ...]
    kind: str
    paper: float | None = None

    def overrides(self, scale: float) -> list[str]:
        """Overrides of the command line, with all steps multiplied by a factor (at least one step each)."""
        steps = self.steps
        if not steps:
            steps = () if scale == 1 else (100,)
        scaled = ",".join(str(max(1, round(scale * n))) for n in steps)
        return [*self.words, *([f"schedule.steps=[{scaled}]"] if scaled else [])]


@dataclass(frozen=True)
class Reading:
    """One way to fill in what the paper leaves open.

    Attributes:
        name: Its name.
        words: Overrides of all networks of the paper.
        spline: Overrides of those with splines only; with any of them the perceptrons are not run again.
        common: Overrides of everything but the project's own defaults, `OURS` included.
        ours: Whether this project's optimiser and its defaults are run under it too.
    """

    name: str
    words: tuple[str, ...] = ()
    spline: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    ours: bool = False

    def covers(self, variant: Variant) -> bool:
        """Return whether a variant is run under this reading."""
        if variant.kind in ("ours", "default"):
            return self.ours
        return variant.kind != "mlp" or not self.spline

    def overrides(self, variant: Variant) -> list[str]:
        """Overrides that this reading adds to the variant's command line."""
        own = {"spline": (*self.words, *self.spline), "relu": (*self.words, *self.spline), "mlp": self.words}
        return [*(() if variant.kind == "default" else self.common), *own.get(variant.kind, ())]


OURS = "levenberg_marquardt"
STATED = Reading("stated", ours=True)


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper.

    Attributes:
        name: Of the experiment; the config is conf/experiment/paper_NAME.yaml.
        title: For tables and figures.
        problem: The problem's name.
        grid: Spline intervals on the coarsest level.
        steps: Steps of the multilevel schedule, by level.
        coarse: Steps of the coarse-only schedule.
        fine: Steps of the fine-only schedule.
        ours: Steps of the multilevel schedule by `OURS`; the other two get equal work, steps × intervals.
        mlps: Perceptrons: name, further overrides, steps.
        default: Overrides that solve it with this project's own defaults.
        readings: From the one closest to the text.
        standard: Names of the readings that are run unless others are asked for.
        paper: The paper's losses by variant.
    """

    name: str
    title: str
    problem: str
    grid: int
    steps: tuple[int, ...]
    coarse: int
    fine: int
    ours: tuple[int, ...]
    mlps: tuple[tuple[str, tuple[str, ...], int], ...]
    default: tuple[str, ...]
    readings: tuple[Reading, ...] = (STATED,)
    standard: tuple[str, ...] = ("stated",)
    paper: dict[str, float] = field(default_factory=dict)

    def grids(self) -> list[int]:
        """Spline intervals by level."""
        return [self.grid * 2**level for level in range(len(self.steps))]

    def variants(self) -> list[Variant]:
        """Everything that is run, in the order of the tables."""
        start = (f"experiment=paper_{self.name}",)
        work = sum(n * s for n, s in zip(self.grids(), self.ours, strict=True))
        own = (round(work / self.grid), round(work / self.grids()[-1]), self.ours)
        out = []
        for kind, words, counts in (
            ("spline", (), (self.coarse, self.fine, self.steps)),
            ("relu", ("backbone=relu_kan",), (self.coarse, self.fine, self.steps)),
            ("ours", (f"optimizer={OURS}",), own),
        ):
            for schedule, steps in zip(SCHEDULES, counts, strict=True):
                levels = 1 if schedule == "coarse" else len(self.steps)
                name = "nested" if schedule == "multilevel" else "single"
                chosen = (*start, *words, f"schedule={name}", f"schedule.levels={levels}")
                out.append(self._variant(f"{kind} {schedule}", chosen, steps, kind))
        for name, words, steps in self.mlps:
            chosen = (*start, "backbone=mlp", *words, "schedule=single", "schedule.levels=1")
            out.append(self._variant(f"mlp {name}", chosen, steps, "mlp"))
        # As the table is read: the paper's networks first.
        out.sort(key=lambda v: ("spline", "relu", "mlp", "ours").index(v.kind))
        return [*out, Variant("default", self.default, (), "default")]

    def _variant(self, name: str, words: tuple[str, ...], steps: int | tuple[int, ...], kind: str) -> Variant:
        return Variant(name, words, (steps,) if isinstance(steps, int) else steps, kind, self.paper.get(name))

    def reading(self, name: str) -> Reading:
        """The reading of a name."""
        return next(reading for reading in self.readings if reading.name == name)


def _regression_readings() -> tuple[Reading, ...]:
    """Inner iterations × line search × what keeps hidden values in the knots, then single changes of the first one."""
    clamp = ("backbone.squash=none", "backbone.outside=clamp")
    squashes = {"tanh": (), "sin": ("backbone.squash=sin",), "clamp": clamp}
    out = []
    for squash, spline in squashes.items():
        for search in ("strong_wolfe", "none"):
            for count in (20, 4, 1):
                words = (f"optimizer.iterations={count}", f"optimizer.line_search={search}")
                line = "no search" if search == "none" else "strong Wolfe"
                name = f"{count} iteration{'s' * (count > 1)}, {line}, {squash}"
                out.append(Reading(name, words, spline))
    first = Reading("stated", ("optimizer.iterations=20", "optimizer.line_search=strong_wolfe"), ours=True)
    single = [
        Reading("scale 0.1", first.words, ("backbone.scale=0.1",)),
        Reading("scale 1", first.words, ("backbone.scale=1.0",)),
        Reading("sin, scale 0.2", first.words, ("backbone.squash=sin", "backbone.scale=0.2")),
        Reading("float32", (*first.words, "dtype=float32")),
    ]
    return (first, *out[1:], *single)


_REGRESSION = _regression_readings()
_CLAMP = Reading("clamp", spline=("backbone.squash=none", "backbone.outside=clamp"))

EXPERIMENTS = {
    experiment.name: experiment
    for experiment in (
        Experiment(
            "regression",
            "Regression, L-BFGS",
            "regression",
            grid=5,
            steps=(32, 16, 8, 4),
            coarse=128,
            fine=16,
            ours=(40, 20, 12, 48),  # the work of 64 steps on the finest level alone
            mlps=(
                ("[2,5,1]", ("backbone.width=[5]",), 128),
                ("[2,30,1]", ("backbone.width=[30]",), 128),
                ("[2,20,20,1]", ("backbone.width=[20,20]",), 128),
            ),
            default=("problem=regression",),
            readings=_REGRESSION,
            standard=tuple(reading.name for reading in _REGRESSION),
            paper={
                "spline coarse": 1.65e-3,
                "spline fine": 2.54e-3,
                "spline multilevel": 3.67e-5,
                "relu coarse": 1.10e-2,
                "relu fine": 1.35,
                "relu multilevel": 1.06e-2,
                "mlp [2,5,1]": 2.94e-2,
                "mlp [2,30,1]": 1.02e-3,
                "mlp [2,20,20,1]": 3.33e-4,
            },
        ),
        Experiment(
            "poisson_interface",
            "Poisson with an interface, Adam",
            "poisson_interface",
            grid=4,
            steps=(1250, 1250, 1250, 1250),
            coarse=18750,
            fine=2344,
            ours=(200, 100, 50, 25),
            mlps=(
                ("[2,16,16,1]", ("backbone.width=[16,16]", "backbone.embedding.inputs=false"), 5000),
                ("[3,16,16,1]", ("backbone.width=[16,16]",), 5000),
            ),
            default=("problem=poisson_interface",),
            readings=(STATED, _CLAMP),
        ),
        Experiment(
            "burgers",
            "Burgers, ν = 0.01, Adam",
            "burgers",
            grid=5,
            steps=(800, 400, 200),
            coarse=3200,
            fine=800,
            ours=(40, 20, 10),
            mlps=(
                ("[2,20,20,1]", ("backbone.width=[20,20]",), 3200),
                ("[2,56,56,1]", ("backbone.width=[56,56]",), 3200),
            ),
            default=("problem=burgers", "problem.nu=0.01"),
            readings=(STATED, Reading("no weight decay", ("optimizer.weight_decay=0.0",)), _CLAMP),
            paper={
                "spline coarse": 6.6e-3,
                "spline fine": 4.1e-3,
                "spline multilevel": 2.4e-5,
                "mlp [2,20,20,1]": 2.3e-2,
                "mlp [2,56,56,1]": 1.7e-2,
            },
        ),
        Experiment(
            "allen_cahn",
            "Allen–Cahn, Adam",
            "allen_cahn",
            grid=4,
            steps=(2500, 2500, 2500, 2500),
            coarse=37500,
            fine=4688,
            ours=(80, 40, 20, 10),
            mlps=(
                ("[2,5,5,1]", ("backbone.width=[5,5]",), 10000),
                # 1401 parameters, where the finest KAN has 1400.
                ("[2,35,35,1]", ("backbone.width=[35,35]",), 10000),
            ),
            default=("problem=allen_cahn",),
            readings=(
                STATED,
                Reading("4000 points", common=("sampler.interior=4000",), ours=True),
                Reading("1000 points", common=("sampler.interior=1000", "sampler.boundary=128"), ours=True),
            ),
            standard=("4000 points",),  # a fifth of the paper's, and of the hours
        ),
    )
}
