"""The schema of our files: every writer keeps to it, and whatever breaks it is named in one line."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import kanpinn
from kanpinn.io.check import check
from kanpinn.io.hdf5 import seal
from kanpinn.io.schema import CHECKPOINT, LEVEL, METRICS, SOLUTION, SWEEP
from kanpinn.settings.discovery import choices

QUICK = [
    "schedule.steps=1",
    "schedule.levels=2",
    "sampler.interior=40",
    "sampler.boundary=8",
    "sampler.growth=1",
    "output.points=5",
    "output.figures=false",
    "output.progress=false",
]
# `make test-slow` has those whose references take seconds to compute, and those that add nothing to the others.
SLOW = {
    *("allen_cahn", "kdv", "cahn_hilliard", "gray_scott", "kuramoto_sivashinsky", "schrodinger"),
    *("burgers_inverse", "fisher", "klein_gordon", "sine_gordon", "van_der_pol"),
    *("backward_step", "cavity", "cylinder", "heat_inverse", "poisson_holes", "poisson_nd", "taylor_green"),
    *("double_pendulum_lagrangian", "pendulum_lagrangian", "neo_hookean", "elasticity", "membrane", "inclusion"),
    *("helmholtz_hole", "kovasznay", "darcy_inverse", "stokes", "lotka_volterra"),
}


def solved(folder: Path, *overrides: str) -> Path:
    kanpinn.solve([*QUICK, *overrides, f"hydra.run.dir={folder / 'run'}"])
    return folder / "run"


@pytest.mark.parametrize(
    "problem",
    [pytest.param(p, marks=pytest.mark.slow if p in SLOW else ()) for p in choices("problem") if p != "table"],
)
def test_every_problems_files_keep_to_the_schema(problem, folder: Path):
    assert check(solved(folder, f"problem={problem}")) == []


def test_slabs_several_equations_and_no_reference_keep_to_the_schema(folder: Path):
    (folder / "problems").mkdir()
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "pair.yaml").write_text("name: pair\nconditions: soft\n")
    (folder / "problems" / "pair.py").write_text(
        "from dataclasses import dataclass\n"
        "from kanpinn.geometry import Box\nfrom kanpinn.pde import Condition, Problem\n"
        "@dataclass(frozen=True)\n"
        "class Pair(Problem):\n"
        "    domain = Box(t=(0, 1), x=(0, 1), y=(0, 1), z=(0, 1))\n"
        "    unknowns = ('u', 'v')\n"
        "    derivatives = ('t', 'x')\n"
        "    def residual(self, p):\n"
        "        return {'one': p.u_t - p.v_x, 'two': p.v_t - p.u_x}\n"
        "    def conditions(self):\n"
        "        return [Condition('start', 't-', lambda p: {'u': p.u - p.x, 'v': p.v})]\n"
    )
    run = solved(folder, "problem=pair", "backbone=kan", "schedule.slabs=2", "schedule.levels=1")
    assert check(run) == []
    with h5py.File(run / "solution.h5") as f:
        assert {"residual_one", "residual_two", "u", "v"} <= set(f["VTKHDF/PointData"])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return solved(tmp_path_factory.mktemp("check"), "problem=heat")


def _delete(name: str) -> Callable:
    return lambda f: f.pop(name)


def _replace(name: str, change: Callable) -> Callable:
    def act(f):
        values = change(f[name][...])
        f[name][...] = values

    return act


def _retype(f):
    values = f["history/loss"][...]
    del f["history/loss"]
    f["history/loss"] = values.astype(int)


def _copied(f):
    values = f["u"][...]
    del f["VTKHDF/PointData/u"]
    f["VTKHDF/PointData/u"] = values


def _metrics(change: Callable) -> Callable:
    def act(f):
        for group in ("metrics",):
            record = json.loads(f[group].attrs["json"])
            change(record)
            f[group].attrs["json"] = json.dumps(record)

    return act


BROKEN = {
    "attribute missing": (lambda f: f.attrs.pop("equation"), "/: expected attribute 'equation': text; found nothing"),
    "status unknown": (lambda f: f.attrs.modify("status", "fine"), "one of converged, step_limit"),
    "created without zone": (lambda f: f.attrs.modify("created", "2026-01-01"), "'created': time; found"),
    "config no yaml": (lambda f: f.attrs.modify("config", "- [\n"), "'config': yaml; found"),
    "units missing": (lambda f: f["u"].attrs.pop("units"), "/u: expected attribute 'units'"),
    "group missing": (_delete("points"), "/points: expected the last collocation points"),
    "scales detached": (lambda f: f["u"].dims[0].detach_scale(f["t"]), "/u: expected the axes (t, x); found (none, x)"),
    "type changed": (_retype, "/history/loss: expected float values"),
    "stranger": (lambda f: f.create_dataset("notes_mine", data=1.0), "/notes_mine: expected nothing of that name"),
    "time runs back": (_replace("t", lambda v: v[::-1]), "/t: expected finite, rising values"),
    "steps out of order": (_replace("history/step", lambda v: v[::-1]), "/history/step: expected rising"),
    "error no difference": (_replace("u_error", lambda v: v + 1), "/u_error: expected u − u_ref"),
    "copy": (_copied, "/VTKHDF/PointData/u: expected a hard link"),
    "other times": (_replace("VTKHDF/Steps/Values", lambda v: v + 1), "/VTKHDF/Steps: expected the times of /t"),
    "key missing": (_metrics(lambda m: m.pop("loss")), "/metrics: loss: expected number or null; it is missing"),
    "key wrong": (_metrics(lambda m: m.update(seed="0")), "/metrics: seed: expected integer; found '0'"),
    "level wrong": (_metrics(lambda m: m["levels"][1].pop("grid")), "/metrics: levels[1].grid: expected integer or"),
    "norm wrong": (_metrics(lambda m: m["relative_l2"].update(u=0.5)), "/metrics: expected relative_l2.u = "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_each_violation_is_one_line_with_its_place(case, run: Path, tmp_path: Path):
    change, expected = BROKEN[case]
    file = tmp_path / "solution.h5"
    file.write_bytes((run / "solution.h5").read_bytes())
    with h5py.File(file, "r+") as f:
        change(f)
    lines = check(file)
    assert any(expected in line for line in lines), lines
    assert all(line.startswith(f"{file}:/") and "\n" not in line for line in lines)


def test_groups_of_ones_own_are_free(run: Path, tmp_path: Path):
    file = tmp_path / "solution.h5"
    file.write_bytes((run / "solution.h5").read_bytes())
    with h5py.File(file, "r+") as f:
        f["mine/notes"] = "seen"
    changed = f"{file}:/: expected the bytes that its checksum stands for; the file was changed since"
    assert check(file) == [changed]
    seal(file)
    assert check(file) == []


def test_the_command_exits_with_2_and_says_where(run: Path, tmp_path: Path, kanpinn):
    assert kanpinn("inspect", "--check", str(run)).code == 0
    copied = tmp_path / "broken"
    copied.mkdir()
    (copied / "solution.h5").write_bytes((run / "solution.h5").read_bytes())
    (copied / "metrics.json").write_text('{"loss": NaN}')
    with h5py.File(copied / "solution.h5", "r+") as f:
        del f["u"].attrs["units"], f["model"]
    result = kanpinn("inspect", "--check", str(copied))
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 4
    assert f"{copied / 'metrics.json'}: expected strict JSON; NaN" in result.err
    listed = kanpinn("inspect", "--check", "--json", str(copied))
    assert (listed.code, json.loads(listed.out)["violations"]) == (2, result.err.splitlines())
    assert kanpinn("inspect", "--check", str(tmp_path / "nothing")).code == 2


def test_the_page_names_all_of_the_schema():
    page = (Path(__file__).parents[1] / "docs" / "solution-file.md").read_text()
    for item in SOLUTION + CHECKPOINT + SWEEP:
        assert f"`{item.path}`" in page, item.path
        for name in item.attributes:
            assert f"`{name}`" in page, name
    for key in [*METRICS, *LEVEL]:
        assert f"`{key}`" in page, key


def test_metrics_match_the_fields_they_summarise(run: Path):
    """An independent sum over the file's own arrays."""
    metrics = json.loads((run / "metrics.json").read_text())
    with h5py.File(run / "solution.h5") as f:
        error, reference = f["u_error"][...], f["u_ref"][...]
    assert metrics["relative_l2"]["u"] == pytest.approx(np.sqrt((error**2).sum() / (reference**2).sum()), rel=1e-12)
    assert metrics["linf"]["u"] == pytest.approx(abs(error).max(), rel=1e-12)
