"""Command lines made up at random: each is refused in one line or would run, none ends in a traceback or in silence."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.fuzzing import NASTY, call, fuzz

from kanpinn.errors import UserError
from kanpinn.run import preflight
from kanpinn.settings.compose import compose, quoted
from kanpinn.settings.discovery import GROUPS, choices

FEW = 15
MANY = 1500

JUNK = [
    *("../../x", "/etc/passwd", "a/b", "..", ".", "kan.yaml", "%2e%2e", "~", "-1", "1_0", "0x10", "1e400", "\u0661"),
    *("[", "]", "{", "}", "${", "${}", "${seed}", "${.}", "${..}", "${hydra:}", "${now:}", "${tuned:}", "${a}", "\\"),
    *("x" * 300, "ü" * 200, "\ud800", "\u2028", "null", "???", "true", "nan", "-inf", "[[[]]]", "{a: {b: [1]}}", "@x"),
    *(
        "range(0,1000000000)",
        "range(5,5)",
        "range(1,2,0)",
        "1,2,3",
        "choice()",
        "glob(*)",
        "interval(0,1)",
        "sort(3,1)",
    ),
    *("tag(a,1)", "int('x')", "shuffle(range(0,9))", "extend_list(1)", "{x: ${seed}}", "[1,,2]", "'", '"', "''", "a b"),
    *("[5,'5']", "'5'"),
]
SANE = [
    *(
        "0",
        "1",
        "2",
        "3",
        "7",
        "13",
        "-1",
        "0.5",
        "1e-9",
        "1e9",
        "true",
        "false",
        "null",
        "[]",
        "[1]",
        "[2,3]",
        "[[1]]",
    ),
    *("0.999", "1.0", "4096", "auto", "none", "exact", "soft", "x", "cpu", "float32", "{}", "{interior: 3}", "[adam]"),
    *(
        "[{level: 0, steps: 2}]",
        "[{level: 1, steps: 2}, {level: 0, steps: 1, widen: 2}]",
        "[{level: 0, steps: 1, rank: 1}]",
    ),
    *("1e-300", "1e300", "1e15", "100000000000", "''", "uniform", "[interior]", "[0.1,0.9]", "${seed}", "{kx: [1, 2]}"),
]


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every leaf of nested mappings by its dotted key."""
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    return {
        key: leaf for name, item in value.items() for key, leaf in flat(item, f"{prefix}.{name}".lstrip(".")).items()
    }


def keys() -> list[str]:
    cfg, _ = compose([], keep_sweep=True)
    others = ["run.dir", "sweep.dir", "sweep.subdir", "job.name", "mode", "verbose"]
    others = ["hydra", "hydra/launcher", *(f"hydra.{key}" for key in others)]
    return [*flat(OmegaConf.to_container(cfg, resolve=False)), *GROUPS, *others]


def override(chance: random.Random, known: list[str]) -> str:
    """One override: mostly a key that is there, with a value that may be anything."""
    key = chance.choice(known)
    if chance.random() < 0.1:
        k = chance.randrange(len(key) + 1)
        key = key[:k] + chance.choice("@.=+~ x:/{[%\x00é") + key[k + chance.randrange(2) :]
    made = "".join(chance.choices("[]{}(),:'\"\\$ =x1é\t@/.%", k=chance.randrange(9)))
    value = chance.choice([chance.choice(JUNK), quoted(str(chance.choice(NASTY))[:300]), made])
    if chance.random() < 0.7:
        value = chance.choice(SANE)
    if key in GROUPS and chance.random() < 0.9:
        value = chance.choice(list(choices(key)) or [value])
    return chance.choice([*[""] * 12, "+", "++", "~"]) + key + ("=" if chance.random() < 0.95 else "") + value


def command(chance: random.Random, known: list[str]) -> list[str]:
    """A whole command line."""
    words = [override(chance, known) for _ in range(chance.choice([1, 1, 2, 4]))]
    kind = chance.randrange(10)
    if kind < 6:
        return ["solve", *words]
    if kind == 6:
        return ["solve", chance.choice(["--help", "--cfg=job", "--cfg=all", "--resolve"]), *words]
    if kind == 7:
        return ["solve", "-m", *words, "seed=0,1"]
    if kind == 8:
        odd = [
            chance.choice(["--study", "--trials", "--jobs", "--error", "--seed", "--objective"]),
            chance.choice(JUNK),
        ]
        return ["tune", *words, *(odd if chance.random() < 0.5 else []), "--trials", "1"]
    name = chance.choice(
        ["list", "inspect", "plot", "evaluate", "compare", "report", "resume", "explain", "nothing", ""]
    )
    return [name, *chance.choices([*JUNK, "--points", "-o", "--csv", "--times", "--dpi", "problems", "poisson"], k=2)]


def files(chance: random.Random, place: Path) -> None:
    """A folder ./conf with something odd in it."""
    group = chance.choice([*GROUPS, "experiment", "hydra/launcher", ""])
    name = chance.choice(["e", "kan", "poisson", "adam", "config", "nested", "fixed", "..x", "a b", "x" * 200])
    text = chance.choice(
        ["name: ", "defaults: ", "# @package _global_\n", "hydra: ", "- ", "&a ", "seed: ", "? ", "%", "\t"]
    )
    text += chance.choice([*JUNK, *map(str, NASTY)])[:500] + chance.choice(
        ["", "\nname: kan", "\ndefaults: [e, kan]", "\x00"]
    )
    file = place / "conf" / group / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode(errors="surrogatepass"))


def command_case(place: Path):
    known = keys()

    def run(*arguments: Any, **_: Any) -> None:
        from kanpinn.settings.config import validate

        preflight.available_memory = lambda _: 2**30
        preflight.check(validate(arguments[0]).setup)
        raise UserError("would run")

    def one(number: int) -> str:
        import kanpinn.run.run

        kanpinn.run.run.run = run
        chance = random.Random(number)
        here = place / str(number)
        here.mkdir()
        os.chdir(here)
        if number % 3 == 0:
            files(chance, here)
        argv = command(chance, known)
        several = "-m" in argv or argv[0] == "tune"  # whose jobs are refused one by one
        try:
            said = call(*argv, codes=(0, 2, 3) if several else (0, 2), jobs=several)
        except BaseException as error:
            raise AssertionError(f"{argv}: {error}") from error
        if "would run" in said.err:
            return f"{argv[0]} would run"
        if said.code == 2 and not several:
            assert len(said.err) < 3000, argv
            assert not [path for path in here.rglob("*") if "conf" not in path.parts], argv
        return f"{argv[0]} {'refused' if said.code else 'done'}"

    return one


def test_a_few_command_lines(tmp_path):
    fuzz(range(FEW), command_case(tmp_path))


@pytest.mark.slow
def test_many_command_lines(tmp_path):
    counts = fuzz(range(1000, 1000 + MANY), command_case(tmp_path))
    assert counts["solve refused"] > MANY / 4
    assert counts["solve would run"] > MANY / 50
