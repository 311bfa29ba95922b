"""Choice of how a problem's conditions are met, where nobody says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde.data import conditions_of
from kanpinn.pde.form_builder import possible_form
from kanpinn.pde.network_fields import network_fields, offers_exact
from kanpinn.pde.problem import Problem, output_names
from kanpinn.pde.problem_calls import ask
from kanpinn.pde.unknown import free_coefficients
from kanpinn.settings.configuration import Configuration
from kanpinn.settings.discovery import conditions_key
from kanpinn.solver.setup import Setup

TRIED = 16
"""Points inside at which the form is tried."""

Ways = Literal["soft", "exact", "auto"]
"""Conditions as loss terms, built into the network, or whichever is better as a rule."""


def settled(configuration: Configuration) -> Configuration:
    """Return a config that says how conditions are met, in place of "auto", and a line where some are built in."""
    problem = configuration.resolved["problem"]
    key = conditions_key(problem)
    if problem.get(key) != "auto":
        return configuration
    built = _built(configuration.setup)
    chosen: Literal["soft", "exact"] = "exact" if built else "soft"
    resolved = {**configuration.resolved, "problem": {**problem, key: chosen}}
    notes = (
        (f"built into the network: {', '.join(built)} (problem.{key}=soft makes loss terms of them)",) if built else ()
    )
    setup = replace(configuration.setup, conditions=chosen)
    return replace(configuration, setup=setup, resolved=resolved, notes=notes)


def _built(setup: Setup) -> tuple[str, ...]:
    """Return the conditions to be built in: those of boxes without time that give values, unless settings name one.

    Forms of a problem's own, coefficients to be found, data and parameters leave them to the loss, as do conditions on
    parts of a face, and those that contradict others, as where pieces meet.
    """
    problem = setup.problem
    plain = isinstance(problem.domain, Box) and "t" not in problem.domain.names and problem.has_equations
    own = type(problem).ansatz is not Problem.ansatz or type(problem).inside is not Problem.inside
    if not plain or own or offers_exact(problem):
        return ()
    if free_coefficients(problem) or problem.parameters:
        return ()
    try:
        with torch.inference_mode(False), torch.enable_grad(), torch.device("cpu"):  # whatever the caller's
            return _of_form(setup)
    except UserError:  # told where the problem is examined
        return ()


def _of_form(setup: Setup) -> tuple[str, ...]:
    """Return the conditions that can be built in, none where there are data; raises UserError for a wrong problem."""
    problem, weighting, counts = setup.problem, setup.weighting, setup.sampler.boundary
    if any(condition.given is not None for condition in ask(problem, "conditions", lambda: conditions_of(problem))):
        return ()
    form = possible_form(problem)
    named = {*weighting.terms, *weighting.base, *getattr(weighting, "only", ())}
    named |= {*counts} if isinstance(counts, Mapping) else set()
    if form.reasons or named & set(form.conditions) or not form.conditions:
        return ()
    return form.conditions if _finite(problem) else ()


def _finite(problem: Problem) -> bool:
    """Tell whether the form has finite derivatives inside: slopes of values at a corner run through the domain."""
    domain, space = problem.domain, JetSpace(problem.domain.names, tuple(problem.derivatives))
    unit = torch.rand(TRIED, len(domain), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lower, upper = (torch.tensor(end, dtype=torch.float64) for end in (domain.lower, domain.upper))
    raw = Jet(space, torch.zeros(len(space.indices), TRIED, len(output_names(problem)), dtype=torch.float64))
    fields = network_fields(problem, raw, lower + (upper - lower) * unit, exact=True)
    return all(bool(jet.data.isfinite().all()) for jet in fields.values())
