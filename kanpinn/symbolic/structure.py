"""Structure of a function of several variables, found by asking it: what splits, what depends on a combination only.

Tests in turn, each by differences over random places of a box (`kanpinn.explain.structure`), for x split into y, z:

    f = g(y) + h(z)            f(y, z) − f(y, z') − f(y', z) + f(y', z') = 0
    f = g(y) h(z)              f(y, z) f(y', z') − f(y, z') f(y', z) = 0
    f = g(x_i + r x_j, rest)   ∂_j f / ∂_i f = r everywhere
    f = Σ_k g_k(y) h_k(z)      the matrix f(y_m, z_n) has a low rank
    f = h(g) for some known h  one of these holds of h⁻¹(f)

until functions of one variable are left, which `curves` takes. All constants are only as good as the function; they are
refined afterwards, in the whole expression (`constants`).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kanpinn.errors import needed
from kanpinn.explain.structure import PLACES, Field, Finding, change_along, corners, gradients, refined_ratio
from kanpinn.symbolic.curves import fitted
from kanpinn.symbolic.library import Array, Form

RANK = 4
"""Most products in a sum."""

CLOSE = 3.0
"""Multiple of the tolerance that a function of one variable may miss of a curve."""

DEEPEST = 6
"""Most properties found within each other."""


class Search:
    """Search for a closed form of a function.

    Attributes:
        findings: Properties found on the way, in order.
    """

    def __init__(self, forms: Sequence[Form], seconds: float = math.inf, close: float = CLOSE) -> None:
        """Keep the library, the processor time the search may take, and how many tolerances a curve may miss."""
        self._close = close
        self.forms, self._seconds, self._end = forms, seconds, time.process_time() + seconds
        self.findings: list[Finding] = []
        self.sympy = needed("sympy", "a closed form", "formulas")

    def find(self, field: Field, depth: int = 0) -> Any | None:
        """Return SymPy's expression of a function, or None where nothing known fits."""
        size = float(np.sqrt(np.mean(field.value(field.points(PLACES, 0)) ** 2)))
        if time.process_time() > self._end and not (self.findings and self.findings[-1].text == self._over):
            self.findings.append(Finding(self._over, self._seconds, self._seconds))
        if not np.isfinite(size) or depth > DEEPEST or time.process_time() > self._end:
            return None
        if size == 0:
            return self.sympy.Integer(0)
        needed_names = self._needed(field, size)
        middle = (field.lower + field.upper) / 2
        if not needed_names:
            return self.sympy.Float(float(np.mean(field.value(field.points(PLACES, 1)))))
        if len(needed_names) < len(field.names):
            return self.find(field.at(needed_names, middle), depth + 1)
        if len(field.names) == 1:
            return self._curve(field)
        for step in (self._sum, self._product, self._combined):
            found = step(field, size, depth)
            if found is not None:
                return found
        found = self._composed(field, depth)
        return self._low_rank(field) if found is None else found

    @property
    def _over(self) -> str:
        return f"the search ended after {self._seconds:g} seconds (--seconds)"

    def _symbol(self, name: str) -> Any:
        return self.sympy.Symbol(name, real=True)

    def _needed(self, field: Field, size: float) -> list[str]:
        """Coordinates that the function depends on."""
        least = 8 * field.tolerance * size
        return [name for name in field.names if np.abs(change_along(field, name)).max() > least]

    def _curve(self, field: Field) -> Any | None:
        x = np.linspace(field.lower[0], field.upper[0], PLACES)
        found = fitted(
            x,
            field.value(x[:, None]),
            self._close * field.tolerance,
            self.forms,
            self._symbol(field.names[0]),
            self._end,
        )
        return None if found is None else found.expression

    def _groups(self, field: Field) -> Iterator[tuple[list[str], list[str]]]:
        """All ways to divide the coordinates in two."""
        names = list(field.names)
        for count in range(1, len(names) // 2 + 1):
            for one in itertools.combinations(names, count):
                rest = [name for name in names if name not in one]
                if 2 * count < len(names) or names[0] in one:
                    yield list(one), rest

    def _holds(self, text: str, measured: float, tolerance: float) -> bool:
        if measured <= tolerance:
            self.findings.append(Finding(text, measured, tolerance))
        return measured <= tolerance

    def _sum(self, field: Field, size: float, depth: int) -> Any | None:
        for one, rest in self._groups(field):
            a, b, c, d = corners(field, one)
            text = f"sum of a function of {', '.join(one)} and one of {', '.join(rest)}"
            if self._holds(text, float(np.abs(a - b - c + d).max()) / size, 16 * field.tolerance):
                base = (field.lower + field.upper) / 2
                level = float(field.value(base[None])[0])
                left, right = self.find(field.at(one, base), depth + 1), self.find(field.at(rest, base), depth + 1)
                return None if left is None or right is None else left + right - level
        return None

    def _product(self, field: Field, size: float, depth: int) -> Any | None:
        for one, rest in self._groups(field):
            a, b, c, d = corners(field, one)
            text = f"product of a function of {', '.join(one)} and one of {', '.join(rest)}"
            if self._holds(text, float(np.abs(a * d - b * c).max()) / size**2, 16 * field.tolerance):
                points = field.points(PLACES, 6)
                values = field.value(points)
                base = points[np.abs(values).argmax()]
                level = float(np.abs(values).max() * np.sign(values[np.abs(values).argmax()]))
                left, right = self.find(field.at(one, base), depth + 1), self.find(field.at(rest, base), depth + 1)
                return None if left is None or right is None else left * right / level
        return None

    def _combined(self, field: Field, size: float, depth: int) -> Any | None:
        """Find g in f = g(x_i + r x_j, rest)."""
        slopes = gradients(field, field.points(PLACES, 7))
        for i, j in itertools.combinations(range(len(field.names)), 2):
            a, b = slopes[:, i], slopes[:, j]
            square = float(a @ a)
            ratio = float(a @ b) / square if square else 0.0
            missed = np.abs(b - ratio * a).max() / np.sqrt(np.mean(a**2 + b**2))
            if missed > max(1e-4, 1e3 * field.tolerance) or abs(ratio) < 1e-3:
                continue
            width = field.upper - field.lower
            r, _, _ = refined_ratio(field, i, j, ratio * width[i] / width[j])
            inner, names = self._along(field, i, j, r), field.names
            found = self._checked(inner, field, i, j, r, size)
            if self._holds(f"function of {names[i]} + {r:.8g} {names[j]}", found, 30 * field.tolerance):
                expression = self.find(inner, depth + 1)
                if expression is None:
                    return None
                x, y = self._symbol(names[i]), self._symbol(names[j])
                return expression.subs(x, x + r * y)
        return None

    def _along(self, field: Field, i: int, j: int, r: float) -> Field:
        """Return g of s = x_i + r x_j, called x_i, and the rest, over all values that s takes."""
        ends = np.sort([r * field.lower[j], r * field.upper[j]])
        lower, upper = field.lower.copy(), field.upper.copy()
        lower[i], upper[i] = field.lower[i] + ends[0], field.upper[i] + ends[1]
        keep = [k for k in range(len(field.names)) if k != j]

        def value(points: Array) -> Array:
            whole = np.insert(points, j, 0.0, 1)
            s, span = whole[:, i], ends[1] - ends[0]
            share = (s - lower[i]) / (upper[i] - lower[i])
            whole[:, j] = (ends[0] + share * span) / r
            whole[:, i] = np.clip(s - r * whole[:, j], field.lower[i], field.upper[i])
            return field.value(whole)

        return replace(
            field, value=value, names=tuple(field.names[k] for k in keep), lower=lower[keep], upper=upper[keep]
        )

    def _checked(self, inner: Field, field: Field, i: int, j: int, r: float, size: float) -> float:
        points = field.points(PLACES, 10)
        reduced = points.copy()
        reduced[:, i] += r * points[:, j]
        reduced = np.delete(reduced, j, 1)
        return float(np.abs(inner.value(reduced) - field.value(points)).max()) / size

    def _low_rank(self, field: Field) -> Any | None:
        """Find f = Σ_k g_k(y) h_k(z) from the singular vectors of a matrix of values."""
        if len(field.names) != 2:
            return None
        axes = [np.linspace(a, b, 80) for a, b in zip(field.lower, field.upper, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        matrix = field.value(grid).reshape(80, 80)
        u, s, v = np.linalg.svd(matrix)
        rank = int((s > 16 * field.tolerance * s[0]).sum())
        if not 1 < rank <= RANK:
            return None
        self.findings.append(Finding(f"sum of {rank} products", float(s[rank] / s[0]), 16 * field.tolerance))
        total: Any = 0
        for k in range(rank):
            parts = []
            for axis, vector, name in zip(axes, (u[:, k] * s[k], v[k]), field.names, strict=True):
                # Vectors of small singular values carry the function's noise enlarged.
                noise = min(field.tolerance * s[0] / s[k], 0.01)
                found = fitted(axis, vector, 10 * noise, self.forms, self._symbol(name), self._end)
                if found is None:
                    return None
                parts.append(found.expression)
            total += parts[0] * parts[1]
        return total

    def _composed(self, field: Field, depth: int) -> Any | None:
        """Find g in f = h(g), for an h of which the inverse is known."""
        values = field.value(field.points(PLACES, 11))
        spread = float(np.sqrt(np.mean(values**2)))
        positive, away = bool((values > 0).all()), bool(np.abs(values).min() > 0.02 * spread)
        tried: list[tuple[bool, str, Callable[[Array], Array], Callable[[Any], Any]]] = [
            (positive and away, "exp", np.log, self.sympy.exp),
            (away, "1/g", lambda y: 1 / y, lambda g: 1 / g),
            (positive, "sqrt", np.square, self.sympy.sqrt),
            (positive and away, "square", np.sqrt, lambda g: g**2),
        ]
        for possible, name, inverse, outer in tried:
            if not possible:
                continue
            smallest = float(np.abs(values).min())
            inner = field.mapped(inverse, min(1e-3, 4 * field.tolerance * spread / smallest))
            size = float(np.sqrt(np.mean(inner.value(field.points(PLACES, 0)) ** 2)))
            before = len(self.findings)
            for step in (self._sum, self._product, self._combined):
                found = step(inner, size, depth + 1)
                if found is not None:
                    self.findings.insert(before, Finding(f"{name} of a function", 0.0, 0.0))
                    return outer(found)
            del self.findings[before:]
        return None
