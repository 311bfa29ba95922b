"""README, docs and CONTRIBUTING as a reader takes them: every block of code in them runs, in the order of the page.

How long things take is cut by one rule (`support/shortened.py`). A block whose first line is a comment with a path is
written to that file; a command or a kind of block that this test does not know fails it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.shortened import ALWAYS, LEVELS, POINTS, shortened, shortened_solve

import kanpinn

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "docs" / "examples").glob("*.ipynb"))
SHOWN = {"text", "json"}
"""Kinds of blocks that show something and are not run."""

RUN = ["problem=heat", *ALWAYS, *LEVELS, *POINTS]
"""The run that stands for RUN, RUN1, … in a page."""


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Line, language and text of each fenced block."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        yield text.count("\n", 0, found.start()) + 2, found[2], found[3]


def commands(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a plain block without their comments, each with its line in the block."""
    for k, line in enumerate(text.splitlines()):
        command = re.sub(r"\s+#.*", "", line).strip()
        if command and not command.startswith("#"):
            yield k, command


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run in RUN and a sweep of two in SWEEP."""
    from kanpinn.cli.main import main

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["solve", *RUN, "hydra.run.dir=RUN"]) == 0
        assert main(["solve", "-m", *RUN, "seed=0,1", "hydra.sweep.dir=SWEEP"]) == 0
    return folder


@pytest.fixture
def shelf(folder: Path, run_folder: Path) -> Path:
    """The current folder, with what the placeholders of a page stand for."""
    for name in ("RUN", "RUN1", "RUN2"):
        shutil.copytree(run_folder / "RUN", folder / name)
    shutil.copytree(run_folder / "SWEEP", folder / "SWEEP")
    (folder / "points.csv").write_text("x,t\n0.5,0.25\n0.1,0.9\n")
    return folder


@pytest.fixture
def solve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `kanpinn.solve` take as long as a test may."""
    monkeypatch.setattr(kanpinn, "solve", shortened_solve(kanpinn.solve), raising=False)


@pytest.fixture
def open_package(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let modules that a page writes be found, and forget afterwards what it registered."""
    from kanpinn.settings.registry import REGISTRY

    before = set(sys.modules)
    for room in ("backbones", "optimizers"):
        package = importlib.import_module(f"kanpinn.{room}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(shelf / "kanpinn" / room)])
    for group, names in REGISTRY.items():
        monkeypatch.setitem(REGISTRY, group, dict(names))
    yield
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(shelf):
            del sys.modules[name]


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The main module of a notebook whose cells, which IPython keeps in `_ih`, are blocks of code."""
    module: Any = types.ModuleType("__main__")
    module._ih = []
    monkeypatch.setitem(sys.modules, "__main__", module)
    return module


FIRST = ("README.md", "getting-started.md", "own-pde.md", "accuracy.md")
"""Pages whose blocks run by default; the others' take seconds each."""


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=() if page.name in FIRST else pytest.mark.slow) for page in PAGES],
    ids=lambda page: page.name,
)
def test_every_block_of_a_page_runs(page, shelf, solve, open_package, kanpinn, notebook):
    for line, language, text in blocks(page):
        place = f"{page.name}:{line}"
        file = re.match(r"# (\S+/\S+\.\w+)\n", text)
        if file:
            (shelf / file[1]).parent.mkdir(parents=True, exist_ok=True)
            (shelf / file[1]).write_text(text, encoding="utf-8")
            importlib.invalidate_caches()
        if language == "python" and not (file and file[1].startswith("kanpinn/")):
            notebook._ih.append(text)
            exec(compile("\n" * (line - 1) + text, str(page), "exec"), vars(notebook))
        elif language == "" and not file:
            for k, command in commands(text):
                run(command, kanpinn, f"{page.name}:{line + k}")
        elif not file:
            assert language in SHOWN, f"{place}: no way to run a block of {language}"


def run(command: str, kanpinn: Any, place: str) -> None:
    """Run one command, or check what would take too long: what `make`, `pip` and benchmarks are asked for exists."""
    program, *words = shlex.split(command)
    if program == "kanpinn":
        result = kanpinn(*short_words(words))
        assert result.code == 0, f"{place}: {command}\n{result.err}{result.out}"
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert set(words) <= set(targets), place
    elif program == "pip":
        assert words[0] == "install", place
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        asked = re.search(r"\[(.*)\]", command)
        assert asked is None or set(asked[1].split(",")) <= set(extras), place
    elif program == "python" and words[0] != "-m":
        script = ROOT / words[0]
        assert script.is_file(), place
        assert all(word.partition("=")[0] in script.read_text() for word in words if word.startswith("--")), place
    else:
        assert command in (". .venv/bin/activate", "python -m kanpinn"), f"{place}: no way to run {command}"


def short_words(words: list[str]) -> list[str]:
    """The arguments of a `kanpinn` command as a test calls it; a sweep takes two values of its first list."""
    if words[0] == "tune":
        trials = words.index("--trials") + 1
        return [*words[:trials], "1", *words[trials + 1 :], *shortened([])]
    if words[0] == "plot":
        return [*words, "--dpi", "40"]
    if words[0] != "solve" or "--help" in words:
        return words
    options = [word for word in words if word.startswith("-")]
    overrides = [word for word in words[1:] if not word.startswith("-")]
    if "-m" in options:
        overrides = [re.sub(r"range\((\d+),.*\)", r"\1,\1", text) for text in overrides]
        first = next(k for k, text in enumerate(overrides) if "," in text)
        overrides = [re.sub(r",.*", "", text) if k != first else text for k, text in enumerate(overrides)]
    return ["solve", *options, *shortened(overrides)]


LONG = [pytest.param(one, marks=pytest.mark.slow) if one.name == "sweep.py" else one for one in EXAMPLES]


@pytest.mark.parametrize("script", LONG, ids=lambda script: script.name)
def test_every_example_runs(script, folder, solve, capsys):
    runpy.run_path(str(script), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda script: script.name)
def test_every_example_reaches_what_it_shows(script, folder):
    names = runpy.run_path(str(script), run_name="__main__")
    assert REACHED[script.stem](names)


REACHED: dict[str, Callable[[dict[str, Any]], bool]] = {
    "first_solve": lambda names: names["solution"].metrics["relative_l2"]["u"] < 1e-9,
    "own_pde": lambda names: names["solution"].metrics["relative_l2"]["u"] < 1e-4,
    "sweep": lambda names: names["error"] < 1e-6,  # the last network, the separable one
    "read_with_xarray": lambda names: float(names["error"].max()) < 1e-9,
    "boundary_layer": lambda names: names["relative"](names["u"], names["truth"]) < 1e-4,
}
"""Facts about the names an example leaves, run in full; a script without one fails."""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_the_cells_of_a_notebook_run(path, shelf, solve, notebook):
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            notebook._ih.append(text := "".join(cell["source"]))
            exec(text, vars(notebook))


@pytest.mark.slow
def test_every_notebook_runs(folder):
    """In a kernel of its own, as Jupyter starts one."""
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        short = f"""
            import sys
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import kanpinn
            from support.shortened import shortened_solve
            kanpinn.solve = shortened_solve(kanpinn.solve)
        """
        notebook.cells.insert(0, nbformat.v4.new_code_cell(inspect.cleandoc(short)))
        client.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert any("image/png" in output.get("data", {}) for output in shown), path.name
        assert not any("\r" in output.get("text", "") for output in shown), path.name


def inline(page: Path) -> Iterator[tuple[str, str]]:
    """Code within the text of a page, with its place; without blocks."""
    text = re.sub(r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.M | re.S)
    for found in re.finditer(r"`([^`\n]+)`", text):
        yield f"{page.name}:{text.count(chr(10), 0, found.start()) + 1}", found[1]


def test_commands_within_the_text_exist(kanpinn):
    from kanpinn.cli.main import COMMANDS

    count = 0
    for page in PAGES:
        for place, code in inline(page):
            program, *words = code.split()
            if program in ("make", "python", "pip") and words and "…" not in code:
                run(code, kanpinn, place)
                count += 1
            elif program == "kanpinn" and words:
                assert words[0] in COMMANDS, place
                count += 1
    assert count > 10


def test_keys_within_the_text_exist():
    from kanpinn.settings.discovery import GROUPS, choices

    for page in PAGES:
        for place, code in inline(page):
            for key in re.findall(r"(?:^|(?<= ))([a-z][\w.]*)=(?=[\w\[{'…])", code):
                group, _, rest = key.partition(".")
                if rest and group in GROUPS:
                    name = rest.partition(".")[0]
                    files = choices(group).values()
                    assert any(re.search(rf"^ *{name}:", file.read_text(), re.M) for file in files), f"{place}: {key}"


def test_the_table_of_choices_names_all_there_are():
    from kanpinn.settings.discovery import GROUPS, choices

    text = (ROOT / "docs" / "choices.md").read_text()
    for group in GROUPS:
        row = re.search(rf"^\| `{group}` \| (.*) \|$", text, flags=re.MULTILINE)
        names = set(choices(group))
        if names:
            assert row is not None, group
            assert names <= set(row.group(1).split(", ")), group


def test_lines_of_prose_are_short():
    for page in PAGES:
        text = re.sub(
            r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.M | re.S
        )
        long = [
            f"{page.name}:{k}"
            for k, line in enumerate(text.splitlines(), start=1)
            if len(line) > 100 and not line.startswith("|") and "](" not in line
        ]
        assert not long
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_words_are_those_of_textbooks():
    """Words that meant something only in this project's own code."""
    house = re.compile(r"\b(bodies|partners?|rivals?|retreats?|Underway|anew|comes? along|told)\b")
    for page in PAGES:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.S)
        assert not house.findall(text), page.name


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    """As `make docs` does, which CI calls too."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert (tmp_path / "site" / "python.html").is_file()
