"""Forged files with right checksums: every reader tells what they hold, or refuses them in one line.

Each case is made from its number alone. What is forged, and how, is in `support.forgeries`.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from support import child, forgeries

from kanpinn.cli.main import main
from kanpinn.errors import UserError
from kanpinn.io.check import check
from kanpinn.io.hdf5 import seal
from kanpinn.io.inspect import inspect, render
from kanpinn.io.solution import read_solution
from kanpinn.plots import figures
from kanpinn.plots.style import png

FEW, MANY = 6, 300
SMALL = [
    *("schedule.levels=2", "schedule.steps=2", "sampler.interior=40", "sampler.boundary=8", "sampler.growth=1"),
    *("output.points=7", "output.figures=false", "output.progress=false", "threads=1"),
]
PROBLEMS = {
    "heat": ["problem=heat", "backbone=kan", "backbone.width=[2]", "backbone.grid=2"],
    "burgers": ["problem=burgers", "backbone=multkan", "backbone.grid=2"],
    "lshape": ["problem=poisson_lshape"],
    "chebykan": ["problem=helmholtz", "backbone=chebykan"],
    "relu_kan": ["problem=poisson", "backbone=relu_kan"],
    "mlp": ["problem=poisson_nd", "backbone=mlp"],
}
DRAWN = {
    **dict.fromkeys(("history", "levels", "metrics", "spectrum"), ("history", "cycle", "spectrum")),
    "points": ("residual",),
    "model": ("activations",),
    "VTKHDF": (),
}
"""Figures that show what is in a group of a solution file; other places are in all of them."""

ADMITTED = re.compile(
    "it is missing|found nothing$|expected .* − |expected relative_l2[.]|expected the same table as in /metrics"
    "|expected the residual of at least one equation"
)
"""Violations of which readers say nothing: what is missing, or told twice and not the same."""


@pytest.fixture(scope="module")
def heat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return solved("heat", tmp_path_factory.mktemp("forged"))


def solved(name: str, folder: Path) -> Path:
    ended = child.run(lambda: main(["solve", *PROBLEMS[name], *SMALL, f"hydra.run.dir={folder / name}"]))
    assert ended.code == 0, ended.err
    return folder / name


def attempt(read: Callable[[], object]) -> bool:
    """Say whether something could be read; where not, it must be one line."""
    told = ""
    try:
        read()
    except UserError as error:
        told = str(error)
    assert "\n" not in told
    assert len(told) < 1000
    return not told


def command(capsys: pytest.CaptureFixture[str], *words: str, codes: tuple[int, ...] = (0, 2)) -> int:
    """Exit code of a command that may refuse its input, in one line."""
    capsys.readouterr()
    code = main(words)
    told = capsys.readouterr()
    assert code in codes, (words, told.err)
    faults = [line for line in told.err.splitlines() if not line.startswith("kanpinn: warning: ")]
    if words[:2] != ("inspect", "--check"):
        assert len(faults) == (code != 0), (words, told.err)
        assert all(line.startswith("kanpinn: ") for line in faults)
    assert "\x1b" not in told.out + told.err
    assert "not enough memory" not in told.err
    return code


def solution_case(run: Path, place: Path, number: int, capsys: pytest.CaptureFixture[str], draw: bool = True) -> str:
    """Forge a solution file and read it in every way, figures (the longest of them) if asked; returns one word."""
    here = place / str(number)
    shutil.copytree(run, here)
    file = here / "solution.h5"
    done = forgeries.forge_hdf5(file, random.Random(number))
    lines: list[str] = []
    taken = attempt(lambda: lines.extend(check(file)))
    attempt(lambda: render(inspect(file)))
    attempt(lambda: render(inspect(here)))
    command(capsys, "compare", str(here))
    word = "refused"
    readable = attempt(lambda: read_solution(file))
    assert readable or lines or not taken, done
    assert not readable or (taken and all(map(ADMITTED.search, lines))), (done, lines)
    if readable:
        word = "read"
        shown = DRAWN.get(done.lstrip("/").partition("/")[0].partition("@")[0])
        for name, build in figures(read_solution(file)).items() if draw else ():
            if shown is None or name.partition("_")[0] in shown:
                figure = build()
                assert figure is None or png(figure, 20)
    else:
        assert command(capsys, "plot", str(here)) == command(capsys, "report", str(here)) == 2
    shutil.rmtree(here)
    return word


def run_case(run: Path, place: Path, number: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Forge a checkpoint, metrics.json or config.yaml and use the run in every way; returns one word."""
    chance, here = random.Random(number), place / str(number)
    shutil.copytree(run, here)
    target = ("checkpoint", "checkpoint", "metrics.json", "config.yaml")[number % 4]
    last = sorted((here / "checkpoints").glob("*.h5"))[-1]
    if target == "checkpoint":
        (forgeries.forge_hdf5 if chance.random() < 0.2 else forgeries.forge_checkpoint)(last, chance)
    else:
        forgeries.forge_text(here / target, chance)
    if chance.random() < 0.6:  # what the file says counts where there are no results beside it
        (here / "solution.h5").unlink()
        if target != "metrics.json":
            (here / "metrics.json").unlink()
    if target == "config.yaml" and chance.random() < 0.7:
        shutil.rmtree(here / "checkpoints")
    (here / "points.csv").write_text("x,t\n0.5,0.5\n")
    attempt(lambda: render(inspect(last)) if last.exists() else None)
    for words in (["inspect"], ["inspect", "--check"], ["compare"]):
        command(capsys, *words, str(here))
    code = command(capsys, "evaluate", str(here), "--points", str(here / "points.csv"))
    command(capsys, "resume", str(here), "time_limit_s=5", codes=(0, 2, 3))
    shutil.rmtree(here)
    return f"{target} {'refused' if code else 'taken'}"


def counted(words: list[str]) -> str:
    return ", ".join(f"{words.count(word)} {word}" for word in sorted(set(words)))


def test_a_few_forged_solution_files(heat, tmp_path, capsys):
    words = [solution_case(heat, tmp_path, number, capsys, draw=not number) for number in range(FEW)]
    assert {"read", "refused"} == set(words)


def test_a_few_forged_runs(heat, tmp_path, capsys):
    for number in range(FEW):
        run_case(heat, tmp_path, number, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_many_forged_solution_files(name, tmp_path, capsys):
    run = solved(name, tmp_path)
    words = [solution_case(run, tmp_path / "cases", number, capsys) for number in range(1000, 1000 + MANY)]
    print(f"counts: {MANY} forged solutions of {name}, no fault: {counted(words)}")


@pytest.mark.slow
def test_many_forged_runs(heat, tmp_path, capsys):
    words = [run_case(heat, tmp_path, number, capsys) for number in range(1000, 1000 + MANY)]
    print(f"counts: {MANY} forged runs, no fault: {counted(words)}")


def _record(where: str, change: Callable[[Any], object]) -> Callable[[h5py.File], None]:
    """Change what the JSON record of a group holds."""

    def forge(file: h5py.File) -> None:
        record = json.loads(file[where].attrs["json"])
        change(record)
        file[where].attrs["json"] = json.dumps(record)

    return forge


ONE_SET = {
    "knots reversed": "model/layer_0/knots reversed",
    "coefficients that are empty": "model/layer_0/coefficients empty",
    "coefficients that are nan": "model/layer_0/coefficients nan",
    "spectrum below zero": "spectrum/u_x negative",
    "points that are too few": "points/interior/x one row less",
    "steps that fall": "history/step reversed",
    "seconds without end": "history/wall_time huge",
    "an unknown without end": "u one huge",
    "loss of a level as text in the table": _record("levels", lambda rows: rows[0].update(loss="small")),
    "loss of a level as text in the metrics": _record("metrics", lambda all_: all_["levels"][0].update(loss="small")),
    "gap of a level as text in both": lambda file: [
        _record("levels", lambda rows: rows[0].update(transfer_gap="small"))(file),
        _record("metrics", lambda all_: all_["levels"][0].update(transfer_gap="small"))(file),
    ],
    "a status that there is not": _record("metrics", lambda all_: all_.update(status="fine")),
    "warnings without message": _record("metrics", lambda all_: all_.update(warnings=["x"])),
    "a limit that is a number": _record("metrics", lambda all_: all_.update(limited_by=3)),
    "no time slab": lambda file: file.attrs.update(slabs=0),
    "no config": lambda file: file.attrs.update(config=""),
}


@pytest.mark.parametrize("forge", ONE_SET.values(), ids=ONE_SET)
def test_what_check_passes_is_what_readers_take(forge, heat, tmp_path, capsys):
    shutil.copytree(heat, tmp_path / "run")
    file = tmp_path / "run" / "solution.h5"
    if isinstance(forge, str):
        forgeries.forge_array(file, *forge.split(" ", 1))
    else:
        with h5py.File(file, "r+") as content:
            forge(content)
    seal(file)
    for words in (["inspect", "--check"], ["compare"], ["plot"], ["report"]):
        assert command(capsys, *words, str(tmp_path / "run")) == 2, words


def test_a_solution_at_no_time_at_all_is_shown_or_refused(heat, tmp_path, capsys):
    shutil.copytree(heat, tmp_path / "run")
    file = tmp_path / "run" / "solution.h5"
    for name in ("t", "u", "u_ref", "u_error"):
        forgeries.forge_array(file, name, "empty")
    seal(file)
    for words in (["inspect"], ["inspect", "--check"], ["compare"]):
        command(capsys, *words, str(tmp_path / "run"))


def test_a_file_that_lacks_what_later_versions_write_is_read(heat, tmp_path, capsys):
    shutil.copytree(heat, tmp_path / "run")
    file = tmp_path / "run" / "solution.h5"
    with h5py.File(file, "r+") as content:
        for name in ("slabs", "slabs_begun", "parameters"):
            content.attrs.pop(name, None)
        _record("metrics", lambda all_: [all_.pop(key) for key in ("schema_version", "linf")])(content)
    seal(file)
    assert command(capsys, "compare", str(tmp_path / "run")) == 0
    assert command(capsys, "inspect", "--check", str(tmp_path / "run")) == 2


def test_what_check_says_of_metrics_json_is_what_readers_say(heat, tmp_path, capsys):
    shutil.copytree(heat, tmp_path / "run")
    (tmp_path / "run" / "solution.h5").unlink()
    file = tmp_path / "run" / "metrics.json"
    metrics = json.loads(file.read_text())
    for key, value in {
        "status": "fine",
        "warnings": ["x"],
        "limited_by": 3,
        "linf": {"u": "x"},
        "levels": [{}],
    }.items():
        file.write_text(json.dumps({**metrics, key: value}))
        codes = {command(capsys, *words, str(tmp_path / "run")) for words in (["inspect", "--check"], ["compare"])}
        assert codes == {2}, key


@pytest.mark.parametrize("where", ["solution.h5", "checkpoints/*.h5"])
def test_a_wrong_checksum_is_named_whatever_else_is_wrong(where, heat, tmp_path, capsys):
    shutil.copytree(heat, tmp_path / "run")
    file = sorted((tmp_path / "run").glob(where))[0]
    forgeries.forge_array(file, "u" if where == "solution.h5" else "arrays/theta", "reversed")
    assert main(["inspect", "--check", str(tmp_path / "run")]) == 2
    assert "expected the bytes that its checksum stands for" in capsys.readouterr().err
    seal(file)
    main(["inspect", "--check", str(tmp_path / "run")])
    assert "its checksum stands for; the file was" not in capsys.readouterr().err
