"""A run that was stopped and resumed is the run that was never stopped, to the last bit."""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from support import child
from support.defaults import foreign_defaults

import kanpinn
from kanpinn.cli.main import main
from kanpinn.errors import KanpinnWarning, UserError
from kanpinn.evaluate.grid_evaluation import OutputGrid, solution_fields
from kanpinn.evaluate.spectrum import error_spectra, stacked, unstacked
from kanpinn.io.atomic import remove_leftovers
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.hdf5 import seal
from kanpinn.io.inspect import inspect as kanpinn_inspect
from kanpinn.io.solution import solution_status
from kanpinn.multilevel import Stage
from kanpinn.run import checkpoints, run
from kanpinn.run.checkpoints import Checkpoints, configuration_of, newest
from kanpinn.run.folder import FINISHED, WRITTEN
from kanpinn.samplers.placing import PointSet
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.registry import REGISTRY
from kanpinn.solver.history import LevelRecord, Progress, StageEnd
from kanpinn.solver.setup import Setup
from kanpinn.solver.solve import solve
from kanpinn.solver.solver import Solver
from kanpinn.state import State

TINY = [
    *("problem=heat", "problem.conditions=soft", "output.points=5", "output.progress=false", "output.figures=false"),
    *("threads=1", "backbone=kan", "backbone.width=[2]", "backbone.grid=2", "backbone.degree=3", "backbone.base=false"),
    *("sampler.interior=20", "sampler.boundary=8", "sampler.resample_every=2", "schedule.levels=2"),
]
ASCENDING = ["schedule.steps=[5,4]", "schedule.starts=2", "schedule.start_steps=2"]
CYCLES = ["schedule.cycles=1", "schedule.pre=2", "schedule.post=2", "schedule.coarsest=3"]
STAGES = "[{level:0,steps:3},{level:1,steps:3},{level:0,steps:3},{level:1,steps:2}]"
EDITED = "[{level:0,steps:3},{level:0,steps:2,widen:1},{level:1,steps:3,deepen:1},{level:0,steps:2},{level:1,steps:2}]"
SCHEDULES = {
    "nested": ["schedule=nested", *ASCENDING],
    "single": ["schedule=single", *ASCENDING],
    "v_cycle": ["schedule=v_cycle", *CYCLES, "schedule.coarse=fas"],
    "w_cycle": ["schedule=w_cycle", *CYCLES, "schedule.levels=3", "schedule.coarsest=2", "schedule.layers=last"],
    "fmg": ["schedule=fmg", *CYCLES, "schedule.steps=3", "schedule.optimizer_state=transfer"],
    "custom": ["schedule=custom", f"schedule.stages={STAGES}", "schedule.optimizer_state=transfer"],
    "edits": ["schedule=custom", f"schedule.stages={EDITED}", "schedule.optimizer_state=transfer"],
    "slabs": ["schedule=nested", "schedule.slabs=3", "schedule.steps=[3,2]"],
    "slabs, cold": ["schedule=nested", "schedule.slabs=2", "schedule.warm=false", *ASCENDING],
}
OPTIMIZERS = {
    **{name: [f"optimizer={name}"] for name in REGISTRY["optimizer"]},
    "adam": ["optimizer=adam", "optimizer.ramp_steps=2"],
    "gradient_descent": ["optimizer=gradient_descent", "optimizer.lr=1e-5", "optimizer.momentum=0.5"],
    "gauss_newton_cg": ["optimizer=gauss_newton_cg", "optimizer.cg_steps=5", "optimizer.preconditioner=bpx"],
    "lbfgs": ["optimizer=lbfgs", "optimizer.memory=3"],
    "relaxation": ["optimizer=relaxation", "optimizer.damping=1e-6"],
}
WEIGHTINGS = {
    **{name: [f"weighting={name}"] for name in REGISTRY["weighting"]},
    "growth": ["weighting=fixed", "weighting.growth=1"],
}
SAMPLERS = {
    **{name: [f"sampler={name}"] for name in REGISTRY["sampler"]},
    "fixed points": ["sampler=uniform", "sampler.resample_every=0"],
}
AXES = (OPTIMIZERS, SCHEDULES, SAMPLERS, WEIGHTINGS)
Case = tuple[str, ...]


def words(case: Case) -> list[str]:
    """The overrides of a case; schedules without a key that others have do not get it."""
    given = list(itertools.chain(TINY, *(axis[name] for axis, name in zip(AXES, case, strict=True))))
    if "variable_projection" in case:  # coarse problems with a linear term are not for it
        given = [word for word in given if word != "schedule.coarse=fas"]
    absent = ("schedule.levels=",) if "schedule=custom" in given else ()
    return [word for word in given if not word.startswith(absent)]


def pairs(case: Case) -> set[tuple[int, str, int, str]]:
    return {(i, case[i], j, case[j]) for i, j in itertools.combinations(range(len(case)), 2)}


def covering() -> list[Case]:
    """Few cases in which any two choices of different kinds meet: greedily, the case with most pairs not seen yet."""
    every = list(itertools.product(*AXES))
    missing = set().union(*map(pairs, every))
    source, cases = random.Random(0), []
    while missing:
        best = max(source.sample(every, 400), key=lambda case: len(pairs(case) & missing))
        cases.append(best)
        missing -= pairs(best)
    return cases


class Watcher:
    """Follows a solve without a word and stops it before a step, counted over all stages."""

    def __init__(self, stop: int | None = None, saved: Checkpoints | None = None) -> None:
        self.steps, self.stop, self.saved = 0, stop, saved

    def slab_begun(self, solver: Solver) -> None: ...

    def stage_begun(self, solver: Solver, stage: Stage) -> Callable[[Progress], None]:  # noqa: ARG002
        return lambda _: None

    def halt(self, solver: Solver) -> str | None:
        self.steps += 1
        if self.steps - 1 != self.stop:
            return None
        assert self.saved is not None
        self.saved.write(solver.state(), *solver.network())
        return "interrupted"

    def stage_ended(self, solver: Solver, stage: Stage, end: StageEnd) -> None: ...

    def level_done(self, record: LevelRecord) -> None: ...

    def settled(self, solver: Solver) -> None: ...


def outcome(solver: Solver, end: StageEnd) -> dict[str, Any]:
    """All that a solve leaves, without the times it took; arrays as bytes, so that NaN equals NaN."""
    grid = OutputGrid(solver.setup.problem, solver.setup.points)
    last, record = solver.slab, solver.record
    assert solver.network()[1].dtype == solver.setup.dtype
    assert record.work == pytest.approx(sum(level.work for level in record.levels)) and record.work > 0
    fields = solution_fields(last.objective.residuals, last.theta, grid)
    levels = [{**visit.state(), "wall_time_s": 0.0} for visit in record.levels]
    history = [{k: np.float64(v).tobytes() for k, v in row.items() if k != "wall_time"} for row in record.history]
    return {
        "theta": solver.network()[1].numpy().tobytes(),
        "history": history,
        "levels": json.dumps(levels),
        "fields": {name: values.tobytes() for name, values in fields.items()},
        "points": {name: p.numpy().tobytes() for name, p in last.objective.collocation.by_term().items()},
        "spectra": {name: values.tobytes() for name, values in stacked(record.spectra, len(record.levels)).items()},
        "end": (end.reason, end.message, np.float64(end.loss).tobytes()),
    }


def solved(configuration: Configuration) -> tuple[dict[str, Any], int]:
    """The outcome of a solve that is never stopped, and how often it could have been."""
    solver, watch = Solver(configuration.setup), Watcher()
    return outcome(*solve(configuration.setup, watch, solver)), watch.steps


def stopped_and_resumed(configuration: Configuration, stops: Sequence[int], folder: Path) -> dict[str, Any]:
    """The outcome of a solve stopped before some steps and each time resumed from nothing but the file."""
    solver = Solver(configuration.setup)
    saved = Checkpoints(folder, configuration)
    before = 0
    for stop in stops:
        assert solve(solver.setup, Watcher(stop - before, saved), solver)[1].reason == "interrupted"
        checkpoint = newest(folder)
        solver = Solver(configuration_of(checkpoint).setup)
        solver.load_state(checkpoint.state)
        before = stop
    return outcome(*solve(solver.setup, Watcher(), solver))


def check(overrides: Sequence[str], folder: Path, salt: str) -> None:
    configuration = validate(compose(overrides)[0])
    expected, steps = solved(configuration)
    source = random.Random(zlib.crc32(salt.encode()))
    stops = sorted(source.sample(range(steps), 2))
    with foreign_defaults("cpu" if "exact" in salt else "meta"):  # examining an exact form is for the CPU
        found = stopped_and_resumed(validate(compose(overrides)[0]), stops, folder)
    for key, value in expected.items():
        assert found[key] == value, f"{key} differs after stops before steps {stops} of {steps}"


def test_stopped_at_any_step_of_its_random_starts_is_never_stopped(tmp_path: Path) -> None:
    configuration = validate(compose([*TINY, *SCHEDULES["single"], "schedule.steps=2", "schedule.starts=3"])[0])
    found = stopped_and_resumed(configuration, range(7), tmp_path)
    assert found == solved(configuration)[0]


def marked() -> list[Any]:
    """The covering cases; slow are those in which every single choice has been seen in one before."""
    seen: set[tuple[int, str]] = set()
    found = []
    for case in covering():
        new = set(enumerate(case)) - seen
        found.append(pytest.param(case, id=", ".join(case), marks=() if new else pytest.mark.slow))
        seen |= new
    return found


@pytest.mark.parametrize("case", marked())
def test_stopped_anywhere_and_resumed_is_never_stopped(case: Case, tmp_path: Path) -> None:
    check(words(case), tmp_path, str(case))


BACKBONES = {
    "mlp": ["backbone=mlp", "backbone.width=[4,4]", "schedule.steps=[4,3]"],
    "separable": ["backbone=separable", "backbone.width=[2]", "backbone.rank=2", "schedule.steps=[3,3]"],
    "fourier": ["backbone.embedding.kind=fourier", "backbone.embedding.features=2", "schedule.steps=[3,3]"],
    "grid updates": [
        *("backbone.squash=none", "backbone.grid_updates=3", "backbone.grid_updates_until=6", "optimizer=lbfgs"),
        "schedule.steps=[6,3]",
    ],
    "float32": ["dtype=float32", "schedule.steps=[3,3]"],
    "exact, sketched": ["problem.conditions=exact", "optimizer.sketch=countsketch", "schedule.steps=[3,3]"],
}


@pytest.mark.parametrize("name", BACKBONES)
def test_so_it_is_for_other_networks(name: str, tmp_path: Path) -> None:
    groups = {word.partition("=")[0] for word in BACKBONES[name] if word.startswith(("backbone=", "problem."))}
    kept = [word for word in TINY if word.partition("=")[0] not in groups]
    if "backbone" in groups:
        kept = [word for word in kept if not word.startswith("backbone.")]
    check([*kept, *BACKBONES[name]], tmp_path, name)


def test_random_frequencies_come_back_with_the_network(tmp_path: Path) -> None:
    words = [*TINY, *BACKBONES["fourier"][:2], "schedule.levels=1", "schedule.steps=1"]
    solution, points = kanpinn.solve([*words, f"hydra.run.dir={tmp_path / 'run'}"]), [[0.3, 0.1], [0.8, 0.6]]
    assert (kanpinn.load(tmp_path / "run")(points)["u"] == solution(points)["u"]).all()


TEXTS = {
    "integrals": """
domain: {x: [0, 1], t: [0, 1]}
equations: "u_t = 0.05*u_xx + u - u**3 - integral(u - u**3, x)"
conditions:
  start: {on: t-, equation: "u = cos(pi*x)/2 + 1/4"}
  ends: {on: [x-, x+], equation: "u_x = 0"}
  mass: {integral: u, equals: 1/4, over: x}
""",
    "exact on a region": """
domain: "Disk(name='rim') - Disk(radius=0.3, name='hole')"
equations: "laplace(u) = u**3"
conditions: {rim: {on: rim, equation: "u = x"}, hole: {on: hole, equation: "u = 0"}}
form: exact
""",
}


@pytest.mark.parametrize("name", TEXTS)
def test_so_it_is_for_integrals_and_for_values_built_in_on_a_region(name: str, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "conf" / "problem"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"name: mine{TEXTS[name]}")
    monkeypatch.chdir(tmp_path)
    kept = [word for word in TINY if not word.startswith(("problem", "backbone.degree="))]
    check(["problem=mine", "backbone.degree=4", "schedule.steps=[2,2]", *kept], tmp_path / "run", name)


def test_so_it_is_for_periodic_splines_in_time_slabs_that_follow_the_knots(tmp_path: Path) -> None:
    words = ["problem=advection", "problem.c=2", "backbone=separable", "backbone.width=[]", "backbone.degree=4"]
    words += [
        "backbone.embedding.periodic=spline",
        "backbone.start=legendre",
        "backbone.grid=6",
        "backbone.grids={t:1}",
    ]
    words += ["sampler=gauss_legendre", "sampler.orders={t:5}", "schedule.slabs=2", "schedule.levels=2"]
    words += ["schedule.steps=[3,2]", "backbone.rank=3", "threads=1"]
    words += [word for word in TINY if word.startswith("output.")]
    check(words, tmp_path, "periodic")


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_product_of_choices(optimizer: str, tmp_path: Path) -> None:
    cases = [case for case in itertools.product(*AXES) if case[0] == optimizer]
    for number, case in enumerate(cases):
        check(words(case), tmp_path / str(number), str(case))
    print(f"counts: {len(cases)} combinations with optimizer={optimizer}: 2 stops each, all resumed to the same bits")


def fields_of(folder: Path) -> dict[str, bytes]:
    with h5py.File(folder / "solution.h5") as file:
        history = {f"history/{k}": v[...].tobytes() for k, v in file["history"].items() if k != "wall_time"}
        return {**history, "u": file["u"][...].tobytes(), "residual": file["residual"][...].tobytes()}


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-m", "kanpinn", *words], cwd=folder, env=environment, **pipes)


LONGER = [*TINY, "schedule.steps=60", "sampler.interior=60", "checkpoint.every_s=0"]


def killed(tmp_path: Path, times: int, seed: int, *shorter: str) -> tuple[int, int]:
    """Kill a run and its resumptions at random moments; returns how many kills hit a process that had begun its run.

    After each kill `inspect` and `kanpinn.load` must work; at last the run must be the one that was never killed.
    """
    run.run(*compose([*LONGER, *shorter, f"hydra.run.dir={tmp_path}/whole"]))
    source, hits, folder = random.Random(seed), 0, tmp_path / "run"
    round_ = 0
    for _ in range(times):
        process = (
            command(tmp_path, "solve", *LONGER, *shorter, f"hydra.run.dir={folder}")
            if not folder.exists()
            else command(tmp_path, "resume", str(folder))
        )
        deadline = time.monotonic() + 120
        # From the moment the folder is there on: before it nothing is promised, because nothing has been begun.
        while not (folder / "config.yaml").exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(source.uniform(0, 2.5))
        process.kill()
        process.communicate()
        assert kanpinn_inspect(folder)["kind"] == "run"
        if checkpoints.files(folder):
            assert np.isfinite(kanpinn.load(folder)([[0.5, 0.5]])["u"]).all()
        if (folder / "metrics.json").exists():  # this one came to its end before it was killed
            assert fields_of(folder) == fields_of(tmp_path / "whole")
            shutil.rmtree(folder)
            round_ += 1
        else:
            hits += 1
    if folder.exists():
        run.resume(folder)
        assert fields_of(folder) == fields_of(tmp_path / "whole")
        assert not list(folder.rglob("*.tmp"))
    return hits, round_


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    assert killed(tmp_path, 1, 1, "schedule.steps=30") == (1, 0)  # after some 0.3 s


@pytest.mark.slow
def test_fifty_kills_at_random_moments(tmp_path: Path) -> None:
    hits, rounds = killed(tmp_path, 50, seed=0)
    print(f"\ncounts: 50 kills, {hits} of them in the middle of a run; {rounds} runs ended; survived: all")
    assert hits >= 25


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_beginning(tmp_path: Path) -> None:
    words = [*TINY, "schedule.steps=3"]
    run.run(*compose([*words, f"hydra.run.dir={tmp_path}/whole"]))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_bytes((tmp_path / "whole" / "config.yaml").read_bytes())
    run.resume(tmp_path / "run")
    assert fields_of(tmp_path / "run") == fields_of(tmp_path / "whole")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="nothing to resume"):
        run.resume(tmp_path / "run")


def killed_writing(name: str, text: str, words: Sequence[str]) -> child.Outcome:
    """Run a solve that is killed, as by kill -9, while it writes a text into a file of that name."""

    def work() -> int:
        replaced = os.replace

        def replace(source: Any, target: Any) -> None:
            if Path(target).name == name and text in Path(source).read_text(errors="replace"):
                os.kill(os.getpid(), signal.SIGKILL)
            replaced(source, target)

        os.replace = replace
        return main(["solve", *words])

    return child.run(work)


@pytest.mark.parametrize(("name", "text"), [("log.txt", "status:"), ("metrics.json", "")])
def test_a_run_killed_while_it_writes_a_text_is_whole_after_the_next_resume(
    name: str, text: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    ended = killed_writing(name, text, [*TINY, "schedule.steps=1", f"hydra.run.dir={folder}"])
    assert ended.code == -signal.SIGKILL
    assert list(folder.rglob(f".{name}.*.tmp")) and (folder / ".lock").exists()
    assert run.resume(folder).metrics["status"] in FINISHED
    assert not list(folder.rglob("*.tmp")) and not (folder / ".lock").exists()
    log = (folder / "log.txt").read_text()
    assert "relative L2 error" in log and "status: step_limit" in log
    for leftover in (".lock", ".solution.h5.0123abcd.tmp", "checkpoints/.checkpoint_00009.h5.0123abcd.tmp"):
        (folder / leftover).write_bytes(b"")
    run.resume(folder)  # finished: nothing but what lies about is changed
    assert not list(folder.rglob("*.tmp")) and not (folder / ".lock").exists()
    assert (folder / "log.txt").read_text() == log


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A run that its time limit has stopped after a few steps."""
    folder = tmp_path / "run"
    words = [*TINY, "schedule.steps=30", "checkpoint.every_s=0", "time_limit_s=0.05", f"hydra.run.dir={folder}"]
    assert run.run(*compose(words)).metrics["status"] == "time_limit"
    return folder


def test_a_time_limit_counts_all_and_may_be_raised(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"time_limit_s=0\.05: .* s are spent already; expected more"):
        run.resume(stopped)
    with pytest.raises(UserError, match=r"optimizer\.damping cannot change on resume; those that can: time_limit_s, "):
        run.resume(stopped, ["optimizer.damping=1"])
    spent = kanpinn.load(stopped).metrics["wall_time_s"]
    m = run.resume(stopped, ["time_limit_s=null", "checkpoint.every_s=60"]).metrics
    assert m["status"] in ("step_limit", "converged") and m["wall_time_s"] > spent
    with h5py.File(stopped / "solution.h5") as file:
        assert np.all(np.diff(file["history/wall_time"][...]) > 0)
    before = {file: file.stat().st_mtime_ns for file in stopped.rglob("*")}
    capsys.readouterr()
    run.resume(stopped)
    assert f"finished, status {m['status']}" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in stopped.rglob("*")} == before


@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(stopped: Path, damage: str) -> None:
    expected = fields_of_resumed(stopped)
    last, before = (checkpoints.files(stopped)[-k] for k in (1, 2))
    whole = bytearray(last.read_bytes())
    with h5py.File(last) as file:
        place = int(file["arrays/theta"].id.get_offset())
    whole[place] ^= 1
    last.write_bytes({"flipped": bytes(whole), "truncated": bytes(whole[:-3000]), "empty": b""}[damage])
    with pytest.warns(KanpinnWarning, match=f"{last.name}: .* The one before it, {before.name}, is used"):
        assert fields_of_resumed(stopped) == expected
    before.write_bytes(b"")
    with pytest.raises(UserError, match=last.name):
        kanpinn.load(stopped)


def fields_of_resumed(folder: Path) -> dict[str, bytes]:
    """What resuming a copy of a run leads to."""
    copy = folder.parent / f"copy{len(list(folder.parent.iterdir()))}"
    shutil.copytree(folder, copy)
    run.resume(copy, ["time_limit_s=null", "checkpoint.every_s=60"])
    return fields_of(copy)


def test_only_the_last_checkpoints_are_kept(stopped: Path) -> None:
    assert len(checkpoints.files(stopped)) == 2
    assert [file.suffix for file in (stopped / "checkpoints").iterdir()] == [".h5", ".h5"]


def test_a_checkpoint_that_asks_for_absurd_sizes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    write_checkpoint(path, {"theta": np.zeros(3)}, {})
    with h5py.File(path, "a") as file:
        file["arrays"].create_dataset("huge", shape=(2**40,), dtype="f8")
    seal(path)  # as a stranger could
    with pytest.raises(UserError, match=r"declares 8,796,093,022,208 bytes"):
        read_checkpoint(path)
    write_checkpoint(path, {"theta": np.zeros(3)}, {})
    with h5py.File(path, "a") as file:
        file["arrays"].create_dataset("dense", shape=(10**6,), dtype="f8", compression="gzip", fillvalue=1.0)
    seal(path)
    with pytest.raises(UserError, match=r"not a plain array|declares"):
        read_checkpoint(path)


def no_room(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device", "run/file")


def test_beside_a_solution_that_could_not_be_replaced_no_metrics_of_another_state_appear(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (stopped / name).read_bytes() for name in ("solution.h5", "metrics.json")}
    with monkeypatch.context() as patch:
        patch.setattr("kanpinn.run.results.write_solution", no_room)
        with pytest.raises(OSError, match="No space left"):
            run.resume(stopped, ["time_limit_s=null"])
    assert before == {name: (stopped / name).read_bytes() for name in before}
    # Nor does it help to say that the run is finished.
    said = json.loads(before["metrics.json"])
    (stopped / "metrics.json").write_text(json.dumps({**said, "status": "step_limit"}))
    status = run.resume(stopped).metrics["status"]
    assert status in FINISHED
    assert solution_status(stopped / "solution.h5") == status


def test_a_last_checkpoint_that_is_not_written_fails_the_run_and_resume_brings_all_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*TINY, "schedule.steps=3", "checkpoint.every_s=0"]
    run.run(*compose([*words, f"hydra.run.dir={tmp_path}/whole"]))
    write = Checkpoints.write

    def no_room_at_last(self: Checkpoints, *known: Any, final: bool = False) -> Path:
        return no_room() if final else write(self, *known)  # type: ignore[return-value]

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "write", no_room_at_last)
        with pytest.raises(OSError, match="No space left"):
            run.run(*compose([*words, f"hydra.run.dir={folder}"]))
    with pytest.warns(KanpinnWarning, match="that of another state of the run than metrics.json"):
        earlier = kanpinn.load(folder)
    found = run.resume(folder)
    assert not np.array_equal(found.theta, earlier.theta)
    assert fields_of(folder) == fields_of(tmp_path / "whole")
    assert np.array_equal(kanpinn.load(folder).theta, found.theta)


def test_damaged_checkpoints_go_and_do_not_push_out_whole_ones(stopped: Path) -> None:
    whole, damaged = checkpoints.files(stopped)
    damaged.write_bytes(b"")
    with pytest.warns(KanpinnWarning, match="is used"):
        checkpoint = newest(stopped)
    configuration = configuration_of(checkpoint)
    solver = Solver(configuration.setup)
    solver.load_state(checkpoint.state)
    written = Checkpoints(stopped, configuration, checkpoint.path).write(checkpoint.state, *solver.network())
    assert checkpoints.files(stopped) == [whole, written]


def test_what_a_resumed_run_changes_outlives_its_process(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise RuntimeError("a power cut")

    with monkeypatch.context() as patch:
        patch.setattr(run, "solve", die)
        with pytest.raises(RuntimeError, match="a power cut"):
            run.resume(stopped, ["time_limit_s=null", "checkpoint.every_s=60"])
    assert run.resume(stopped).metrics["status"] in FINISHED


def test_only_what_no_process_writes_is_cleared_away(tmp_path: Path) -> None:
    names = [".solution.h5.0123abcd.tmp", "checkpoints/.checkpoint_00007.h5.0123abcd.tmp"]
    others = ["figures/.solution.png.0123abcd.tmp", ".run.html.0123abcd.tmp", ".mine.tmp", "solution.h5"]
    for name in [*names, *others]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path, WRITTEN, 3600)
    assert [name for name in [*names, *others] if (tmp_path / name).exists()] == others
    for name in others:
        os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path, WRITTEN, 3600)
    assert [name for name in others if (tmp_path / name).exists()] == [".mine.tmp", "solution.h5"]


def test_a_resumed_run_is_checked_as_a_new_one_is(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Setup, state: State | None) -> None:
        raise UserError("not here")

    monkeypatch.setattr("kanpinn.run.preflight.check", refuse)
    with pytest.raises(UserError, match="not here"):
        run.resume(stopped, ["time_limit_s=null"])


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("slabs", 0, "hierarchy", "levels"), 10**9),
        (("slabs", 0, "hierarchy", "level"), -1),
        (("slabs", 0, "hierarchy", "theta"), np.zeros(3)),
        (("slabs", 0, "stage_state", "theta"), np.zeros(3)),
        (("slabs", 0, "stage_state", "best"), np.zeros(3)),
        (("slabs", 0, "optimizers", "levels", 0, "state", "last"), np.zeros(3)),
        (("slabs", 0, "optimizers", "levels"), []),
        (("slabs", 0, "stage"), 10**9),
        (("record", "work"), 10**400),
        (("slabs",), []),
        (("number",), 10**9),
        (("record", "levels"), []),
        (("record", "spectra"), {"u_x": np.zeros((1, 3))}),
    ],
)
def test_a_state_that_does_not_fit_its_config_is_refused_in_one_line(
    stopped: Path, place: tuple[Any, ...], value: Any
) -> None:
    checkpoint = newest(stopped)
    state = part = checkpoint.state
    for key in place[:-1]:
        part = part[key]
    assert place[-1] in part or isinstance(part, list)
    part[place[-1]] = value
    with pytest.raises(UserError, match="the checkpoint does not fit its own config"):
        Solver(configuration_of(checkpoint).setup).load_state(state)


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.zeros((2, 2))},
        {"points": np.full((3, 2), np.nan)},
        {"points": np.zeros((3, 2), int)},
        {"points": np.zeros((3, 2), np.float32)},
        {"weights": np.full(3, np.inf)},
        {"normals": np.zeros((1, 2))},
        {"points": np.zeros((0, 2)), "weights": np.zeros(0)},
    ],
)
def test_points_weights_and_normals_of_a_state_fit_each_other(change: dict[str, np.ndarray]) -> None:
    state = {"points": np.zeros((3, 2)), "weights": np.ones(3), "normals": None}
    assert len(PointSet.from_state(state, torch.device("cpu")).points) == 3
    with pytest.raises(ValueError, match="do not fit"):
        PointSet.from_state(state | change, torch.device("cpu"))


def test_spectra_of_any_number_of_visits_are_as_many_arrays_and_come_back() -> None:
    x, t = np.linspace(0, 1, 9), np.linspace(0, 2, 5)
    generator = np.random.default_rng(0)

    def spectra() -> dict[str, np.ndarray]:
        values = {name: generator.normal(size=(5, 9)) for name in ("u", "v")}
        return error_spectra(values, dict.fromkeys(values, np.zeros((5, 9))), {"x": x, "t": t}, ("t", "x"), ())

    visits = {k: spectra() for k in range(3000) if k != 5}
    table = stacked(visits, 3000)
    assert len(table) == 6
    found = unstacked(table)
    assert list(found) == list(visits)
    for visit, columns in visits.items():
        assert {name: v.tobytes() for name, v in columns.items()} == {n: v.tobytes() for n, v in found[visit].items()}


def test_a_logger_is_told_the_steps_of_discarded_starts_after_a_resumption(tmp_path: Path) -> None:
    configuration = validate(compose([*TINY, *SCHEDULES["nested"]])[0])
    solver = Solver(configuration.setup)
    watch = Watcher(7, Checkpoints(tmp_path, configuration))
    assert solve(configuration.setup, watch, solver)[1].reason == "interrupted"
    resumed = Solver(configuration.setup)
    resumed.load_state(newest(tmp_path).state)
    assert resumed.steps == 7  # two starts of two steps, three of the one that goes on
    assert resumed.discarded == 2
    solve(configuration.setup, Watcher(), resumed)
    assert resumed.steps == 2 * 2 + 5 + 4
