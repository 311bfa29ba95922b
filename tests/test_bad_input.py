"""Every mistake a user can make gives exit code 2 and one line that names the key and what would be right."""

import pytest
from support.user_problems import DECAY

from kanpinn.settings.discovery import choices

OVERRIDES = [
    # unknown choices of a group
    ("problem=poison", ["problem=poison", "Did you mean 'poisson'", "burgers"]),
    ("backbone=kam", ["backbone=kam", "Did you mean 'kan'", "mlp"]),
    ("sampler=sobel", ["sampler=sobel", "'sobol'"]),
    ("schedule=nest", ["schedule=nest", "nested, single"]),
    ("optimizer=levenberg", ["optimizer=levenberg", "levenberg_marquardt"]),
    ("weighting=rbf", ["weighting=rbf", "fixed, rba"]),
    ("experiment=none_such", ["experiment=none_such"]),
    ("backbone=null", ["backbone=null", "kan, mlp"]),
    ("~backbone", ["backbone", "kan, mlp"]),
    ("backbone=[kam]", ["backbone=[kam]", "kan, mlp"]),
    ("backbone=7", ["backbone=7", "kan, mlp"]),
    ("backbone.name=kam", ["backbone", "kam", "kan, mlp"]),
    ("problem.name=poison", ["problem.name=poison", "'poisson'"]),
    # mistyped keys
    ("backbone.widht=[3]", ["backbone.widht=[3]", "Did you mean 'backbone.width'", "degree"]),
    ("+backbone.widht=[3]", ["backbone.widht=[3]", "Did you mean 'backbone.width'"]),
    ("++backbone.widht=[3]", ["backbone.widht=[3]", "Did you mean 'backbone.width'"]),
    ("backbone.embedding.kid=none", ["backbone.embedding.kid=none", "'backbone.embedding.kind'"]),
    ("sed=1", ["sed=1", "Did you mean 'seed'", "dtype"]),
    ("+sed=1", ["sed=1", "Did you mean 'seed'"]),
    ("width=[3]", ["width=[3]", "Did you mean 'backbone.width'"]),
    ("problem.kz=1", ["problem.kz=1", "kx, ky"]),
    ("+problem.kz=1", ["problem.kz=1", "kx, ky"]),
    ("output.figure=false", ["output.figure=false", "'output.figures'"]),
    ("hydra.run.dri=x", ["hydra.run.dri=x", "'hydra.run.dir'"]),
    ("+new.deep.key=1", ["new", "Valid keys"]),
    ("backbone@other=kan", ["backbone@other"]),
    ("+backbone=kan", ["backbone"]),
    ("~seed", ["seed", "missing", "a whole number"]),
    # wrong types
    ("seed=abc", ["seed=abc", "a whole number"]),
    ("seed=1.5", ["seed=1.5", "a whole number"]),
    ("seed=true", ["seed=true", "a whole number"]),
    ("seed=null", ["seed=null", "a whole number"]),
    ("backbone.width=wide", ["backbone.width=wide", "a list of whole numbers"]),
    ("backbone.width=[5,five]", ["backbone.width=[5,five]", "a list of whole numbers"]),
    ("backbone.width=5", ["backbone.width=5", "a list of whole numbers"]),
    ("backbone.degree=3.5", ["backbone.degree=3.5", "a whole number"]),
    ("backbone.base=maybe", ["backbone.base=maybe", "true or false"]),
    ("backbone={name:7}", ["backbone={name:7", "kan, mlp"]),
    ("backbone.embedding=3", ["backbone.embedding=3", "a mapping"]),
    ("output=3", ["output=3", "a mapping"]),
    ("output.points=[3,a]", ["output.points=[3,a]", "whole numbers"]),
    ("problem.kx=fast", ["problem.kx=fast", "a finite number"]),
    ("problem.kx=[1]", ["problem.kx=[1]", "a finite number"]),
    ("problem.kx=true", ["problem.kx=true", "a finite number"]),
    ("problem.kx=null", ["problem.kx=null", "a finite number"]),
    ("problem.tuned=3", ["problem.tuned=3", "a mapping"]),
    ("problem.conditions=hard", ["problem.conditions=hard", "auto, exact, soft"]),
    # missing values and values that cannot be found
    ("seed=???", ["seed", "missing"]),
    ("problem.kx=???", ["problem.kx", "missing"]),
    ("seed=${sead}", ["seed", "sead"]),
    ("seed=${no_such_resolver:1}", ["seed", "no_such_resolver"]),
    # ranges
    ("seed=-1", ["seed=-1", "at least 0"]),
    ("threads=0", ["threads=0", "from 1"]),
    ("threads=-2", ["threads=-2", "from 1"]),
    ("time_limit_s=0", ["time_limit_s=0", "above 0"]),
    ("time_limit_s=-5", ["time_limit_s=-5", "above 0"]),
    ("time_limit_s=inf", ["time_limit_s=inf", "finite number"]),
    ("output.points=1", ["output.points=1", "at least 2"]),
    ("output.points=[]", ["output.points=[]", "at least 2"]),
    ("problem.kx=nan", ["problem.kx=nan", "a finite number"]),
    ("problem.kx=inf", ["problem.kx=inf", "a finite number"]),
    ("backbone.width=[0]", ["backbone.width"]),
    ("backbone.width=[5,-5]", ["backbone.width"]),
    ("backbone.degree=0", ["backbone.degree=0"]),
    ("backbone.degree=-1", ["backbone.degree=-1"]),
    ("backbone.grid=0", ["backbone.grid=0"]),
    ("sampler.interior=0", ["sampler.interior=0"]),
    ("sampler.interior=-5", ["sampler.interior=-5"]),
    ("sampler.boundary=0", ["sampler.boundary=0"]),
    ("sampler.resample_every=-1", ["sampler.resample_every=-1"]),
    ("schedule.levels=0", ["schedule.levels=0"]),
    ("schedule.steps=-1", ["schedule.steps", "-1"]),
    ("schedule.starts=0", ["schedule.starts=0"]),
    # choices among words
    ("dtype=float16", ["dtype=float16", "float32, float64"]),
    ("device=gpu", ["device=gpu", "cpu, cuda"]),
    ("backbone.squash=tahn", ["backbone.squash=tahn", "tanh"]),
    # numbers that do not go together
    ("schedule.steps=[9,9,9,9,9,9,9,9,9]", ["9 numbers of steps", "schedule.levels="]),
    # grammar
    ("backbone.width=[5", ["backbone.width=[5", "key=value"]),
    ("seed", ["seed", "key=value"]),
    ("=1", ["=1"]),
    ("seed=1 2=3", ["seed=1 2=3"]),
    ("problem=poisson seed=1", ["problem=poisson seed=1"]),
    ("hydra=3", ["hydra"]),
    ("seed=0,1", ["seed=0,1", "solve -m"]),
    # options
    ("--sweep", ["--sweep", "unknown option"]),
    ("--cfg=jobs", ["jobs", "job"]),
]


def refused(result, words):
    assert result.code == 2, result
    assert result.out == ""
    assert result.err.startswith("kanpinn: error: ")
    assert result.err.count("\n") == 1, result.err
    assert len(result.err) < 800  # all problems' names are about 420
    for word in words:
        assert word in result.err, result.err


@pytest.mark.parametrize(("override", "words"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_wrong_override_is_refused_before_any_work(override, words, kanpinn, recorded_run, folder):
    refused(kanpinn("solve", override), words)
    assert recorded_run == []
    assert list(folder.iterdir()) == []


def test_cuda_without_a_device(kanpinn, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    refused(kanpinn("solve", "device=cuda"), ["device=cuda: no CUDA device is available; valid choices: cpu"])


@pytest.mark.parametrize("content", ["metrics.json", "solution.h5", "checkpoints", "notes.txt"])
def test_a_run_folder_that_is_not_empty(content, kanpinn, recorded_run, folder):
    (folder / "old").mkdir()
    (folder / "old" / content).write_text("kept")
    refused(kanpinn("solve", "hydra.run.dir=old"), ["hydra.run.dir=old", "expected a new or an empty one"])
    assert (folder / "old" / content).read_text() == "kept"
    assert recorded_run == []


def test_a_run_folder_that_is_a_file_or_below_one(kanpinn, recorded_run, folder):
    (folder / "old").write_text("")
    refused(kanpinn("solve", "hydra.run.dir=old"), ["hydra.run.dir=old", "this is a file"])
    refused(kanpinn("solve", "hydra.run.dir=old/new"), ["hydra.run.dir", "old"])


def test_a_job_of_a_sweep_whose_folder_holds_a_run_is_refused(kanpinn, recorded_run, folder):
    (folder / "sweep/0").mkdir(parents=True)
    (folder / "sweep/0/metrics.json").write_text("{}")
    result = kanpinn("solve", "-m", "seed=0,1", "hydra.sweep.dir=sweep")
    assert result.code == 2
    assert [asked["seed"] for asked in recorded_run] == [1]
    assert (folder / "sweep/0/metrics.json").read_text() == "{}"


OWN_PROBLEMS = [
    ("raise RuntimeError('two\\nlines')", ["problems/mine.py: line 1: RuntimeError: two lines"]),
    ("def broken(:", ["problems/mine.py: line 1: SyntaxError"]),
    ("import no_such_module", ["problems/mine.py: line 1: ModuleNotFoundError"]),
    ("x = 1", ["problems/mine.py", "exactly one class", "found none"]),
    (DECAY + DECAY.replace("Decay", "Other"), ["problems/mine.py", "found Decay, Other"]),
    (DECAY.replace("@dataclass(frozen=True)\n", ""), ["class Decay needs @dataclass(frozen=True)"]),
    (DECAY.replace("def residual", "def residuals"), ["class Decay lacks residual"]),
    (DECAY.replace("domain =", "box ="), ["class Decay lacks domain"]),
    (DECAY.replace("derivatives =", "derivative ="), ["class Decay lacks derivatives"]),
    (DECAY.replace("rate: float = 1.0", "tuned: float = 1.0\n    rate: float = 1.0"), ["tuned", "taken"]),
    (DECAY.replace("rate: float = 1.0", "rate: float"), ["problem.rate: missing; expected a finite number"]),
    (DECAY.replace("t=(0, 1)", "t=(1, 0)"), ["problems/mine.py: line 13", "Box(t=(1, 0))", "the lower one first"]),
]


@pytest.mark.parametrize(("source", "words"), OWN_PROBLEMS, ids=[words[-1] for _, words in OWN_PROBLEMS])
def test_a_problem_file_that_is_wrong(source, words, kanpinn, recorded_run, folder):
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "problems").mkdir()
    (folder / "conf/problem/mine.yaml").write_text("name: mine\n")
    (folder / "problems/mine.py").write_text(source)
    refused(kanpinn("solve", "problem=mine"), words)
    assert not (folder / "outputs").exists()


def test_a_problem_with_only_one_of_its_two_files(kanpinn, folder):
    (folder / "problems").mkdir()
    (folder / "problems/mine.py").write_text(DECAY)
    refused(kanpinn("solve", "problem=mine"), ["conf/problem/mine.yaml is missing", "poisson"])
    (folder / "problems/mine.py").unlink()
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "conf/problem/mine.yaml").write_text("name: mine\n")
    refused(kanpinn("solve", "problem=mine"), ["problem.name=mine", "poisson"])


def test_an_unknown_choice_lists_the_users_own(kanpinn, folder):
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "conf/problem/mine.yaml").write_text("name: mine\n")
    refused(kanpinn("solve", "problem=mime"), ["Did you mean 'mine'", ", ".join(choices("problem"))])


def test_a_config_file_that_is_wrong(kanpinn, folder):
    (folder / "conf/problem").mkdir(parents=True)
    file = folder / "conf/problem/mine.yaml"
    (folder / "problems").mkdir()
    (folder / "problems/mine.py").write_text(DECAY)
    file.write_text("name: mine\nrate: [1\n")
    refused(kanpinn("solve", "problem=mine"), ["mine.yaml: line 3", "not valid YAML"])
    file.write_text("name: mine\nraet: 1\n")
    refused(kanpinn("solve", "problem=mine"), ["problem.raet=1", "Did you mean 'problem.rate'"])
    file.write_text("rate: 1\n")
    refused(kanpinn("solve", "problem=mine"), ["problem"])
    file.write_text("name: mine\nconditions: exactly\n")
    refused(kanpinn("solve", "problem=mine"), ["problem.conditions=exactly", "auto, exact, soft"])


def test_an_experiment_that_chooses_what_does_not_exist(kanpinn, folder):
    (folder / "conf/experiment").mkdir(parents=True)
    file = folder / "conf/experiment/mine.yaml"
    file.write_text("# @package _global_\ndefaults:\n  - override /backbone: kam\n")
    refused(kanpinn("solve", "experiment=mine"), ["backbone=kam", "kan, mlp"])
    file.write_text("# @package _global_\nbackbone:\n  widht: [3]\n")
    refused(kanpinn("solve", "experiment=mine"), ["backbone.widht=[3]", "'backbone.width'"])


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["resum"], ["command=resum", "solve"]),
        (["--verison"], ["--verison"]),
        (["list", "problem"], ["group=problem", "'problems'"]),
        (["list", "a", "b"], ["b"]),
        (["inspect"], ["path"]),
        (["inspect", "absent"], ["absent"]),
        (["plot", "absent"], ["absent", "not a run"]),
        (["evaluate", "absent"], ["--points"]),
    ],
)
def test_a_wrong_command(argv, words, kanpinn):
    refused(kanpinn(*argv), words)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--help", "problem.name=[1]"], ["problem.name=[1]", "poisson"]),
        (["hydra.sweep.subdir=[0.1,0.9]"], ["hydra.sweep.subdir"]),
        (["-m", "seed=0,1", "experiment=[0.1,0.9]"], ["experiment=[0.1,0.9]"]),
        (["-m", "seed=0,1", "hydra.verbose=[{a: 1}]"], ["hydra.verbose=[{a:1}]", "true or false"]),
        (["-m", "seed=0,1", "problem=false"], ["problem=", "poisson"]),
        (["-m", "seed=0,1", "hydra.sweep.subdir=[]"], ["hydra.sweep.subdir"]),
    ],
)
def test_values_of_another_kind_where_hydra_itself_stumbles(argv, words, kanpinn, recorded_run):
    refused(kanpinn("solve", *argv), words)
    assert recorded_run == []


@pytest.mark.parametrize("command", [["inspect"], ["plot"], ["evaluate", "--points", "p.csv"]])
@pytest.mark.parametrize("kind", ["folder", "text", "foreign"])
def test_a_path_that_is_not_a_run(command, kind, kanpinn, folder):
    import h5py

    (folder / "p.csv").write_text("x,y\n0,0\n")
    path = folder / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("hello")
    else:
        path.mkdir()
        with h5py.File(path / "solution.h5", "w") as file:
            file["data"] = [1.0]
    refused(kanpinn(command[0], "thing", *command[1:]), ["thing"])
