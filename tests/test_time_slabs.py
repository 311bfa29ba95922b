"""Time slabs: networks in sequence are each themselves on their part, and each goes on where the one before ends."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from kanpinn.problems.wave import Wave
from torch import Tensor

import kanpinn
from kanpinn.backbones import Backbone, Kan, Separable
from kanpinn.backbones.base import Tape
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.time_slabs import in_sequence, slab_networks
from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.io.check import check
from kanpinn.io.inspect import inspect
from kanpinn.io.render import render
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde import Condition, Point, Problem
from kanpinn.pde.time_slab import TimeSlab, time_slab
from kanpinn.run.checkpoints import files
from kanpinn.run.preflight import check_slabs
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.solver import solve
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.solver import frozen_fields

DOMAIN = Box(x=(-1.0, 1.0), t=(1.0, 4.0))
JOINTS = [1.0, 2.0, 3.0, 4.0]
SPACE = JetSpace(DOMAIN.names, ("xx", "xt", "tt"))
OPTIONS = {
    "kan": Kan(width=[3], degree=4, grid=3),
    "periodic": Kan(width=[3], degree=4, grid=3, embedding=EmbeddingOptions("periodic")),
    "separable": Separable(width=[2], degree=4, grid=3, rank=2),
}
SMALL = [
    *("problem=wave", "output.progress=false", "output.figures=false", "output.points=[11,25]", "backbone=kan"),
    *("schedule=nested", "backbone.width=[5]", "backbone.grid=4", "backbone.degree=5", "schedule.levels=2"),
    *("problem.conditions=soft", "schedule.steps=[40,30]", "sampler.interior=300", "sampler.boundary=60"),
]


def body(options: Kan, domain: Box, level: int = 0) -> Backbone:
    network = options.build(options.embedding.build(domain, (), np.random.default_rng(0)), 2)
    for _ in range(level):
        network = network.refined()
    return network


def sequence(options: Kan) -> tuple[Backbone, list[tuple[Backbone, Tensor]]]:
    """Three networks, the second one level finer, each on its own domain; and the one they make."""
    parts = []
    for k in range(3):
        network = body(options, Box(x=(-1.0, 1.0), t=(JOINTS[k], JOINTS[k + 1])), level=k % 2)
        parts.append((network, network.initial(np.random.default_rng(k))))
    embedding = options.embedding.build(DOMAIN, (), np.random.default_rng(0))
    return in_sequence(embedding, tuple(network for network, _ in parts)), parts


def points(count: int = 40) -> Tensor:
    generator = np.random.default_rng(7)
    return torch.from_numpy(np.stack([generator.uniform(-1, 1, count), generator.uniform(1, 4, count)], axis=1))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_networks_in_sequence_are_each_themselves_on_their_slab(options: Kan) -> None:
    whole, parts = sequence(options)
    theta = torch.cat([vector for _, vector in parts])
    at = torch.cat([points(), torch.tensor([[0.3, 2.0], [0.3, 4.0]], dtype=torch.float64)])
    found = whole.forward(theta, at, SPACE).data
    for n, point in enumerate(at):
        k = min(int(float(point[1]) - 1.0), 2)  # a joint belongs to the later slab, the last time to the last one
        network, vector = parts[k]
        expected = network.forward(vector, point[None], SPACE).data[:, 0]
        assert torch.allclose(found[:, n], expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))
    assert whole.size == len(theta) and slab_networks(whole) == tuple(network for network, _ in parts)
    assert slab_networks(parts[0][0]) == (parts[0][0],)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_their_jacobian_is_that_of_reverse_mode(options: Kan) -> None:
    whole, parts = sequence(options)
    theta = torch.cat([vector for _, vector in parts])
    at, weights = points(9), torch.from_numpy(np.random.default_rng(8).standard_normal((len(SPACE), 9, 2)))
    tape = Tape()
    out = torch.full((9, whole.size), torch.nan, dtype=torch.float64)
    whole.jacobian(theta, tape, (weights * whole.forward(theta, at, SPACE, tape).data ** 2).sum(), out)
    for n in range(9):
        leaf = theta.clone().requires_grad_(True)
        value = (weights[:, n] * whole.forward(leaf, at[n : n + 1], SPACE).data[:, 0] ** 2).sum()
        (row,) = torch.autograd.grad(value, leaf)
        assert torch.allclose(out[n], row, rtol=1e-9, atol=1e-9 * float(row.abs().max()))


def test_continuity_asks_for_what_the_initial_conditions_ask_for() -> None:
    wave, space = Wave(), JetSpace(("x", "t"), Wave.derivatives)
    x = torch.linspace(0, 1, 5, dtype=torch.float64)
    at = torch.stack([x, torch.full_like(x, 0.5)], dim=1)
    generator = torch.Generator().manual_seed(0)
    u, v = (Jet(space, torch.randn(len(space), 5, generator=generator, dtype=torch.float64)) for _ in range(2))
    later = TimeSlab(wave, 0.5, 1.0, lambda _: {"u": v})
    assert (later.domain.interval("t"), later.domain.interval("x")) == ((0.5, 1.0), (0.0, 1.0))
    p = Point(("x", "t"), at, {"u": u})
    found = {c.name: c.residual(p) for c in later.conditions()}
    assert torch.allclose(found["initial"], u.value - v.value, atol=1e-15)
    assert torch.allclose(found["initial_velocity"], u["t"] - v["t"], atol=1e-15)
    assert torch.equal(found["boundary"], u.value)
    first = TimeSlab(wave, 0.0, 0.5)
    for mine, theirs in zip(first.conditions(), wave.conditions(), strict=True):
        assert torch.equal(mine.residual(p), theirs.residual(p))  # type: ignore[arg-type]


class Whole(Problem):
    """A problem that hands back what each of its rules is given."""

    domain = Box(x=(-1.0, 1.0), t=(1.0, 4.0))
    unknowns = ("u", "v")
    derivatives = ("t",)
    periodic = ("x",)

    def residual(self, p):
        return ("residual", p)

    def conditions(self):
        both = Condition("both", "t-", lambda p: {"one": p.u**2, "two": 3 * p.v_t})
        return [both, Condition("sides", "x-", lambda p: p.u)]

    def inputs(self, p):
        return ("inputs", p)

    def inside(self, p):
        return ("inside", p)

    def ansatz(self, p, raw):
        return ("ansatz", p, raw)

    def exact(self, p, raw):
        return ("exact", p, raw)

    def reference(self, p):
        return ("reference", p)


def test_a_slab_asks_the_whole_problem() -> None:
    whole = Whole()
    slabs = [time_slab(whole, 4, k, None) for k in range(4)]
    assert [one.domain.interval("t") for one in slabs] == [(1.0, 1.75), (1.75, 2.5), (2.5, 3.25), (3.25, 4.0)]
    assert time_slab(whole, 1, 0, None) is whole
    asked = object(), object()
    for one in slabs:
        assert (one.domain.interval("x"), one.unknowns, one.periodic) == ((-1.0, 1.0), ("u", "v"), ("x",))
        assert one.derivatives == whole.derivatives and one.observed == ()
        for name in ("residual", "inputs", "inside", "reference"):
            assert getattr(one, name)(asked[0]) == (name, asked[0])
        for name in ("ansatz", "exact"):
            assert getattr(one, name)(*asked) == (name, *asked)


def test_several_equations_of_a_condition_go_on_each_from_its_own() -> None:
    space, before = JetSpace(("x", "t"), ("t",)), []
    at = torch.tensor([[0.2, 2.5], [0.7, 2.5]], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    u, v, a, b = (Jet(space, torch.randn(2, 2, generator=generator, dtype=torch.float64)) for _ in range(4))
    later = time_slab(Whole(), 2, 1, lambda points: before.append(points) or {"u": a, "v": b})
    both, sides = later.conditions()
    p = Point(("x", "t"), at, {"u": u, "v": v})
    found = both.residual(p)
    assert torch.equal(before[0], at) and len(before) == 1
    assert torch.allclose(found["one"], u.value**2 - a.value**2, rtol=1e-14)
    assert torch.allclose(found["two"], 3 * v["t"] - 3 * b["t"], rtol=1e-14)
    assert torch.equal(sides.residual(p), u.value) and len(before) == 1


def test_a_network_that_goes_on_unchanged_meets_continuity_exactly() -> None:
    network = body(Kan(width=[3], degree=4, grid=3), Wave.domain)
    theta = network.initial(np.random.default_rng(0))
    whole = Residuals(Wave(), Backbone(network.embedding, network.layers))
    later = TimeSlab(Wave(), 0.5, 1.0, frozen_fields(whole, theta))
    x = torch.linspace(0, 1, 7, dtype=torch.float64)
    at = torch.stack([x, torch.full_like(x, 0.5)], dim=1)
    p = Point(("x", "t"), at, whole.fields(theta, at))
    for condition in later.conditions()[:2]:
        assert float(condition.residual(p).abs().max()) == 0.0  # type: ignore[union-attr]


def test_a_solve_by_slabs_is_one_solution_and_loads_as_such(tmp_path: Path) -> None:
    solution = kanpinn.solve([*SMALL, "schedule.slabs=2", f"hydra.run.dir={tmp_path}/run"])
    assert solution.metrics["relative_l2"]["u"] < 0.05
    assert [(r["slab"], r["level"]) for r in solution.metrics["levels"]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert solution.metrics["parameters"] == 2 * solution.metrics["levels"][-1]["parameters"]
    x = np.linspace(0, 1, 9)
    gap = [solution(np.stack([x, np.full(9, t)], 1))["u"] for t in (0.5 - 1e-12, 0.5)]
    assert 0 < np.abs(gap[1] - gap[0]).max() < 0.03
    with h5py.File(tmp_path / "run/solution.h5") as file:
        fields, history = np.asarray(file["u"]), {k: np.asarray(v) for k, v in file["history"].items()}  # type: ignore[union-attr]
        times, places = np.asarray(file["t"]), np.asarray(file["x"])
    assert np.array_equal(history["step"], np.arange(1, 141))
    assert np.array_equal(history["slab"], np.repeat([0, 1], 70))
    assert np.all(np.diff(history["wall_time"]) > 0) and np.all(np.diff(history["work"]) > 0)
    loaded = kanpinn.load(tmp_path / "run")
    at = np.stack(np.meshgrid(places, times), axis=-1).reshape(-1, 2)
    assert np.array_equal(loaded(at)["u"].reshape(fields.shape), fields)
    assert loaded.derivative(at[:3], "u", "tt") == pytest.approx(solution.derivative(at[:3], "u", "tt"))


@pytest.mark.slow
def test_a_warm_start_is_the_slab_before_projected_to_the_coarsest_level(tmp_path: Path) -> None:
    found = {}
    for warm in ("true", "false"):
        words = [
            "schedule.slabs=2",
            f"schedule.warm={warm}",
            "schedule.steps=[40,1]",
            f"hydra.run.dir={tmp_path}/{warm}",
        ]
        metrics = kanpinn.solve([*SMALL, *words, f"hydra.run.dir={tmp_path}/{warm}"]).metrics["levels"]
        found[warm] = [level["relative_l2"]["u"] for level in metrics]
    assert found["true"][:2] == found["false"][:2]  # the first slab has nothing to start from
    assert found["true"][2] != found["false"][2]
    configuration = validate(compose([*SMALL, "schedule.slabs=2"])[0])
    setup = replace(configuration.setup, points=5)
    first = SlabSolve(setup.slab(0, None))
    plan = configuration.setup.plan()
    for stage in plan:
        enter(first, stage)
    second = SlabSolve(setup.slab(1, frozen_fields(first.objective.residuals, first.theta)), first)
    enter(second, plan[0])
    # Nothing was trained: the finer network is the coarser one refined, whose projection is itself.
    coarse = first.hierarchy.transfer(0).restrict(first.theta)
    assert torch.equal(second.theta, coarse)
    assert torch.allclose(first.hierarchy.transfer(0).prolong(second.theta), first.theta, rtol=1e-10, atol=1e-12)


def test_a_slab_that_was_entered_and_not_trained_is_not_kept(tmp_path: Path, monkeypatch) -> None:
    calls = []
    train = solve.train

    def stopped(slab, stage, tell, halt):
        calls.append(slab.number)
        return train(slab, stage, tell, halt if slab.number == 0 else lambda: "time_limit")

    monkeypatch.setattr(solve, "train", stopped)
    words = [*SMALL, "schedule.slabs=3", "schedule.steps=2", f"hydra.run.dir={tmp_path}/run"]
    solution = kanpinn.solve(words)
    assert calls == [0, 0, 1]
    assert [level["slab"] for level in solution.metrics["levels"]] == [0, 0]
    values = solution([[0.3, 0.1], [0.3, 0.5], [0.3, 0.9]])["u"]
    assert np.isfinite(values).tolist() == [True, False, False]
    assert solution.metrics["status"] == "time_limit"


def test_a_condition_at_a_later_time_is_refused() -> None:
    configuration = validate(compose([*SMALL, "schedule.slabs=2"])[0])

    class Two(Wave):
        def conditions(self):
            return [*super().conditions(), Condition("end", "t+", lambda p: p.u)]

    with pytest.raises(UserError, match=r"^schedule\.slabs=2: expected 1 \(condition end holds at a time of its own"):
        check_slabs(replace(configuration.setup, problem=Two()))


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("checkpoint_00007.h5", "checkpoint_99999.h5", "checkpoint_100000.h5"):
        (tmp_path / "checkpoints" / name).touch()
    assert files(tmp_path)[-1].name == "checkpoint_100000.h5"


@pytest.mark.slow
def test_a_run_that_ends_early_says_which_slabs_it_has_not_begun(tmp_path: Path, capsys) -> None:
    run = tmp_path / "run"
    options = ["schedule.slabs=3", "schedule.steps=100000", "time_limit_s=1.0"]
    solution = kanpinn.solve([*SMALL[:-3], "problem.conditions=soft", *options, f"hydra.run.dir={run}"])
    assert "the last 2 time slabs were not begun, their values are NaN" in capsys.readouterr().out
    values = kanpinn.load(run)([[0.3, 0.1], [0.3, 0.9]])["u"]
    assert np.isfinite(values[0]) and np.isnan(values[1])
    assert solution.end == pytest.approx(1 / 3)
    assert check(run) == []
    assert inspect(run)["solution"]["slabs"] == {"planned": 3, "begun": 1, "known_until": pytest.approx(1 / 3)}
    assert "1 of 3 time slabs begun: nothing is known for t ≥ 0.333" in render(inspect(run))
    (tmp_path / "points.csv").write_text("x,t\n0.3,0.1\n0.3,0.9\n0.4,0.9\n")
    main(["evaluate", str(run), "--points", str(tmp_path / "points.csv")])
    written = capsys.readouterr()
    assert "2 of 3 points lie in time slabs that the run did not begin (t ≥ 0.333333)" in written.err
    assert written.out.splitlines()[2] == "0.3,0.9,nan"
    assert solution.metrics["error_estimate"] is None
    assert solution.metrics["status"] == "time_limit"
    assert json.loads((run / "metrics.json").read_text())["relative_l2"] == {"u": None}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["problem=poisson"], r"^schedule\.slabs=2: expected 1 \(problem=Poisson has no initial condition"),
        (
            ["problem=wave", "problem.conditions=exact"],
            r"^schedule\.slabs=2: the problem's own exact form belongs to the first time; valid choices: ",
        ),
        (["problem=wave", "backbone=kan", "backbone.embedding.kind=fourier"], r"^schedule\.slabs=2: expected 1, where"),
        (["problem=wave", "schedule.slabs=0"], r"^schedule\.slabs=0: expected a whole number from 1 to 1000"),
    ],
)
def test_slabs_that_make_no_sense_are_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    given = ["problem.conditions=soft", "schedule.slabs=2", *overrides]
    with pytest.raises(UserError, match=message):
        kanpinn.solve([*given, f"hydra.run.dir={tmp_path}/run"])
    assert not (tmp_path / "run").exists()
