"""Estimate of the relative L2 error of each unknown by the change from the last level but one to the last."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def error_by_levels(
    parts: Sequence[tuple[Mapping[str, float] | None, Mapping[str, float]]], contraction: float = 1.0
) -> dict[str, float] | None:
    """Estimate the relative L2 error by unknown.

    With errors e_L, e_{L−1} of the two levels the change lies within ‖e_{L−1}‖ ± ‖e_L‖: where the last level gained
    much it is the error of the level below, and ρ times the change that of the last, if errors fall in proportion ρ to
    residuals. Where the last level gained nothing the change may be below the error.

    Args:
        parts: The last level's change ‖u_L − u_{L−1}‖₂/‖u_L‖₂ of each time slab, None without a level below, and the
            norms ‖u_L‖₂.
        contraction: ρ; 1 for an upper bound of an error that has fallen.

    Returns:
        The errors; NaN of an unknown that is zero. None where a slab has only one level.
    """
    changes = [change for change, _ in parts if change is not None]
    if len(changes) < len(parts):
        return None
    norms = {name: math.hypot(*(sizes[name] for _, sizes in parts)) for name in parts[0][1]}
    moved = {
        name: math.hypot(*(change[name] * sizes[name] for change, (_, sizes) in zip(changes, parts, strict=True)))
        for name in norms
    }
    return {name: contraction * moved[name] / size if size else math.nan for name, size in norms.items()}
