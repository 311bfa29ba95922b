"""Closed forms of fits to tables: laws of the rows and of the network, held against rows neither has seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import torch

from kanpinn.errors import UserError, needed
from kanpinn.explain.function_error import fit_errors
from kanpinn.explain.learned import learned
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.table import Table
from kanpinn.symbolic.constants import FINEST, Fit, refined, shown_constants
from kanpinn.symbolic.formula import MISSED, ROUGHEST, ClosedForm, Formulas
from kanpinn.symbolic.hypotheses import fitted_hypothesis, given_forms
from kanpinn.symbolic.laws import LawSearch
from kanpinn.symbolic.library import Array, further, library, values_of
from kanpinn.symbolic.structure import CLOSE, Search

CONSTANTS = 10
"""Constants that are no exact numbers, at most, of a law that is not exact: more of them fit anything."""

SAYS = 0.5
"""Share of the values' standard deviation that a law may miss, lest it says nothing."""

NOISY = 0.05
"""Relative error without the noise up to which a network is asked for its structure."""

CURVES = (3.0, 2.0, 1.4, 1.0, 0.5)
"""Multiples of that error that functions of one variable may miss of its curves."""

SECONDS = 10.0
"""Most processor time of each of these searches."""

OFFSETS = 2
"""Most additive constants of which all ways to leave some out are tried; of more, all or none."""


def laws_of(
    residuals: Residuals,
    theta: torch.Tensor,
    hypotheses: Sequence[str] = (),
    forms: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
    seconds: float = 60.0,
    known_forms: Mapping[str, Any] | None = None,
) -> Formulas:
    """Search for laws of a table's targets, in its rows for training and validation.

    A sum, product or combination is looked for in the rows themselves, and by asking the network where that is good;
    the one with the better score stays. It is none if it misses more of the rows held out than the network does.

    Args:
        residuals: The table and the network fitted to it.
        theta: The network's parameters.
        hypotheses: Formulas with unknown constants, such as "y = a*sin(b*x)", in place of the search.
        forms: Further functions of x for the library.
        progress: Called with a line of text now and then.
        seconds: Processor time for each target.
        known_forms: Expressions by target whose constants are refined, in place of the search.

    Raises:
        UserError: If the table holds classes, or a formula cannot be read or has no values at its rows.
    """
    table = residuals.problem
    assert isinstance(table, Table)
    if table.classes:
        raise UserError(f"{table.called}: its targets are classes; a law is looked for in numbers only")
    further(forms)  # a word on these before any work
    given = given_forms(hypotheses, table)
    found = {name: ClosedForm(name) for name in table.unknowns if name in given or not given}
    known, fresh = _rows(table, ("train", "validation")), _rows(table, ("test",))
    fresh = fresh if len(fresh[0]) else known
    tolerance = 0.0
    for name, one in found.items():
        points, values = known[0], known[1][name]
        network = learned(residuals, theta, name, FINEST).value
        whole, error = False, _missed(network(_inside(table, fresh[0])), fresh[1][name])
        tolerance = max(tolerance, error)
        if name in given:
            one.hypothesis, expression = given[name]
            one.fit, one.named = fitted_hypothesis(
                one.hypothesis, expression, table.domain.names, points, values, error, random=True
            )
        elif known_forms is not None:
            names, least = table.domain.names, max(error, FINEST)
            one.fit = refined(known_forms[name], names, points, values, least, random=True)
        else:
            progress(f"{name}: looking for a law in {len(values)} rows of {len(table.domain.names)} inputs")
            one.fit, whole = _law(residuals, theta, name, (points, values), error, forms, seconds)
        if one.fit is not None:
            own = values_of(one.fit.expression, table.domain.names, fresh[0])
            if not one.hypothesis and not _good(one.fit, own, fresh[1][name], error, whole=whole):
                one.fit = None
                continue
            one.error = _missed(own, network(_inside(table, fresh[0])))
            one.data = {"law": _missed(own, fresh[1][name]), "network": error}
    return Formulas(found, tolerance, [])


def _rows(table: Table, parts: Sequence[str]) -> tuple[Array, dict[str, Array]]:
    """Inputs `[N, d]` and targets `[N]` by name of some parts together."""
    rows = [table.rows(part) for part in parts]
    columns = {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}
    return np.stack([columns[name] for name in table.domain.names], 1), columns


def _inside(table: Table, points: Array) -> Array:
    return np.clip(points, table.domain.lower, table.domain.upper)


def _missed(found: Array, values: Array) -> float:
    """Relative root mean square of a difference."""
    return float(np.linalg.norm(found - values) / np.linalg.norm(values))


def _law(
    residuals: Residuals,
    theta: torch.Tensor,
    name: str,
    rows: tuple[Array, Array],
    error: float,
    forms: Sequence[str],
    seconds: float,
) -> tuple[Fit | None, bool]:
    """The best law, and whether nothing is left of the rows that it does not say."""
    table = residuals.problem
    search = LawSearch(*rows, table.domain.names, seconds, forms)
    with np.errstate(all="ignore"):
        search.find()
    if not (search.laws and search.laws[0].residual < FINEST):
        for expression in _built(residuals, theta, name, error, forms):
            search.add(expression)
    fit = search.exact()
    if fit is not None:  # its sign may not be that of the law that was refined
        fit = replace(fit, free=shown_constants(fit.expression, table.domain.names, *rows))
    return fit, search.complete()


def _built(residuals: Residuals, theta: torch.Tensor, name: str, error: float, forms: Sequence[str]) -> Iterator[Any]:
    """Expressions of the network's structure, each also without its additive constants, in any order.

    The network is asked at its error without the noise, which smoothing has taken from it. Of the curves in it more
    than one function comes close; how close is tried in turn.
    """
    own = fit_errors(residuals, theta)[name]
    tries = [(3 * error, CLOSE)] if error < ROUGHEST else []
    tries += [(own, close) for close in CURVES] if own <= NOISY else []
    seen = set[str]()
    for tolerance, close in tries:
        field = learned(residuals, theta, name, max(tolerance, FINEST))
        with np.errstate(all="ignore"):
            expression: Any = Search(library(forms), SECONDS, close).find(field)
        for one in () if expression is None else _without_constants(expression):
            if str(one) not in seen:
                seen.add(str(one))
                yield one


def _without_constants(expression: Any) -> Iterator[Any]:
    """An expression, and what is left of it without constants in its sums: some of them, or all where they are many."""
    sympy = needed("sympy", "a closed form", "formulas")
    sums = [one for one in expression.atoms(sympy.Add) if any(part.is_number for part in one.args)]
    sums.sort(key=lambda one: (-sympy.count_ops(one), str(one)))  # those around others first
    few = len(sums) <= OFFSETS
    for some in product((False, True), repeat=len(sums)) if few else ((False,) * len(sums), (True,) * len(sums)):
        left = expression
        for one in (one for one, gone in zip(sums, some, strict=True) if gone):
            left = left.xreplace({one: sympy.Add(*(part for part in one.args if part.free_symbols))})
        yield left


def _good(law: Fit, own: Array, values: Array, error: float, *, whole: bool) -> bool:
    """Tell whether a law is one: no worse than the network, or the whole that rows say, and not next to nothing."""
    spread = np.linalg.norm(values - values.mean())
    missed, size = np.linalg.norm(own - values), np.linalg.norm(values)
    if len(law.free) > CONSTANTS and missed > FINEST * size:
        return False
    return bool(missed <= SAYS * spread and (whole or missed <= MISSED * error * size))
