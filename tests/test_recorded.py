"""Ways of searches, fits and solves, number by number, as they were when they were last looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from support.defaults import foreign_defaults
from support.records import stays

import kanpinn as kp
from kanpinn import Kan, Nested
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.pruning import alive_of
from kanpinn.backbones.time_slabs import in_sequence
from kanpinn.least_squares.diagnosis import is_minimum, is_stationary, pointwise, what_is_wrong
from kanpinn.multilevel import Stage
from kanpinn.pde.table import Table, table_of
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver import fixing
from kanpinn.solver import pruning as module
from kanpinn.solver import start as starts
from kanpinn.solver.history import LevelRecord, rows_of, rows_state
from kanpinn.solver.pruned import Pruned, pruning
from kanpinn.solver.pruning import Pruner
from kanpinn.solver.solve import solve
from kanpinn.solver.solver import Solver
from kanpinn.solver.validation import sample, validation
from kanpinn.symbolic.library import LIBRARY, Form

ROWS = np.random.default_rng(0).uniform(-1, 1, (60, 3))
TABLE = {"a": ROWS[:, 0], "b": ROWS[:, 1], "c": ROWS[:, 2], "y": np.exp(ROWS[:, 0]) + ROWS[:, 1] ** 2}


def table_setup(*options, **data):
    return configuration_of_objects(table_of({**TABLE, **data}, ["y"], split=(0.8, 0.2)), options).setup


def table() -> Table:
    return table_of(TABLE, ["y"], split=(0.7, 0.2, 0.1))


def classes() -> Table:
    names = np.where(TABLE["y"] > 1.5, "high", np.where(ROWS[:, 2] > 0, "low", "lower"))
    return table_of({**TABLE, "y": names}, ["y"], split=(0.7, 0.3))


def refined(setup, level: int) -> tuple[Any, torch.Tensor]:
    network = setup.network()
    theta = network.initial(np.random.default_rng(1)).to(setup.dtype)
    for _ in range(level):
        edit = refinement(network)
        network, theta = edit.after, edit(theta)
    return network, theta


class Scripted(Pruner):
    """A search whose fits end with errors given beforehand, in multiples of what is allowed."""

    def __init__(self, start: Pruned, factor: float, errors: list[float], then: float) -> None:
        super().__init__(start, factor, lambda trial: self.seen.append(trial))
        self.seen, self.asked, self._allowed = [], [], factor * start.error
        self._errors: Iterator[float] = iter(errors)
        self._then = then

    def fit(self, start: Pruned) -> Pruned:
        alive = [one.astype(int).tolist() for one in alive_of(start.network)]
        options: Any = start.setup.backbone
        self.asked.append([start.network.level, options.grid, alive, start.error, start.theta])
        return replace(start, error=next(self._errors, self._then) * self._allowed)


@pytest.mark.parametrize(
    ("errors", "then"),
    [
        ([0.9] * 3 + [2.0, 9.0, 1.0], 0.5),
        ([1.0, 100.0, 70.0, 49.0, 101.0], 3.0),
        ([], 2.0),
        ([1.0, 1.0] + [80.0, 60.0, 41.0] * 6 + [0.3, 0.2], 7.0),
    ],
)
@pytest.mark.parametrize("factor", [1.25, 0.5], ids=["as good at once", "fitted"])
def test_a_search_with_given_errors_of_its_fits(factor, errors, then, request) -> None:
    setup = table_setup(Kan(width=[4], grid=2, degree=3), Nested(levels=2))
    network, theta = refined(setup, 1)
    search = Scripted(pruning(setup, network, theta), factor, errors, then)
    found = search.search()
    assert search.seen == search.trials
    stays(request.node.name, [search.asked, search.trials, found.shape, found.edges, found.error, found.theta])


@dataclass(frozen=True)
class Decay(kp.Problem):
    """u_t + k u = x t, from sin x."""

    k: float = 1.5
    domain = kp.Box(x=(0, 2), t=(0, 1))
    derivatives = ("t", "x")

    def residual(self, p):
        return p.u_t + self.k * p.u + 0.1 * p.u_x - p.x * p.t

    def conditions(self):
        return [kp.Condition("initial", "t-", lambda p: p.u - torch.sin(p.x))]


POINTS = kp.Sobol(interior=40, boundary=12, resample_every=3)
CURVED = Nested(levels=2, curriculum={"k": [0.5]})


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Another default device and type: nothing may depend on them."""
    with foreign_defaults():
        yield


@pytest.fixture
def short(monkeypatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", 6)
    monkeypatch.setattr(module, "ROUND", 2)


@pytest.mark.parametrize(
    ("problem", "parts", "level"),
    [
        (Decay(), [Kan(width=[2], grid=2, degree=3), CURVED, POINTS], 0),
        (Decay(), [Kan(width=[2], grid=2, degree=3), CURVED, POINTS], 1),
        (Decay(), [Kan(width=[2], grid=2, degree=3), Nested(levels=1), replace(POINTS, resample_every=0)], 0),
        (None, [Kan(width=[2, 2], grid=2, degree=3), Nested(levels=2)], 1),
        (None, [kp.ChebyKan(width=[2], degree=3), Nested(levels=1)], 0),
    ],
    ids=["curriculum", "finest", "same points", "table", "degrees"],
)
def test_the_fit_of_what_is_left_of_a_network(problem, parts, level, short, elsewhere, request) -> None:
    setup = table_setup(*parts) if problem is None else configuration_of_objects(problem, parts).setup
    network, theta = refined(setup, level)
    start = pruning(setup, network, theta)
    search = Pruner(start, 0.02)
    found = [search.fit(replace(start, theta=theta * scale)) for scale in (1.0, 0.7)]
    drawn = sample(setup, network, np.random.default_rng(3), 3)
    measured = validation(setup)(network, 1.1 * theta)
    gone = module.change(found[0], found[1])
    errors = [(one.network.level, one.theta, one.error) for one in found]
    stays(request.node.name, [errors, start.error, drawn.state(), measured, gone])


@pytest.mark.parametrize("problem", [None, Decay()], ids=["table", "equation"])
def test_a_search_with_its_fits(problem, short, request, monkeypatch) -> None:
    parts = [Kan(width=[2], grid=1, degree=3), Nested(levels=2) if problem is None else CURVED, POINTS]
    setup = table_setup(*parts) if problem is None else configuration_of_objects(problem, parts).setup
    network, theta = refined(setup, 1)
    start = pruning(setup, network, theta)
    search = Pruner(start, 0.6)
    found = search.search()
    cut = Pruner(start, 0.6).cut(0.2)
    stays(request.node.name, [(one.shape, one.edges, one.error, one.theta) for one in (found, cut)] + search.trials)


@pytest.mark.parametrize(
    ("options", "worse"),
    [
        (Kan(width=[1], grid=3, degree=3, squash="none"), 1.3),
        (Kan(width=[2], grid=2, degree=3), 3.0),
        (kp.MultKan(width=[1], mult=[2], grid=2, degree=3), 2.0),
    ],
    ids=["plain", "squash", "products"],
)
def test_functions_for_edges(options, worse, short, request, monkeypatch) -> None:
    few = [one for one in LIBRARY if one.text in ("exp(x)", "sin(x)")]
    monkeypatch.setattr(fixing, "library", lambda forms: [*few, *(Form(text, 3) for text in forms)])
    x, y = ROWS.T[:2]
    table = table_of({"x": x, "y": y, "f": np.exp(np.sin(2 * x) + y**2)}, ["f"], split=(0.8, 0.2))
    setup = configuration_of_objects(table, [options, Nested(levels=1)]).setup
    start = pruning(setup, *refined(setup, 0))
    start = Pruner(start, 0.0).fit(start)
    seen: list[fixing.Fixed] = []
    found = fixing.fixed(start, worse, ["x*exp(-x)"], tell=seen.append)
    chosen: Any = found.setup.backbone
    whole = fixing.expressions_of(found) or {}
    at = {"x": 0.3, "y": -0.6}
    values = {name: float(one.subs({sign: at[str(sign)] for sign in one.free_symbols})) for name, one in whole.items()}
    stays(request.node.name, [start.error, seen, chosen.symbolic, found.error, found.theta, values])


def test_rows_of_a_history_have_their_columns() -> None:
    rows = [{"level": 0.0, "wall_time": 1.0, "loss": 2.0, "work": 3.0}, {"level": 1.0, "loss": 4.0, "more": 5.0}]
    state = rows_state(rows)
    again = rows_of(state)
    assert again[0]["work"] == 3.0 and np.isnan(again[1]["wall_time"]) and again[1]["more"] == 5.0
    for name in ("level", "wall_time", "loss", "work"):
        columns = [one if one != name else "other" for one in state["columns"]]
        with pytest.raises(ValueError, match="history rows"):
            rows_of({**state, "columns": columns})
    with pytest.raises(ValueError, match="history rows"):
        rows_of({**state, "values": state["values"].astype(np.float32)})
    assert rows_of({"columns": [], "values": np.zeros((0, 0))}) == []


@dataclass(frozen=True)
class Known(Decay):
    """The same with a reference, of which the errors and their spectra are measured."""

    def reference(self, p):
        return torch.sin(p.x) * torch.exp(-1.4 * p.t)


@dataclass(frozen=True)
class Steep(Decay):
    """One whose residual is not finite where u is above 1.2: steps that are too long lead there."""

    def residual(self, p):
        return super().residual(p) + torch.sqrt(1.2 - p.u)


@dataclass(frozen=True)
class Measured(Decay):
    """One whose k is found from data with noise."""

    k: float = kp.Unknown(1.0, lower=0.2)

    def conditions(self):
        x, t, noise = np.random.default_rng(5).uniform(0, 1, (3, 25))
        u = np.sin(2 * x) * np.exp(-1.5 * t) + 0.1 * noise
        return [*super().conditions(), kp.Data("sensors", {"x": 2 * x, "t": t, "u": u})]


@dataclass(frozen=True)
class Longer(Decay):
    """The same in a wider box, with a further unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(domain=kp.Box(x=(-1, 3), t=(0, 1)), unknowns=("v", "u"))

    def residual(self, p):
        return {"one": super().residual(p), "two": p.v - p.u}


class Quiet:
    """A follower that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def slab_begun(self, solver: Solver) -> None:
        self.told.append(["slab", len(solver.slabs)])

    def stage_begun(self, solver: Solver, stage: Stage):
        self.told.append(["stage", solver.number, stage.level, stage.steps, stage.trial, solver.steps])
        return lambda _: None

    def halt(self, *_) -> None: ...

    def stage_ended(self, *told) -> None:
        end = told[-1]
        self.told.append([end.reason, end.message, end.loss, len(end.rows)])

    def level_done(self, record: LevelRecord) -> None:
        self.told.append(["level", record.level, record.steps])

    def settled(self, *_) -> None:
        self.told.append("settled")


NET = Kan(width=[2], grid=2, degree=3)
WIDE = Kan(width=[3], grid=3, degree=4)


FEW = kp.Sobol(interior=20, boundary=6, resample_every=0)
MOVED = Kan(width=[3], grid=2, degree=3, grid_updates=3, grid_updates_until=4, squash="none")
ADAPTIVE = kp.Adaptive(interior=40, boundary=9)
FMG = kp.Fmg(levels=2, steps=[1, 2], cycles=[1, 2], pre=1, post=1, coarsest=1, optimizer_state="transfer")
STAGES = [{"level": 0, "steps": 2}, {"level": 0, "steps": 2, "widen": 1}, {"level": 1, "steps": 2, "deepen": 1}]
STAGES += [{"level": 0, "steps": 1}, {"level": 2, "steps": 2, "optimizer": kp.Lbfgs()}]


@pytest.mark.parametrize(
    "parts",
    [
        [NET, Nested(levels=2, steps=4, slabs=2, starts=2, start_steps=2), POINTS],
        [NET, Nested(levels=2, steps=[3, 4], slabs=2, warm=False), kp.GaussNewtonCg(), POINTS],
        [NET, Nested(levels=2, steps=5, tolerance=1.0), kp.ResidualAttention(terms={"initial": 3.0}), POINTS],
        [NET, Nested(levels=2, steps=9, plateau=0.9, patience=2), kp.Causal(bins=4), kp.Grid(interior=30, boundary=9)],
        [NET, kp.VCycle(levels=3, cycles=1, pre=2, post=1, coarsest=2, coarse="fas"), POINTS],
        [NET, kp.WCycle(levels=3, cycles=1, pre=1, post=1, coarsest=2, layers="last"), kp.Lbfgs(), POINTS],
        [NET, FMG, POINTS],
        [kp.Mlp(width=[4]), Nested(levels=2, steps=3), kp.Halton(interior=[20, 33], boundary=[7, 9])],
        [NET, kp.Custom(stages=STAGES, optimizer_state="transfer"), kp.Adam(ramp_steps=1), POINTS],
        [NET, kp.Single(levels=2, steps=7, starts=3, start_steps=2), kp.SsBroyden(), POINTS],
        [NET, Nested(levels=2, steps=3), kp.Fixed(sparsity=1e-2, entropy=0.5, terms={"initial": [2.0, 5.0]}), POINTS],
        [NET, Nested(levels=2, steps=3, curriculum={"k": [0.2]}), kp.VariableProjection(), kp.GaussLegendre(order=2)],
        [MOVED, Nested(levels=2, steps=5, slabs=2), kp.Relaxation(), POINTS],
        [kp.ChebyKan(width=[2], degree=3), Nested(levels=2, steps=3), ADAPTIVE, kp.GaussNewtonCg()],
    ],
    ids=lambda parts: type(parts[1]).__name__ + type(parts[2]).__name__,
)
def test_every_number_of_a_solve(parts, elsewhere, request) -> None:
    solved(Decay(), parts, request.node.name)


@pytest.mark.parametrize(
    ("problem", "parts"),
    [
        (Known(), [NET, Nested(levels=2, steps=[3, 2], slabs=2), POINTS, "output.points=[9,7]"]),
        (Known(), [NET, kp.VCycle(levels=2, cycles=1, pre=1, post=1, coarsest=1), POINTS, "output.points=8"]),
        (Steep(), [NET, Nested(levels=2, steps=5), kp.GradientDescent(lr=3.0, ramp_from=3.0, ramp_steps=0), POINTS]),
        (Steep(), [NET, Nested(levels=1, steps=9), kp.Adam(lr=1.0, ramp_steps=0, decay="none"), FEW]),
        (table(), [NET, Nested(levels=2, steps=[4, 9]), kp.Adam(lr=0.1)]),
        (table(), [NET, Nested(levels=2, steps=4)]),
        (classes(), [NET, Nested(levels=2, steps=3)]),
        (Measured(), [WIDE, Nested(levels=2, steps=[20, 5]), kp.Fixed(terms={"sensors": 2.0, "initial": 3.0}), FEW]),
        (Known(), [NET, Nested(levels=2, steps=2), kp.Fixed(growth=1.5), POINTS]),
        (Longer(), [NET, Nested(levels=1, steps=2), ADAPTIVE]),
    ],
    ids=["errors", "cycle", "too long", "far too long", "rows", "table", "classes", "data", "growth", "two equations"],
)
def test_every_number_of_solves_with_errors(problem, parts, elsewhere, request) -> None:
    solved(problem, parts, request.node.name)


class Stopping(Quiet):
    """One that ends the solve before some step."""

    def __init__(self, after: int, reason: str) -> None:
        super().__init__()
        self.left, self.reason = after, reason

    def halt(self, *_) -> str | None:
        self.left -= 1
        return None if self.left >= 0 else self.reason


@pytest.mark.parametrize("after", [0, 3, 5])
@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([NET, kp.VCycle(levels=3, cycles=1, pre=2, post=1, coarsest=2, coarse="fas"), POINTS], "time_limit"),
        ([NET, kp.WCycle(levels=2, cycles=2, pre=1, post=1, coarsest=1), FEW], "interrupted"),
        ([NET, Nested(levels=2, steps=2, slabs=2, starts=2, start_steps=1), FEW], "time_limit"),
    ],
    ids=["fas", "galerkin", "starts"],
)
def test_every_number_of_a_solve_that_is_stopped(parts, reason, after, request) -> None:
    solved(Known(), [*parts, "output.points=5"], request.node.name, Stopping(after, reason))


def test_how_far_from_the_smallest_loss_is_still_a_minimum(request) -> None:
    """A linear fit that leaves nothing, or a thousandth, a millionth of what zero leaves."""
    found = []
    for left in (0.0, 1e-4, 9e-4, 1.1e-3, 0.1):
        y = (1 - left**2) ** 0.5 * ROWS[:, 0] + left * np.sign(ROWS[:, 1])
        setup = table_setup(Kan(width=[], grid=1, degree=1), Nested(levels=1), y=y)
        network, theta = refined(setup, 0)
        objective = setup.objective(network)
        objective.set_points(sample(setup, network, np.random.default_rng(0)))
        for _ in range(3):
            dense = objective.linearize(theta).dense()
            theta = theta - torch.linalg.lstsq(dense.jacobian, dense.residual[:, None], driver="gelsd").solution[:, 0]
        steps = torch.cos(torch.arange(len(theta))).to(theta)
        found.append([is_minimum(objective, theta + 10.0**k * steps) for k in range(-18, -9, 2)])
        found.append([is_stationary(objective, theta + 1e-3 * steps), what_is_wrong(objective, theta * torch.nan)])
        found.append(pointwise(objective, theta + steps))
    stays(request.node.name, found)


def solved(problem: kp.Problem, parts: list[Any], name: str, watch: Quiet | None = None) -> None:
    setup = configuration_of_objects(problem, parts).setup
    watch = watch or Quiet()
    solver, end = solve(setup, watch)
    levels = [{**one.state(), "wall_time_s": 0.0} for one in solver.record.levels]
    columns = {name: column for name, column in solver.record.columns().items() if name != "wall_time"}
    network, theta = solver.network()
    kept = [end.reason, end.message, end.loss, solver.discarded, solver.steps, network.size, theta]
    events = [" ".join(one.split()[:5]) for one in solver.record.events]
    best = solver.record.best_step, solver.record.last_losses, solver.over
    stays(name, [watch.told, levels, columns, kept, events, solver.record.work, solver.record.spectra, best])


@dataclass(frozen=True)
class Part(Decay):
    """The same in a part of the box."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(domain=kp.Box(x=(0.5, 1.5), t=(0.2, 1)))


@pytest.mark.parametrize(
    ("problem", "parts"),
    [
        (Decay(k=2.0), [NET, Nested(levels=4, steps=2)]),
        (Decay(), [Kan(width=[4], grid=2, degree=3), Nested(levels=3)]),
        (Decay(), [Kan(width=[2, 2], grid=2, degree=3), Nested(levels=2)]),
        (Decay(), [Kan(width=[2], grid=1, degree=3), Nested(levels=2)]),
        (Decay(), [Kan(width=[2], grid=8, degree=3), Nested(levels=2)]),
        (Decay(k=kp.Unknown(2.0)), [NET, Nested(levels=2)]),
        (Decay(), [NET, Nested(levels=2, slabs=2)]),
        (Decay(), [kp.Separable(rank=3, width=[2]), Nested(levels=1)]),
        (Longer(), [NET, Nested(levels=2)]),
        (Part(), [NET, Nested(levels=2)]),
        (Decay(), [Kan(width=[2, 2], grid=2, degree=3), Nested(levels=3, slabs=3), kp.Causal(bins=3)]),
        (Longer(), [NET, Nested(levels=2), kp.Fixed(growth=3.0), "seed=3"]),
    ],
    ids=[
        "levels",
        "width",
        "depth",
        "coarser",
        "finer",
        "unknown",
        "slabs",
        "separable",
        "longer",
        "part",
        "slabs of another depth",
        "weights",
    ],
)
def test_the_start_from_an_earlier_network(problem, parts, elsewhere, request, monkeypatch) -> None:
    monkeypatch.setattr(starts, "STEPS", 3)
    before = configuration_of_objects(Decay(), [NET, Nested(levels=2)]).setup
    network, theta = refined(before, 1)
    setup = configuration_of_objects(problem, parts).setup
    if setup.schedule.slabs == 2:
        residuals, theta = before.residuals(in_sequence(before.embedding(), (network, network))), theta.repeat(2)
    else:
        residuals = before.residuals(network)
    found, words = starts.started(setup, residuals, theta, "it")
    stays(request.node.name, [words, found.start, found.known, [stage.level for stage in found.plan()]])
