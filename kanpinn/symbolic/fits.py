"""Closed forms of fits to tables: laws of the rows and of the network, held against rows neither has seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from kanpinn.errors import UserError
from kanpinn.explain.learned import learned
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.table import Table
from kanpinn.symbolic.constants import FINEST, Fit, refined
from kanpinn.symbolic.formula import MISSED, ClosedForm, Formulas
from kanpinn.symbolic.hypotheses import fitted_hypothesis, given_forms
from kanpinn.symbolic.laws import LawSearch
from kanpinn.symbolic.library import Array, further, library, values_of
from kanpinn.symbolic.structure import Search

CONSTANTS = 10
"""Constants that are no exact numbers, at most, of a law that is not exact: more of them fit anything."""

SAYS = 0.5
"""Share of the values' standard deviation that a law may miss, lest it says nothing."""


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
    if error < 1e-2 and not (search.laws and search.laws[0].residual < FINEST):
        field = learned(residuals, theta, name, max(3 * error, FINEST))
        expression: Any = Search(library(forms)).find(field)
        if expression is not None:
            search.add(expression)
    return search.exact(), search.complete()


def _good(law: Fit, own: Array, values: Array, error: float, *, whole: bool) -> bool:
    """Tell whether a law is one: no worse than the network, or the whole that rows say, and not next to nothing."""
    spread = np.linalg.norm(values - values.mean())
    missed, size = np.linalg.norm(own - values), np.linalg.norm(values)
    if len(law.free) > CONSTANTS and missed > FINEST * size:
        return False
    return bool(missed <= SAYS * spread and (whole or missed <= MISSED * error * size))
