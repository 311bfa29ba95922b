"""The config: what a problem recommends, what a user's folder adds, and strict types."""

import dataclasses
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf
from support.user_problems import DECAY

from kanpinn.errors import UserError
from kanpinn.io.lock import check_folder
from kanpinn.options import build, conform, declared_options, describe, explained
from kanpinn.settings.compose import compose
from kanpinn.settings.config import COMPONENTS, load_problem_class, validate
from kanpinn.settings.configuration import Settings
from kanpinn.settings.discovery import choices
from kanpinn.settings.registry import REGISTRY
from kanpinn.sweep.launch import SweepOptions


@pytest.fixture
def own_problem(folder: Path) -> Path:
    (folder / "conf/problem").mkdir(parents=True)
    (folder / "problems").mkdir()
    (folder / "conf/problem/decay.yaml").write_text("name: decay\nrate: 2\ntuned: {kan: {width: [3], grid: 2}}\n")
    (folder / "problems/decay.py").write_text(DECAY)
    return folder


@pytest.mark.usefixtures("folder")
def test_the_defaults_are_valid():
    cfg, _ = compose([])
    checked = validate(cfg)
    assert checked.settings.dtype == "float64"
    assert checked.settings.device == "cpu"
    assert type(checked.setup.problem).__name__ == "Poisson"
    assert set(COMPONENTS) - {"logger"} <= set(vars(checked.setup))


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("group", "name"), [(g, name) for g in (*COMPONENTS, "problem") for name in choices(g)])
def test_every_choice_is_valid(group, name, folder):
    (folder / "t.csv").write_text("x,y\n0,1\n1,2\n2,4\n")
    cfg, _ = compose([f"{group}={name}", *(["problem.file=t.csv", "problem.target=[y]"] if name == "table" else [])])
    assert validate(cfg).resolved[group]["name"]


@pytest.mark.parametrize("group", COMPONENTS)
def test_every_component_can_be_chosen_and_nothing_else(group):
    assert set(choices(group)) == set(REGISTRY[group])


def test_run_folder_carries_the_problem_and_microseconds(folder):
    first, second = compose([])[1], compose([])[1]
    assert first.parent == Path("outputs/poisson")
    assert datetime.strptime(first.name, "%Y-%m-%d_%H-%M-%S_%f") < datetime.strptime(
        second.name, "%Y-%m-%d_%H-%M-%S_%f"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: ${tuned:kan.width,[5,5]}", [8]),
        ("a: ${tuned:kan.degree,4}", None),
        ("a: ${tuned:kan.grid,[5,5]}", [5, 5]),
        ("a: ${tuned:schedule.tolerance,null}", None),
        ("a: ${tuned:weights,{}}", {}),
        ("a: ${tuned:weights,{boundary:2.5}}", {"boundary": 2.5}),
        ("a: ${tuned:mlp.activation,tanh}", "tanh"),
        ("a: {b: '${tuned:kan.width,3}'}", {"b": [8]}),
    ],
)
def test_tuned_gives_the_recommendation_or_else_the_default(text, value):
    cfg = OmegaConf.merge({"problem": {"tuned": {"kan": {"width": [8], "degree": None}}}}, OmegaConf.create(text))
    assert OmegaConf.to_container(cfg, resolve=True)["a"] == value
    OmegaConf.resolve(cfg)
    assert OmegaConf.to_container(cfg)["a"] == value


def test_tuned_needs_no_recommendations():
    cfg = OmegaConf.create({"problem": {"name": "p"}, "a": "${tuned:kan.width,[5]}"})
    assert cfg.a == [5]


def test_an_override_wins_over_a_recommendation(own_problem):
    cfg, _ = compose(["problem=decay"])
    assert (cfg.backbone.width, cfg.backbone.grid) == ([3], 2)
    cfg, _ = compose(["problem=decay", "backbone.width=[7,7]"])
    assert (cfg.backbone.width, cfg.backbone.grid) == ([7, 7], 2)


def test_own_problem_is_found_and_its_whole_numbers_become_floats(own_problem):
    problem = validate(compose(["problem=decay"])[0]).setup.problem
    assert type(problem).__name__ == "Decay"
    assert isinstance(problem.rate, float)
    assert problem.rate == 2.0


def test_own_files_win_over_packaged_ones(own_problem):
    (own_problem / "problems/poisson.py").write_text(DECAY)
    (own_problem / "conf/problem/poisson.yaml").write_text("name: poisson\nrate: 5\n")
    checked = validate(compose(["problem=poisson"])[0])
    assert type(checked.setup.problem).__name__ == "Decay"
    assert load_problem_class("poisson").__module__ != "kanpinn.problems.poisson"


def test_own_experiment_overrides_groups_and_keys(own_problem):
    (own_problem / "conf/experiment").mkdir()
    (own_problem / "conf/experiment/small.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /backbone: mlp\n  - override /problem: decay\nseed: 7\n"
    )
    cfg, folder = compose(["experiment=small"])
    assert (cfg.backbone.name, cfg.problem.name, cfg.seed) == ("mlp", "decay", 7)
    assert folder.parent == Path("outputs/decay")
    validate(cfg)


@pytest.mark.usefixtures("folder")
def test_another_hydra_in_the_same_process_is_left_alone():
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_module("kanpinn.conf", version_base="1.3"):
        other = GlobalHydra.instance().hydra
        compose([])
        assert GlobalHydra.instance().hydra is other


def test_folders_that_hold_something_are_refused(folder):
    check_folder(folder / "new")
    check_folder(folder)
    (folder / "metrics.json").touch()
    with pytest.raises(UserError, match="already holds a run"):
        check_folder(folder)
    with pytest.raises(UserError, match="this is a file"):
        check_folder(folder / "metrics.json")


@dataclass
class Inner:
    size: int = 1


@dataclass
class Options:
    rate: float
    width: list[int] = field(default_factory=list)
    pair: tuple[float, float] | None = None
    kind: Literal["a", "b"] = "a"
    weights: dict[str, float] = field(default_factory=dict)
    either: int | list[int] = 1
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise ValueError("rate must\nnot be negative")


def test_values_take_the_annotated_type():
    made = build(Options, {"rate": 1, "pair": [1, 2], "weights": {"x": 3}, "either": [1], "inner": {"size": 4}}, "g")
    assert made == Options(1.0, [], (1.0, 2.0), "a", {"x": 3.0}, [1], Inner(4))
    assert all(isinstance(value, float) for value in (made.rate, *made.pair, made.weights["x"]))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "g.rate: missing; expected a finite number."),
        ({"rate": "x"}, "g.rate=x: expected a finite number."),
        ({"rate": True}, "g.rate=true: expected a finite number."),
        ({"rate": float("nan")}, "g.rate=nan: expected a finite number."),
        ({"rate": float("inf")}, "g.rate=inf: expected a finite number."),
        ({"rate": None}, "g.rate=null: expected a finite number."),
        ({"rate": -1}, "g: rate must not be negative"),
        ({"rate": 1, "width": [1, 2.5]}, "g.width=[1,2.5]: expected a list of whole numbers."),
        ({"rate": 1, "width": 3}, "g.width=3: expected a list of whole numbers."),
        ({"rate": 1, "pair": [1]}, "g.pair=[1]: expected a list of 2 values."),
        ({"rate": 1, "either": "x"}, "g.either=x: expected a whole number or a list of whole numbers."),
        ({"rate": 1, "weights": {"x": "y"}}, "g.weights.x=y: expected a finite number."),
        ({"rate": 1, "weights": [1]}, "g.weights=[1]: expected a mapping of keys to values."),
        ({"rate": 1, "inner": {"siez": 2}}, "g.inner.siez=2: unknown key. Did you mean 'g.inner.size'?"),
        ({"rate": 1, "kind": "c"}, "g.kind=c: unknown. Valid choices: a, b."),
        ({"rtae": 1}, "g.rtae=1: unknown key. Did you mean 'g.rate'?"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(values, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        build(Options, values, "g")
    assert "\n" not in str(caught.value)


def test_anything_fits_any():
    assert conform(Any, {"a": 1}, "key") == {"a": 1}
    assert describe(float | None) == "a finite number or null"


def test_import_and_compose_take_less_than_four_seconds(folder):
    code = "from kanpinn.settings import compose, config; config.validate(compose.compose([])[0])"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # Processor seconds: those on the clock depend on what else runs.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in REGISTRY for name in choices(group)])
def test_a_config_file_holds_the_declared_options_with_their_defaults(group, name):
    """Where a problem recommends nothing, `kanpinn solve` and a class made in Python agree, key by key."""
    cfg = OmegaConf.create({"problem": {"name": "none"}, "backbone": {"name": "none"}})
    cfg[group] = compose([f"{group}={name}"])[0][group]
    found = OmegaConf.to_container(cfg, resolve=True)[group]
    assert found.pop("name") == name
    given = {"stages": found["stages"]} if name == "custom" else {}  # it has none by default
    declared = dataclasses.asdict(REGISTRY[group][name](**given))
    assert found == {key: declared[key] for key in declared_options(REGISTRY[group][name])}


def test_the_top_level_keys_have_their_declared_defaults():
    values = OmegaConf.to_container(compose([], keep_sweep=True)[0])
    assert values["sweep"] == dataclasses.asdict(SweepOptions())
    declared = dataclasses.asdict(Settings(seed=0))
    assert {key: values[key] for key in declared} == declared
    assert set(values) == {*declared, "sweep", "problem", *COMPONENTS}


def test_every_option_has_help():
    classes = [cls for names in REGISTRY.values() for cls in names.values()]
    for cls in (*classes, Settings, SweepOptions):
        fields = [field.name for field in dataclasses.fields(cls) if field.init]
        assert set(fields) == set(declared_options(cls)), cls
        for key, words, text in explained(cls, ""):
            assert words and text, (cls, key)
            assert text == text.strip(" .") and "\n" not in text, (cls, key)


def test_threads_compose_at_once_and_hydra_is_as_before() -> None:
    from hydra.core.global_hydra import GlobalHydra

    before = GlobalHydra.instance().hydra
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda seed: compose([f"seed={seed}"])[0].seed, range(12)))
    assert found == list(range(12))
    assert GlobalHydra.instance().hydra is before
