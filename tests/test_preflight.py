"""A problem that is not as it should be is refused before a run folder is made, in one line that says what is wrong."""

from dataclasses import dataclass

import pytest
import torch

from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate

HEAD = (
    "from dataclasses import dataclass\nimport torch\n"
    "from kanpinn.geometry import Box\nfrom kanpinn.pde import Condition, Problem\n\n\n"
)
CLASS = """@dataclass(frozen=True)
class Bad(Problem):
    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = {derivatives}
    unknowns = {unknowns}

    def residual(self, p):
        return {residual}

    def conditions(self):
        return {conditions}

    def exact(self, p, raw):
        return {exact}

    def reference(self, p):
        return {reference}
"""
GOOD = {
    "derivatives": '("xx", "yy")',
    "unknowns": '("u",)',
    "residual": "p.u_xx + p.u_yy",
    "conditions": '[Condition("edge", "x-", lambda p: p.u)]',
    "exact": "p.x * raw.u",
    "reference": "p.x",
}
TINY = ["schedule.levels=1", "schedule.steps=2", "backbone.width=[2]", "backbone.grid=2", "sampler.interior=20"]
QUIET = ["sampler.boundary=8", "output.progress=false", "output.figures=false", "output.points=5", "hydra.run.dir=run"]


def write(folder, mode="soft", **parts):
    (folder / "problems").mkdir()
    (folder / "problems" / "bad.py").write_text(HEAD + CLASS.format(**{**GOOD, **parts}))
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "bad.yaml").write_text(f"name: bad\nconditions: {mode}\n")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"residual": "p.u_xx[:3]"}, "residual returned (3,), expected a tensor of shape"),
        ({"residual": "0.0"}, "residual returned float, expected a tensor of shape"),
        ({"residual": "{}"}, "residual returned no equation"),
        ({"residual": "1 / 0"}, "residual raised ZeroDivisionError"),
        ({"residual": "p.u_x + p.u_xy"}, "p.u_xy is not computed: add 'xy' to the problem's derivatives"),
        (
            {"residual": "p.u * float('nan')"},
            "residual is not finite at 16 of 16 points tried, the first at x=0.636962, y=0.269787",
        ),
        ({"conditions": "1 / 0"}, "conditions raised ZeroDivisionError"),
        ({"conditions": "None"}, "conditions must return a list of Condition, Integral or Data objects"),
        ({"conditions": '[Condition("a/b", ("x-",), lambda p: p.u)]'}, "condition name 'a/b' must be letters"),
        (
            {"conditions": '[Condition("a", faces="x-", residual=lambda p: p.u)]'},
            "unexpected keyword argument 'faces'; its arguments are name, on, residual, periodic, symmetry, where",
        ),
        ({"conditions": '[Condition("a", "q-", lambda p: p.u)]'}, "on=q-: unknown"),
        ({"derivatives": '("xx", "yz")'}, "'yz' is not made of the coordinates x, y"),
        ({"derivatives": '"xx"'}, "derivatives must be a tuple of names"),
        ({"unknowns": '("history",)'}, "unknown 'history': the name history is taken in solution.h5"),
        ({"unknowns": "()"}, "must name at least one unknown"),
        ({"reference": "p.x[:2]"}, "reference of 'u' is (2,), expected a tensor of shape"),
        ({"exact": "3.0", "mode": "exact"}, "exact must return one jet for each of u"),
    ],
)
def test_a_wrong_problem_is_refused_and_leaves_no_folder(folder, kanpinn, parts, message):
    write(folder, **parts)
    result = kanpinn("solve", "problem=bad", *TINY, *QUIET)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.strip().splitlines()) == 1
    assert not (folder / "run").exists()


def test_a_zero_reference_leaves_the_relative_error_open(folder, kanpinn):
    write(folder, reference="torch.zeros_like(p.x)")
    assert kanpinn("solve", "problem=bad", *TINY, *QUIET).code == 0
    metrics = (folder / "run" / "metrics.json").read_text()
    assert '"relative_l2": {\n    "u": null' in metrics or '"relative_l2": {"u": null' in metrics


@dataclass(frozen=True)
class Fine(Problem):
    domain = Box(x=(0, 1))
    derivatives = ("xx",)

    def residual(self, p) -> torch.Tensor:
        return p.u_xx

    def conditions(self) -> list[Condition]:
        return [Condition("ends", ("x-", "x+"), lambda p: p.u)]


def test_a_sound_problem_passes():
    preflight.check_class(Fine())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("output.points=1000000", "output.points=1000000: an output grid of 1e\\+12 points"),
        ("backbone.degree=2", "backbone.degree=2: expected at least 3"),
        ("backbone.grid=10000000", "schedule.levels=6 with backbone.grid=10000000: about"),
    ],
)
def test_what_cannot_work_or_fit_is_refused(override, message):
    config, _ = compose(["problem=poisson", override])
    with pytest.raises(UserError, match=message):
        preflight.check(validate(config).setup)


def test_several_starts_of_a_network_that_begins_the_same_are_refused():
    config, _ = compose(["problem=kdv", "schedule.starts=2"])
    with pytest.raises(UserError, match=r"^schedule\.starts=2: expected 1 for a network that begins the same"):
        preflight.check(validate(config).setup)
    config, _ = compose(["problem=kdv", "schedule.starts=2", "backbone.start=random"])
    preflight.check(validate(config).setup)


def fits(words: list[str], memory: float) -> bool:
    """Whether a run is let through with so many bytes of memory."""
    try:
        preflight.check_memory(validate(compose(words)[0]).setup, int(memory))
    except UserError:
        return False
    return True


def test_a_jacobian_that_is_never_stored_needs_no_memory():
    # J of 20,000 points on a tensor grid would take more than half a gigabyte.
    grid = ["problem=poisson", "backbone=separable", "backbone.width=[]", "backbone.rank=32", "backbone.grid=64"]
    grid += ["schedule.levels=1", "sampler=grid", "sampler.interior=20000", "optimizer=levenberg_marquardt"]
    setup = validate(compose(grid)[0]).setup
    whole = 8 * 20_000 * preflight.small_network(setup).size
    assert fits(grid, 1.2 * whole) and not fits([*grid, "optimizer.solver=qr"], 1.2 * whole)
    assert not fits([*grid, "sampler=uniform", "optimizer.sketch=countsketch"], 1.2 * whole)


@pytest.mark.parametrize(("backbone", "stored"), [("kan", False), ("mlp", True)])
def test_points_that_see_few_parameters_store_no_jacobian(backbone, stored):
    words = ["problem=burgers", f"backbone={backbone}", "sampler=uniform", "sampler.interior=3000", "schedule.levels=1"]
    words += ["backbone.grid=64"] if backbone == "kan" else []
    setup = validate(compose(words)[0]).setup
    assert preflight.forms_jacobian(setup, preflight.small_network(setup)) == stored
