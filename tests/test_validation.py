"""Errors where a network was not trained, computed anew; what is no network to be pruned."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import kanpinn as kp
from kanpinn.backbones.edits import edited
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.pde.table import Table, table_of
from kanpinn.settings.objects import configuration_of_objects
from kanpinn.solver.pruned import Pruned, pruning
from kanpinn.solver.pruning import Pruner
from kanpinn.solver.setup import Setup
from kanpinn.solver.validation import sample, validation

NET = kp.Kan(width=[2], grid=2, degree=3)
ROWS = np.random.default_rng(0).uniform(-1, 1, (40, 2))


def setup_of(problem: kp.Problem, *parts: Any) -> Setup:
    return configuration_of_objects(problem, [kp.Nested(levels=2), *parts]).setup


def random(setup: Setup) -> tuple[Any, torch.Tensor]:
    network = setup.network()
    return network, network.initial(np.random.default_rng(1))


def table(columns: dict[str, Any], targets: list[str], split: tuple[float, ...] = (0.5, 0.5)) -> Table:
    return table_of({"a": ROWS[:, 0], "b": ROWS[:, 1], **columns}, targets, split=split)


def held(problem: Table, part: str = "validation") -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows held, and which of them lie in the box of those trained on."""
    rows, box = problem.rows(part), [problem.domain.interval(name) for name in "ab"]
    inside = np.all([(rows[n] >= low) & (rows[n] <= high) for n, (low, high) in zip("ab", box, strict=True)], axis=0)
    return rows, inside


@pytest.mark.parametrize("part", ["validation", "train"])
def test_rows_are_measured_in_deviations_of_their_targets(part: str) -> None:
    columns = {"y": np.exp(2 * ROWS[:, 0]), "z": 5 + ROWS[:, 1] ** 2}
    problem = table(columns, ["y", "z"], (0.5, 0.5) if part == "validation" else (1.0,))
    setup = setup_of(problem, NET)
    network, theta = random(setup)
    rows, inside = held(problem, part)
    assert (0 < inside.sum() < len(inside)) == (part == "validation")
    points = torch.from_numpy(np.stack([rows["a"], rows["b"]], axis=1)[inside])
    values = evaluate(setup.residuals(network), theta, points)
    squares = [np.mean((values[n] - rows[n][inside]) ** 2) / np.var(rows[n][inside]) for n in ("y", "z")]
    assert validation(setup)(network, theta) == pytest.approx(math.sqrt(np.mean(squares)), rel=1e-9)


@pytest.mark.parametrize(("inner", "all_count"), [(0, True), (1, True), (2, False)])
def test_rows_beyond_the_box_count_where_no_two_are_within(inner: int, all_count: bool) -> None:
    a = np.array([0.0, 1.0, 0.3, 0.6, *([0.5, 0.2][:inner]), *([2.0, -1.0, 3.0][: 3 - inner])])
    problem = table_of({"a": a, "y": a**2 + 1}, ["y"], split=(4 / 7, 3 / 7))
    order = np.concatenate([problem.parts[name] for name in ("train", "validation")])
    y = np.empty(7)
    shuffled = np.empty(7)
    shuffled[order] = a  # so that the first four are trained on
    y[order] = a**2 + 1
    problem = table_of({"a": shuffled, "y": y}, ["y"], split=(4 / 7, 3 / 7))
    setup = setup_of(problem, NET)
    network, theta = random(setup)
    rows = problem.rows("validation")
    assert sorted(rows["a"]) == sorted(a[4:])
    inside = (rows["a"] >= 0) & (rows["a"] <= 1) | all_count
    at = np.clip(rows["a"][inside], 0, 1)
    values = evaluate(setup.residuals(network), theta, torch.from_numpy(at[:, None]))["y"]
    expected = np.sqrt(np.mean((values - rows["y"][inside]) ** 2)) / rows["y"][inside].std()
    assert validation(setup)(network, theta) == pytest.approx(expected, rel=1e-9)


def test_classes_are_measured_by_their_cross_entropy() -> None:
    names = np.where(ROWS[:, 0] > 0.3, "high", np.where(ROWS[:, 1] > 0, "low", "lower"))
    problem = table({"y": names}, ["y"])
    setup = setup_of(problem, NET)
    network, theta = random(setup)
    rows, inside = held(problem)
    points = torch.from_numpy(np.stack([rows["a"], rows["b"]], axis=1)[inside])
    values = evaluate(setup.residuals(network), theta, points)
    logits = np.stack([values[name] for name in problem.unknowns], axis=1)
    own = np.array([problem.unknowns.index(problem.unknowns[int(k)]) for k in rows["class"][inside]])
    shares = np.exp(logits - logits.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    expected = -np.log(shares[np.arange(len(own)), own]).mean()
    assert validation(setup)(network, theta) == pytest.approx(expected, rel=1e-9)


class Decay(kp.Problem):
    """u_t + u = x, from x."""

    domain = kp.Box(x=(0, 1), t=(0, 2))
    derivatives = ("t",)

    def residual(self, p: Any) -> Any:
        return p.u_t + p.u - p.x

    def conditions(self) -> list[Any]:
        return [kp.Condition("start", "t-", lambda p: p.u - p.x)]


def test_an_equation_is_measured_at_twice_as_many_points_and_every_term_but_data_by_its_penalty() -> None:
    setup = setup_of(Decay(), NET, kp.Causal(bins=3), kp.Uniform(interior=30, boundary=7))
    network, theta = random(setup)
    for one in (network, network.refined()):
        drawn = sample(setup, one, setup.random("check"), 2)
        assert (len(drawn.interior.points), [len(s.points) for s in drawn.conditions.values()]) == (60, [14])
        mine = theta if one is network else one.initial(np.random.default_rng(2))
        plain = replace(setup, weighting=kp.Fixed()).objective(one)
        plain.set_points(drawn)
        loss = plain.loss(mine)[0]
        for penalty in (1.0, 4.0):
            assert validation(setup, penalty)(one, mine) == pytest.approx(math.sqrt(penalty * loss), rel=1e-9)
        assert validation(setup)(one, mine) == pytest.approx(math.sqrt(loss), rel=1e-9)
    assert len(sample(setup, network, setup.random("check")).interior.points) == 30


@pytest.mark.parametrize(
    ("options", "edits", "told"),
    [
        (kp.Mlp(width=[3]), (), "no edges with functions of their own"),
        (replace(NET, width=[]), (), "no edges with functions of their own, or no hidden nodes"),
        (kp.Separable(rank=2, width=[2]), (), "its coordinates' networks are multiplied"),
        (NET, (("widen", 1),), r"its schedule changes it in training \(widen\)"),
        (replace(NET, networks="separate"), (), "several networks, side by side"),
    ],
)
def test_what_cannot_be_pruned_says_why(options: Any, edits: tuple[Any, ...], told: str) -> None:
    setup = setup_of(Decay(), options)
    network, theta = random(setup)
    for edit in edits:
        network = edited(network, edit[0], edit[1], np.random.default_rng(0)).after
        theta = network.initial(np.random.default_rng(0))
    with pytest.raises(UserError, match=rf"^the network cannot be pruned: .*({told})"):
        pruning(setup, network, theta)


def test_what_can_be_pruned_is_measured_with_its_penalty() -> None:
    for options in (NET, replace(NET, width=[2, 2]), kp.MultKan(width=[1], mult=[1], grid=2, degree=3)):
        setup = setup_of(Decay(), options)
        network, theta = random(setup)
        found = pruning(setup, network, theta, 3.0)
        assert found == Pruned(setup, network, theta, validation(setup, 3.0)(network, theta), 3.0)
        assert pruning(setup, network, theta).error == validation(setup)(network, theta)
        assert Pruner(found, 1.0).best is found and Pruner(found, 1.0).trials == []
