"""The README as a user takes it: every command in it works, and the PDE it shows is solved as it stands there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in fenced if name == language]


def commands() -> list[str]:
    """Every line in a plain block that calls kanpinn, without its comment."""
    lines = [line.partition("#")[0].strip() for block in blocks("") for line in block.splitlines()]
    return [line for line in lines if line.startswith("kanpinn ")]


@pytest.fixture
def fisher(folder: Path) -> Path:
    """A folder with the README's own problem in it."""
    source = next(block for block in blocks("python") if "class Fisher" in block)
    config = next(block for block in blocks("yaml") if "name: fisher" in block)
    (folder / "problems").mkdir()
    (folder / "problems" / "fisher.py").write_text(source)
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "fisher.yaml").write_text(config)
    return folder


def test_the_readmes_problem_takes_at_most_forty_lines():
    source = next(block for block in blocks("python") if "class Fisher" in block)
    assert len(source.splitlines()) <= 40


def test_the_readmes_problem_is_solved_as_it_stands_there(fisher, kanpinn):
    result = kanpinn("solve", "problem=fisher", "schedule.steps=25", "output.progress=false", "hydra.run.dir=run")
    assert result.code == 0, result.err
    error = float(re.search(r"relative L2 error (\S+),", result.out).group(1))
    assert error < 1e-4
    assert {path.name for path in (fisher / "run" / "figures").iterdir()} >= {"solution_u.png", "history.png"}


def test_every_solve_command_of_the_readme_composes_and_validates(fisher):
    shown = [shlex.split(line)[2:] for line in commands() if line.startswith("kanpinn solve")]
    assert len(shown) >= 5
    for words in shown:
        overrides = [word.partition(",")[0] if "=[" not in word else word for word in words if not word.startswith("-")]
        config, _ = compose(overrides)
        validate(config)


def test_every_command_of_the_readme_is_one(kanpinn):
    names = {shlex.split(line)[1] for line in commands()}
    assert names == {"solve", "list", "inspect", "plot", "compare", "report", "evaluate"}
    with pytest.raises(SystemExit) as left:
        kanpinn("--help")
    assert left.value.code == 0
    for name in names:
        assert importlib.import_module(f"kanpinn.cli.{name}")


def test_the_python_calls_of_the_readme_work(folder):
    source = next(block for block in blocks("python") if "kanpinn.solve" in block)
    small = ["output.progress=false", "output.figures=false", "schedule.levels=2", "schedule.steps=20"]
    names: dict = {}
    exec(source.replace('["problem=poisson", "seed=1"]', f'["problem=poisson", "seed=1", *{small!r}]'), names)
    assert names["solution"].metrics["relative_l2"]["u"] < 1e-2


def test_the_table_of_choices_names_all_there_are():
    from kanpinn.settings.discovery import GROUPS, choices

    for group in GROUPS:
        row = re.search(rf"^\| `{group}` \| (.*) \|$", README, flags=re.MULTILINE)
        names = set(choices(group))
        if names:
            assert row is not None, group
            assert names <= set(row.group(1).split(", ")), group
