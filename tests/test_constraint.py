"""The factor of equations and conditions beside data: its rule, step by step, against a plain account of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from kanpinn.least_squares.constraint import Constraint, freedom_of


@dataclass
class Account:
    """The rule: m grows fourfold where two steps, or each four more, lower the equations' part by less than 0.7."""

    largest: float
    m: float = 1.0
    parts: list[float] = field(default_factory=lambda: [math.inf])
    slow: int = 0
    over: bool = False

    def step(self, data: float, held: float, done: float, free: float, count: int) -> bool:
        if self.largest <= 1 or data <= 0 or math.isnan(data) or not math.isfinite(held):
            return False
        lowered = held <= 0.7 * self.parts[-1]
        self.slow = 0 if lowered else self.slow + 1
        self.parts.append(held)
        if self.over or self.slow not in range(2, 1000, 4) or done > 0.8:
            return False
        explained = held / data <= max(free, 0.3) / count
        if explained and free <= 0.3:
            self.over = True
        by = 1.0
        if explained and not self.over and 4 * self.m <= self.largest:
            by = 4.0
        if not explained and self.slow > 12 and self.m > 1:
            by, self.over = 0.25, True
        if by != 1.0:
            self.m, self.slow = max(by * self.m, 1.0), 0
            self.parts.append(by * held)
        return by != 1.0


@pytest.mark.parametrize("largest", [0.5, 1.0, 4.0, 60.0, 1e6])
@pytest.mark.parametrize("seed", range(4))
def test_the_factor_follows_its_rule(largest: float, seed: int) -> None:
    generator = np.random.default_rng([seed, int(largest)])
    constraint, account, held, grown = Constraint(largest), Account(largest), 1.0, []
    for k in range(300):
        held *= generator.choice([0.7 - 1e-9, 0.7 + 1e-9, 0.99, 1.3, 0.2]) if k % 50 < 25 else 0.98
        held = float(min(max(held, 1e-3), 10.0))
        data = generator.choice([1.0, 0.5, 20.0, 0.0, math.nan], p=[0.4, 0.3, 0.28, 0.01, 0.01])
        part = generator.choice([held, math.inf, math.nan], p=[0.98, 0.01, 0.01])
        done = generator.choice([0.1, 0.8, 0.81], p=[0.6, 0.3, 0.1])
        free = generator.choice([40.0, 3.0, 0.300001, 0.3, 0.1], p=[0.5, 0.4, 0.06, 0.02, 0.02])
        count = int(generator.choice([10, 100]))
        data, part, done, free = (float(one) for one in (data, part, done, free))
        found = constraint.update(data, part, done, lambda told=(free, count): told)
        assert found is account.step(data, part, done, free, count)
        assert constraint.factor == account.m
        assert constraint.state() == {
            "factor": account.m, "before": account.parts[-1], "slow": account.slow, "grows": not account.over,
        }  # fmt: skip
        if found:
            grown.append(account.m)
        if k % 41 == 40:
            other = Constraint(largest)
            other.load_state(constraint.state())
            assert other.state() == constraint.state()
            constraint = other
        if account.over and k % 7 == 0:
            again = bool(generator.integers(0, 2))
            constraint.anew(from_one=again)
            account = Account(largest, 1.0 if again else account.m)
            assert constraint.factor == account.m and constraint.state()["before"] == math.inf
    assert bool(grown) == (largest >= 4)


def test_the_rule_looks_at_the_freedom_only_where_it_needs_to() -> None:
    """It costs a matrix of all parameters."""
    asked = []
    constraint = Constraint(1e6)
    for _ in range(12):
        constraint.update(1.0, 1.0, 0.1, lambda: (asked.append(1), (0.1, 100))[1])
    assert len(asked) == 3  # at the second, sixth and tenth slow step


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_freedom_is_a_trace_also_where_the_matrix_is_singular(rank: int) -> None:
    rows = torch.from_numpy(np.random.default_rng(rank).standard_normal((2 * rank, 6)))
    rows[rank:] = rows[:rank] * torch.linspace(1, 3, rank)[:, None]
    own, whole = rows[: rank - 1].T @ rows[: rank - 1], rows.T @ rows
    expected = float(torch.trace(torch.linalg.pinv(whole, rtol=1e-12, hermitian=True) @ own))
    assert freedom_of(own, whole) == pytest.approx(expected, rel=1e-9)
