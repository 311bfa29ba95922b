"""Weights: fixed per term, and residual-based attention per point."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kanpinn.errors import UserError
from kanpinn.weighting import WEIGHTINGS, Fixed, ResidualAttention


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
    weighting.reset()
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
            r"^weighting\.terms\.boundary=-1\.0: expected a finite number of at least 0",
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
