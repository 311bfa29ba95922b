"""The command line: commands, exit codes, sweeps and what they leave behind."""

import csv
import itertools
import json
import re
import signal
import subprocess
import sys
import types
from importlib.metadata import version as installed_version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from omegaconf import OmegaConf

from kanpinn.cli.list import TITLES
from kanpinn.cli.main import COMMANDS
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.pde.text_problem import WORDS
from kanpinn.settings.compose import compose
from kanpinn.settings.discovery import choices
from kanpinn.settings.registry import REGISTRY

TINY = [
    "problem=poisson",
    "backbone.width=[2]",
    "backbone.grid=2",
    "schedule.levels=1",
    "schedule.steps=1",
    "schedule.starts=1",
    "sampler.interior=16",
    "sampler.boundary=8",
    "output.points=5",
    "output.figures=false",
    "output.progress=false",
]


def command(*argv, cwd, timeout=120):
    return subprocess.run(
        [sys.executable, "-m", "kanpinn", *argv], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


def test_a_solve_writes_its_folder_and_says_where(tmp_path):
    done = command("solve", *TINY, "hydra.run.dir=here", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert json.loads((tmp_path / "here/metrics.json").read_text())["problem"] == "poisson"
    assert {"solution.h5", "config.yaml", "log.txt"} <= {path.name for path in (tmp_path / "here").iterdir()}
    assert "here" in done.stdout
    assert not list(tmp_path.glob("**/*.tmp"))
    assert not (tmp_path / "here/.hydra").exists()


def test_a_wrong_input_is_one_line_and_exit_code_2(tmp_path):
    done = command("solve", "problem=poison", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"kanpinn: error: problem=poison: unknown. Did you mean 'poisson'? {_valid('problem')}\n"
    assert list(tmp_path.iterdir()) == []


def _valid(group):
    return f"Valid choices: {', '.join(choices(group))}."


@pytest.mark.parametrize("argv", [["--help"], ["list"]])
def test_help_and_list_do_not_wait_for_torch(argv, tmp_path):
    code = f"import sys; from kanpinn.cli.main import main; main({argv!r}); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path).returncode == 0


def test_help_names_every_command(kanpinn):
    with pytest.raises(SystemExit) as left:
        kanpinn("--help")
    assert left.value.code == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, folder):
    done = command(name, "--help", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: kanpinn {name}" in done.stdout


def test_solve_help_explains_every_key_and_does_nothing_else(kanpinn, folder):
    result = kanpinn("solve", "--help", "backbone=kan")
    assert result.code == 0
    assert "  backbone=kan\n      one of auto, chebykan, kan, mlp" in result.out  # the choices
    assert "  backbone.width=[8]\n      hidden widths" in result.out  # what the problem recommends for this one
    assert "  seed=0\n      seed of every random choice; a whole number of at least 0\n" in result.out
    assert "  problem.kx=1.0\n      Half-waves per unit length in x" in result.out
    assert "${" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("title", "name"), [(title, name) for title, group in TITLES.items() for name in choices(group)]
)
def test_list_explains_the_options_of_every_choice(title, name, kanpinn):
    """Every key a user may give in this group is there, with a line of help."""
    result = kanpinn("list", title, name)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    if title == "experiments":
        return
    cfg, _ = compose([f"{TITLES[title]}={name}"])
    chosen = OmegaConf.to_container(cfg, resolve=True)[TITLES[title]]
    keys = {f"{TITLES[title]}.{key}" for key in chosen if key not in ("name", "tuned", "embedding")}
    if "equations" in chosen:
        keys -= {f"problem.{word}" for word in WORDS}
    told = [line.strip().partition("=")[0] for line in result.out.splitlines() if re.match(r"  \w+\.", line)]
    assert keys <= set(told)
    for line, after in itertools.pairwise(result.out.splitlines()):
        if re.match(r"  \w+\.", line):
            assert after.startswith("    ") and after.strip()


def test_list_refuses_an_unknown_choice(kanpinn):
    result = kanpinn("list", "optimizers", "levenberg")
    assert result.code == 2 and "Did you mean 'levenberg_marquardt'?" in result.err


def test_version(kanpinn):
    assert kanpinn("--version").out == f"kanpinn {installed_version('kanpinn')}\n"


@pytest.mark.parametrize("title", TITLES)
def test_list_shows_every_choice_on_one_line(title, kanpinn):
    lines = kanpinn("list", title).out.splitlines()
    if title == "problems":  # by kind
        headings = [line for line in lines if not line.startswith(" ")]
        assert headings[0] == "elliptic:" and all(line.endswith(":") for line in headings)
        assert not {"others:", "yours:"} & set(headings)
        lines = sorted(line for line in lines if line.startswith("  "))
    assert [line.split()[0] for line in lines] == list(choices(TITLES[title]))
    for line in lines:
        assert len(line.split()) > 1, "no description"


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in REGISTRY.items() for name in names])
def test_list_describes_a_component_by_its_docstring(group, name, kanpinn):
    lines = kanpinn("list", f"{group}s").out.splitlines()
    line = next(line for line in lines if line.split()[0] == name)
    assert line.removeprefix(name).strip() == (REGISTRY[group][name].__doc__ or "").partition("\n")[0]


def test_list_marks_the_users_own(kanpinn, folder):
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "problems").mkdir()
    (folder / "conf/problem/mine.yaml").write_text("name: mine\n")
    (folder / "problems/mine.py").write_text('class Mine:\n    """My own equation."""\n')
    (folder / "conf/problem/plate.yaml").write_text("# A plate.\nname: plate\nkind: plates  # mine\nequations: u\n")
    told = kanpinn("list", "problems").out
    assert "\nplates:\n  plate " in told and "A plate. (yours)\nyours:\n  mine " in told
    assert "My own equation.\n" in told and "equation. (yours)" not in told


@pytest.mark.parametrize("argv", [["--cfg", "job"], ["--cfg", "job", "--resolve"], ["seed=5", "-c", "job"]])
def test_cfg_prints_the_config_and_does_not_solve(argv, kanpinn, recorded_run, folder):
    result = kanpinn("solve", *argv)
    assert result.code == 0
    assert ("seed: 5" if "seed=5" in argv else "seed: 0") in result.out
    assert recorded_run == []
    assert list(folder.iterdir()) == []


def test_solve_hands_over_the_config_and_a_folder_of_its_own(kanpinn, recorded_run, folder):
    for _ in range(2):
        assert kanpinn("solve", "problem.kx=3", "backbone.width=[4]").code == 0
    first, second = recorded_run
    assert first["folder"].parent == second["folder"].parent == folder / "outputs/poisson"
    assert first["folder"] != second["folder"]
    assert (first["problem"]["kx"], first["backbone"]["width"]) == (3, [4])


def test_hydra_leaves_no_files_of_its_own_in_a_run_folder(kanpinn, recorded_run, folder):
    kanpinn("solve", "hydra.run.dir=here")
    assert [path.name for path in (folder / "here").iterdir()] == ["metrics.json"]


@pytest.mark.parametrize(
    ("seed", "code", "err"),
    [
        (13, 3, "kanpinn: diverged: the loss is not finite after step 7.\n"),
        (14, 2, "kanpinn: error: seed=14: refused by the solver.\n"),
        (16, 143, ""),
    ],
)
def test_exit_codes(seed, code, err, kanpinn, recorded_run):
    result = kanpinn("solve", f"seed={seed}")
    assert (result.code, result.err) == (code, err)


def test_a_crash_keeps_its_traceback(kanpinn, recorded_run):
    with pytest.raises(RuntimeError, match="a crash"):
        kanpinn("solve", "seed=15")


def test_a_refused_run_leaves_no_folder(kanpinn, recorded_run, folder):
    kanpinn("solve", "seed=14", "hydra.run.dir=here")
    assert not (folder / "here").exists()


def test_the_process_is_left_as_it_was(kanpinn, recorded_run, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["notebook"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    kanpinn("solve")
    assert sys.argv == ["notebook"]
    assert "HYDRA_FULL_ERROR" not in __import__("os").environ


def _summary(folder):
    with (folder / "sweep/summary.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_sweep_has_a_folder_per_job_and_a_summary(kanpinn, recorded_run, folder):
    result = kanpinn("solve", "-m", "seed=0,1", "backbone=kan,mlp", "dtype=float64", "hydra.sweep.dir=sweep")
    assert result.code == 0, result.err
    rows = _summary(folder)
    assert list(rows[0]) == [
        *("job", "folder", "status", "flags", "reason", "seed", "backbone", "problem", "schedule", "optimizer"),
        *("parameters", "loss", "relative_l2_u", "linf_u", "work", "wall_time_s"),
    ]
    assert [(row["folder"], row["seed"], row["backbone"]) for row in rows] == [
        *(("0", "0", "kan"), ("1", "0", "mlp"), ("2", "1", "kan"), ("3", "1", "mlp")),
    ]
    assert [float(row["relative_l2_u"]) for row in rows] == [0.1, 0.1, 0.2, 0.2]
    assert [asked["folder"] for asked in recorded_run] == [folder / "sweep" / row["folder"] for row in rows]
    markdown = (folder / "sweep/summary.md").read_text().splitlines()
    assert markdown[0].startswith("| job | folder | status | seed | backbone | problem |")
    assert len(markdown) == 2 + 4


def test_a_failing_job_does_not_stop_the_others_and_the_worst_code_is_kept(kanpinn, recorded_run, folder):
    result = kanpinn("solve", "seed=14,13,15,0", "-m", "hydra.sweep.dir=sweep")
    assert result.code == 3
    rows = _summary(folder)
    assert [row["status"] for row in rows] == ["refused", "diverged", "crashed", "step_limit"]
    assert [bool(row["reason"]) for row in rows] == [True, True, True, False]
    assert "RuntimeError: a crash" in result.err


def test_an_interrupted_sweep_stops_and_has_its_summary(kanpinn, recorded_run, folder):
    result = kanpinn("solve", "-m", "seed=0,16,1", "hydra.sweep.dir=sweep")
    assert result.code == 128 + signal.SIGTERM
    assert [row["status"] for row in _summary(folder)] == ["step_limit", "interrupted", "missing"]


def test_a_wrong_value_anywhere_in_a_sweep_is_refused_before_any_job(kanpinn, recorded_run, folder):
    result = kanpinn("solve", "-m", "seed=0,-1", "hydra.sweep.dir=sweep")
    assert (result.code, recorded_run) == (2, [])
    assert "seed=-1" in result.err
    assert not (folder / "sweep").exists()


class Plane:
    """A solution u = x + 10 y, known in closed form."""

    problem = SimpleNamespace(domain=Box(x=(0, 1), y=(0, 1)), inside=lambda _: None)
    end = None  # all time slabs were begun

    def __call__(self, points):
        return {"u": points[:, 0] + 10 * points[:, 1]}


@pytest.fixture
def plane(monkeypatch):
    module = types.ModuleType("kanpinn.api")

    def load(run, stored=None):
        if str(run) != "run":
            raise UserError(f"{run}: not a run.")
        return Plane()

    module.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kanpinn.api", module)


@pytest.mark.usefixtures("plane")
def test_evaluate_takes_columns_in_any_order_and_keeps_the_others(kanpinn, folder):
    (folder / "p.csv").write_text("station, y ,x\r\nA,0.1,0.3\n\nB,1e-1,0\n")
    result = kanpinn("evaluate", "run", "--points", "p.csv")
    rows = [line.split(",") for line in result.out.splitlines()]
    assert rows[0] == ["station", "y", "x", "u"]
    assert [row[:3] for row in rows[1:]] == [["A", "0.1", "0.3"], ["B", "1e-1", "0"]]
    assert [float(row[3]) for row in rows[1:]] == [0.3 + 10 * 0.1, 10 * 0.1]  # all 17 digits
    assert kanpinn("evaluate", "run", "--points", "p.csv", "-o", "new/out.csv").out == ""
    assert (folder / "new/out.csv").read_text() == result.out


@pytest.mark.usefixtures("plane")
@pytest.mark.parametrize(
    "command", [("evaluate", "run", "--points", "p.csv", "-o"), ("compare", "run", "--csv"), ("report", "run", "-o")]
)
def test_no_output_takes_the_place_of_a_file_of_another_kind(command, kanpinn, folder):
    (folder / "p.csv").write_text("x,y\n0.1,0.3\n")
    for name in ("solution.h5", "problem.py"):
        (folder / name).write_text("kept")
        result = kanpinn(*command, name)
        assert (result.code, (folder / name).read_text()) == (2, "kept")
        assert f"{command[-1]} {name}: would replace a file of another kind; expected a new one" in result.err


@pytest.mark.usefixtures("plane")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x\n1\n", "column 'y' is missing; found x; expected the columns x, y"),
        ("x,y,x\n1,2,3\n", "column 'x' is there twice"),
        ("x,y\n1,abc\n", "line 2: y='abc': expected a finite number"),
        ("x,y\n1,\n", "line 2: y='': expected a finite number"),
        ("x,y\n1,nan\n", "expected a finite number"),
        ("x,y\n1,2\n1\n", "line 3 has 1 cells; expected 2"),
        ("x,y\n", "no points in it"),
        ("", "no points in it"),
        ("\xff\xfe\x00", "expected the columns|no points|not a text file"),
        ("x,y,u\n0,0,0\n", "column 'u' would be written twice"),
    ],
)
def test_evaluate_refuses_a_bad_table(text, words, kanpinn, folder):
    (folder / "p.csv").write_bytes(text.encode("latin-1"))
    result = kanpinn("evaluate", "run", "--points", "p.csv")
    assert (result.code, result.err.count("\n"), result.out) == (2, 1, "")
    assert any(part in result.err for part in words.split("|")), result.err


@pytest.mark.parametrize("name", ["absent.csv", "."])
def test_evaluate_refuses_what_is_not_a_file(name, kanpinn):
    result = kanpinn("evaluate", "run", "--points", name)
    assert (result.code, result.err.count("\n")) == (2, 1)


def test_inspect_plot_and_evaluate_of_a_real_run(folder, kanpinn):
    assert kanpinn("solve", *TINY, "hydra.run.dir=run").code == 0
    shown = kanpinn("inspect", "run")
    assert shown.code == 0
    assert "relative_l2" in shown.out or "relative L2" in shown.out
    assert json.loads(kanpinn("inspect", "run", "--json").out)
    drawn = kanpinn("plot", "run", "-o", "figures", "--dpi", "20")
    assert drawn.code == 0, drawn.err
    assert {str(path.relative_to(folder)) for path in (folder / "figures").iterdir()} == set(drawn.out.split())
    (folder / "p.csv").write_text("x,y\n0.25,0.5\n")
    values = kanpinn("evaluate", "run", "--points", "p.csv")
    assert values.code == 0, values.err
    assert np.isfinite(float(values.out.splitlines()[1].split(",")[2]))


def test_a_closed_pipe_is_no_error(tmp_path):
    done = subprocess.run(
        f"{sys.executable} -m kanpinn list | head -1", shell=True, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr == ""


SCREENS = ["exec >/dev/full", "exec >&-", "exec > >(true); sleep 0.2"]


@pytest.mark.slow
@pytest.mark.parametrize("shut", SCREENS)
def test_a_screen_that_fails_does_not_decide_what_is_computed(folder: Path, shut: str) -> None:
    small = f"{' '.join(TINY)} output.progress=true hydra.run.dir=run"
    words = f"{shut}; exec {sys.executable} -m kanpinn solve {small}"
    subprocess.run(["bash", "-c", words], cwd=folder, check=True, stderr=subprocess.PIPE)
    assert (folder / "run" / "solution.h5").is_file()
