"""Coefficients found from data, with standard deviations and intervals.

At the minimum of ‖r‖² noise ε in the rows d of the data moves the parameters by δθ = −J⁺ε to first order, J⁺ the
pseudo-inverse of the whole Jacobian, equations and conditions included. With var ε = Σ, cov θ = J⁺_d Σ J⁺_dᵀ (Seber and
Wild 1989, Nonlinear Regression, sec. 2.1, for rows of which only some are noisy). Where no σ is given it is estimated
by ‖ε‖² / (n − ν), n data and ν = tr (J J⁺)_dd the number of parameters that they determine.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kanpinn.backbones.coefficients import Coefficients, coefficients_of
from kanpinn.errors import UserError
from kanpinn.least_squares.objective import Objective

SMALLEST = 1e-11
"""Singular values of J below this share of the largest are taken for 0."""

UNDETERMINED = 1.0
"""Relative standard deviation from which data do not determine a coefficient."""


def coefficient_statistics(objective: Objective, theta: Tensor) -> dict[str, dict[str, Any]]:
    """Return value, standard deviation and 95 % interval of every coefficient found, by name.

    The standard deviation is None without data, or where they leave nothing to tell the noise from.
    """
    layer, values = objective.backbone.layers[-1], coefficients_of(objective.backbone, theta)
    if not isinstance(layer, Coefficients):
        return {}
    spread = _spread(objective, theta, layer)
    found = {}
    for k, (name, value) in enumerate(values.items()):
        std, freedom = (None, 0.0) if spread is None else (float(spread[0][k]), spread[1])
        reach = None if std is None else _quantile(freedom) * std
        interval = None if reach is None else [value - reach, value + reach]
        found[name] = {"value": value, "std": std, "interval_95": interval}
    return found


def _quantile(freedom: float) -> float:
    """Return the 97.5 % quantile of Student's t; of the normal distribution for infinite degrees of freedom."""
    from scipy.stats import norm, t

    return float(norm.ppf(0.975) if math.isinf(freedom) else t.ppf(0.975, max(freedom, 1.0)))


def _spread(objective: Objective, theta: Tensor, layer: Coefficients) -> tuple[Tensor, float] | None:
    """Return the standard deviations `[count]`, and the degrees of freedom that the noise is known from."""
    conditions, scales = objective.residuals.conditions, objective.residuals.scales
    jacobian = objective.linearize(theta).dense().jacobian
    u, s, v = torch.linalg.svd(jacobian, full_matrices=False)
    kept = s > SMALLEST * s[0]
    u, s, v = u[:, kept], s[kept], v[kept]
    own = v[:, -len(layer.names) :].T / s  # (count, kept)
    variance, start, freedom = torch.zeros(len(layer.names)).to(s), 0, math.inf
    data = False
    for term, equation, value in objective.rows(theta):
        rows = slice(start, start + len(value))
        start = rows.stop
        condition = conditions.get(term.name)
        if condition is None or condition.given is None:
            continue
        data = True
        factor = term.scale / scales.of(term.name, equation)
        noise, left = _noise(value * scales.of(term.name, equation), u[rows], f"sigma_{equation}" in condition.given)
        if noise is None:
            return None
        freedom = min(freedom, left)
        variance += (own @ u[rows].T * (factor * noise)).square().sum(dim=1)
    slopes = layer.values(objective.backbone.arrays(theta)[-1]["constants"])[1].abs()
    return (variance.sqrt() * slopes, freedom) if data else None


def _noise(value: Tensor, u: Tensor, known: bool) -> tuple[float | None, float]:
    """Return the noise of data of residuals `[n]`, 1 where σ is given, and the degrees of freedom it is known from."""
    if known:
        return 1.0, math.inf
    freedom = len(value) - float(u.square().sum())
    return (math.sqrt(float(value.square().sum()) / freedom), freedom) if freedom > 0.5 else (None, 0.0)


def check_coefficients(objective: Objective, theta: Tensor) -> None:
    """Refuse coefficients that no equation, condition or datum depends on; raises UserError."""
    layer = objective.backbone.layers[-1]
    if not isinstance(layer, Coefficients):
        return
    columns = objective.linearize(theta).dense().jacobian[:, -len(layer.names) :]
    for name, column in zip(layer.names, columns.T, strict=True):
        if not bool(column.any()):
            raise UserError(f"unknown={{{name}: …}}: no equation and no condition depends on {name}")
