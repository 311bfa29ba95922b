"""Coefficients that nothing measured depends on, told by the pattern of a problem; conditions beyond its order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import structural_rank

import kanpinn as kp
from kanpinn.backbones import Kan
from kanpinn.backbones.coefficients import with_coefficients
from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.geometry import Disk, Points
from kanpinn.least_squares.blindness import check_seen, unseen_coefficients
from kanpinn.least_squares.claims import few_points
from kanpinn.least_squares.missing import missing_conditions
from kanpinn.least_squares.order import more_conditions
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.unknown import free_coefficients


@dataclass(frozen=True)
class Posed(kp.Problem):
    """A problem whose equations, values or functions of it, conditions and coefficients are given from outside."""

    equations: Callable[[Any], Any]
    posed: Sequence[Any] = ()
    given: dict[str, Any] = field(default_factory=dict)
    a: Any = 1.0
    b: Any = 1.0
    c: Any = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapt(**self.given)

    def residual(self, p: Any) -> Any:
        return {f"e{k}": row(self) if callable(row) else row for k, row in enumerate(self.equations(p))}

    def conditions(self) -> list[Any]:
        return list(self.posed)


def residuals_of(problem: kp.Problem) -> tuple[Residuals, Any]:
    domain = problem.domain
    intervals = {name: domain.interval(name) for name in domain.names}
    network = Kan(width=[2]).build(Embedding(intervals), len(problem.unknowns))
    residuals = Residuals(problem, with_coefficients(network, free_coefficients(problem)))
    return residuals, few_points(problem, torch.float64, torch.device("cpu"))


@pytest.mark.parametrize(("start", "more"), [([], False), ([kp.Condition("phase", "t-", lambda p: p.v)], True)])
def test_a_condition_at_the_end_of_a_period_is_one_more(start, more) -> None:
    orbit = {"domain": kp.Box(t=(0, 1)), "unknowns": ("u", "v"), "derivatives": ("t",), "periodic": ("t",)}
    problem = Posed(lambda p: [p.u_t - p.v, p.v_t + p.u], start, orbit)
    network = Kan(width=[2]).build(Embedding({"t": (0.0, 1.0)}, periodic=("t",)), 2)
    assert more_conditions(Residuals(problem, network), residuals_of(problem)[1]) is more


@pytest.mark.parametrize("seed", range(12))
def test_what_is_seen_is_the_structural_rank_of_the_pattern(seed: int) -> None:
    """A coefficient is told where its column adds to the rank of equations and data, each datum as two rows."""
    generator = np.random.default_rng(seed)
    unknowns, names = ("u", "v", "w", "z"), ("a", "b", "c")
    holds = np.eye(4, dtype=bool)[generator.permutation(4)] | (generator.random((4, 4)) < 0.15)
    has = generator.random((4, 3)) < 0.3
    measured = [k for k in range(4) if generator.random() < 0.3] or [3]

    def equations(p: Any) -> list[Callable[[Any], Any]]:
        def row(k: int) -> Callable[[Any], Any]:
            return lambda problem: sum(
                (getattr(p, unknowns[j]) ** 2 for j in range(4) if holds[k, j]),
                start=sum((getattr(problem, names[j]) for j in range(3) if has[k, j]), start=0.0),
            )

        return [row(k) for k in range(4)]

    data = kp.Data("sensors", {"x": [0.2, 0.4], **{unknowns[k]: [1.0, 2.0] for k in measured}})
    free = {name: kp.Unknown(1.0) for name in names}
    problem = Posed(equations, [data], {"unknowns": unknowns, "domain": kp.Box(x=(0, 1)), "derivatives": ()}, **free)
    rows = np.vstack([holds, np.eye(4, dtype=bool)[measured]])
    expected = []
    for j, name in enumerate(names):
        column = np.concatenate([has[:, j], np.zeros(len(measured), dtype=bool)])
        whole = np.column_stack([rows, column])
        if structural_rank(csr_matrix(whole)) == 4:
            expected.append(name)
    assert unseen_coefficients(*residuals_of(problem)) == expected


START = kp.Condition("start", "t-", lambda p: p.u - torch.sin(p.x))
FLUX = kp.Condition("flux", "x+", lambda p: p.u_x - 1)
RATE = kp.Condition("rate", "t-", lambda p: p.u_t - 1)
ENDS = kp.Condition("ends", ("x-", "x+"), lambda p: p.u)
BOX = {"domain": kp.Box(x=(2, 5), t=(-1, 1)), "derivatives": ("t", "x", "xx")}
WAVE = {"domain": kp.Box(x=(2, 5), t=(-1, 1)), "derivatives": ("x", "t", "tt", "xx")}


def data(x: Sequence[float], t: Sequence[float], rule: Any = None) -> kp.Data:
    return kp.Data("sensors", {"x": x, "t": t, "u": [1.0] * len(x)}, rule)


@pytest.mark.parametrize(
    ("posed", "seen"),
    [
        ([START, data([3, 4], [-1, -1])], False),
        ([START, data([3, 4], [-1, -0.9])], True),
        ([START, data([3, 4], [-1 + 1e-9, -1])], False),
        ([START, data([3, 4], [-1 + 3e-9, -1])], True),
        ([START, data([3, 4], [1, 1])], True),
        ([START, data([5, 5], [0.1, 0.3])], True),
        ([START, ENDS, data([5, 2, 3], [0.1, 0.3, -1])], False),
        ([START, ENDS, data([5 - 5e-9, 2, 3], [0.1, 0.3, -1])], True),
        ([START, ENDS, data([5 - 2e-9, 2 + 2e-9, 3], [0.1, 0.3, -1])], False),
        ([START, FLUX, data([5, 5], [0.1, 0.3])], True),
        ([RATE, data([3, 4], [-1, -1])], True),
        ([START, data([3, 4], [-1, -1], lambda p, given: p.u_x - given["u"])], True),
        ([START, ENDS], False),
        ([START, RATE, ENDS], True),  # one more than the order asks for
    ],
)
def test_data_where_a_condition_gives_the_value_tell_nothing(posed, seen: bool) -> None:
    problem = Posed(lambda p: [lambda own: p.u_t - own.a * p.u_xx], posed, BOX, a=kp.Unknown(0.5))
    residuals, sample = residuals_of(problem)
    assert unseen_coefficients(residuals, sample) == ([] if seen else ["a"])
    if not seen:
        given = any(isinstance(one, kp.Data) for one in posed)
        with pytest.raises(UserError, match="the data do not determine a" if given else "no data determine a: give"):
            check_seen(residuals, sample)


def integral(p: Any) -> list[Any]:
    return [lambda own: p.u_x + own.a * p.integral(lambda q: q.v, over="x"), p.v_x - p.v]


@pytest.mark.parametrize(("measured", "unseen"), [("u", []), ("v", ["a"])])
def test_integrals_hold_unknowns_too(measured: str, unseen: list[str]) -> None:
    given = {"unknowns": ("u", "v"), "domain": kp.Box(x=(0, 1)), "derivatives": ("x",)}
    sensors = kp.Data("sensors", {"x": [0.3], measured: [1.0]})
    assert unseen_coefficients(*residuals_of(Posed(integral, [sensors], given, a=kp.Unknown(1.0)))) == unseen


def heat(p: Any) -> list[Any]:
    return [p.u_t - p.u_xx]


def laplace(p: Any) -> list[Any]:
    return [p.u_xx + p.u_yy]


def wave(p: Any) -> list[Any]:
    return [p.u_tt - p.u_xx - p.u_x]


BARE = "no condition on {}, where the equations ask for one"
LINE = {"domain": kp.Box(x=(0, 1)), "derivatives": ("x", "xx")}
FLAT = {"domain": kp.Box(x=(0, 1), y=(0, 1)), "derivatives": ("xx", "yy")}
ROUND = {"domain": Disk(), "derivatives": ("xx", "yy")}
POLAR = {"domain": kp.Box(r=(0, 1), z=(0, 2)), "derivatives": ("zz", "rrrr")}
PAIR = {"domain": kp.Box(x=(0, 1)), "derivatives": ("x",), "unknowns": ("u", "v")}
LEFT, RIGHT, RIM = (kp.Condition(name, name, lambda p: p.u) for name in ("x-", "x+", "boundary"))
STRESS = kp.Condition("stress", "boundary", lambda p: p.u_xx)
INNER = kp.Condition("inner", "x=3", lambda p, q: p.u - q.u - 1)
BOTH = kp.Condition("both", "x-", lambda p: {"u": p.u, "v": p.v})
AROUND = kp.Condition("around", "x-", lambda p, q: {"u": p.u - q.u, "s": p.u_x - q.u_x}, periodic="x")
REST = kp.Condition("rest", ("x+", "y-", "y+"), lambda p: p.u)
NUMBER = "; integral mean is one number and stands for none of them"


def mean(over: Any, **more: Any) -> kp.Integral:
    return kp.Integral("mean", lambda p: p.u, over=over, **more)


POINT = kp.Condition("point", Points(x=[0.2, 0.4]), lambda p: p.u)


@pytest.mark.parametrize(
    ("equations", "posed", "given", "more", "missing"),
    [
        (heat, [START, ENDS], BOX, False, []),
        (heat, [START, RATE, ENDS], BOX, True, []),
        (heat, [START, LEFT], BOX, False, [BARE.format("x+")]),
        (heat, [START, ENDS, FLUX], BOX, True, []),
        (heat, [START, INNER, LEFT], BOX, False, []),
        (heat, [START, INNER, ENDS], BOX, True, []),
        (heat, [START, AROUND], BOX, False, []),
        (wave, [START, ENDS], WAVE, False, ["only 1 condition on t-, where the equations ask for 2"]),
        (wave, [START, RATE, ENDS], WAVE, False, []),
        (lambda p: [p.u_xx - p.u], [LEFT, RIGHT], LINE, False, []),
        (lambda p: [p.u_xx - p.u], [LEFT, RIGHT, POINT], LINE, True, []),
        (lambda p: [p.u_xx - p.u], [POINT], LINE, False, []),
        (lambda p: [p.u_xx - p.u], [LEFT], LINE, False, [BARE.format("x+")]),
        (lambda p: [p.x * p.u_xx - p.u_x], [LEFT], LINE, False, []),  # of first order at x = 0
        (lambda p: [p.u_xx + p.u_yy], [RIM], ROUND, False, []),
        (lambda p: [p.u_xx * p.u_yy], [RIM, STRESS], ROUND, True, []),
        (
            lambda p: [p.u_rrrr - p.u_zz],
            [kp.Condition("rim", "r+", lambda p: p.u)],
            POLAR,
            False,
            [BARE.format("z-, z+"), "only 1 condition on r+, where the equations ask for 2"],
        ),
        (lambda p: [p.u_x - p.v, p.v_x + p.u], [BOTH], PAIR, False, []),
        (lambda p: [p.u_x - p.v, p.v_x + p.u], [LEFT], PAIR, False, [BARE.format("x+")]),
        (lambda p: [p.u_x - p.v, p.v_x + p.u], [BOTH, LEFT], PAIR, True, []),
        (lambda p: [p.u_x - p.v_x, p.v + p.u], [LEFT], PAIR, False, []),
        (lambda p: [p.u_x - p.v_x, p.v + p.u], [BOTH], PAIR, True, []),
        (laplace, [REST, mean("x")], FLAT, True, []),
        (laplace, [REST, mean(("x",))], FLAT, True, []),
        (laplace, [REST, mean(kp.Box(x=(0, 0.5)))], FLAT, True, []),
        (laplace, [REST, mean("x", at=[0.5])], FLAT, True, [BARE.format("x-") + NUMBER]),
        (laplace, [REST, mean("y")], FLAT, True, [BARE.format("x-")]),
        (laplace, [REST, mean(None)], FLAT, True, [BARE.format("x-") + NUMBER]),
        (laplace, [REST, mean(("x", "y"))], FLAT, True, [BARE.format("x-") + NUMBER]),
        (laplace, [REST, mean(kp.Box(x=(0, 1), y=(0, 0.5)))], FLAT, True, [BARE.format("x-") + NUMBER]),
    ],
)
def test_conditions_are_counted_against_the_order_of_the_equations(equations, posed, given, more, missing) -> None:
    residuals, sample = residuals_of(Posed(equations, posed, given))
    assert more_conditions(residuals, sample) is more
    assert list(missing_conditions(residuals, sample).lines) == missing
