"""Derivatives of residuals against those of their values: at how many points, and by how much, they may be others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

import kanpinn as kp
from kanpinn.backbones.embedding import Embedding
from kanpinn.errors import UserError
from kanpinn.jets.jet import Jet
from kanpinn.least_squares.claims import every_term, few_points
from kanpinn.least_squares.derivatives import check_derivatives, check_jets
from kanpinn.least_squares.examination import check_values
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.trial import Trial, random_parameters, smooth_network, trials

N = 6
"""Points; the examination looks at twice as many outputs."""


class Square(kp.Problem):
    """u v_y + u_x² = 0 at points of a square, whose gradients by u go through a function of rows and values."""

    domain = kp.Box(x=(0, 1), y=(0, 2))
    unknowns = ("u", "v")
    derivatives = ("x", "y")

    def __init__(self, through: Callable[[Tensor], Tensor] = lambda slope: slope) -> None:
        super().__init__()
        self.through: Callable[[Tensor], Tensor]
        object.__setattr__(self, "through", through)

    def residual(self, p: kp.Point) -> Tensor:
        u = p.u + 0.0
        if u.requires_grad:
            u.register_hook(self.through)
        return u * p.v_y + p.u_x**2

    def conditions(self) -> list[kp.Condition]:
        return []


def posed(
    problem: kp.Problem, kind: torch.dtype = torch.float64, many: int = N
) -> tuple[Residuals, Trial, list[Tensor]]:
    """The residuals, the one term and two sets of outputs."""
    network = smooth_network(problem, Embedding({name: problem.domain.interval(name) for name in problem.domain.names}))
    residuals = Residuals(problem, network)
    (trial,) = trials(residuals, every_term(residuals, few_points(problem, kind, torch.device("cpu"), many)))
    like, generator = torch.zeros((), dtype=kind), np.random.default_rng(1)
    return residuals, trial, [trial.outputs(network, random_parameters(network, generator, like)) for _ in range(2)]


def slopes(trial: Trial, several: list[Tensor]) -> Tensor:
    """Derivatives `[C, S, 2, N, outputs]` of the residual by the outputs."""
    outputs = torch.stack(several, 2).requires_grad_()
    values = trial.values(outputs.flatten(2, 3), torch.arange(trial.count).repeat(2))[""]
    (found,) = torch.autograd.grad(values.sum(), outputs)
    return found


def where(count: int, value: float, rest: float = 1.0) -> Tensor:
    """Return a value for some of the points, as they come, and another for the rest, `[2, N]`."""
    return torch.tensor([value] * count + [rest] * (2 * N - count)).view(2, N)


def refused(trial: Trial, several: list[Tensor], own: Tensor, met: tuple[str, ...] = ()) -> str:
    try:
        check_derivatives(trial, several, {"": own}, met)
    except UserError as error:
        return str(error).partition("changes with ")[2].partition(" of the network")[0]
    return ""


@pytest.mark.parametrize("name", ["u", "v_y", "u_x"])
@pytest.mark.parametrize("kind", [torch.float64, torch.float32])
def test_derivatives_wrong_at_more_than_half_of_the_points_are_named(name: str, kind: torch.dtype) -> None:
    residuals, trial, several = posed(Square(), kind)
    right = slopes(trial, several)
    unknown, _, by = name.partition("_")
    component, output = residuals.space.indices.index(tuple(by)), "uv".index(unknown)
    loose = 0.06 if kind == torch.float64 else 0.3
    assert refused(trial, several, right) == ""
    for count in (N, N + 1, 2 * N):
        for factor in (1 - 1.1 * loose, 1 - 0.9 * loose, 1 / (1 - 1.1 * loose), 1 / (1 - 0.9 * loose), 0.0, -1.0):
            wrong = right.clone()
            wrong[component, 0, :, :, output] *= where(count, factor)
            expected = name if count > N and abs(1 - min(factor, 1 / factor if factor else 0)) > loose else ""
            assert refused(trial, several, wrong) == expected, (count, factor)
            assert refused(trial, several, wrong, ("",)) == ""


def test_points_without_a_derivative_count_neither_way() -> None:
    _, trial, several = posed(Square())
    for left, wrong, expected in ((4, 2, ""), (4, 3, "u"), (3, 2, "u"), (2, 2, "")):
        found = slopes(trial, several)
        found[0, 0, :, :, 0] *= where(wrong, 3.0) * where(left, 1.0, torch.nan)
        assert refused(trial, several, found) == expected
    _, single, several = posed(Square(), many=1)
    assert refused(single, several, 2 * slopes(single, several)) == "u"


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("rows", [[0], [3], [0, 1], [0, 11], [5, 7], [20], [20, 30, 31]])
def test_derivatives_that_are_not_finite_at_two_points_are_refused(rows: list[int], bad: float) -> None:
    """At one of both sets of outputs: others, from multiples of the first, may be too large."""

    def through(slope: Tensor) -> Tensor:
        slope = slope.clone()
        if len(slope) == 14 * N:  # the two sets and their multiples
            slope[rows] = bad
        return slope

    residuals, *_ = posed(Square(through))
    theta = random_parameters(residuals.backbone, np.random.default_rng(3), torch.zeros((), dtype=torch.float64))
    sample = few_points(residuals.problem, torch.float64, torch.device("cpu"), N)
    counted = [row for row in rows if row < 2 * N]
    if len(counted) < 2:
        assert check_values(residuals, sample, theta) == []
        return
    with pytest.raises(UserError, match=f"residual has a derivative that is not finite at 2 of {2 * N} points tried"):
        check_values(residuals, sample, theta)


class Formed(kp.Problem):
    """An unknown whose form has jets made by hand."""

    domain = kp.Box(x=(0, 1), y=(0, 4))
    derivatives = ("x", "xy", "yy")

    def __init__(self, factors: dict[str, float]) -> None:
        super().__init__()
        self.factors: dict[str, float]
        object.__setattr__(self, "factors", factors)

    def ansatz(self, p, raw):
        jet = raw.u + 0 * p.x
        data = jet.data.clone()
        for index, factor in self.factors.items():
            data[jet.space.position(tuple(index))] *= factor
        return {"u": Jet(jet.space, data)}

    def residual(self, p: kp.Point) -> Tensor:
        return p.u_xy + p.u_yy + p.u_x

    def conditions(self) -> list[kp.Condition]:
        return []


@pytest.mark.parametrize(("kind", "loose"), [(torch.float64, 0.06), (torch.float32, 0.3)])
@pytest.mark.parametrize("index", ["x", "y", "xy", "yy"])
def test_forms_with_wrong_derivatives_are_refused_by_name(index: str, kind: torch.dtype, loose: float) -> None:
    """Each against differences of the one below it, along x first, where u_y is seen by the difference to u_xy."""
    named = "u_xy" if index == "y" else f"u_{index}"
    for factor in (1.0, 1 - 0.9 * loose, 1 - 1.1 * loose, 1 / (1 - 0.9 * loose), 1 / (1 - 1.1 * loose), -1.0):
        residuals, trial, _ = posed(Formed({index: factor}), kind)
        theta = random_parameters(residuals.backbone, np.random.default_rng(3), torch.zeros((), dtype=kind))
        if abs(1 - min(factor, 1 / factor)) < loose:
            check_jets(trial, residuals.backbone, theta)
            continue
        with pytest.raises(UserError, match=f"ansatz: {named} is not the derivative of its values"):
            check_jets(replace(trial, form="ansatz"), residuals.backbone, theta)


class Met(kp.Problem):
    """An unknown whose form is 1 at an end but for rounding."""

    domain = kp.Box(x=(0, 1), y=(0, 2))
    derivatives = ("x", "xx")

    def ansatz(self, p, raw):
        return {"u": 1 + torch.sin(torch.pi * p.x) * raw.u}

    def residual(self, p: kp.Point) -> Tensor:
        return p.u_xx + p.u_x

    def conditions(self) -> list[kp.Condition]:
        return [kp.Condition("end", ("x-", "x+"), lambda p: p.u - 1)]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_conditions_that_a_form_meets_to_rounding_have_no_derivatives_to_be_checked(kind: torch.dtype) -> None:
    problem = Met()
    network = smooth_network(problem, Embedding({"x": (0.0, 1.0), "y": (0.0, 2.0)}))
    sample = few_points(problem, kind, torch.device("cpu"))
    theta = random_parameters(network, np.random.default_rng(3), torch.zeros((), dtype=kind))
    assert check_values(Residuals(problem, network), sample, theta) == []


@dataclass(frozen=True)
class Offset(kp.Problem):
    """u beside a number, of whose rounding differences of u are made."""

    by: float
    domain = kp.Box(x=(0, 1))
    derivatives = ("x",)

    def residual(self, p: kp.Point) -> Tensor:
        return p.u + self.by

    def conditions(self) -> list[kp.Condition]:
        return []


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_differences_of_the_size_of_rounding_tell_nothing(kind: torch.dtype) -> None:
    """They are told from it at 200 times its size, for the shorter step."""
    _, trial, several = posed(Offset(0.0), kind)
    size, eps = float(torch.cat(several, 2)[0].abs().max()), torch.finfo(kind).eps
    most = size * 0.3 * eps**0.25 / (200 * eps)
    for share, sign in ((0.9, 1), (0.9, -1), (1.1, 1), (1.1, -1), (1e4, 1)):
        _, trial, several = posed(Offset(sign * share * most), kind)
        right = slopes(trial, several)
        assert refused(trial, several, right) == ""
        assert refused(trial, several, -right) == ("u" if share < 1 else "")


@pytest.mark.parametrize(("text", "told"), [("", "ValueError"), ("no gradient\nhere", "no gradient")])
def test_a_derivative_that_cannot_be_taken_is_told_by_its_error(text: str, told: str) -> None:
    def through(_: Tensor) -> Tensor:
        raise ValueError(*([text] if text else []))

    residuals, *_ = posed(Square(through))
    theta = random_parameters(residuals.backbone, np.random.default_rng(3), torch.zeros((), dtype=torch.float64))
    sample = few_points(residuals.problem, torch.float64, torch.device("cpu"), N)
    with pytest.raises(UserError, match=rf"residual has no derivative \({told}\); write it in"):
        check_values(residuals, sample, theta)
