"""A config from someone else runs no code, reads no environment, needs no room and writes nowhere else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kanpinn.errors import UserError
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

CALL = "{_target_: os.system, command: 'touch pwned'}"


def write(folder: Path, text: str, place: str = "experiment/evil.yaml") -> Path:
    file = folder / "conf" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def evil(folder: Path, body: str) -> list[str]:
    write(folder, f"# @package _global_\n{body}\n")
    return ["experiment=evil"]


def refused(kanpinn, argv: list[str], *words: str) -> None:
    result = kanpinn("solve", *argv)
    assert result.code == 2, result
    assert result.err.startswith("kanpinn: error: ")
    assert result.err.count("\n") == 1
    assert len(result.err) < 1000  # the names of all problems, not the file
    for word in words:
        assert word in result.err, result.err


NAMES_CODE = {
    "a component": (f"backbone: {CALL}", "_target_"),
    "a leaf": (f"seed: {CALL}", "seed"),
    "a callback": (f"hydra: {{callbacks: {{x: {CALL}}}}}", "_target_"),
    "the launcher": ("hydra: {launcher: {_target_: os.system}}", "_target_"),
    "the sweeper": ("hydra: {sweeper: {_target_: subprocess.run}}", "_target_"),
    "a logging factory": (
        "hydra: {job_logging: {handlers: {x: {(): os.system, command: 'touch pwned'}}}}",
        "hydra.job_logging",
    ),
    "a logging class": (
        "hydra: {hydra_logging: {handlers: {x: {class: logging.FileHandler, filename: pwned}}}}",
        "hydra.hydra_logging",
    ),
    "the environment of workers": ("hydra: {job: {env_set: {PYTHONSTARTUP: evil.py}}}", "hydra.job.env_set"),
    "a copy of the environment": ("hydra: {job: {env_copy: [HOME]}}", "hydra.job.env_copy"),
    "keys of Hydra's in a sweep": (
        "hydra: {sweeper: {params: {hydra.callbacks.x._target_: os.system}}}",
        "hydra.sweeper.params",
    ),
}


@pytest.mark.parametrize("case", NAMES_CODE)
def test_a_config_file_that_names_code_is_refused(case, kanpinn, recorded_run, folder):
    body, word = NAMES_CODE[case]
    refused(kanpinn, evil(folder, body), word)
    assert recorded_run == []
    assert not (folder / "pwned").exists()
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("+hydra.callbacks.x._target_=os.system", "os.system"),
        ("hydra.launcher._target_=os.system", "configs do not name code"),
        ("hydra.searchpath=[pkg://antigravity]", "hydra.searchpath"),
        ("+backbone._target_=os.system", "backbone._target_"),
        ("hydra/job_logging=default", "hydra.job_logging"),
        ("hydra.job.env_set.PATH=/tmp", "hydra.job.env_set"),
    ],
)
def test_nor_does_the_command_line(override, word, kanpinn, recorded_run, folder):
    refused(kanpinn, [override], word)
    assert recorded_run == []


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch pwned']",
        "!!python/object/new:os.system ['touch pwned']",
        "!!python/name:os.system",
        "!!python/module:antigravity",
        "!unknown 3",
    ],
)
def test_yaml_tags_build_no_objects(text, kanpinn, recorded_run, folder):
    refused(kanpinn, evil(folder, f"seed: {text}"), "evil.yaml", "not valid YAML")
    assert not (folder / "pwned").exists()
    assert "antigravity" not in sys.modules


SECRETS = [
    "${oc.env:KANPINN_SECRET}",
    "outputs/${oc.env:KANPINN_SECRET}",
    "${oc.decode:'${oc.env:KANPINN_SECRET}'}",
    "${oc.${problem.name}:KANPINN_SECRET}",
    "${tuned:nowhere,${oc.env:KANPINN_SECRET}}",
    '${tuned:nowhere,["\\${oc.env:KANPINN_SECRET}"]}',
    '$${tuned:nowhere,"{oc.env:KANPINN_SECRET}"}',
    "${oc.create:{a:'${oc.env:KANPINN_SECRET}'}}",
]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        *((text, "problem.tuned.note") for text in SECRETS),
        (SECRETS[0], "schedule.optimizers"),
        (SECRETS[1], "hydra.run.dir"),
    ],
)
def test_the_environment_reaches_no_config(text, key, folder, monkeypatch):
    monkeypatch.setenv("KANPINN_SECRET", "tell-nobody")
    group, _, rest = key.partition(".")
    body = f"{group}: {{{rest}: {text!r}}}" if "." not in rest else f"{group}: {{tuned: {{note: {text!r}}}}}"
    body = "hydra: {run: {dir: " + repr(text) + "}}" if group == "hydra" else body
    try:
        cfg, where = compose(evil(folder, body))
        told = f"{where} {validate(cfg).resolved}"
    except UserError as error:
        told = str(error)
    assert "tell-nobody" not in told


def test_a_resolver_of_the_calling_program_is_not_called(folder):
    from omegaconf import OmegaConf

    called = []
    OmegaConf.register_new_resolver("mine", lambda: called.append(1), replace=True)
    try:
        with pytest.raises(UserError, match="not an interpolation a config may use"):
            compose(["seed=${mine:}"])
    finally:
        OmegaConf.clear_resolver("mine")
    assert called == []


def doubling(n: int, form: str, written: str = "problem.tuned.{}") -> str:
    lines = [f"    a0: {'x' * 50}"]
    for k in range(n):
        ref = f"${{{written.format(f'a{k}')}}}"
        value = {"text": f"'{ref}{ref}'", "dict": f"{{p: '{ref}', q: '{ref}'}}", "list": f"['{ref}', '{ref}']"}[form]
        lines.append(f"    a{k + 1}: {value}")
    return "problem:\n  tuned:\n" + "\n".join(lines)


BOMBS = {
    "text": (doubling(40, "text"), "grow"),
    "dict": (doubling(40, "dict"), "grow"),
    "list": (doubling(40, "list"), "grow"),
    "brackets": (doubling(40, "text", "[problem][tuned][{}]"), "grow"),
    "relative brackets": (doubling(40, "text", ".[{}]"), "grow"),
    "mixed brackets": (doubling(40, "text", "problem.tuned[{}]"), "grow"),
    "tuned": (doubling(40, "text", "tuned:{}"), "grow"),
    "quoted": (doubling(40, "text", 'tuned:"{}"'), "grow"),
    "circle": ("problem: {tuned: {a: '${problem.tuned.b}', b: '${problem.tuned.a}'}}", "circle"),
    "itself": ("problem: {tuned: {a: '${problem.tuned}'}}", "circle"),
    "relative": ("problem: {tuned: {a: '${.b}', b: '${..tuned.a}'}}", "circle"),
    "chain": ("problem: {tuned: {" + ", ".join(f"a{k}: '${{.a{k + 1}}}'" for k in range(500)) + "}}", "deep"),
    "nested": ("problem: {tuned: {a: '" + "${" * 200 + "'}}", "error"),
    "composed key": ("problem: {tuned: {a: kx, b: '${problem.${.a}}'}}", "not an interpolation"),
}


@pytest.mark.parametrize("case", BOMBS)
def test_interpolations_that_grow_or_turn_in_circles_are_refused_unresolved(case, kanpinn, recorded_run, folder):
    body, word = BOMBS[case]
    refused(kanpinn, evil(folder, body), word)
    assert recorded_run == []


def test_the_same_interpolations_in_number_are_fine(folder):
    cfg, _ = compose(evil(folder, doubling(3, "text")))
    assert validate(cfg).resolved["problem"]["tuned"]["a3"] == "x" * 400


def laughs(n: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]" for k in range(n)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (laughs(12), "aliases expand"),
        ("a: &a [*a]", "without end"),
        ("a: " + "[" * 3_000, "without end"),
        ("a: " + "x" * 2**21, "at most 1 MiB"),
    ],
)
def test_yaml_that_is_small_on_disk_and_huge_in_memory(text, word, kanpinn, recorded_run, folder):
    write(folder, text)
    refused(kanpinn, ["experiment=evil"], "evil.yaml", word)


def test_a_config_that_includes_itself(kanpinn, recorded_run, folder):
    write(folder, "# @package _global_\ndefaults:\n  - /experiment/evil\n")
    refused(kanpinn, ["experiment=evil"])


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "os"])
def test_a_name_is_no_path(name, kanpinn, recorded_run, folder):
    (folder.parent / "x.py").write_text("raise SystemExit('run')")
    refused(kanpinn, evil(folder, f"problem: {{name: {name!r}}}"))
    refused(kanpinn, [f"problem='{name}'"])
    refused(kanpinn, [f"backbone.name='{name}'"])
    assert not (folder / "outputs").exists()


@pytest.mark.parametrize("key", ["run", "sweep"])
@pytest.mark.parametrize("place", ["../elsewhere", "link/elsewhere"])
def test_a_config_file_cannot_write_outside_the_current_folder(key, place, kanpinn, recorded_run, folder):
    (folder / "link").symlink_to("/")
    refused(kanpinn, evil(folder, f"hydra: {{{key}: {{dir: {place}}}}}"), f"hydra.{key}.dir", "command line")
    assert recorded_run == []


def test_on_the_command_line_any_folder_may_be_named(kanpinn, recorded_run, folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere") / "run"
    assert kanpinn("solve", f"hydra.run.dir={place}").code == 0
    assert recorded_run[0]["folder"] == place


def test_commands_for_a_batch_system_are_taken_from_the_command_line_only(folder):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    with pytest.raises(UserError, match=r"hydra\.launcher"):
        compose(["hydra/launcher=submitit_slurm", *evil(folder, "hydra: {launcher: {setup: ['touch pwned']}}")])
    compose(["hydra/launcher=submitit_slurm", "hydra.launcher.setup=['module load python']"])
    compose(["hydra/launcher=submitit_slurm", *evil(folder, "hydra: {launcher: {cpus_per_task: 4}}")])


# --- sizes

SIZES = [
    "backbone.grid",
    "backbone.degree",
    "backbone.width=[{}]",
    "backbone.width=[{},{}]",
    "sampler.interior",
    "sampler.boundary",
    "schedule.levels",
    "schedule.steps",
    "schedule.starts",
    "schedule.slabs",
    "output.points",
    "backbone=mlp backbone.width=[{}]",
    "backbone=separable backbone.rank",
    "backbone=multkan backbone.mult",
    "backbone=chebykan backbone.degree",
    "backbone=relu_kan backbone.grid",
    "problem=poisson_nd problem.dimensions",
    "schedule=v_cycle schedule.cycles",
    "schedule=v_cycle schedule.pre",
    "schedule=fmg schedule.cycles",
    "schedule=custom schedule.stages=[{{level:{},steps:1}}]",
    "optimizer=lbfgs optimizer.memory",
    "optimizer=ssbroyden backbone.width=[{}]",
    "backbone.embedding.kind=fourier backbone.embedding.features",
]


def sizes(kinds: list[str], values: list[int]) -> list[tuple[int, list[str]]]:
    found = []
    for kind in kinds:
        *choices, last = kind.split()
        for value in values:
            text = last.replace("{{", "{").replace("}}", "}").replace("{}", str(value))
            found.append((value, [*choices, text if "=" in last else f"{last}={value}"]))
    return found


CHILD = """
import json, resource, sys, time
import numpy, torch, scipy.stats.qmc
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import OutputGrid
preflight.available_memory = lambda device: 2**34
limit = 2**31 + int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for overrides in json.loads(sys.stdin.read()):
    began = time.process_time()
    try:
        preflight.check(validate(compose(overrides)[0]).setup)
        line = "accepted"
    except UserError as error:
        line = "refused " + str(error)
    except BaseException as error:
        line = f"FAULT {type(error).__name__}: {error}"
    print(f"{time.process_time() - began:.2f} {line!r}", flush=True)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("peak", peak)
"""


def sized(cases: list[tuple[int, list[str]]], folder: Path) -> None:
    import json

    process = subprocess.run(
        [sys.executable, "-c", CHILD], input=json.dumps([words for _, words in cases]), capture_output=True, text=True,
        cwd=folder, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}, timeout=600,
    )  # fmt: skip
    lines = process.stdout.splitlines()
    assert process.returncode == 0, (cases[len(lines)] if len(lines) < len(cases) else "", process.stderr[-2000:])
    bad = []
    for (value, words), line in zip(cases, lines, strict=False):
        seconds, _, told = line.partition(" ")
        huge = value >= 10**9 and not any(key in words[-1] for key in ("steps=", "starts=", "pre=", "memory="))
        if "FAULT" in told or "\\n" in told or float(seconds) > 20 or (huge and "refused" not in told):
            bad.append((words, line[:300]))
    assert bad == []
    assert int(lines[-1].split()[1]) < 2 * 2**20  # KiB


@pytest.mark.slow
def test_absurd_sizes_are_refused_before_anything_is_allocated(folder):
    sized(sizes([SIZES[k] for k in (0, 2, 4, 10)], [10**9]), folder)


@pytest.mark.slow
@pytest.mark.parametrize("value", [10**4, 10**6, 10**9, 10**12, 2**63, 10**30])
def test_absurd_sizes_of_every_kind(value, folder):
    sized(sizes(SIZES, [value]), folder)
