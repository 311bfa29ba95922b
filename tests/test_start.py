"""A solve that goes on from an earlier one: the same function, or a fit to it; resumed alone; and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import kanpinn as kp
from kanpinn.backbones import Backbone
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.time_slabs import in_sequence
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.multilevel.schedules import Nested
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver import start as starts
from kanpinn.solver.level_changes import enter
from kanpinn.solver.slab_solve import SlabSolve
from kanpinn.solver.start import started


@dataclass(frozen=True)
class Decay(kp.Problem):
    """u_t = −k u from sin x."""

    k: float = 1.0
    length: float = 1.0

    domain = kp.Box(x=(0, 1), t=(0, 1))
    derivatives = ("t",)

    def __post_init__(self):
        super().__post_init__()
        self.adapt(domain=kp.Box(x=(0, self.length), t=(0, 1)))

    def residual(self, p):
        return p.u_t + self.k * p.u

    def conditions(self):
        return [kp.Condition("initial", "t-", lambda p: p.u - torch.sin(p.x))]


KAN = kp.Kan(width=[3], degree=4, grid=2)
SHORT = ("sampler.interior=60", "sampler.boundary=20", "threads=1", "output.figures=false", "output.points=5")


@pytest.fixture(scope="module")
def earlier() -> kp.Solution:
    return kp.solve(Decay(), KAN, "schedule.levels=2", "schedule.steps=6", *SHORT)


def begun(earlier: kp.Solution, problem: kp.Problem, *parts: object):
    setup = configuration_of_objects(problem, parts).setup
    return started(setup, earlier.residuals, earlier.theta, "it")


@pytest.mark.parametrize(
    ("problem", "network", "levels", "stages"),
    [
        (Decay(k=2.0), KAN, 2, [1]),
        (Decay(), KAN, 4, [1, 2, 3]),
        (Decay(), kp.Kan(width=[5], degree=4, grid=2), 3, [1, 2]),
        (Decay(), kp.Kan(width=[3], degree=4, grid=4), 2, [0, 1]),
        (Decay(k=kp.Unknown(2.0)), KAN, 2, [1]),
        (Decay(length=3.0), KAN, 2, [1]),
        (Decay(), KAN, [0, 2, 3], [2, 3]),
    ],
    ids=["coefficient", "levels", "width", "grid", "unknown", "region", "a level left out"],
)
def test_where_edits_lead_to_the_network_it_is_the_same_function(earlier, problem, network, levels, stages) -> None:
    stages_of = [{"level": level, "steps": 1} for level in levels] if isinstance(levels, list) else []
    schedule = kp.Custom(stages=stages_of) if stages_of else Nested(levels=levels)
    setup, words = begun(earlier, problem, network, schedule)
    assert [stage.level for stage in setup.plan()] == stages
    assert words == f"from the network of it, on level {stages[0]}"
    backbone = setup.network()
    while backbone.level < stages[0]:
        backbone = backbone.refined()
    points = torch.rand(40, 2, dtype=torch.float64)
    stretched = points * torch.tensor([problem.length, 1.0])
    found = evaluate(setup.residuals(backbone), setup.start.thetas[0], stretched)["u"]
    assert found == pytest.approx(earlier(points.numpy())["u"], abs=1e-11)


@pytest.mark.parametrize(
    "network",
    [
        kp.Kan(width=[4, 4], degree=5, grid=3),
        kp.Kan(width=[3], degree=4, grid=2, first="linear"),
        kp.Separable(rank=4, width=[3]),
    ],
    ids=["deeper", "of another first layer", "separable"],
)
def test_another_network_is_fitted(earlier, network) -> None:
    setup, words = begun(earlier, Decay(), network, Nested(levels=2))
    assert words.startswith("fitted to u of it, relative difference ")
    backbone = setup.network()
    points = torch.rand(40, 2, dtype=torch.float64)
    while len(setup.start.thetas[0]) > backbone.size:
        backbone = backbone.refined()
    found = evaluate(setup.residuals(backbone), setup.start.thetas[0], points)["u"]
    assert found == pytest.approx(earlier(points.numpy())["u"], abs=2e-2)


@pytest.mark.parametrize("network", [KAN, kp.Kan(width=[], grid=2)], ids=["hidden", "one layer"])
def test_a_network_with_longer_intervals_begins_with_the_same_function_where_it_has_it(network) -> None:
    setup = configuration_of_objects(Decay(), [network, Nested(levels=1)]).setup
    fine, theta = refinement(setup.network()), setup.network().initial(np.random.default_rng(3))
    found, words = started(setup, setup.residuals(fine.after), fine(theta), "it")
    assert words == "from the network of it, on level 0"
    assert found.start.thetas[0] == pytest.approx(theta, abs=1e-10)


SMALL = kp.Kan(width=[2], degree=4, grid=2)
FOURIER = replace(SMALL, embedding=EmbeddingOptions("fourier", features=2))


@dataclass(frozen=True)
class Pair(Decay):
    """With a second unknown."""

    unknowns = ("u", "v")

    def residual(self, p):
        return {"one": p.u_t + self.k * p.u, "two": p.v - p.u}


@pytest.mark.parametrize(
    ("problem", "before", "after", "copied"),
    [
        (Decay(), kp.Mlp(width=[3]), kp.Mlp(width=[5]), True),
        (Decay(), kp.Mlp(width=[3]), kp.Mlp(width=[3]), True),
        (Decay(), kp.Mlp(width=[3, 4]), kp.Mlp(width=[3, 3]), False),
        (Decay(), kp.Separable(rank=2, width=[2]), kp.Separable(rank=4, width=[2]), True),
        (Decay(), kp.Separable(rank=2, width=[2]), kp.Separable(rank=3, width=[4]), True),
        (Decay(), kp.Separable(rank=3, width=[2]), kp.Separable(rank=2, width=[2]), False),
        (Decay(), replace(SMALL, squash="none"), replace(SMALL, width=[2, 4], squash="none"), True),
        (Decay(), SMALL, replace(SMALL, width=[2, 2]), False),  # a layer more would squash values twice
        (Decay(), replace(SMALL, width=[2, 2]), replace(SMALL, width=[2, 3]), True),
        (Decay(), replace(SMALL, width=[2, 2]), replace(SMALL, width=[3, 1]), False),
        (Decay(), SMALL, replace(SMALL, width=[1]), False),
        (Decay(), SMALL, replace(SMALL, degree=3), False),
        (Decay(), SMALL, FOURIER, False),
        (Decay(), FOURIER, FOURIER, False),
        (Decay(k=kp.Unknown(2.0)), SMALL, replace(SMALL, width=[3]), True),
        (Pair(), kp.Kan(width=[2], networks="separate"), kp.Kan(width=[2], networks="separate"), True),
        (Pair(), SMALL, replace(SMALL, networks="separate"), False),
    ],
)
@pytest.mark.parametrize("schedule", [Nested(levels=2), kp.Single(levels=3)], ids=["nested", "single"])
def test_what_edits_lead_to(problem, before, after, copied: bool, schedule, monkeypatch) -> None:
    monkeypatch.setattr(starts, "STEPS", 1)
    old, setup = (configuration_of_objects(problem, [one, schedule]).setup for one in (before, after))
    network = old.network()
    theta = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, network.size))
    found, words = started(setup, old.residuals(network), theta, "it")
    assert found.start is not None and found.start.stage == 0
    level = schedule.plan()[0].level
    assert words.endswith(f", on level {level}") and words.startswith("from the network of it") == copied
    target = found.network()
    while target.level < level and target.refinable:
        target = target.refined()
    assert found.start.thetas[0].shape == (target.size,)
    points = torch.rand(20, 2, dtype=torch.float64)
    values = [
        evaluate(one.residuals(n), t, points)["u"]
        for one, n, t in ((old, network, theta), (found, target, found.start.thetas[0]))
    ]
    size = max(abs(values[0]).max(), 1e-3)
    assert (abs(values[0] - values[1]).max() < 1e-9 * size) == copied


@pytest.mark.parametrize("levels", [(1, 0), (0, 1), (2, 1)])
def test_slabs_on_several_levels_go_on_from_the_coarsest_of_them(levels: tuple[int, int]) -> None:
    """As a run leaves them that was stopped on its last slab."""
    setup = configuration_of_objects(Decay(), [SMALL, Nested(levels=3, slabs=2)]).setup
    parts = [setup.network() for _ in levels]
    for k, level in enumerate(levels):
        while parts[k].level < level:
            parts[k] = parts[k].refined()
    whole = in_sequence(setup.embedding(), tuple(parts))
    coarse = [setup.slab(k, None).network().initial(np.random.default_rng(k)) for k in range(2)]
    theta = torch.cat([raised(setup.network(), one, level) for one, level in zip(coarse, levels, strict=True)])
    found, words = started(setup, setup.residuals(whole), theta, "it")
    assert words == f"from the network of it, on level {min(levels)}" and found.start is not None
    assert found.start.stage == min(levels)
    for one, given in zip(found.start.thetas, coarse, strict=True):
        assert one.numpy() == pytest.approx(raised(setup.network(), given, min(levels)).numpy(), abs=1e-10)


def raised(network: Backbone, theta: torch.Tensor, level: int) -> torch.Tensor:
    """The same function on a finer level."""
    while network.level < level:
        edit = refinement(network)
        network, theta = edit.after, edit(theta)
    return theta


def test_a_start_has_the_type_of_the_solve(earlier) -> None:
    for network in (KAN, kp.Kan(width=[3], degree=3, grid=2)):
        found, _ = begun(earlier, Decay(), network, Nested(levels=2), "dtype=float32")
        slab = SlabSolve(found)
        enter(slab, found.plan()[0])
        assert slab.theta.dtype == torch.float32
        assert slab.theta.numpy() == pytest.approx(found.start.thetas[0].numpy(), rel=1e-6)


def test_a_fit_ends_where_there_is_nothing_left_to_fit(earlier) -> None:
    """A network linear in its parameters is there after few steps, here at zero."""
    setup = configuration_of_objects(Decay(), [kp.Kan(width=[], grid=2), Nested(levels=1)]).setup
    found, words = started(setup, earlier.residuals, 0 * earlier.theta, "it")
    assert words.startswith("fitted to u of it")
    points = torch.rand(40, 2, dtype=torch.float64)
    values = evaluate(setup.residuals(setup.network()), found.start.thetas[0], points)["u"]
    assert values == pytest.approx(0, abs=1e-9)


def test_a_fit_of_a_table_begins_with_another_network(tmp_path) -> None:
    x = np.linspace(-1, 1, 60)
    table = {"x": x, "y": np.sin(x)}
    quick = ("schedule.levels=1", "schedule.steps=3", "output.figures=false")
    first = kp.fit(table, "y", *quick, "backbone.grid=4", folder=tmp_path / "run")
    again = kp.fit(table, "y", *quick, "backbone.grid=3", "backbone.width=[3]", f"start={tmp_path / 'run'}")
    assert again.metrics["relative_l2"]["y"] < 2 * first.metrics["relative_l2"]["y"]


def test_in_a_part_of_the_box_it_is_fitted_where_it_is(earlier) -> None:
    setup, words = begun(earlier, Decay(length=0.5), KAN, Nested(levels=2))
    assert words.startswith("fitted to u of it")
    points = torch.rand(40, 2, dtype=torch.float64) * torch.tensor([0.5, 1.0])
    found = evaluate(setup.residuals(setup.network().refined()), setup.start.thetas[0], points)["u"]
    assert found == pytest.approx(earlier(points.numpy())["u"], abs=1e-2)


def test_a_run_is_resumed_without_the_one_it_began_with(kanpinn, folder: Path) -> None:
    given = ("problem=heat", "backbone=kan", "problem.conditions=soft", *SHORT)
    first = kanpinn("solve", *given, "schedule.levels=2", "schedule.steps=2", "hydra.run.dir=one")
    assert first.code == 0, first.err
    more = ("schedule.levels=3", "schedule.steps=2", "checkpoint.every_s=0", "start=one", "hydra.run.dir=two")
    done = kanpinn("solve", *given, *more)
    assert done.code == 0 and "begins from the network of" in done.out
    whole = kp.load("two")
    assert [level["level"] for level in whole.metrics["levels"]] == [1, 2]
    shutil.rmtree("one")
    (folder / "two" / "metrics.json").unlink()
    sorted((folder / "two" / "checkpoints").iterdir())[-1].unlink()
    again = kp.resume("two")
    points = np.random.default_rng(0).random((9, 2))
    assert np.array_equal(again(points)["u"], whole(points)["u"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["start=nowhere"], "start=nowhere: no such folder"),
        (["problem=poisson", "start=.."], "start=..: not a run folder"),
    ],
)
def test_folders_that_are_no_runs_are_refused(kanpinn, given: list[str], words: str) -> None:
    done = kanpinn("solve", *given)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert words in done.err


def test_what_does_not_fit_is_refused(earlier) -> None:
    @dataclass(frozen=True)
    class Still(Decay):
        unknowns = ("v",)

    @dataclass(frozen=True)
    class Timeless(Decay):
        domain = kp.Box(x=(0, 1))

        def __post_init__(self):
            kp.Problem.__post_init__(self)

    with pytest.raises(UserError, match="start=it: it has the unknowns u, the problem v"):
        begun(earlier, Still(), KAN)
    with pytest.raises(UserError, match="start=it: its solution depends on t; the problem has x"):
        begun(earlier, Timeless(), KAN)
    with pytest.raises(UserError, match=r"schedule\.starts above 1"):
        begun(earlier, Decay(), KAN, Nested(starts=2))
