"""Solves from Python objects: nothing written unless asked for, the caller's state left as it was."""

from __future__ import annotations

import logging
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import h5py
import matplotlib as mpl
import numpy as np
import pytest
import torch
import yaml
from hydra.core.global_hydra import GlobalHydra
from kanpinn.problems.poisson import Poisson

import kanpinn
from kanpinn import Box, Condition, KanpinnWarning, Problem, UserError, geometry
from kanpinn.cli.main import main
from kanpinn.io.check import check
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.run import checkpoints
from kanpinn.run.caller_state import caller_state
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.objects import configuration_of_objects


@dataclass(frozen=True)
class Ring(Problem):
    """u'' = −k² sin(k x), u = sin(k x) at both ends."""

    k: float = 2.0

    domain = Box(x=(0, 1))
    derivatives = ("xx",)
    equation = "u_xx = -k² sin(k x)"

    def residual(self, p):
        return p.u_xx + self.k**2 * torch.sin(self.k * p.x)

    def conditions(self):
        return [Condition("ends", ("x-", "x+"), lambda p: p.u - self.reference(p))]

    def reference(self, p):
        return torch.sin(self.k * p.x)


SMALL = (
    kanpinn.Kan(width=[3], degree=4, grid=3),
    kanpinn.Nested(levels=2, steps=12),
    kanpinn.Sobol(interior=60, boundary=8),
)
QUIET = ("output.progress=false", "threads=1", "output.points=21")


@pytest.fixture(scope="module")
def solution() -> kanpinn.Solution:
    return kanpinn.solve(Ring(), *SMALL, *QUIET, "output.figures=false")


def test_a_problem_object_is_solved_and_nothing_is_written(folder: Path) -> None:
    solution = kanpinn.solve(Ring(k=3.0), *SMALL, *QUIET)
    x = np.linspace(0, 1, 11)[:, None]
    assert np.abs(solution(x)["u"] - np.sin(3 * x[:, 0])).max() < 1e-3
    assert np.allclose(solution.derivative(x, "u", "x"), 3 * np.cos(3 * x[:, 0]), atol=1e-2)
    assert solution.folder is None and not list(folder.iterdir())
    assert solution.metrics["problem"] == "Ring" and solution.metrics["backbone"] == "kan"


def test_objects_and_texts_say_the_same() -> None:
    words = ["schedule.levels=2", "schedule.steps=12", "sampler=sobol", "sampler.interior=60", "sampler.boundary=8"]
    words += ["backbone.width=[3]", "backbone.degree=4", "backbone.grid=3", "problem.k=3"]
    one = kanpinn.solve(Ring(), *words, *QUIET)
    two = kanpinn.solve(Ring(k=3.0), *SMALL, *QUIET)
    assert one.problem == two.problem and np.array_equal(one.theta, two.theta)


def test_annotations_that_only_a_function_knows_do_no_harm() -> None:
    from typing import Literal

    @dataclass(frozen=True)
    class Local(Ring):
        kind: Literal["a", "b"] = "a"
        rate: float = 1.0

    configuration = configuration_of_objects(Local(), ["problem.kind=b", "problem.rate=2"])
    assert (configuration.setup.problem.kind, configuration.setup.problem.rate) == ("b", 2.0)


def test_defaults_of_objects_are_those_of_configs(folder: Path) -> None:
    ours = configuration_of_objects(Poisson(), [])
    theirs = validate(compose(["~problem.tuned", "problem.conditions=soft", "backbone=kan"])[0])
    for name in (
        "problem",
        "backbone",
        "schedule",
        "optimizer",
        "sampler",
        "weighting",
        "conditions",
        "dtype",
        "points",
    ):
        assert getattr(ours.setup, name) == getattr(theirs.setup, name), name
    assert ours.settings == theirs.settings
    assert validate(ours.resolved).setup == ours.setup


@pytest.mark.slow
def test_no_hydra_without_texts_and_no_torch_at_import(tmp_path: Path) -> None:
    script = """
import sys, kanpinn
assert not {"torch", "numpy"} & set(sys.modules)
from kanpinn.problems.poisson import Poisson
solution = kanpinn.solve(Poisson(), kanpinn.Kan(width=[2], grid=2), kanpinn.Nested(levels=1, steps=1),
    kanpinn.Uniform(interior=20, boundary=4))
solution.save("run")
assert not {"hydra", "omegaconf"} & {name.partition(".")[0] for name in sys.modules}
loaded = kanpinn.load("run")  # whose problem a file defines
assert loaded.metrics == solution.metrics
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_is_saved_is_a_whole_run(solution: kanpinn.Solution, tmp_path: Path, capsys) -> None:
    solution = kanpinn.solve(Ring(), *SMALL, *QUIET)
    run = solution.save(tmp_path / "run")
    assert run == solution.folder
    names = {"solution.h5", "metrics.json", "config.yaml", "log.txt", "checkpoints", "figures"}
    assert names <= {file.name for file in run.iterdir()}
    assert check(run) == []
    loaded, x = kanpinn.load(run, problem=Ring()), np.linspace(0, 1, 7)[:, None]
    assert loaded.metrics == solution.metrics and np.array_equal(loaded(x)["u"], solution(x)["u"])
    loaded.save(tmp_path / "copy")
    assert np.array_equal(kanpinn.load(tmp_path / "copy", problem=Ring())(x)["u"], loaded(x)["u"])
    with pytest.raises(UserError, match="is not empty"):
        loaded.save(tmp_path / "copy")
    for command, *more in (("inspect",), ("plot", "--dpi", "20"), ("compare",), ("report",)):
        assert main([command, str(run), *more]) == 0


def test_a_folder_that_cannot_take_a_run_is_refused(solution: kanpinn.Solution, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="is a file"):
        solution.save(file)
    saved = kanpinn.load(solution.save(tmp_path / "run"), problem=Ring())
    with pytest.raises(UserError, match="lies within the run folder"):
        saved.save(tmp_path / "run" / "copy")


def test_a_run_of_another_version_is_refused_in_a_line(solution: kanpinn.Solution, tmp_path: Path) -> None:
    run = solution.save(tmp_path / "run")
    file = checkpoints.newest(run).path
    arrays, meta = read_checkpoint(file)
    write_checkpoint(file, arrays, {key: value for key, value in meta.items() if key != "edits"})
    with pytest.raises(UserError, match=r"of another version of kanpinn \(it has no 'edits'\); solve anew"):
        kanpinn.load(run, problem=Ring())


def test_a_class_without_a_text_is_asked_for(tmp_path: Path, capsys) -> None:
    @dataclass(frozen=True)
    class Local(Ring):
        pass

    kanpinn.solve(Local(), *SMALL, *QUIET, "output.figures=false", folder=tmp_path / "run")
    place = f"{__name__}.{Local.__qualname__}"
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["problem"] == {
        "name": "Local", "object": place, "k": 2.0, "conditions": "exact"
    }  # fmt: skip
    assert "the class Local has no text that could be stored" in (tmp_path / "run/log.txt").read_text()
    message = f"class {re.escape(place)} is in no file of ./problems; give the object, as in .*problem=Local"
    with pytest.raises(UserError, match=message):
        kanpinn.load(tmp_path / "run")
    (tmp_path / "points.csv").write_text("x\n0.5\n")
    assert main(["evaluate", str(tmp_path / "run"), "--points", str(tmp_path / "points.csv")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(UserError, match=r"problem\.k=2\.0: the problem given has 3\.0"):
        kanpinn.load(tmp_path / "run", problem=Local(k=3.0))
    assert kanpinn.load(tmp_path / "run", problem=Local()).metrics["problem"] == "Local"
    with pytest.raises(UserError, match=r"problem\.name=Local: the problem given has poisson"):
        kanpinn.load(tmp_path / "run", problem=Poisson())


def test_a_run_of_an_object_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole = kanpinn.solve(Ring(), *SMALL, *QUIET, "output.figures=false", folder=tmp_path / "whole")
    limit = ("time_limit_s=1e-9", "checkpoint.every_s=0")
    stopped = kanpinn.solve(Ring(), *SMALL, *QUIET, *limit, "output.figures=false", folder=tmp_path / "run")
    assert stopped.metrics["status"] == "time_limit"
    kanpinn.load(tmp_path / "run", problem=Ring()).save(tmp_path / "copy")
    resumed = kanpinn.resume(tmp_path / "run", "time_limit_s=null", problem=Ring())
    assert torch.equal(resumed.theta, whole.theta)
    resumed = kanpinn.resume(tmp_path / "copy", "time_limit_s=null")
    assert torch.equal(resumed.theta, whole.theta)
    kept = kanpinn.solve(Ring(), *SMALL, *QUIET, limit[0], "output.figures=false")  # in memory, saved and resumed
    kept.save(tmp_path / "kept")
    assert torch.equal(kanpinn.resume(tmp_path / "kept", "time_limit_s=null", problem=Ring()).theta, whole.theta)


def test_what_cannot_be_meant_is_refused_in_one_line() -> None:
    for overrides, message in (
        ((3,), "3: expected a text such as"),
        ((kanpinn.Kan,), r"did you mean Kan\(\)\?"),
        ((kanpinn.Kan(), kanpinn.Mlp()), "a second backbone"),
        ((kanpinn.Nested(), "schedule.levels=2"), r"schedule\.levels=2: the schedule is given as an object"),
        (("problem=burgers",), "problem=burgers: the problem is given as an object"),
        (("problem.q=3",), r"problem\.q=3: unknown key"),
        (("problem.k=x",), r"problem\.k=x: expected"),
        (("hydra.run.dir=x",), "is for the command line"),
        (("logger=tensorboard",), "logger=tensorboard: needs a run folder"),
        (("schedule.level=2",), r"schedule\.level=2: unknown key"),
        (("+schedule.levels=2",), "^Could not append to config"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            kanpinn.solve(Ring(), *overrides)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="expected a problem object, or one list of texts"):
        kanpinn.solve("problem=burgers")
    with pytest.raises(UserError, match="expected a problem object"):
        kanpinn.solve(Ring)  # type: ignore[arg-type]


def test_it_shows_itself(solution: kanpinn.Solution) -> None:
    assert repr(solution).startswith("<Solution of Ring: step_limit, relative L2 error of u ")
    shown = solution._repr_html_()
    assert "<table>" in shown and "relative L2 error of u" in shown and "data:image/png;base64," in shown
    figure = solution.plot()
    assert isinstance(figure, mpl.figure.Figure) and len(figure.axes) == 2
    line = figure.axes[0].lines[0]
    assert np.array_equal(line.get_ydata(), solution(np.linspace(0, 1, 21)[:, None])["u"])
    with pytest.raises(UserError, match="unknown=v"):
        solution.plot("v")


def test_xarray_without_a_folder_is_what_the_file_would_give(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    solution = kanpinn.solve(Ring(), *SMALL, *QUIET, "output.figures=false")
    ours = solution.to_xarray()
    theirs = xarray.load_dataset(solution.save(tmp_path / "run") / "solution.h5", engine="h5netcdf")
    assert set(theirs.variables) == set(ours.variables)
    for name, variable in theirs.variables.items():
        assert ours[name].dims == variable.dims and np.array_equal(ours[name], variable), name
        assert {key: ours[name].attrs[key] for key in ("units", "long_name")} == {
            key: variable.attrs[key] for key in ("units", "long_name")
        }


def test_points_outside_the_domain_are_refused(solution: kanpinn.Solution) -> None:
    expected = r"^points\[1\]: x=5: outside the domain; expected a number from 0 to 1$"
    with pytest.raises(UserError, match=expected):
        solution([[0.5], [5.0]])
    with pytest.raises(UserError, match=r"^points\[0\]: x=-1: "):
        solution.derivative([[-1.0]], "u", "x")
    with pytest.raises(UserError, match=r"^points\[0\]: x=inf: "):
        solution([[math.inf]])
    faces = solution([[0.0], [1.0]])["u"]
    assert np.array_equal(solution([[-1e-12], [1.0 + 1e-12]])["u"], faces)
    assert np.array_equal(solution(np.array([[-1e-8], [1.0 + 1e-7]], dtype=np.float32))["u"], faces)
    assert solution(np.zeros((0, 1)))["u"].shape == (0,)


def test_points_of_the_box_that_a_region_lacks_are_nan() -> None:
    class Ringed(Problem):
        domain = geometry.Disk(center=[0, 0], radius=1, name="rim") - geometry.Disk(
            center=[0, 0], radius=0.5, name="hole"
        )
        derivatives = ("xx", "yy")

        def residual(self, p):
            return p.u_xx + p.u_yy

        def conditions(self):
            return [Condition("rim", "rim", lambda p: p.u - 1), Condition("hole", "hole", lambda p: p.u)]

    tiny = (kanpinn.Kan(width=[2], grid=2), kanpinn.Nested(levels=1, steps=1), kanpinn.Uniform(interior=20, boundary=4))
    found = kanpinn.solve(Ringed(), *tiny, *QUIET)
    angles = np.linspace(0, 6, 50)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for rim in (circle, 0.5 * circle):  # the boundary is part of it, to rounding
            assert np.isfinite(found(np.clip(rim, -1, 1))["u"]).all()
    for values in (lambda p: found(p)["u"], lambda p: found.derivative(p, "u", "x")):
        with pytest.warns(KanpinnWarning, match="^2 of 3 points lie outside the domain, the first at x=0, y=0; their"):
            assert np.array_equal(np.isnan(values([[0, 0], [0.7, 0], [0.9, 0.9]])), [True, False, True])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.device("meta")])
def test_gradients_are_computed_whatever_mode_the_caller_is_in(mode, solution: kanpinn.Solution) -> None:
    with mode():
        again = kanpinn.solve(Ring(), *SMALL, *QUIET)
        assert torch.is_grad_enabled() == (torch.get_default_device().type == "meta")
        assert np.array_equal(again([[0.3]])["u"], solution([[0.3]])["u"])
    assert torch.equal(again.theta, solution.theta)


def state_of_the_process() -> dict[str, object]:
    logger = logging.getLogger()
    return {
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state(legacy=True)),  # noqa: NPY002
        "python": random.getstate(),
        "matplotlib": dict(mpl.rcParams),
        "logging": (logger.level, list(logger.handlers), logging.root.manager.disable),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "hydra": (GlobalHydra.instance().hydra, GlobalHydra.instance().is_initialized()),
        "numpy's faults": np.geterr(),
        "modes": (torch.is_grad_enabled(), torch.get_default_device(), torch.are_deterministic_algorithms_enabled()),
    }


@dataclass(frozen=True)
class Faulty(Ring):
    """Raises what it is given, after the examination."""

    fault: type[BaseException] = ValueError
    calls: list[int] = field(default_factory=list)

    def residual(self, p):
        self.calls.append(1)
        if len(self.calls) > 40:
            raise self.fault
        return super().residual(p)


def test_the_callers_state_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.rcParams["font.size"] = 17.0
    torch.set_num_threads(2)
    before = state_of_the_process()
    solution = kanpinn.solve(Ring(), *SMALL, *QUIET, folder=tmp_path / "run")
    solution.plot()
    kanpinn.load(tmp_path / "run", problem=Ring())([[0.5]])
    for fault in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises((UserError, fault)):
            kanpinn.solve(Faulty(fault=fault), *SMALL, *QUIET)
    with pytest.raises(UserError):
        kanpinn.solve(["problem=nonsense"])
    after = state_of_the_process()
    torch.set_num_threads(1)
    mpl.rcdefaults()
    assert {key for key in before if before[key] != after[key]} == set()


def test_it_runs_without_stderr_and_stdout(monkeypatch: pytest.MonkeyPatch, solution: kanpinn.Solution) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert torch.equal(kanpinn.solve(Ring(), *SMALL, "threads=1", "output.points=21").theta, solution.theta)


def test_threads_are_those_of_numpy_and_scipy_too() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")

    def numbers():
        return [one["num_threads"] for one in threadpoolctl.threadpool_info() if one["user_api"] == "blas"]

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        with caller_state(1):
            assert numbers() and set(numbers()) == {1}
        assert set(numbers()) == {2}
        with caller_state(None):
            assert set(numbers()) == {2}


@pytest.mark.slow
def test_many_solves_at_once_are_each_themselves(solution: kanpinn.Solution) -> None:
    threads, found = torch.get_num_threads(), {}

    def work(number: int) -> None:
        objects = SMALL if number % 2 else SMALL[:1]
        texts = () if number % 2 else ("schedule.levels=2", "schedule.steps=12", "sampler=sobol",
                                       "sampler.interior=60", "sampler.boundary=8")  # fmt: skip
        found[number] = kanpinn.solve(Ring(), *objects, *texts, *QUIET).theta

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(torch.equal(theta, solution.theta) for theta in found.values())
    assert torch.get_num_threads() == threads


def test_a_problem_may_be_defined_in_a_function_without_decorator(tmp_path: Path) -> None:
    class Line(Problem):
        domain = Box(x=(0, 2))
        derivatives = ("x",)

        def residual(self, p):
            return p.u_x - 1

        def conditions(self):
            return [Condition("start", ("x-",), lambda p: p.u)]

    solution = kanpinn.solve(Line(), *SMALL, *QUIET)
    assert np.allclose(solution([[0.5], [2.0]])["u"], [0.5, 2.0], atol=1e-4)
    assert "estimated relative L2 error of u" in repr(solution)
    solution.save(tmp_path / "run")
    with h5py.File(tmp_path / "run/solution.h5") as file:
        assert "Line" in str(file.attrs["config"])


def test_options_of_objects_are_the_config() -> None:
    setup = configuration_of_objects(Ring(), [kanpinn.Nested(levels=2, optimizers=[kanpinn.Adam(lr=0.1), None])])
    assert setup.resolved["schedule"]["optimizers"][0] == {"name": "adam", **asdict(kanpinn.Adam(lr=0.1))}
    again = validate(setup.resolved, {"problem": Ring()})
    assert again.setup == setup.setup


def test_evaluate_on_the_command_line_names_the_line_outside(tmp_path: Path, capsys) -> None:
    tiny = (kanpinn.Kan(width=[2], grid=2), kanpinn.Nested(levels=1, steps=1), kanpinn.Uniform(interior=20, boundary=4))
    kanpinn.solve(Poisson(), *tiny, *QUIET, "output.figures=false", folder=tmp_path / "run")
    (tmp_path / "points.csv").write_text("y,x\n0.5,0.5\n\n2,0\n")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--points", str(tmp_path / "points.csv")]) == 2
    told = capsys.readouterr()
    assert told.err.endswith("points.csv: line 4: y=2: outside the domain; expected a number from -1 to 1\n")
    assert told.out == "" and told.err.count("\n") == 1
