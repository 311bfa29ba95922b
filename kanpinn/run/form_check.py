"""Checks of conditions that are built in: which are not, and which settings have no effect for those that are."""

from __future__ import annotations

from collections.abc import Mapping

from kanpinn.least_squares.residuals import Residuals
from kanpinn.pde.condition import claimed
from kanpinn.pde.data import conditions_of
from kanpinn.pde.form_builder import possible_form
from kanpinn.pde.network_fields import offers_exact
from kanpinn.solver.setup import Setup


def form_doubts(setup: Setup, residuals: Residuals) -> list[str]:
    """Return a line for everything about conditions built in that the user may not expect.

    Args:
        setup: The setup of the run.
        residuals: Problem and network, with the conditions that are left to the loss.
    """
    return [*_unmet(setup), *_idle(setup, residuals)] if setup.exact else []


def _unmet(setup: Setup) -> list[str]:
    """Say which conditions stay loss terms where others are built in, why, and where that form is not smooth."""
    form = None if offers_exact(setup.problem) else possible_form(setup.problem)
    reasons = form.reasons if form else {}
    told = {name: f" ({reasons[name]})" if name in reasons else "" for name in setup.unmet}
    lines = [f"exact does not meet condition '{name}'{why}, which stays a loss term" for name, why in told.items()]
    if form and form.rough:
        text = "errors may be large there, and smaller with problem.conditions=soft"
        lines.append(f"the exact form is not smooth at the ends of {', '.join(form.rough)}: {text}")
    return lines


def _idle(setup: Setup, residuals: Residuals) -> list[str]:
    """Say which weights and numbers of points that are given by name have no effect, their condition being built in."""
    built = {c.name for c in conditions_of(setup.problem) if claimed(c)} - {*residuals.conditions}
    counts = setup.sampler.boundary
    key = "form" if isinstance(getattr(setup.problem, "text", None), Mapping) else "conditions"
    given = {
        "weighting.terms": setup.weighting.terms,
        "sampler.boundary": counts if isinstance(counts, Mapping) else {},
    }
    text = f"has no effect, as this condition is built in; problem.{key}=soft makes a loss term of it"
    return [f"{group}.{name} {text}" for group, names in given.items() for name in names if name in built]
