"""Weights: fixed per term, and residual-based attention per point."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from kanpinn.problems.heat import Heat
from kanpinn.problems.poisson import Poisson
from support.problems import Wave, build

from kanpinn.backbones import Kan, Mlp
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.errors import UserError
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.weighting import WEIGHTINGS, Causal, Fixed, ResidualAttention
from kanpinn.samplers import SAMPLERS

RNG = np.random.default_rng(0)


def test_fixed_weights_are_those_given_and_one_elsewhere() -> None:
    weighting = Fixed({"interior": 0.5, "initial": 0.0})
    assert [weighting.term(name) for name in ("interior", "initial", "boundary")] == [0.5, 0.0, 1.0]
    assert not weighting.adapts
    weighting.update("interior", "", torch.tensor([5.0]))
    assert weighting.multipliers("interior", "") == 1.0


def test_attention_follows_its_formula() -> None:
    decay, rate, start = 0.9, 0.05, 0.2
    weighting = ResidualAttention(decay=decay, rate=rate, start=start)
    generator = np.random.default_rng(0)
    expected = np.full(8, start * rate / (1 - decay))
    assert weighting.multipliers("interior", "") == pytest.approx(expected[0])
    for _ in range(50):
        r = generator.standard_normal(8)
        weighting.update("interior", "", torch.from_numpy(r))
        # Anagnostopoulos et al. 2024, eq. 6
        expected = decay * expected + rate * np.abs(r) / np.abs(r).max()
        m = weighting.multipliers("interior", "")
        assert np.allclose(np.asarray(m), expected, rtol=1e-14)
        assert np.all(expected <= rate / (1 - decay))


def test_attention_keeps_terms_and_equations_apart_and_forgets_with_the_points() -> None:
    weighting = ResidualAttention()
    first = weighting.multipliers("interior", "a")
    weighting.update("interior", "a", torch.tensor([1.0, 2.0]))
    weighting.update("initial", "a", torch.tensor([1.0, 0.0, 3.0]))
    assert weighting.multipliers("interior", "b") == first
    assert np.asarray(weighting.multipliers("interior", "a")).shape == (2,)
    assert np.asarray(weighting.multipliers("initial", "a")).shape == (3,)
    weighting.reset({})
    assert weighting.multipliers("interior", "a") == first


def test_attention_may_act_on_some_terms_only() -> None:
    weighting = ResidualAttention(only=["interior"])
    weighting.update("boundary", "", torch.tensor([1.0, 2.0]))
    assert weighting.multipliers("boundary", "") == 1.0
    assert weighting.multipliers("interior", "") != 1.0


def test_residuals_of_zero_leave_finite_multipliers() -> None:
    weighting = ResidualAttention()
    weighting.update("interior", "", torch.zeros(4, dtype=torch.float64))
    m = weighting.multipliers("interior", "")
    assert isinstance(m, torch.Tensor)
    assert bool(m.isfinite().all())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Fixed({"boundary": -1.0}),
            r"^weighting\.terms\.boundary=-1\.0: expected a number of at least 0",
        ),
        (lambda: Fixed({"boundary": float("nan")}), r"^weighting\.terms\.boundary=nan"),
        (lambda: ResidualAttention(decay=1.0), r"^weighting\.decay=1\.0: expected a number from 0 to below 1"),
        (lambda: ResidualAttention(rate=0.0), r"^weighting\.rate=0\.0: expected a number above 0"),
        (lambda: ResidualAttention(start=1.5), r"^weighting\.start=1\.5"),
    ],
)
def test_senseless_options_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_the_choices_are_those_of_the_interface() -> None:
    assert {"fixed", "rba"} <= set(WEIGHTINGS)


def test_causal_weights_follow_their_formula_for_any_points() -> None:
    generator = np.random.default_rng(0)
    weighting = Causal(bins=4, epsilon=0.7)
    t = generator.uniform(0, 1, 200)
    weighting.reset({"interior": torch.from_numpy(t), "initial": torch.zeros(3)})
    assert weighting.multipliers("interior", "") == 1.0
    r = {name: generator.standard_normal(200) for name in ("a", "b")}
    for name, values in r.items():
        weighting.update("interior", name, torch.from_numpy(values))
    weighting.update("initial", "", torch.ones(3))
    bins = (4 * t).astype(int)
    # Wang, Sankaran and Perdikaris 2022, eq. 3.5
    losses = np.array([sum(np.mean(v[bins == k] ** 2) for v in r.values()) for k in range(4)])
    expected = np.exp(-0.7 * np.array([losses[:k].sum() for k in range(4)]))
    for name in r:
        assert np.allclose(np.asarray(weighting.multipliers("interior", name)) ** 2, expected[bins], rtol=1e-12)
    assert weighting.multipliers("initial", "") == 1.0
    # New points: weights belong to times, not to points.
    weighting.reset({"interior": torch.tensor([0.9, 0.1, 1.0], dtype=torch.float64)})
    assert np.allclose(np.asarray(weighting.multipliers("interior", "a")) ** 2, expected[[3, 0, 3]], rtol=1e-12)


def test_causal_weights_of_an_objective_see_times_relative_to_the_interval() -> None:
    epsilon = 0.3
    objective, theta, draw = build(Wave(), Mlp(width=[3]), Causal(bins=3, epsilon=epsilon))
    r = objective.residual(theta)[0][: len(draw.interior.points)]
    own = {term.name: value for term, _, value in objective.rows(theta)}["interior"].detach().numpy()
    objective.update_multipliers(theta)
    lower, upper = Wave.domain.interval("t")
    bins = ((draw.interior.points[:, 1].numpy() - lower) / (upper - lower) * 3).astype(int)
    assert len(set(bins)) > 1
    losses = np.array([sum(own[bins == k] ** 2) / max(1, sum(bins == k)) for k in range(3)])
    expected = np.exp(-epsilon / 2 * np.array([losses[:k].sum() for k in range(3)]))[bins]
    assert np.allclose(objective.residual(theta)[0][: len(r)].numpy(), r.numpy() * expected, rtol=1e-12)


def test_causal_weights_sharpen_once_all_times_are_solved() -> None:
    weighting = Causal(bins=3, epsilon=1.0, largest=50.0)
    weighting.reset({"interior": torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)})
    weighting.update("interior", "", torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert weighting.state()["epsilon"] == 1.0
    for expected in (10.0, 50.0, 50.0):
        weighting.update("interior", "", torch.full((3,), 1e-4, dtype=torch.float64))
        assert weighting.state()["epsilon"] == expected


def test_causal_weights_need_a_time() -> None:
    with pytest.raises(UserError, match="weighting=causal: expected a problem with a time t"):
        Causal().reset({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 1}, r"^weighting\.bins=1"),
        ({"epsilon": 0.0}, r"^weighting\.epsilon=0\.0"),
        ({"threshold": 1.0}, r"^weighting\.threshold=1\.0"),
        ({"largest": 0.5}, r"^weighting\.largest=0\.5"),
    ],
)
def test_senseless_causal_options_are_refused(options, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Causal(**options)
    assert Causal(largest=1.0, epsilon=1.0).largest == 1.0  # ε may stay what it is


def test_residuals_of_growing_errors_count_by_what_they_lead_to() -> None:
    problem = Heat()
    backbone = Kan(width=[2], degree=4, grid=2).build(EmbeddingOptions().build(problem.domain, (), RNG), 1)
    theta = backbone.initial(np.random.default_rng(0))
    found = {}
    for growth in (0.0, 2.5):
        objective = Objective(Residuals(problem, backbone), Fixed({"initial": 3.0}, growth=growth))
        sampler = SAMPLERS["uniform"](interior=20, boundary=5)
        objective.set_points(sampler.draw(problem, 0, np.random.default_rng(1)))
        found[growth] = objective.residual(theta)[0]
    t = objective.collocation.by_term()["interior"][:, 1]
    assert torch.allclose(found[2.5][:20], found[0.0][:20] * torch.exp(-2.5 * t), rtol=1e-14)
    assert torch.equal(found[2.5][20:], found[0.0][20:])


def test_a_growth_rate_needs_a_time() -> None:
    problem = Poisson()
    backbone = Kan(width=[2], degree=4, grid=2).build(EmbeddingOptions().build(problem.domain, (), RNG), 1)
    objective = Objective(Residuals(problem, backbone), Fixed(growth=1.0))
    with pytest.raises(UserError, match=r"^weighting\.growth=1\.0: expected 0 for a problem without a time t"):
        objective.set_points(SAMPLERS["uniform"](interior=4, boundary=4).draw(problem, 0, np.random.default_rng(1)))
    with pytest.raises(UserError, match=r"^weighting\.growth=inf"):
        Fixed(growth=float("inf"))


def test_weights_of_the_levels_are_those_of_a_list_and_its_last_one_after() -> None:
    given = Fixed({"interior": [1.0, 100.0], "initial": 3.0}, {"initial": 2.0})
    found = [given.on_level(level).term("interior") for level in (0, 1, 2, None)]
    recommended = Fixed(base={"interior": [1.0, 10.0], "initial": 3.0})
    assert [recommended.on_level(level).term("interior") for level in (0, 1, 2, None)] == [1.0, 10.0, 10.0, 10.0]
    assert found == [1.0, 100.0, 100.0, 100.0]
    assert given.terms["interior"] == [1.0, 100.0]
    assert {given.on_level(level).term("initial") for level in (0, 1, None)} == {3.0}
    with pytest.raises(UserError, match=r"^weighting.terms.interior=\[\]: expected a number, or a list of one"):
        Fixed({"interior": []})
