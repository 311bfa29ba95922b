"""Constants of a closed form that are equal as far as it is known, given one value, so that like terms meet."""

from __future__ import annotations

from typing import Any

import numpy as np

from kanpinn.errors import needed
from kanpinn.symbolic.patience import within


def merged(expression: Any, share: float) -> Any:
    """Give constants that are equal within a relative share one value, and expand, so that like terms meet."""
    sympy = needed("sympy", "a closed form", "formulas")
    floats = sorted(expression.atoms(sympy.Float), key=lambda one: abs(float(one)))
    groups: list[list[Any]] = []
    for one in floats:
        if groups and abs(abs(float(one)) - abs(float(groups[-1][-1]))) <= share * abs(float(one)):
            groups[-1].append(one)
        else:
            groups.append([one])
    turned = {}
    for group in groups:
        middle = float(np.median([abs(float(one)) for one in group]))
        turned |= {one: sympy.Float(np.sign(float(one)) * middle) for one in group}
    whole = expression.xreplace(turned)
    whole = whole.xreplace({part: _turned(part, share) for part in whole.atoms(sympy.sin, sympy.cos)})
    how = {"power_base": False, "power_exp": False, "func": False, "trig": False}
    return within(lambda: sympy.expand(whole, **how), whole)


def _turned(part: Any, share: float) -> Any:
    """Write a sine or cosine whose angle begins near a multiple of π/2 with that multiple."""
    sympy = needed("sympy", "a closed form", "formulas")
    offset, rest = part.args[0].as_independent(*part.free_symbols, as_Add=True)
    quarters = round(float(offset) / (np.pi / 2))
    if abs(float(offset) - quarters * np.pi / 2) > max(share, 1e-6) * max(1.0, abs(float(offset))):
        return part
    return part.func(rest + sympy.pi / 2 * quarters)
