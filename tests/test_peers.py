"""The benchmark against peers: its equations are kanpinn's, its turns are fair, its tables say what the rows say."""

from __future__ import annotations

import ast
import importlib
import itertools
import json
import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from kanpinn.geometry import Coordinates
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.discovery import problem_names

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER / "peers")
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module


def cases() -> list[str]:
    """Cases whose problem this checkout has, read from the source: the module itself needs the fixture's path."""
    tree = ast.parse((FOLDER / "peers_suite.py").read_text(encoding="utf-8"))
    table = next(n.value for n in tree.body if isinstance(n, ast.AnnAssign) and ast.unparse(n.target) == "CASES")
    assert table is not None
    return [case for case, words in ast.literal_eval(table).items() if words[0].partition("=")[2] in problem_names()]


def problem_of(suite: types.ModuleType, case: str):
    return validate(compose(list(suite.CASES[case]))[0]).setup.problem


class Values:
    """Random values for every coordinate and derivative that is asked for, the same ones each time."""

    def __init__(self, equation) -> None:
        self._rng = np.random.default_rng(0)
        self._known = {
            name: torch.from_numpy(self._rng.uniform(*ends, 50))
            for name, ends in zip(equation.names, equation.box, strict=True)
        }

    def __getattr__(self, name: str):
        if name not in self._known:
            self._known[name] = torch.from_numpy(self._rng.normal(size=50))
        return self._known[name]


def on_faces(equation, rng, periodic: bool):
    """Random points `[N, d]` on every face but the times, or pairs of opposite ones in x."""
    lower, upper = np.array(equation.box).T
    for k, name in enumerate(equation.names):
        if name == "t" or (periodic and name != "x"):
            continue
        for end in (lower[k], upper[k]):
            points = rng.uniform(lower, upper, (20, len(lower)))
            points[:, k] = end
            yield points


# --- the equations peers solve


@pytest.mark.parametrize("case", cases())
def test_peers_solve_the_same_equation(module, case):
    equation, problem = module("equations").EQUATIONS[case], problem_of(module("peers_suite"), case)
    assert tuple(equation.names) == problem.domain.names
    assert np.allclose(equation.box, list(zip(problem.domain.lower, problem.domain.upper, strict=True)))
    values = Values(equation)
    torch.testing.assert_close(equation.residual(torch, values), problem.residual(values), rtol=1e-12, atol=1e-9)
    for name in values._known:
        assert name in equation.names or name in ("u", "u_x") or name.removeprefix("u_") in equation.highest


@pytest.mark.parametrize("case", cases())
def test_peers_get_the_reference_at_the_boundary(module, case):
    equation, problem = module("equations").EQUATIONS[case], problem_of(module("peers_suite"), case)

    def reference(points: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(np.ascontiguousarray(points))
        return problem.reference(Coordinates(problem.domain.names, list(tensor.T))).numpy()

    if equation.initial is not None:
        x = np.linspace(*equation.box[0], 41)
        start = np.stack([x, np.zeros_like(x)], axis=1)
        assert np.allclose(equation.initial(np, x), reference(start), atol=1e-8)
        if equation.at_rest:
            assert np.allclose(reference(start + np.array([0, 1e-4])), reference(start), atol=1e-5)  # 0 to first order
    if equation.periodic:
        x, t = equation.box[0], np.linspace(0.05, 1, 20)
        ends = [reference(np.stack([np.full_like(t, end), t], axis=1)) for end in x]
        assert np.allclose(*ends, atol=1e-8)
    elif equation.corners:
        corners = np.array(equation.corners, dtype=float)
        for a, b in itertools.pairwise([*corners, corners[0]]):
            edge = a + np.linspace(0, 1, 21)[:, None] * (b - a)
            assert np.allclose(equation.boundary(np, *edge.T), reference(edge), atol=1e-8)
    else:
        for points in on_faces(equation, np.random.default_rng(0), periodic=False):
            assert np.allclose(reference(points), 0, atol=1e-8)


def problems_of(script: str) -> list[str]:
    """The PROBLEMS of a peer's script, evaluated without importing its library."""
    tree = ast.parse((FOLDER / "peers" / script).read_text(encoding="utf-8"))
    found = next(n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "PROBLEMS")
    return eval(ast.unparse(found.value), {"EQUATIONS": importlib.import_module("equations").EQUATIONS})


def test_scripts_and_suite_agree_on_who_can_do_what(module):
    suite = module("peers_suite")
    assert list(module("equations").EQUATIONS) == list(suite.CASES) == list(suite.TITLES)
    assert list(module("peers_table").ERRORS) == list(suite.CASES)
    for solver in suite.SOLVERS.values():
        if not solver.ours:
            able = [case for case in suite.CASES if case not in solver.excluded]
            assert sorted(problems_of(solver.script)) == sorted(able), solver.name


def test_every_peer_is_pinned():
    lines = (FOLDER / "peers-constraints.txt").read_text(encoding="utf-8").splitlines()
    names = [line.partition("==")[0] for line in lines if "==" in line]
    assert {"deepxde", "torch", "jaxkan", "jax", "jaxlib", "pykan"} <= set(names)
    assert all("==" in line or line.startswith("#") for line in lines)


# --- whose turn it is


def test_solvers_take_turns_and_who_begins_changes(module):
    suite = module("peers_suite")
    cases, solvers = ["poisson", "burgers", "wave"], ["kanpinn", "deepxde", "pykan"]
    plan = list(suite.turns(cases, solvers, [0, 1]))
    assert len(plan) == len(set(plan)) == 2 * (3 + 3 + 2)  # pykan cannot do the wave
    groups = [
        (key, [turn.solver for turn in group]) for key, group in itertools.groupby(plan, lambda t: (t.seed, t.case))
    ]
    assert [key for key, _ in groups] == [(seed, case) for seed in (0, 1) for case in cases]
    assert {members[0] for _, members in groups} == set(solvers)


def test_settings_may_depend_on_the_time_limit(module):
    suite = module("peers_suite")
    tuned = {("heat", None): ("a=1",), ("heat", 10): ("b=2",), ("wave", 10): ("c=3",)}
    solver = suite.Solver("x", "x.py", ("backbone=kan",), tuned, ours=True)
    assert solver.settings("heat", 10) == ("problem=heat", "backbone=kan", "a=1", "b=2")
    assert solver.settings("heat", 30) == ("problem=heat", "backbone=kan", "a=1")
    assert suite.Solver("y", "y.py").settings("heat", 10) == ()


def test_a_solver_whose_optimizer_is_unknown_is_left_out(module):
    present = module("peers_suite").present
    assert present(["problem=heat", "backbone=mlp", "backbone.width=[3]", "schedule=single"])
    assert not present(["problem=heat", "optimizer=hill_climbing"])


# --- the clock


@pytest.fixture
def clock(module, monkeypatch, tmp_path):
    """A stopwatch on a clock turned by hand; evaluating takes 100 s of it."""
    stopwatch = module("stopwatch")
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    points = np.zeros((4, 2))
    np.savez(tmp_path / "r.npz", points=points, values=np.ones(4))

    def evaluate(points: np.ndarray) -> np.ndarray:
        now[0] += 100
        return np.full(len(points), 1.5)

    return stopwatch.Stopwatch(6, evaluate, tmp_path / "r.npz"), now


def test_measuring_the_error_costs_no_time(clock):
    watch, now = clock
    watch.start()
    steps = 0
    while watch.goes_on():
        now[0] += 0.75
        steps += 1
    result = watch.result(steps=steps)
    assert [seconds for seconds, _ in result["curve"]] == [1.5, 2.25, 3.0, 5.25, 6.0]
    assert {error for _, error in result["curve"]} == {0.5}
    assert not result["ended"] and result["steps"] == 8


def test_training_that_ends_by_itself_counts_at_every_later_time(clock, module):
    watch, now = clock
    watch.start()
    now[0] += 1.25
    assert watch.goes_on()
    now[0] += 1
    result = watch.result()
    assert result["ended"] and result["curve"] == [(1.25, 0.5), (2.25, 0.5)]
    assert module("peers").at_limit(result, 1) == (1.25, 0.5)
    assert module("peers").at_limit(result, 30) == (2.25, 0.5)


def test_a_run_to_its_own_end_has_no_last_mark(module, monkeypatch, tmp_path):
    stopwatch = module("stopwatch")
    words = ["x", "--problem", "heat", "--reference", "r.npz", "--out", "o.json", "--to-end", "--float64"]
    monkeypatch.setattr("sys.argv", words)
    given = stopwatch.arguments("", ["heat"])
    assert (given.seconds, given.float64) == (math.inf, True)
    np.savez(tmp_path / "r.npz", points=np.zeros((4, 2)), values=np.ones(4))
    watch = stopwatch.Stopwatch(given.seconds, lambda points: np.full(len(points), 1.5), tmp_path / "r.npz")
    now = [0.0]
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: now[0])
    watch.start()
    now[0] = 1e5
    assert watch.goes_on()  # hours after the last mark
    result = watch.result()
    assert result["ended"] and module("peers").at_limit(result, module("peers_suite").END) == (1e5, 0.5)


# --- rows, tables, resumption


def run_of(peers_run: types.ModuleType, seed: int = 0, **changes):
    values = {"problem": "burgers", "solver": "kanpinn", "seed": seed, "limit": 60, "settings": "problem=burgers"}
    texts = {
        "status": "time_limit",
        "curve": "1.0:1e-1 60.5:1e-6",
        "version": "kanpinn 0",
        "sources": "0",
        "cpu": 'a, "b"',
    }
    numbers = {"error": 1e-6, "seconds": 60.5, "setup_s": 1.0, "compile_s": 0.0, "wall_s": 70.0, "cpu_s": 70.0}
    counts = {"peak_mib": 500.0, "load": None, "cores": 2, "threads": 2, "steps": 10, "parameters": 900}
    return peers_run.Run(**(values | texts | numbers | counts | {"date": "2026-01-01T00:00:00+00:00"} | changes))


def test_runs_against_peers_read_back_as_they_were_written(module, tmp_path):
    peers_run, rows = module("peers_run"), module("rows")
    runs = [run_of(peers_run), run_of(peers_run, 1, load=0.5, error=math.inf)]
    for run in runs:
        rows.append(tmp_path / "runs.csv", run)
    assert rows.read(tmp_path / "runs.csv", peers_run.Run) == runs
    assert runs[0].points() == [(1.0, 0.1), (60.5, 1e-6)]


def test_the_table_gives_medians_worsts_and_ratios(module):
    peers_run, table = module("peers_run"), module("peers_table")
    runs = [run_of(peers_run, seed, error=error) for seed, error in enumerate((1e-6, 4e-6, 2e-6))]
    runs += [run_of(peers_run, seed, solver="deepxde", error=e) for seed, e in enumerate((1e-4, 8e-2, 6e-3))]
    runs += [
        run_of(peers_run, seed, solver="jaxkan", error=e, status="failed") for seed, e in enumerate((math.nan,) * 3)
    ]
    text = table.markdown(runs)
    assert "| burgers | **2.0e-06** (4e-06) | 6.0e-03 (8e-02) ×3e+03 | inf (inf) ×inf |" in text
    assert "| burgers | 2.0e-06 | 4.0e-06 | 2.0 | 1e-05 | 1e-07 | floor |" in text
    assert "DeepXDE: ×100 on 1 and ×1000 on 1 of 1 problems and times (60 s); least ×3e+03, burgers at 60 s" in text
    assert "**3 runs failed.**" in text


@pytest.mark.parametrize(
    ("errors", "verdict"),
    [
        ((1e-8, 1e-8, 1e-8), "goal"),
        ((1e-6, 1e-6, 1e-6), "floor"),
        ((1e-4, 1e-4, 1e-4), "MISSED"),
        ((1e-6, 1e-6, 2e-5), "floor, spread MISSED"),
    ],
)
def test_floors_and_goals_bind(module, errors, verdict):
    runs = [run_of(module("peers_run"), seed, error=error) for seed, error in enumerate(errors)]
    assert f"| {verdict} |" in module("peers_table").markdown(runs)


class Fake:
    """In place of processes: counts commands and writes a result."""

    def __init__(self, process: types.ModuleType, monkeypatch, *, ended: bool = False) -> None:
        self.commands: list[list[str]] = []
        usage = process.Usage(exit_code=0, wall_s=1.0, cpu_s=1.0, peak_mib=1.0, timeout=False, complaint="")

        def measured(command, cwd, limit, env):
            self.commands.append(list(command))
            seconds = float(command[command.index("--seconds") + 1])
            last = 5.0 if ended else seconds + 0.5
            result = {"curve": [(5.0, 1e-2), (last, 1e-3)], "ended": ended, "seconds": last, "version": "fake 1"}
            Path(command[command.index("--out") + 1]).write_text(json.dumps(result), encoding="utf-8")
            return usage

        monkeypatch.setattr(process, "measured", measured)


@pytest.fixture
def contest(module, monkeypatch, tmp_path):
    monkeypatch.setattr(module("peers").os, "sched_setaffinity", lambda *_: None, raising=False)
    return module("peers").Contest(tmp_path / "runs.csv", Path("python"), {"heat": tmp_path / "heat.npz"}, 1)


def test_a_peer_runs_once_for_all_limits_and_not_again(module, monkeypatch, contest):
    fake, suite = Fake(module("process"), monkeypatch), module("peers_suite")
    turn = suite.Turn("deepxde", "heat", 3)
    contest.play(turn, [10, 30])
    contest.play(turn, [10, 30])
    assert len(fake.commands) == 1
    found = module("rows").read(contest.csv, module("peers_run").Run)
    assert [(run.limit, run.seed, run.settings) for run in found] == [(10, 3, ""), (30, 3, "")]
    contest.play(turn, [10, 30], again=True)
    assert len(fake.commands) == 2


def test_float64_arms_and_own_ends_are_runs_of_their_own(module, monkeypatch, contest):
    fake, suite = Fake(module("process"), monkeypatch, ended=True), module("peers_suite")
    assert suite.SOLVERS["deepxde64"].script == suite.SOLVERS["deepxde"].script
    monkeypatch.setattr(module("process"), "measured", to_end(fake, module("process").measured))
    contest.play(suite.Turn("deepxde64", "heat", 0), [suite.END])
    contest.play(suite.Turn("deepxde", "heat", 0), [suite.END])
    assert ["--float64" in command for command in fake.commands] == [True, False]
    found = module("rows").read(contest.csv, module("peers_run").Run)
    assert [(run.settings, run.status) for run in found] == [("--float64", "ended"), ("", "ended")]


def to_end(fake: Fake, measured):
    """The fake process for commands that name no seconds."""

    def ended(command, cwd, limit, env):
        assert "--to-end" in command and "--seconds" not in command
        usage = measured([*command, "--seconds", "5"], cwd, limit, env)
        fake.commands[-1] = list(command)
        return usage

    return ended


def test_a_bench_without_names_leaves_float64_arms_out(module):
    peers, suite = module("peers"), module("peers_suite")
    assert peers.chosen_solvers(to_end=False) == ["kanpinn", "ssbroyden", "deepxde", "jaxkan", "pykan"]
    ends = peers.chosen_solvers(to_end=True)
    assert "deepxde64" in ends and not any(suite.SOLVERS[solver].ours for solver in ends)


def test_the_table_counts_iterations_of_the_longest_time_and_of_own_ends(module):
    peers_run, end = module("peers_run"), module("peers_suite").END
    runs = [run_of(peers_run, solver="deepxde", limit=limit, steps=7 * limit) for limit in (10, 120)]
    runs += [
        run_of(peers_run, seed, solver="deepxde", limit=end, status="ended", steps=n) for seed, n in enumerate((5, 9))
    ]
    text = module("peers_table").markdown(runs)
    assert "Iterations in 120 s, median over seeds:\n\n| problem | DeepXDE |\n|---|--:|\n| burgers | 840 |" in text
    assert (
        "Iterations to the solver's own end, median over seeds:\n\n| problem | DeepXDE |\n|---|--:|\n| burgers | 7 |"
        in text
    )
    assert "**To their own ends**" in text and str(end) not in text


def seconds(fake: Fake) -> list[str]:
    return [command[command.index("--seconds") + 1] for command in fake.commands]


def test_kanpinn_goes_on_where_it_stopped(module, monkeypatch, contest):
    fake, suite = Fake(module("process"), monkeypatch), module("peers_suite")
    turn = suite.Turn("kanpinn", "heat", 0)
    contest.play(turn, [10])
    contest.play(turn, [10, 30])
    assert ["problem=heat" in command and "seed=0" in command for command in fake.commands] == [True, True]
    assert seconds(fake) == ["10", "30"]


def test_kanpinn_runs_anew_for_settings_of_a_limit_and_in_time_slabs(module, monkeypatch, contest):
    fake, suite = Fake(module("process"), monkeypatch), module("peers_suite")
    contest.play(suite.Turn("kanpinn", "burgers", 0), [30, 60, 120])
    assert seconds(fake) == ["120"]
    monkeypatch.setitem(suite.SOLVERS["kanpinn"].tuned, ("burgers", 60), ("schedule.levels=3",))
    contest.play(suite.Turn("kanpinn", "burgers", 1), [30, 60, 120])
    assert seconds(fake)[1:] == ["120", "60"]
    contest.play(suite.Turn("kanpinn", "kdv", 0), [30, 60])
    assert seconds(fake)[3:] == ["30", "60"]


def test_a_run_that_ended_by_itself_is_not_repeated_with_more_time(module, monkeypatch, contest):
    fake, suite = Fake(module("process"), monkeypatch, ended=True), module("peers_suite")
    contest.play(suite.Turn("kanpinn", "heat", 0), [10, 30])
    found = module("rows").read(contest.csv, module("peers_run").Run)
    assert len(fake.commands) == 1
    assert [(run.limit, run.status, run.error) for run in found] == [(10, "ended", 1e-3), (30, "ended", 1e-3)]


def test_a_process_is_measured_and_killed_in_time(module, tmp_path):
    usage = module("process").measured(["sleep", "30"], tmp_path, limit=0.2)
    assert usage.timeout and usage.exit_code == -9 and 0.2 <= usage.wall_s < 20
    usage = module("process").measured(["sh", "-c", "echo no >&2; exit 3"], tmp_path, limit=20)
    assert (usage.exit_code, usage.complaint, usage.timeout) == (3, "no", False)


def test_the_figure_has_a_panel_per_problem_on_shared_logarithmic_scales(module):
    peers_run = module("peers_run")
    runs = [
        run_of(peers_run, seed, problem=problem, solver=solver, limit=limit, error=10.0**-limit)
        for problem in ("poisson", "burgers", "heat") for solver in ("kanpinn", "deepxde") for limit in (1, 2)
        for seed in (0, 1)
    ]  # fmt: skip
    panels = [axes for axes in module("peers_figure").figure_of(runs).axes if axes.get_visible()]
    assert len(panels) == 3
    assert all((axes.get_xscale(), axes.get_yscale()) == ("log", "log") for axes in panels)
    assert len({axes.get_ylim() for axes in panels}) == 1
    marks = [line.get_ydata() for line in panels[0].lines if line.get_marker() == "o"]
    assert np.allclose(marks, [[1e-1, 1e-2]])


def test_the_way_is_the_median_of_the_longest_runs(module):
    peers_run = module("peers_run")
    curves = ["1:1e-1 2:1e-2", "1:3e-1 2:1e-2", "1.5:2e-1 2:5e-2"]
    runs = [run_of(peers_run, seed, curve=curve) for seed, curve in enumerate(curves)]
    runs.append(run_of(peers_run, 0, limit=10, curve="1:9 2:9"))
    between = 0.3 * (1 / 30) ** math.log2(1.5)  # on the straight line from 0.3 to 0.01, the middle one of three
    assert np.allclose(module("peers_figure").way(runs), [(1.5, between), (2.0, 0.01)])


# --- growth of a step's cost


def test_slopes_are_exponents(module):
    x = [1.0, 2.0, 4.0, 8.0]
    assert module("growth").slope(x, [3 * v**1.5 for v in x]) == pytest.approx(1.5)


def test_only_one_thing_varies_in_a_series(module):
    growth = module("growth")
    for series in ("points", "depth", "dimension"):
        members = [member for member in growth.MEMBERS if member.series == series]
        edges = []
        for m in members:
            sizes = [m.dim, *m.width, 1]
            edges.append(sum(a * b for a, b in itertools.pairwise(sizes)) * (m.grid + growth.DEGREE))
        assert max(edges) <= 1.05 * min(edges), series
        assert len({m.points for m in members}) == (len(members) if series == "points" else 1)


@pytest.mark.parametrize("dim", [2, 5])
def test_the_cube_of_the_growth_study_is_solved_by_its_reference(module, dim):
    growth = module("growth")
    problem = growth.cube(dim)
    x = torch.rand(30, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1

    def reference(points: torch.Tensor) -> torch.Tensor:
        return problem.reference(Coordinates(problem.domain.names, list(points.T)))

    hessian = torch.func.vmap(torch.func.hessian(lambda point: reference(point[None])[0]))(x)
    known = {name: x[:, k] for k, name in enumerate(problem.domain.names)} | {"u": reference(x)}
    known |= {f"u_{2 * name}": hessian[:, k, k] for k, name in enumerate(problem.domain.names)}
    assert problem.residual(types.SimpleNamespace(**known)).abs().max() < 1e-10


def test_a_step_of_the_growth_study_has_the_size_it_says(module):
    growth = module("growth")
    member = growth.Member("parameters", 24 * 9, (8,), 4, points=64)
    step, size = growth.prepare(member, 1)
    first, second = step(), step()
    assert size == member.x
    assert torch.equal(first.theta, second.theta)  # always from the same state
