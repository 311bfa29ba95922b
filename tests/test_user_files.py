"""A folder ./conf may hold anything: only what is asked for by name is read, and its faults are told by its file."""

import os
import time
from pathlib import Path

import pytest
from support.user_problems import DECAY

import kanpinn
from kanpinn.errors import UserError
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.discovery import choices


def put(folder: Path, place: str, content: str | bytes) -> Path:
    file = folder / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def message(*overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        validate(compose(overrides)[0])
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 800  # all problems' names are about 420
    return text


# --- names, never paths


@pytest.mark.parametrize(
    "path",
    ["../../other/problem/x", "..//problem/x", "./poisson", "poisson.yaml", "%2e%2e/x", "..\\\\x", "/etc/passwd"],
)
def test_a_choice_on_the_command_line_is_a_name(path, folder):
    put(folder, "other/problem/x.yaml", "name: poisson\nkx: 7\n")
    (folder / "conf").mkdir()
    told = message(f"problem='{path}'")
    assert told.startswith("problem=")
    assert "Valid choices: advection" in told


@pytest.mark.parametrize("path", ["../backbone/kan", "../../conf/backbone/kan"])
def test_not_even_to_a_file_that_could_be_chosen(path, folder):
    assert f"backbone={path}: unknown" in message(f"backbone={path}")


@pytest.mark.parametrize("key", ["hydra/help", "hydra/launcher", "hydra/output"])
def test_nor_do_hydras_own_groups_take_paths(key, folder):
    put(folder, "x.yaml", "a: 1\n")
    assert key in message(f"{key}=../../x")


@pytest.mark.parametrize(
    "entry",
    [
        "../../other/problem/x",
        "/../other/problem/x@problem",
        "../x@_here_",
        "override /backbone: ../../other/problem/x",
        "override ../backbone: kan",
        "override /backbone@backbone: /etc/passwd",
        "optional /../../other/problem: x",
        "/problem: [../../other/problem/x]",
        "override /backbone: ${problem.name}",
        "{a: b, c: d}",
        "7",
        "[a]",
        "null",
    ],
)
def test_a_defaults_list_holds_names(entry, folder):
    put(folder, "other/problem/x.yaml", "name: poisson\nkx: 7\n")
    put(folder, "conf/experiment/e.yaml", f"# @package _global_\ndefaults:\n  - {entry}\n")
    assert message("experiment=e").startswith("conf/experiment/e.yaml: defaults: ")


def test_a_defaults_list_is_a_list(folder):
    put(folder, "conf/experiment/e.yaml", "# @package _global_\ndefaults: {backbone: mlp}\n")
    assert message("experiment=e").startswith("conf/experiment/e.yaml: defaults={backbone:mlp}: expected a list")


def test_names_in_folders_within_a_group_are_choices(folder):
    put(folder, "conf/problem/plates/thin.yaml", "name: poisson\nkx: 7\n")
    put(
        folder,
        "conf/experiment/e.yaml",
        "# @package _global_\ndefaults:\n  - part\n  - override /problem: plates/thin\n",
    )
    put(folder, "conf/experiment/part.yaml", "# @package _global_\nseed: 9\n")
    assert compose(["problem=plates/thin"])[0].problem.kx == 7
    cfg, _ = compose(["experiment=e"])
    assert (cfg.problem.kx, cfg.seed) == (7, 9)
    assert "plates/thin" in message("problem=plates/thick")


# --- files of other programs


FOREIGN = {
    "conf/config.yaml": "defaults:\n  - model: resnet\n  - optimizer: adam\nlr: 0.1\n",
    "conf/optimizer/adam.yaml": "lr: 0.1\n",
    "conf/logger/wandb.yaml": "_target_: os.system\n",
    "conf/hydra/job_logging/none.yaml": "root: {level: INFO}\n",
    "conf/hydra/default.yaml": "sweep: {dir: /}\n",
    "conf/problem/notes.yaml": b"\xe8\xff\x00" * 1000,
    "conf/big.yaml": "a: b\n" * 250_000,
    "conf/problem/bomb.yaml": "a: &a [" + "x, " * 500 + "]\nb: [" + "*a, " * 500 + "]\n",
    "conf/secret.yaml": "hydra: {searchpath: ['pkg://antigravity']}\n",
}


@pytest.fixture
def another_programs(folder: Path) -> Path:
    """A folder ./conf that another program has filled."""
    for place, content in FOREIGN.items():
        put(folder, place, content)
    (folder / "conf/problem/odd.yaml").mkdir()
    (folder / "conf/loop").symlink_to("..")
    (folder / "conf/problem/loop").symlink_to(".")
    (folder / "conf/problem/itself.yaml").symlink_to("itself.yaml")
    (folder / "conf/problem/gone.yaml").symlink_to("nowhere.yaml")
    return folder


def test_files_of_other_programs_are_left_alone(another_programs, tmp_path_factory, monkeypatch):
    found, _ = compose(["seed=3"])
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    assert found == compose(["seed=3"])[0]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer=adam", "conf/optimizer/adam.yaml: has no line 'name: …'"),
        ("logger=wandb", "conf/logger/wandb.yaml: has no line 'name: …'"),
        ("problem=notes", "conf/problem/notes.yaml: not a text file in YAML"),
        ("problem=bomb", "conf/problem/bomb.yaml: its aliases expand"),
        ("problem=odd", "problem=odd: unknown"),
        ("problem=itself", "problem=itself: unknown"),
        ("problem=gone", "problem=gone: unknown"),
    ],
)
def test_one_that_is_asked_for_is_named(override, words, another_programs):
    assert words in message(override)


def test_list_shows_them_as_they_are(another_programs, kanpinn):
    result = kanpinn("list", "problems")
    assert (result.code, result.err) == (0, "")
    told = {line.split()[0]: line for line in result.out.splitlines()}
    assert told["notes"].endswith("(cannot be read)")
    assert not {"odd", "itself", "gone"} & set(told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: adam\nlearning_rate: 0.1\n", ["optimizer.learning_rate=0.1: unknown key", "lr"]),
        ("- a\n- b\n", ["expected keys and values"]),
        ("hello\n", ["expected keys and values"]),
        ("name: adam\nname: adam\n", ["line 2", "duplicate"]),
        ("name: adam\nlearning_rate: [1\n", ["line 3", "not valid YAML"]),
        ("name: adam\nlearning_rate: 0x10\n", ["line 2: 0x10", "decimal"]),
        ("name: adam\nlearning_rate: 010\n", ["line 2: 010", "decimal"]),
        ("name: adam\nlearning_rate: 1:30\n", ["line 2: 1:30", "decimal"]),
        ("# @package a b c\nname: adam\n", ["Too many"]),
    ],
)
def test_faults_are_told_with_the_file(text, words, folder):
    put(folder, "conf/optimizer/adam.yaml", text)
    told = message("optimizer=adam")
    assert told.startswith("conf/optimizer/adam.yaml: "), told
    for word in words:
        assert word in told
    compose([])  # not asked for


def test_a_levels_own_optimiser_is_read_with_the_same_care(folder):
    put(folder, "conf/optimizer/adam.yaml", "name: adam\nlearning_rate: 1:30\n")
    put(folder, "conf/optimizer/lbfgs.yaml", FOREIGN["conf/problem/bomb.yaml"])
    for name, words in (("adam", "1:30"), ("lbfgs", "aliases")):
        assert words in message(f"schedule.optimizers=[{name}]", "schedule.levels=1")


def test_a_problem_as_text_may_have_the_name_of_a_packaged_one(folder):
    text = "name: poisson\ndomain: {x: [0, 1]}\nequations: {balance: 'u_xx = 1'}\n"
    put(folder, "conf/problem/poisson.yaml", text + "conditions: {ends: {on: boundary, equation: 'u = 0'}}\n")
    assert validate(compose(["problem=poisson"])[0]).setup.problem.domain.names == ("x",)


def test_a_problem_as_text_is_called_as_its_file_is(folder):
    put(folder, "conf/problem/mine.yaml", "name: other\ndomain: {x: [0, 1]}\nequations: 'u_xx = 1'\n")
    assert message("problem=mine") == "conf/problem/mine.yaml: name=other: expected mine, as the file is called."


def test_numbers_of_a_user_are_still_read(folder):
    put(folder, "conf/problem/mine.yaml", "name: poisson\nkx: 0\nky: 1_000\n")
    problem = compose(["problem=mine"])[0].problem
    assert (problem.kx, problem.ky) == (0, 1000)


def test_an_own_copy_of_the_first_config_is_not_read_and_the_user_is_told(kanpinn, recorded_run, folder):
    put(folder, "conf/config.yaml", "defaults:\n  - backbone: mlp\n  - problem: heat\n  - schedule: single\nseed: 8\n")
    result = kanpinn("solve")
    assert result.err == (
        "kanpinn: warning: conf/config.yaml: is not read; put your own settings into conf/experiment/NAME.yaml\n"
    )
    assert recorded_run[0]["seed"] == 0


def test_circular_defaults_name_the_files(folder):
    for one, other in ("ef", "fg", "ge"):
        put(folder, f"conf/experiment/{one}.yaml", f"# @package _global_\ndefaults:\n  - {other}\n")
    assert message("experiment=e") == (
        "defaults: config files include one another without end: experiment/e → experiment/f → experiment/g → "
        "experiment/e."
    )


def test_a_large_folder_costs_nothing(folder):
    compose([])
    for k in range(300):
        put(folder, f"conf/data/{k}.yaml", "a: [1, 2, 3]\n" * 1000)
    began = time.process_time()
    compose([])
    assert time.process_time() - began < 1  # 3 MB of YAML take ten times that


# --- names of problems


def test_a_file_that_is_no_module_is_named_rather_than_suggested(folder):
    put(folder, "problems/my-prob.py", DECAY)
    put(folder, "conf/problem/my-prob.yaml", "name: my-prob\n")
    told = message("problem=my-prob")
    assert "Did you mean" not in told
    assert told == "problem.name=my-prob: problems/my-prob.py: expected a file name of letters, digits and underscores."
    put(folder, "conf/problem/my-prob.yaml", "name: my_prob\n")
    os.rename("problems/my-prob.py", "problems/my_prob.py")
    assert validate(compose(["problem=my-prob"])[0]).resolved["problem"]["name"] == "my_prob"


def test_choices_are_those_of_before(folder):
    assert list(choices("weighting")) == ["causal", "fixed", "rba"]


def test_a_resumed_run_keeps_the_optimisers_of_its_levels_whatever_the_files_say_now(folder):
    put(folder, "conf/optimizer/adam.yaml", "name: adam\nlr: 0.25\n")
    then = validate(compose(["schedule.optimizers=[adam,null]", "schedule.levels=2"])[0])
    put(folder, "conf/optimizer/adam.yaml", "name: adam\nlr: 0.5\n")
    assert validate(then.resolved).setup.schedule.optimizers[0].lr == 0.25
    put(folder, "conf/optimizer/adam.yaml", "name: [")  # nor does it read them
    assert validate(then.resolved).setup.schedule.optimizers[0].lr == 0.25


def test_a_current_folder_that_has_been_removed_is_told(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="the current folder has been removed"):
        kanpinn.solve(["problem=heat"])
