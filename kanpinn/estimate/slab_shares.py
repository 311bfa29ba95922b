"""Shares of time slabs in the error of the whole: little where errors have died out, as in rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from kanpinn.estimate.defect import Correction
from kanpinn.geometry.chart import Array


def shares(parts: Sequence[Correction], resolved: float) -> Array:
    """Bound the share of each slab's defect in the whole error, `[slabs]`, 1 at most.

    With e the error and u the solution, root mean squares over a slab relative to those of the whole, and d the defect
    relative to its equation's terms, S = max e/(d u) over the slabs whose defect is represented but for `resolved` says
    what a defect makes of itself; a slab's own is no more than max(e, S d u), and grows later as e does from there on.
    """
    if len(parts) == 1:
        return np.ones(1)
    whole = {name: [math.hypot(*(part.norms[name][k] for part in parts)) for k in (0, 1)] for name in parts[0].norms}
    error, size = (
        np.array([max(part.norms[name][k] / (whole[name][1] or 1.0) for name in whole) for part in parts])
        for k in (0, 1)
    )
    defect = np.array([part.defect for part in parts]) * size
    known = [k for k, part in enumerate(parts) if part.left <= resolved and defect[k] > 0]
    total = math.hypot(*error)
    if not known or not total > 0:
        return np.ones(len(parts))
    own = np.maximum(error, max(error[k] / defect[k] for k in known) * defect)
    later = np.append(np.maximum.accumulate(error[::-1])[::-1][1:], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = own * np.fmax(1.0, later / error)
    return np.fmin(1.0, grown / total)
