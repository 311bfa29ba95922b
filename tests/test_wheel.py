"""The installed package: built as a wheel, put into an empty virtual environment, run from an unrelated folder."""

import json
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

TINY = [
    *("problem=poisson", "backbone.width=[2]", "backbone.grid=2", "schedule.levels=2", "schedule.steps=2"),
    *("schedule.starts=1", "sampler.interior=16", "sampler.boundary=8", "output.points=5", "output.figures=false"),
]


def _run(*argv: object, cwd: Path) -> str:
    done = subprocess.run([str(word) for word in argv], cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what is tracked, so that the tree stays clean of build folders."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("kanpinn", "conf", "problems"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".c", ".yaml", ".typed", ".html", ".css", ".js") and file.is_file():
                copy = source / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    _run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", source / "dist", source, cwd=source)
    return next((source / "dist").glob("kanpinn-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` folder of a new environment that holds the wheel.

    Its dependencies are those of the environment running the tests, reached through a .pth file, so that torch is not
    installed a second time. A .pth file found by way of another is not read, so an editable kanpinn stays out of sight.
    """
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    python = home / "bin/python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet"]
    _run(*pip, "--no-deps", wheel, cwd=home)
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=home).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return home / "bin"


def test_every_package_of_the_tree_is_declared():
    declared = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {"kanpinn": ROOT / "kanpinn", "kanpinn.conf": ROOT / "conf", "kanpinn.problems": ROOT / "problems"}
    found = set(folders)
    for name, folder in folders.items():
        for init in folder.glob("*/**/__init__.py"):
            found.add(".".join([name, *init.parent.relative_to(folder).parts]))
    assert declared == found


def test_mutation_testing_names_modules_and_tests_that_exist():
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    tests = named["pytest_add_cli_args_test_selection"]
    assert not [name for name in (*named["only_mutate"], *named["do_not_mutate"], *tests) if not list(ROOT.glob(name))]


def test_mutants_face_the_tests_of_every_module_that_is_changed():
    """A module of the numerical core that some test imports is imported by one of theirs; so are tests of its name."""
    named = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutmut"]
    changed = {path.relative_to(ROOT) for pattern in named["only_mutate"] for path in ROOT.glob(pattern)}
    modules = {".".join(path.with_suffix("").parts) for path in changed} - {
        ".".join(Path(path).with_suffix("").parts) for path in named["do_not_mutate"]
    }

    def imported(file):
        return modules & set(re.findall(r"^ *from (\S+) import", file.read_text(encoding="utf-8"), re.MULTILINE))

    faced = set().union(*(imported(ROOT / test) for test in named["pytest_add_cli_args_test_selection"]))
    left_out = {file.name: imported(file) - faced for file in (ROOT / "tests").glob("test_*.py")}
    assert not {name: rest for name, rest in left_out.items() if rest}
    own = {f"tests/test_{path.stem}.py" for path in changed if (ROOT / f"tests/test_{path.stem}.py").exists()}
    assert own <= {*named["pytest_add_cli_args_test_selection"], "tests/test_diagram.py"}


def test_the_wheel_holds_every_source_and_config_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"kanpinn/py.typed"}
    for folder, inside in (("kanpinn", "kanpinn"), ("conf", "kanpinn/conf"), ("problems", "kanpinn/problems")):
        for suffix in ("*.py", "*.c", "*.yaml", "*.html", "*.css", "*.js"):
            expected |= {f"{inside}/{file.relative_to(ROOT / folder)}" for file in (ROOT / folder).rglob(suffix)}
    assert held == expected


def test_the_installed_command_runs_from_any_folder(installed, tmp_path):
    where = _run(
        installed / "python",
        "-c",
        "import kanpinn, kanpinn.problems as p; print(kanpinn.__file__, p.__file__, sep='\\n')",
        cwd=tmp_path,
    ).splitlines()
    assert all(Path(file).is_relative_to(installed.parent) for file in where)
    listed = _run(installed / "kanpinn", "list", "problems", cwd=tmp_path)
    packaged = {file.stem for file in (ROOT / "conf/problem").glob("*.yaml")}
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("  ")} == packaged  # others are headings
    _run(installed / "kanpinn", "solve", *TINY, "hydra.run.dir=here", cwd=tmp_path)
    metrics = json.loads((tmp_path / "here/metrics.json").read_text())
    assert metrics["problem"] == "poisson"
    assert [level["level"] for level in metrics["levels"]] == [0, 1]


def test_the_installed_command_takes_a_folder_with_problems_as_the_users_own(installed, tmp_path):
    (tmp_path / "conf/problem").mkdir(parents=True)
    (tmp_path / "problems").mkdir()
    (tmp_path / "conf/problem/poisson.yaml").write_bytes((ROOT / "conf/problem/poisson.yaml").read_bytes())
    (tmp_path / "problems/poisson.py").write_bytes((ROOT / "problems/poisson.py").read_bytes())
    listed = _run(installed / "kanpinn", "list", "problems", cwd=tmp_path)
    assert [line.split()[0] for line in listed.splitlines() if line.endswith("(yours)")] == ["poisson"]
