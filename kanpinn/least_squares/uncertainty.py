"""Coefficients found from data, with standard deviations and intervals.

At the minimum of ‖r‖² noise ε in the rows d of the data moves the parameters by δθ = −J⁺ε to first order, J⁺ the
pseudo-inverse of the whole Jacobian, equations and conditions included. With var ε = Σ, cov θ = J⁺_d Σ J⁺_dᵀ (Seber and
Wild 1989, Nonlinear Regression, sec. 2.1, for rows of which only some are noisy). The data's residual is (I − H)ε with
H = (J J⁺)_dd, which is no projection: where no σ is given it is estimated by ‖r_d‖² / tr (I − H)², known from
(tr A)² / tr A² degrees of freedom, A = (I − H)² (Satterthwaite 1946, Biometrics Bulletin 2, 110; Hastie, Tibshirani and
Friedman 2009, Elements of Statistical Learning, sec. 5.5.1, for such smoothers).

What is left of the equations and the other conditions is no noise, but it moves the coefficients all the same: their
rows count with the squares of their own residuals, Σ = diag r² (White 1980, Econometrica 48, 817), which is nothing
where they are met well below the noise. All of this holds at a minimum only. Short of one, the step of Gauss and Newton
−J⁺r tells, to first order, how far each coefficient still is from it; from one standard deviation on the interval is
that of another value, and the coefficient is not settled.

A row of J⁺ is what remains of a coefficient's column once the network has done its best to undo the change of the
coefficient. Where nothing of that is in the rows of the data, they do not tell the coefficient; nor do they where it
has a part in the null space of J. Without data, and where there are more conditions than the equations ask for, these
may tell a coefficient, such as an eigenvalue; then much of its column remains.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kanpinn.backbones.coefficients import Coefficients, coefficients_of
from kanpinn.errors import UserError
from kanpinn.least_squares.claims import few_points
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.order import more_conditions

SMALLEST = 1e-11
"""Singular values of J below this share of the largest are taken for 0."""

UNDETERMINED = 1.0
"""Standard deviation relative to a coefficient, or its start, from which data do not determine it."""

SINGULAR = 1e-10
"""Smallest singular value, over the largest, of columns of J for coefficients that are more than one."""

NEAR = 0.01
"""Distance from a bound, in that of the start, within which a coefficient may be at it."""

LEFT = 1e-3
"""Part of a coefficient's column that has to remain where equations and conditions tell it."""

SHARE = 1e-4
"""Part of a coefficient's row of J⁺, squared, that has to be in the rows of the data; and may be in the null space."""


def coefficient_statistics(objective: Objective, theta: Tensor) -> dict[str, dict[str, Any]]:
    """Return value, deviation, interval and state of every coefficient.

    Standard deviation and 95 % interval are None without data, where they leave nothing to tell the noise from, and
    where nothing sees the coefficient: it is not `determined`. The interval ends at the coefficient's bounds. It is
    at a `bound`, else None, where a step of Gauss and Newton without bounds leads beyond one that is near. It is
    `settled` where that step, `step`, is at most a standard deviation; None where there is none, or at a bound.
    """
    layer, values = objective.backbone.layers[-1], coefficients_of(objective.backbone, theta)
    if not isinstance(layer, Coefficients):
        return {}
    spread, found = _spread(objective, theta, layer), {}
    for k, (name, value) in enumerate(values.items()):
        std = None if spread.std is None or not spread.seen[k] else float(spread.std[k])
        reach = None if std is None else _quantile(spread.freedom) * std
        lower, upper = layer.bounds[k]
        interval = (
            None
            if reach is None
            else [
                value - reach if lower is None else max(value - reach, lower),
                value + reach if upper is None else min(value + reach, upper),
            ]
        )
        step = float(spread.step[k])
        bound = _bound(value, step, layer.starts[k], (lower, upper))
        most = UNDETERMINED * max(abs(value), abs(layer.starts[k]))
        determined = bool(spread.seen[k]) and (spread.noise is None or float(spread.noise[k]) <= most)
        settled = None if std is None or bound is not None else abs(step) <= std
        found[name] = {"value": value, "std": std, "interval_95": interval, "determined": determined, "bound": bound}
        found[name] |= {"settled": settled, "step": step}
    return found


def _quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t; of the normal distribution for infinite degrees of freedom."""
    from scipy.stats import norm, t

    return float(norm.ppf(0.975) if math.isinf(freedom) else t.ppf(0.975, max(freedom, 1.0)))


@dataclass(frozen=True)
class _Spread:
    """Standard deviations `[count]`, None for unknown noise; its degrees of freedom; the coefficients seen by data.

    Those by noise alone are `noise`. The step is that of Gauss and Newton, `[count]`, as if there were no bounds.
    """

    std: Tensor | None
    noise: Tensor | None
    freedom: float
    seen: Tensor
    step: Tensor


def _bound(value: float, step: float, start: float, bounds: tuple[float | None, float | None]) -> float | None:
    """Return the bound that keeps a coefficient from a step; None where there is none near."""
    for bound, sign in zip(bounds, (1, -1), strict=True):
        if bound is None:
            continue
        near = abs(value - bound) <= NEAR * abs(start - bound)
        if near and sign * (value + step - bound) < 0:
            return bound
    return None


def _spread(objective: Objective, theta: Tensor, layer: Coefficients) -> _Spread:
    """Return how sharply the data tell the coefficients."""
    conditions, scales, count = objective.residuals.conditions, objective.residuals.scales, len(layer.names)
    jacobian = objective.linearize(theta).dense().jacobian.clone()
    sizes = jacobian.new_tensor([abs(start) or 1.0 for start in layer.starts])
    slopes = layer.values(objective.backbone.arrays(theta)[-1]["constants"])[1]
    jacobian[:, -count:] *= sizes / slopes.where(slopes != 0, sizes)  # the slope vanishes at a bound
    u, s, v = torch.linalg.svd(jacobian, full_matrices=False)
    kept = s > SMALLEST * s[0]
    u, s, v = u[:, kept], s[kept], v[kept]
    own, residual = v[:, -count:].T / s, objective.residual(theta)[0].detach()  # (count, kept)
    (variance, left_over, by_data), start, freedom = s.new_zeros(3, count), 0, math.inf
    data, known = False, True
    for term, equation, value in objective.rows(theta):
        rows = slice(start, start + len(value))
        start = rows.stop
        condition = conditions.get(term.name)
        part = own @ u[rows].T
        if condition is None or condition.given is None:
            left_over += (part * residual[rows]).square().sum(dim=1)
            continue
        data = True
        factor = term.scale / scales.of(term.name, equation)
        noise, left = noise_of(
            value * scales.of(term.name, equation), u[rows], known=f"sigma_{equation}" in condition.given
        )
        known, freedom = known and noise is not None, min(freedom, left)
        variance += (part * factor * (noise or 0.0)).square().sum(dim=1)
        by_data += part.square().sum(dim=1)
    step, whole = -sizes * (own @ (u.T @ residual)), own.square().sum(dim=1)
    seen = by_data > SHARE * whole
    if not data or (not bool(seen.all()) and _more(objective)):
        seen |= whole * jacobian[:, -count:].square().sum(dim=0) < LEFT**-2  # 1/‖own‖ is what remains of the column
    seen &= v[:, -count:].square().sum(dim=0) > 1 - SHARE
    known = known and data
    std, noise_alone = ((variance + left_over).sqrt() * sizes, variance.sqrt() * sizes) if known else (None, None)
    return _Spread(std, noise_alone, freedom, seen, step)


def _more(objective: Objective) -> bool:
    """Tell whether conditions, being more than the equations ask for, may tell a coefficient as well as data."""
    residuals, points = objective.residuals, objective.points
    return more_conditions(residuals, few_points(residuals.problem, points.dtype, points.device))


def noise_of(value: Tensor, u: Tensor, *, known: bool) -> tuple[float | None, float]:
    """Return the noise of data of residuals `[n]`, 1 where σ is given, and the degrees of freedom it is known from."""
    if known:
        return 1.0, math.inf
    rest = 1 - torch.linalg.eigvalsh(u.T @ u).clamp(0, 1)  # eigenvalues of I − H, but for those that are 1
    once, twice = (len(value) + float((rest**power - 1).sum()) for power in (2, 4))
    if once <= 0.5:
        return None, 0.0
    return math.sqrt(float(value.square().sum()) / once), once**2 / twice


def check_coefficients(objective: Objective, theta: Tensor) -> None:
    """Refuse coefficients that no equation, condition or datum depends on, or only together; raises UserError."""
    layer = objective.backbone.layers[-1]
    if not isinstance(layer, Coefficients):
        return
    columns = objective.linearize(theta).dense().jacobian[:, -len(layer.names) :]
    for name, column in zip(layer.names, columns.T, strict=True):
        if not bool(column.any()):
            raise UserError(f"unknown={{{name}: …}}: no equation and no condition depends on {name}")
    _, s, v = torch.linalg.svd(columns / columns.norm(dim=0), full_matrices=False)
    if len(s) < len(layer.names) or s[-1] < SINGULAR * s[0]:
        names = [name for name, part in zip(layer.names, v[-1].abs(), strict=True) if part > math.sqrt(SINGULAR)]
        told = ", ".join(f"{name}: …" for name in names)
        raise UserError(f"unknown={{{told}}}: no data determine {' and '.join(names)}, as one undoes the other")
