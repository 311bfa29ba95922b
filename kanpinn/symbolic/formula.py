"""Closed forms of a solution: searched for, or given as a hypothesis, and judged by network, reference and equation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import numpy as np
import torch

from kanpinn.backbones.coefficients import coefficients_of
from kanpinn.errors import UserError, needed
from kanpinn.evaluate.grid_evaluation import reference_values
from kanpinn.explain.learned import learned
from kanpinn.explain.structure import Field, Finding
from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.unknown import posed
from kanpinn.symbolic.constants import FITS, Fit, refined
from kanpinn.symbolic.hypotheses import fitted_hypothesis, given_forms
from kanpinn.symbolic.library import Array, Form, library, values_of
from kanpinn.symbolic.structure import Search
from kanpinn.symbolic.substitution import Rest, rest_of

POINTS = 4000
"""Points at which constants are refined and errors measured."""

CLOSENESS = 1.0, 100.0
"""Multiples of the solution's error within which structure is looked for, the second where constants are left.

Differences of values lose digits: of a solution to 4e-11 sin(pi*x) is no factor within that, √(1 − cos(2*pi*x)) is one.
"""

ROUGHEST = 1e-2
"""Relative error of a solution above which no structure is looked for in it."""

FINEST = 1e-12
"""Relative error below which rounding decides."""

MISSED = 1.5
"""Error on the rows held out, as a multiple of the network's, up to which a law is as good."""

EXACT = 1e-11
"""Relative error on the rows held out up to which a law is exact."""


@final
@dataclass
class ClosedForm:
    """Closed form of one unknown.

    Attributes:
        unknown: Its name.
        fit: The expression with its constants; None where nothing fits.
        error: Relative L2 difference from the network.
        reference: The same from the reference; None without one.
        data: Relative errors on a table's rows held out, of the law and of the network.
        findings: Properties found on the way to it.
        hypothesis: The text given; "" where it was searched for.
        named: Its constants by name, each with its standard deviation.
    """

    unknown: str
    fit: Fit | None = None
    error: float | None = None
    reference: float | None = None
    data: dict[str, float] | None = None
    findings: list[Finding] = field(default_factory=list)
    hypothesis: str = ""
    named: dict[str, tuple[float, float]] = field(default_factory=dict)

    def verdict(self, tolerance: float) -> str | None:
        """Say whether a hypothesis holds, and how far a law that is not exact goes; None where neither is the case."""
        if self.fit is None or self.error is None:
            return None
        if self.hypothesis:
            missed, limit = (
                (self.error, tolerance)
                if self.data is None
                else (self.data["law"], min(MISSED * self.data["network"], 0.5))
            )
            if missed <= max(limit, EXACT):
                return "holds: it misses no more than the network does"
            return f"does not hold, with the constants found: it misses {missed:.1e}, more than {limit:.1e}"
        if self.data is not None and self.data["law"] > EXACT:
            return "not exact: other formulas may fit these rows as well, and differ from it where there are none"
        return None


@final
@dataclass(frozen=True)
class Formulas:
    """Closed forms of all unknowns.

    Attributes:
        forms: By unknown.
        tolerance: Relative size below which differences were none.
        rest: What they leave of the equations and conditions; empty unless there is one for every unknown.
    """

    forms: dict[str, ClosedForm]
    tolerance: float
    rest: list[Rest]


def closed_forms(
    residuals: Residuals,
    theta: torch.Tensor,
    tolerance: float,
    hypotheses: Sequence[str] = (),
    forms: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
    seconds: float = np.inf,
    known_forms: Mapping[str, Any] | None = None,
) -> Formulas:
    """Search for closed forms of a solution's unknowns.

    Args:
        residuals: The problem and the network.
        theta: Its parameters.
        tolerance: Error of the solution, relative, below which a difference is none.
        hypotheses: Formulas with unknown constants, such as "u = a*sin(pi*x)*exp(-b*t)", in place of the search.
        forms: Further functions of x for the library.
        progress: Called with a line of text now and then.
        seconds: Processor time for each unknown.
        known_forms: Expressions by unknown whose constants are refined, in place of the search.

    Raises:
        UserError: If the solution is too rough, a formula cannot be read, or a box inside the domain is not found.
    """
    tolerance = _usable(tolerance)
    problem = residuals.problem
    known = {name: ClosedForm(name) for name in problem.unknowns}
    given = given_forms(hypotheses, problem)
    search_forms = library(forms)
    for name, one in known.items():
        whole, points = learned(residuals, theta, name, tolerance), _points(residuals)
        values = whole.value
        if name in given:
            one.hypothesis, expression = given[name]
            there = points, values(points), tolerance
            one.fit, one.named = fitted_hypothesis(one.hypothesis, expression, whole.names, *there)
        elif known_forms is not None:
            fit = refined(known_forms[name], whole.names, points, values(points), tolerance)
            one.fit = fit if fit is not None and fit.residual <= FITS * tolerance else None
        elif not given:
            progress(f"{name}: looking for a closed form")
            _search(one, partial(learned, residuals, theta, name), points, tolerance, (search_forms, seconds))
        _judge(one, residuals, points, values(points))
    known = {name: one for name, one in known.items() if not given or name in given}
    rest: list[Rest] = []
    if len(known) == len(problem.unknowns) and all(one.fit for one in known.values()):
        # Coefficients that were found stand in the equations with the values they were found with.
        found_problem = posed(problem, coefficients_of(residuals.backbone, theta))
        rest = rest_of(found_problem, {n: one.fit.expression for n, one in known.items() if one.fit}, residuals.scales)
    return Formulas(known, tolerance, rest)


def _search(
    one: ClosedForm,
    asked: Callable[[float], Field],
    points: Array,
    tolerance: float,
    means: tuple[Sequence[Form], float],
) -> None:
    """Look for a form of the function that `asked` gives at a tolerance; `means`: library, and processor time."""
    end, values = time.process_time() + means[1], asked(tolerance).value(points)
    for share in CLOSENESS:
        search = Search(means[0], end - time.process_time())
        function = asked(share * tolerance)
        expression = search.find(function)
        one.findings = one.findings or search.findings
        fit = None if expression is None else refined(expression, function.names, points, values, tolerance)
        if fit is not None and fit.residual <= FITS * tolerance and _simpler(fit, one.fit):
            one.fit, one.findings = fit, search.findings
        if one.fit is not None and not one.fit.free:
            break


def _simpler(fit: Fit, other: Fit | None) -> bool:
    sympy = needed("sympy", "a closed form", "formulas")
    return other is None or sympy.count_ops(fit.expression) < sympy.count_ops(other.expression)


def _usable(tolerance: float) -> float:
    """Return a tolerance no finer than rounding; raises UserError where it is too rough for a closed form."""
    if np.isinf(tolerance):
        raise UserError("the solution's error is not known; give --tolerance, the relative size of it")
    if not tolerance <= ROUGHEST:
        raise UserError(
            f"the solution's error is {tolerance:.1e}; a closed form needs one below {ROUGHEST:g}: "
            "solve with more levels or steps first, or give --tolerance"
        )
    return max(tolerance, FINEST)


def _points(residuals: Residuals) -> Array:
    """Draw points in the domain `[N, d]`."""
    domain = residuals.problem.domain
    points = np.random.default_rng(1).uniform(domain.lower, domain.upper, (4 * POINTS, len(domain.names)))
    return points[domain.contains(points)][:POINTS]


def _judge(one: ClosedForm, residuals: Residuals, points: Array, values: Array) -> None:
    """Measure a form against the network and the reference."""
    if one.fit is None:
        return
    own = values_of(one.fit.expression, residuals.problem.domain.names, points)
    one.error = float(np.linalg.norm(own - values) / np.linalg.norm(values))
    reference = reference_values(residuals.problem, torch.from_numpy(points)).get(one.unknown)
    if reference is not None:
        one.reference = float(np.linalg.norm(own - reference) / np.linalg.norm(reference))


def as_json(found: Formulas) -> dict[str, Any]:
    """Return plain values for formula.json: by unknown `sympy`, `latex`, `error`, `residual` and how it was found."""
    sympy = needed("sympy", "a closed form", "formulas")
    inside = [one for one in found.rest if one.term == "interior"]
    out: dict[str, Any] = {}
    for name, one in found.forms.items():
        expression = None if one.fit is None else one.fit.expression
        out[name] = {
            "sympy": None if expression is None else str(expression),
            "latex": None if expression is None else sympy.latex(expression),
            "error": one.error,
            "error_to_reference": one.reference,
            "error_on_rows_held_out": one.data,
            "residual": max((rest.largest for rest in inside), default=None),
            "simplified_residual": _simplified(inside),
            "conditions": {rest.term: rest.largest for rest in found.rest if rest.term != "interior"},
            "constants": _constants(one),
            "properties": [finding.text for finding in one.findings],
            "hypothesis": one.hypothesis or None,
            "verdict": one.verdict(found.tolerance),
            "tolerance": found.tolerance,
        }
    return out


def _constants(one: ClosedForm) -> list[dict[str, Any]]:
    """Constants with their standard deviations: all of a hypothesis, by name; of a form found, what is not exact."""
    if one.named:
        return [{"name": name, "value": value, "std": deviation} for name, (value, deviation) in one.named.items()]
    return [{"value": value, "std": deviation} for value, deviation in (one.fit.free.values() if one.fit else ())]


def _simplified(inside: Sequence[Rest]) -> dict[str, str] | None:
    named = {rest.equation or "residual": str(rest.formula) for rest in inside if rest.formula is not None}
    return named or None


def constant_texts(constants: Sequence[Mapping[str, Any]], digits: int) -> list[str]:
    """Constants of formula.json as texts, such as "a = 2 ± 1e-3"."""
    names = [f"{one['name']} = " if "name" in one else "" for one in constants]
    return [f"{name}{one['value']:.{digits}g} ± {one['std']:.1e}" for name, one in zip(names, constants, strict=True)]


def as_markdown(found: Formulas, title: str) -> str:
    """Return the page formula.md."""
    lines = [f"# {title}", ""]
    for name, entry in as_json(found).items():
        one = found.forms[name]
        if one.fit is None:
            lines += [f"**{name}**: no closed form within {3 * found.tolerance:.1e} of the network was found.", ""]
            lines += [f"- found on the way: {text}" for text in entry["properties"]] + [""]
            continue
        lines += [f"$$ {name} = {entry['latex']} $$", "", f"`{name} = {entry['sympy']}`", ""]
        lines += [f"- {entry['verdict']}"] if entry["verdict"] else []
        lines += [f"- difference from the network (relative L2): {one.error:.2e}"]
        lines += [] if one.reference is None else [f"- difference from the reference: {one.reference:.2e}"]
        if one.data is not None:
            told = f"{one.data['law']:.2e}; of the network: {one.data['network']:.2e}"
            lines += [f"- error on the rows held out (relative L2): {told}"]
        lines += [f"- constant {text}" for text in constant_texts(entry["constants"], 12)]
        lines += [f"- {text}" for text in entry["properties"]] + [""]
    if found.rest:
        lines += ["| equation | largest residual, relative | simplified by SymPy |", "|---|--:|---|"]
        for rest in found.rest:
            label = rest.term if not rest.equation else f"{rest.term}: {rest.equation}"
            lines += [f"| {label} | {rest.largest:.1e} | {'' if rest.formula is None else f'`{rest.formula}`'} |"]
        lines += [""]
    return "\n".join(lines)


def tolerance_of(metrics: Mapping[str, Any]) -> float:
    """Return the error that a solution is said to have: to the reference, else its estimate; infinite without both."""
    errors = metrics.get("relative_l2") or metrics.get("error_estimate") or {}
    return max((float(value) for value in errors.values() if value is not None), default=np.inf)
