"""Exact numbers that constants of a closed form may be: p/q times 1, π, π², 1/π, √2, √3 and e."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

from kanpinn.errors import needed


@cache
def exact_numbers() -> tuple[tuple[float, int, Any], ...]:
    """Exact numbers above 0 by size, with their complexities."""
    sympy = needed("sympy", "a closed form", "formulas")
    units = ((sympy.Integer(1), 0), (sympy.pi, 1), (sympy.pi**2, 2), (1 / sympy.pi, 3), (sympy.sqrt(2), 4))
    units = (*units, (sympy.sqrt(3), 4), (sympy.E, 4))
    ratios = {Fraction(p, q) for q in range(1, 13) for p in range(1, 101)} | {Fraction(1, 10**k) for k in range(5)}
    ratios |= {Fraction(k, 100) for k in range(1, 100)} | {Fraction(k, 1000) for k in range(1, 20)}
    found = {}
    for unit, price in units:
        for ratio in ratios:
            number = sympy.Rational(ratio.numerator, ratio.denominator) * unit
            cost = ratio.numerator + ratio.denominator + 10 * price
            if number not in found or cost < found[number]:
                found[number] = cost
    return tuple(sorted(((float(number), cost, number) for number, cost in found.items()), key=lambda one: one[:2]))
