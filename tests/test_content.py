"""A run is its content: it goes wherever its folder goes, and is refused where its problem has become another one."""

from __future__ import annotations

import importlib
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from support.user_problems import DECAY

import kanpinn as kp
from kanpinn import KanpinnWarning, UserError
from kanpinn.cli.main import main
from kanpinn.io.check import check
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.run import checkpoints
from kanpinn.settings.discovery import load_problem_class
from kanpinn.settings.problem_text import ProblemText, difference, text_of

EXACT = "    def exact(self, p, raw):\n        return 1 + p.t * raw.u\n"
TINY = [
    *("problem=decay", "problem.conditions=exact", "backbone=kan", "backbone.width=[2]", "backbone.grid=2"),
    *("schedule.levels=1", "schedule.steps=2", "sampler.interior=20", "sampler.boundary=2", "output.points=5"),
    *("output.progress=false", "output.figures=false", "threads=1"),
]
POINTS = np.linspace(0, 1, 5)[:, None]


def project(folder: Path, text: str = DECAY + EXACT) -> Path:
    (folder / "problems").mkdir(parents=True)
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "problems" / "decay.py").write_text(text)
    (folder / "conf" / "problem" / "decay.yaml").write_text("name: decay\nrate: 1.0\nconditions: soft\n")
    (folder / "points.csv").write_text("t\n0\n0.25\n0.5\n1\n")
    return folder


def edited(folder: Path, before: str, after: str) -> None:
    file = folder / "problems" / "decay.py"
    assert before in file.read_text()
    file.write_text(file.read_text().replace(before, after))


@pytest.fixture
def solved(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A project whose run `run` was stopped after its first step, and what `evaluate` says of it."""
    here = project(folder / "a")
    monkeypatch.chdir(here)
    kp.solve([*TINY, "time_limit_s=1e-9", "checkpoint.every_s=0", "hydra.run.dir=run"])
    assert main(["evaluate", "run", "--points", "points.csv"]) == 0
    return here, capsys.readouterr().out.splitlines()[-1]


def evaluated(capsys: pytest.CaptureFixture[str], *options: str, run: str = "run") -> tuple[int, str, str]:
    """Exit code of `evaluate`, the last line of its table and all of stderr."""
    capsys.readouterr()
    code = main(["evaluate", run, "--points", "points.csv", *options])
    told = capsys.readouterr()
    return code, (told.out.splitlines() or [""])[-1], told.err


def test_a_moved_project_is_the_same_project(solved, folder, monkeypatch, capsys):
    here, expected = solved
    here.rename(folder / "b")
    monkeypatch.chdir(folder / "b")
    assert evaluated(capsys) == (0, expected, "")
    assert main(["resume", "run", "time_limit_s=null"]) == 0
    assert kp.load("run").metrics["status"] in ("step_limit", "converged")


def test_a_run_folder_elsewhere_holds_all_it_needs(solved, folder, monkeypatch, capsys):
    here, expected = solved
    elsewhere = folder / "elsewhere"
    shutil.copytree(here / "run", elsewhere / "renamed")
    shutil.copy(here / "points.csv", elsewhere)
    shutil.rmtree(here / "problems")
    monkeypatch.chdir(elsewhere)
    code, found, told = evaluated(capsys, run="renamed")
    assert (code, found) == (0, expected)
    assert told.count("\n") == 1
    assert "there is no file of problem=decay here; the text stored in the run is used" in told
    code, _, told = evaluated(capsys, "--no-stored", run="renamed")
    assert (code, told.count("\n")) == (2, 1)
    assert "and the text stored in the run is not to be run" in told
    for command in ("inspect", "plot", "compare", "report"):
        assert main([command, "renamed"]) == 0
    assert check(Path("renamed")) == []
    assert main(["resume", "renamed", "time_limit_s=null"]) == 0
    with pytest.warns(KanpinnWarning, match="stored in the run is used"):  # the resumed run has it, too
        assert kp.load("renamed").metrics["status"] in ("step_limit", "converged")


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("Box(t=(0, 1))", "Box(t=(0, 2))", "“domain = Box(t=(0, 1))” then, “domain = Box(t=(0, 2))” now"),
        ("1 + p.t * raw.u", "2 + p.t * raw.u", "“return 1 + p.t * raw.u” then, “return 2 + p.t * raw.u” now"),
        ('    derivatives = ("t",)\n', '    derivatives = ("t",)\n    positive = ("rate",)\n',
         "“nothing” then, “positive = ('rate',)” now"),
    ],
)  # fmt: skip
def test_a_problem_that_has_changed_is_refused_with_the_difference(solved, capsys, before, after, named):
    here, expected = solved
    edited(here, before, after)
    code, found, told = evaluated(capsys)
    assert (code, found, told.count("\n")) == (2, "", 1)
    assert told.startswith(f"kanpinn: error: run: its problem's text has changed since: {named}; put that back")
    for call in (kp.load, kp.resume):
        with pytest.raises(UserError, match="has changed since"):
            call("run")
    assert main(["resume", "run"]) == 2
    assert main(["compare", "run"]) == 0  # it shows what was computed then
    assert evaluated(capsys, "--stored") == (0, expected, "")
    assert kp.resume("run", "time_limit_s=null", stored=True).problem.domain.interval("t") == (0, 1)


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        ("1 + p.t * raw.u", "1 + LENGTH * p.t * raw.u", "u at t="),
        ("Box(t=(0, 1))", "Box(t=(0, LENGTH))", "u at t="),
        ("self.rate * p.u", "LENGTH * self.rate * p.u", "residual at t="),
        ("p.u - 1", "p.u - LENGTH", "condition initial at t=0 is"),
    ],
)
def test_a_problem_that_reads_something_else_now_is_refused(folder, monkeypatch, capsys, before, after, named):
    text = (DECAY if "condition" in named else DECAY + EXACT).replace(before, after)
    monkeypatch.chdir(project(folder / "a", f'LENGTH = float(open("length.txt").read())\n{text}'))
    Path("length.txt").write_text("1.0")
    more = ["problem.conditions=soft"] if "condition" in named else []
    kp.solve([*TINY, "time_limit_s=1e-9", "checkpoint.every_s=0", "hydra.run.dir=run", *more])
    assert evaluated(capsys)[0] == 0
    Path("length.txt").write_text("1.5")
    code, _, told = evaluated(capsys)
    assert code == 2 and f"its problem's text is the same, but not what it says: {named}" in told
    assert main(["resume", "run", "time_limit_s=null"]) == 2
    assert "not what it says" in capsys.readouterr().err


def test_a_condition_that_holds_elsewhere_now_is_refused(folder, monkeypatch, capsys):
    text = DECAY.replace("t=(0, 1)", "t=(0, 1), x=(0, 1)").replace("p.u - 1)", "p.u - 1, where=lambda p: p.x < END)")
    monkeypatch.chdir(project(folder / "a", f'END = float(open("end.txt").read())\n{text}'))
    Path("end.txt").write_text("0.5")
    Path("points.csv").write_text("t,x\n0,0\n")
    kp.solve([*TINY, "problem.conditions=soft", "time_limit_s=1e-9", "checkpoint.every_s=0", "hydra.run.dir=run"])
    assert evaluated(capsys)[0] == 0
    Path("end.txt").write_text("0.9")
    assert main(["resume", "run", "time_limit_s=null"]) == 2
    assert "not what it says: condition initial holds elsewhere; put back" in capsys.readouterr().err


def test_files_of_another_run_in_a_folder_are_told(folder, monkeypatch, capsys):
    monkeypatch.chdir(project(folder / "a"))
    for rate in (1, 2):
        kp.solve([*TINY, f"problem.rate={rate}", f"hydra.run.dir=run{rate}"])
    for name in ("config.yaml", "solution.h5", "checkpoints", "metrics.json"):
        shutil.rmtree("run", ignore_errors=True)
        shutil.copytree("run1", "run", ignore=shutil.ignore_patterns(name))
        (shutil.copytree if name == "checkpoints" else shutil.copy)(f"run2/{name}", f"run/{name}")
        told = (
            "run: metrics.json and solution.h5 differ in" if name == "metrics.json" else "run: files of several runs: "
        )
        code, _, said = evaluated(capsys)
        assert code == (0 if name == "metrics.json" else 2) and told in said
        if code:
            assert "problem.rate is " in said and name.rstrip("s") in said
        assert main(["inspect", "run", "--check"]) == 2 and told in capsys.readouterr().err
    assert evaluated(capsys, run="run1")[::2] == (0, "") and main(["inspect", "run1", "--check"]) == 0


def test_comments_docstrings_and_layout_do_not_matter(solved, capsys):
    here, expected = solved
    edited(here, '"""Decay u_t + rate u = 0."""', '"""Exponential decay."""\n\n    # its rate')
    edited(here, "Box(t=(0, 1))", "Box(\n        t=(0, 1),\n    )  # s")
    edited(here, "    def residual(self, p):\n", "    def residual(self, p):\n        '''Return it.'''\n")
    assert evaluated(capsys) == (0, expected, "")


def test_another_problem_of_that_name_is_not_taken_for_it(folder, monkeypatch):
    """A packaged problem stays what it was beside a file of that name, and the other way round."""
    heat = ["problem=heat", "backbone=kan", *TINY[3:]]
    kp.solve([*heat, "hydra.run.dir=packaged"])
    expected = kp.load("packaged")([[0.5, 0.5]])["u"]
    project(folder, DECAY)
    own, conf = folder / "problems", folder / "conf" / "problem"
    (own / "decay.py").rename(own / "heat.py")
    (conf / "decay.yaml").rename(conf / "heat.yaml")
    (conf / "heat.yaml").write_text("name: heat\nrate: 1.0\nconditions: soft\n")
    assert kp.load("packaged")([[0.5, 0.5]])["u"] == expected
    kp.solve([*heat, "hydra.run.dir=own"])
    shutil.rmtree(own)
    with pytest.warns(KanpinnWarning, match="stored in the run is used"):
        assert kp.load("own").problem.domain.names == ("t",)


def rewritten(run: Path, change) -> None:
    """Change the record in a run's checkpoints, as another version of kanpinn or somebody else would."""
    for file in checkpoints.files(run):
        arrays, meta = read_checkpoint(file)
        write_checkpoint(file, arrays, change(meta))


def test_a_packaged_problem_that_another_version_has_changed_is_refused(folder):
    kp.solve(["problem=heat", "backbone=kan", *TINY[3:], "hydra.run.dir=run"])

    def older(meta):
        text = meta["problem"]["text"].replace("residual(self", "residual(this").replace("self.", "this.")
        return {**meta, "problem": ProblemText("Heat", True, text).record()}

    rewritten(Path("run"), older)
    with pytest.raises(UserError, match=r"“def residual\(this, .*” then, “def residual\(self, .*” now"):
        kp.load("run")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"sha256": "0" * 64}, "is not the one that its hash stands for"),
        ({"text": None}, "is not the one that its hash stands for"),
        (None, "expected"),
        (ProblemText("Decay", False, "\n\nraise OSError('no\\nthing')"), "line 3: OSError: no thing"),
        (ProblemText("Decay", False, "Decay = 3"), "defines no problem Decay"),
        (ProblemText("Decay", False, "class Decay("), "line 1: SyntaxError"),
    ],
)  # fmt: skip
def test_a_forged_text_is_refused_in_one_line(solved, capsys, record, told):
    here, _ = solved
    shutil.rmtree(here / "problems")
    new = record.record() if isinstance(record, ProblemText) else record
    rewritten(here / "run", lambda meta: {**meta, "problem": None if new is None else {**meta["problem"], **new}})
    code, _, err = evaluated(capsys)
    assert code == 2
    assert err.splitlines()[-1].startswith("kanpinn: error: ")
    assert told in err or record is None
    assert "Traceback" not in err


RATES = "from pace import FACTOR as factor\n\n\ndef rate(p):\n    return factor\n"
LAZY = """
    def exact(self, p, raw):
        import pace
        from rates import rate

        assert pace.FACTOR == 1
        return rate(p) + p.t * raw.u
"""


def test_modules_beside_the_problem_belong_to_it(folder, monkeypatch, capsys):
    text = DECAY.replace("from kanpinn.pde", "import rates\nfrom kanpinn.pde") + LAZY
    here = project(folder / "a", text)
    (here / "problems" / "rates.py").write_text(RATES)
    (here / "pace.py").write_text("FACTOR = 1\n")
    monkeypatch.chdir(here)
    kp.solve([*TINY, "hydra.run.dir=run"])
    code, expected, told = evaluated(capsys)
    assert (code, told) == (0, "")
    assert not {"rates", "pace", "problems"} & set(sys.modules)
    (here / "pace.py").write_text("FACTOR = 1 + 1\n")
    code, _, told = evaluated(capsys)
    assert code == 2
    assert "in pace, “FACTOR = 1” then, “FACTOR = 1 + 1” now" in told
    assert evaluated(capsys, "--stored") == (0, expected, "")
    (here / "pace.py").write_text("FACTOR = (1\n")
    assert main(["solve", *TINY]) == 2
    assert "problems/decay.py: pace.py: line 1: SyntaxError" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["from problems.rates import TWO", "from .rates import TWO", "from rates import TWO"])
def test_a_helper_may_be_named_in_every_way(folder, monkeypatch, line):
    here = project(folder / "a", f"{line}\n{DECAY}")
    (here / "problems" / "rates.py").write_text("from problems.deeper import ONE\nTWO = 2 * ONE\n")
    (here / "problems" / "deeper.py").write_text("ONE = 1\n")
    monkeypatch.chdir(here)
    name = "rates" if line.startswith("from rates") else "problems.rates"
    assert set(text_of(load_problem_class("decay")).beside) == {"problems.deeper", name}


SCRIPT = f'''
"""A script of its own."""
import math as m
import torch, sys
{DECAY}
    def reference(self, p):
        return grown(p.t) * m.exp(0)

def grown(t):
    return SCALE * torch.exp(-t)

SCALE = float(1)
sys.never_run_again.append(1)
unrelated = object()
'''


def solved_object(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> tuple[type, kp.Solution]:
    monkeypatch.setattr(sys, "never_run_again", [], raising=False)
    cls = (sys.modules.get(name) or importlib.import_module(name)).Decay
    small = (kp.Kan(width=[2], grid=2), kp.Nested(levels=1, steps=2), kp.Uniform(interior=20, boundary=2))
    return cls, kp.solve(cls(rate=2.0), *small, "output.figures=false", "threads=1", "output.progress=false",
                         "output.points=5", folder=folder / "run")  # fmt: skip


def test_an_object_of_a_script_is_evaluated_where_the_script_is_not(folder, monkeypatch, capsys):
    (folder / "script_of_mine.py").write_text(SCRIPT)
    monkeypatch.syspath_prepend(str(folder))
    cls, solution = solved_object(monkeypatch, folder, "script_of_mine")
    text = text_of(cls)
    assert text is not None
    assert "unrelated" not in text.text
    assert "never_run_again" not in text.text
    expected = solution(POINTS)["u"]
    assert type(kp.load("run").problem) is cls
    (folder / "script_of_mine.py").unlink()
    monkeypatch.delitem(sys.modules, "script_of_mine")
    with pytest.warns(KanpinnWarning, match="stored in the run is used"):
        loaded = kp.load("run")
    assert np.array_equal(loaded(POINTS)["u"], expected)
    assert loaded.problem.rate == 2.0
    assert loaded.data.fields["u_ref"] == pytest.approx(np.exp(-POINTS[:, 0]))
    (folder / "points.csv").write_text("t\n1\n")
    assert evaluated(capsys)[:2] == (0, f"1,{expected[-1]:.17g}")
    # The class as it is given here must still be that one.
    (folder / "script_of_mine.py").write_text(SCRIPT.replace("float(1)", "float(3)"))
    cls = importlib.import_module("script_of_mine").Decay
    for given in (cls(rate=2.0), None):
        with pytest.raises(UserError, match=r"“SCALE = float\(1\)” then, “SCALE = float\(3\)” now"):
            kp.load("run", problem=given)


def test_an_object_of_a_notebook_is_the_cells_it_needs(folder, monkeypatch):
    notebook = types.ModuleType("a_notebook")
    head, body = SCRIPT.split("@dataclass")
    notebook._ih = ["", head, "%matplotlib inline", "@dataclass" + body.replace("sys.never", "# "), "SCALE = 1.0"]
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    for cell in notebook._ih:
        if not cell.startswith("%"):
            exec(cell, vars(notebook))
    _, solution = solved_object(monkeypatch, folder, "a_notebook")
    monkeypatch.delitem(sys.modules, "a_notebook")
    with pytest.warns(KanpinnWarning, match="stored in the run is used"):
        assert np.array_equal(kp.load("run")(POINTS)["u"], solution(POINTS)["u"])


def test_every_packaged_problem_has_its_text():
    from kanpinn.settings.discovery import problem_names

    for name in problem_names():
        text = text_of(load_problem_class(name))
        assert text is not None
        assert text.packaged
        assert difference(text, text) is None
        assert difference(text, ProblemText(text.name, True, text.text + "\n# more\n")) is None
