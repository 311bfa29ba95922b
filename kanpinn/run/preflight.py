"""Checks before a run folder is made: the problem's own code, sizes against memory, group against group."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.embedding import PARITIES
from kanpinn.errors import UserError, invalid
from kanpinn.evaluate.grid_evaluation import DEFAULT_POINTS, by_row, reference_values
from kanpinn.geometry import Region
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.blindness import check_seen
from kanpinn.least_squares.claims import few_points, undetermined
from kanpinn.least_squares.examination import check_calls, check_values, random_state
from kanpinn.least_squares.growth import growing_sources
from kanpinn.least_squares.jacobian import stores_jacobian
from kanpinn.least_squares.missing import missing_conditions
from kanpinn.least_squares.points import INTERIOR
from kanpinn.least_squares.residuals import Residuals
from kanpinn.least_squares.sufficiency import check_parameters, interfaces_too_free
from kanpinn.least_squares.uncertainty import check_coefficients
from kanpinn.optimizers import VariableProjection
from kanpinn.pde import Condition, Integral, Problem
from kanpinn.pde.data import Data, conditions_of
from kanpinn.pde.network_fields import offers_exact
from kanpinn.pde.problem import output_names
from kanpinn.pde.problem_calls import ask, problem_name
from kanpinn.pde.table import Table
from kanpinn.pde.time_slab import START
from kanpinn.pde.unknown import free_coefficients
from kanpinn.run.flag import Flag
from kanpinn.run.form_check import form_doubts
from kanpinn.run.names import check_equations, check_names
from kanpinn.run.symmetry_check import check_symmetry
from kanpinn.solver.setup import Setup, name_of
from kanpinn.solver.solver import Solver
from kanpinn.state import State


def check(setup: Setup, state: State | None = None) -> list[Flag]:
    """Check everything that can be checked before any work starts.

    Args:
        setup: The setup.
        state: The state to go on from; None at the beginning.

    Returns:
        What should be known though the problem is solved: of kind "conditions" where they do not determine it, "exact"
        where they are met in another way than asked for, "precision".

    Raises:
        UserError: If the problem's class or one of its methods is not as a problem's must be, the network's degree is
            too low for its derivatives, lists do not fit the levels, or the run would not fit into memory.
    """
    problem = setup.problem
    check_class(problem)
    check_methods(setup)
    with random_state(setup.device):
        return probe(setup, state)


def check_methods(setup: Setup) -> None:
    """Check network, schedule and points against the problem and the memory; raises UserError."""
    problem = setup.problem
    setup.backbone.check_order(JetSpace(problem.domain.names, tuple(problem.derivatives)).order)
    setup.sampler.check_levels(setup.schedule.levels)
    setup.sampler.check_problem(problem)
    check_slabs(setup)
    check_processes(setup)
    check_memory(setup, available_memory(setup.device.type))


def check_processes(setup: Setup) -> None:
    """Refuse what several processes cannot do together; raises UserError."""
    if setup.processes == 1:
        return
    if any(isinstance(one, VariableProjection) for one in setup.optimizers()):
        raise invalid("processes", setup.processes, "1 with optimizer=variable_projection, which needs all rows of J")
    fewest = min(setup.sampler.counts(stage.level)[0] for stage in setup.plan())
    if setup.problem.has_equations and fewest < setup.processes:
        raise invalid("processes", setup.processes, f"at most as many as there are points inside, {fewest}")


def check_class(problem: Problem) -> None:
    """Refuse class attributes and conditions that make no sense; raises UserError."""
    who = f"problem={type(problem).__name__}"
    if not isinstance(getattr(problem, "domain", None), Region) or not len(problem.domain):
        raise UserError(f"{who}: domain must be a region with at least one coordinate, such as Box(x=(0, 1), t=(0, 1))")
    names = problem.domain.names
    for key in ("unknowns", "outputs", "derivatives", "periodic"):
        value = getattr(problem, key, None)
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise UserError(f'{who}: {key} must be a tuple of names, such as ("u",), not {value!r}')
    if not problem.unknowns:
        raise UserError(f"{who}: unknowns={problem.unknowns} must name at least one unknown")
    for derivative in problem.derivatives:
        try:
            JetSpace(names, (derivative or "_",))
        except ValueError as error:
            raise UserError(f"{who}: {error}") from None
    for name in problem.periodic:
        if name not in names:
            raise UserError(f"{who}: periodic: '{name}' is not among the coordinates {', '.join(names)}")
    symmetry = problem.symmetry
    if not isinstance(symmetry, Mapping) or not all(
        name in names and parity in PARITIES for name, parity in symmetry.items()
    ):
        raise UserError(
            f'{who}: symmetry must map coordinates ({", ".join(names)}) to "even" or "odd", not {symmetry!r}'
        )
    check_depends(who, problem)
    conditions = ask(problem, "conditions", problem.conditions)
    if not isinstance(conditions, list | tuple) or not all(
        isinstance(c, Condition | Data | Integral) for c in conditions
    ):
        raise UserError(f"{who}: conditions must return a list of Condition, Integral or Data objects")
    conditions, again = (ask(problem, "conditions", lambda: conditions_of(problem)) for _ in range(2))
    if [condition.name for condition in again] != [condition.name for condition in conditions]:
        raise UserError(f"{who}: conditions are others when asked for again")
    for condition in conditions:
        if condition.symmetry is not None and condition.symmetry not in symmetry:
            raise UserError(f"{who}: condition {condition.name}: the problem has no symmetry in {condition.symmetry!r}")
    check_names(who, problem, conditions)


def check_depends(who: str, problem: Problem) -> None:
    """Refuse a `depends` that names no output or coordinates, or that contradicts a symmetry; raises UserError."""
    outputs, names = output_names(problem), problem.domain.names
    if not isinstance(problem.depends, Mapping):
        raise UserError(f'{who}: depends must map unknowns to coordinates, such as {{"a": ("x",)}}')
    for name, own in problem.depends.items():
        if name not in outputs:
            raise UserError(f"{who}: depends: '{name}' is not among {', '.join(outputs)}")
        if not isinstance(own, tuple) or not own or not set(own) <= set(names):
            told = f"must be a tuple of some of the coordinates {', '.join(names)}, not {own!r}"
            raise UserError(f"{who}: depends: {name} {told}; what depends on none is a coefficient, Unknown(1.0)")
        for one, parity in problem.symmetry.items():
            if parity == "odd" and one not in own:
                raise UserError(f"{who}: depends: {name} does not depend on {one}, in which the problem is odd")


def check_slabs(setup: Setup) -> None:
    """Refuse time slabs where they make no sense.

    Raises:
        UserError: If the problem has no time or no initial condition, an exact form of its own, or the embedding mixes
            time with other coordinates.
    """
    count, problem = setup.schedule.slabs, setup.problem
    if count == 1:
        return
    for name in free_coefficients(problem):
        raise invalid("schedule.slabs", count, f"1, where {name} is to be found: it is one number for all times")
    for name, own in problem.depends.items():
        if "t" not in own:
            raise invalid("schedule.slabs", count, f"1 ({name} is one function for all times)")
    conditions = conditions_of(problem)
    if "t" not in problem.domain.names or not any(c.supports == START for c in conditions):
        name = problem_name(problem)
        raise invalid("schedule.slabs", count, f"1 (problem={name} has no initial condition at the first time)")
    for condition in conditions:
        if condition.supports != START and any(
            re.match("t[-+=]", on) for on in condition.supports if isinstance(on, str)
        ):
            raise invalid(
                "schedule.slabs", count, f"1 (condition {condition.name} holds at a time of its own: {condition.on})"
            )
    if setup.exact and offers_exact(problem):
        raise UserError(
            f"schedule.slabs={count}: the problem's own exact form belongs to the first time; valid choices: "
            "problem.conditions=soft, or schedule.slabs=1"
        )
    if setup.backbone.embedding.kind == "fourier" or "t" in problem.periodic or "t" in problem.symmetry:
        raise invalid(
            "schedule.slabs", count, "1, where the embedding is not that of time alone (periodic, symmetric, fourier)"
        )


def probe(setup: Setup, state: State | None = None) -> list[Flag]:
    """Examine every method of the problem on a small network at a few points; as `check`."""
    problem, backbone = setup.problem, small_network(setup)
    check_stages(setup, backbone)
    backbone, theta = _beginning(setup, backbone, state)
    theta = theta.to(setup.device, setup.dtype)
    sample = few_points(problem, setup.dtype, setup.device)
    plain = Residuals(problem, backbone, exact=setup.exact, unmet=[c.name for c in conditions_of(problem)])
    found = {"precision": check_calls(plain, sample, theta)}  # first of all: what follows calls the problem often
    objective = setup.objective(backbone)
    objective.set_points(sample)
    equations = [name for term, name, _ in objective.rows(theta) if term.name == INTERIOR]
    check_equations(f"problem={type(problem).__name__}", [] if equations == [""] else equations)
    unused = [name for name in objective.residuals.terms if not setup.weighting.term(name)]
    if len(unused) == len(objective.residuals.terms):
        raise UserError("weighting.terms: every term of the loss has weight 0; expected one above 0")
    found["jumps"] = check_values(objective.residuals, sample, theta)
    found["term"] = [f"weighting.terms.{name}=0: the solution need not meet this term" for name in unused]
    missing = missing_conditions(objective.residuals, sample)
    found["conditions"] = undetermined(objective.residuals, sample, enough=missing.enough)
    few = found["conditions"] != []
    found["conditions"] += [line for line in missing.lines if not (few and line.startswith("only"))]
    found["conditions"] += interfaces_too_free(objective.residuals, sample)
    found["growth"] = growing_sources(objective.residuals, sample)
    found["exact"] = form_doubts(setup, objective.residuals)
    for optimizer in setup.optimizers():
        optimizer.check_objective(objective, theta)
    points = sample.interior.points
    check_symmetry(objective.residuals, theta, points)
    check_coefficients(objective, theta)
    check_seen(objective.residuals, sample)
    check_parameters(objective.residuals, sample)
    check_reference(problem, points[: len(points) // 2].double().cpu())
    who = f"problem={problem_name(problem)}"
    return [Flag(kind, f"{who}: {text}") for kind, texts in found.items() for text in texts]


def _beginning(setup: Setup, coarsest: Backbone, state: State | None) -> tuple[Backbone, Tensor]:
    """The coarsest network with random parameters; where edges are functions, what is to be trained on, if it fits.

    A logarithm on an edge has values at the parameters that a formula gives it, hardly at random ones.
    """
    if getattr(setup.backbone, "symbolic", []) and state is not None:
        solver = Solver(setup)
        solver.load_state(state)
        return solver.network()
    if getattr(setup.backbone, "symbolic", []) and setup.start is not None:
        networks, theta = setup.networks(coarsest), setup.start.thetas[0]
        network = networks[min(setup.start.stage, len(networks) - 1)]
        if network.size == theta.numel():
            return network, theta
    return coarsest, coarsest.initial(np.random.default_rng(0))


def check_reference(problem: Problem, points: Tensor) -> None:
    """Refuse a reference without sense at points `[N, d]`, or with two values at one; it is evaluated once only.

    Each point comes with another that is hardly apart, since a solver of an ordinary equation takes no time twice.
    """
    both = torch.cat([points, points + 1e-10 * (points.mean(dim=0) - points)])
    for name in problem.parameters:  # one value: a reference may be a solve of its own for each
        both[:, problem.domain.names.index(name)] = problem.parameters[name][0]
    for name, values in reference_values(problem, both).items():
        if not np.allclose(*np.split(values, 2), atol=1e-5 * float(np.abs(values).max())):
            who = f"problem={problem_name(problem)}: reference of '{name}'"
            raise UserError(f"{who} has two values at the same point (random numbers, or other points in it)")


def small_network(setup: Setup) -> Backbone:
    """Return the network on its coarsest level; raises UserError where the problem's further inputs are wrong."""
    embedding = ask(setup.problem, "inputs", setup.embedding)
    return setup.network(embedding)


def check_stages(setup: Setup, backbone: Backbone) -> None:
    """Refuse stages that the network has no levels or random starts for, or optimisers that cannot train it."""
    stages = setup.plan()
    if not backbone.refinable and any(after.level < before.level for before, after in pairwise(stages)):
        raise UserError(
            f"schedule={name_of(setup.schedule)}: backbone={name_of(setup.backbone)} has no coarser levels to go down "
            "to; valid choices: nested, single."
        )
    trials = sum(stage.trial is not None for stage in stages)
    if trials and torch.equal(*(backbone.initial(np.random.default_rng(seed)) for seed in range(2))):
        raise invalid("schedule.starts", trials, "1 for a network that begins the same whatever the seed")
    pairs = {(network, repr(one.optimizer)): one for one, network in zip(stages, setup.networks(backbone), strict=True)}
    for (network, _), stage in pairs.items():
        stage.optimizer.check_backbone(network)


def available_memory(device: str) -> int:
    """Bytes of memory on a device."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**63  # a system that does not say


def forms_jacobian(setup: Setup, finest: Backbone) -> bool:
    """Return whether JᵀJ of a network is formed from stored rows of J at the points of the last level."""
    generator, problem = np.random.default_rng(0), setup.problem
    sample = setup.sampler.draw(
        problem,
        setup.schedule.levels - 1,
        generator,
        cells=finest.cells,
        breaks=finest.breaks,
        residual=lambda points: torch.ones_like(points[:, 0]),
        dtype=setup.dtype,
        device=torch.device("cpu"),
    )
    objective = setup.objective(finest)
    objective.set_points(sample)
    return stores_jacobian(finest, finest.initial(generator).to(setup.dtype), objective.collocation)


def check_memory(setup: Setup, available: int) -> None:
    """Refuse a run whose finest level does not fit into the bytes of memory there are; raises UserError.

    The Jacobian `[points, parameters]`, where it is stored, and the normal matrix `[parameters, parameters]` dominate
    with Levenberg–Marquardt, the inverse Hessian of that size with SSBroyden; otherwise the local basis of every edge.
    """
    options, schedule, sampler, problem = setup.backbone, setup.schedule, setup.sampler, setup.problem
    finest = max(setup.networks(small_network(setup)), key=lambda network: network.size)
    parameters = finest.size
    interior, boundary = sampler.sizes(schedule.levels - 1, problem.domain.names, finest.cells)
    points = interior + boundary * len(conditions_of(problem))
    if isinstance(problem, Table):
        points = len(problem.parts["train"]) * len(problem.unknowns)
    jets = 1 + len(problem.derivatives) + len(problem.domain)
    need = 8 * points * jets * sum(layer.kept for layer in finest.layers)
    need += 8 * parameters * 4

    def held(*, jacobian: bool) -> int:
        return 8 * max(o.storage(points, parameters, jacobian=jacobian) for o in setup.optimizers())

    without, with_rows = held(jacobian=False), held(jacobian=True)
    # To find out whether J is stored takes points and parameters: only where that decides.
    decides = need + without <= 0.8 * available < need + with_rows
    need += without if decides and not forms_jacobian(setup, finest) else with_rows
    grid_points = setup.points or DEFAULT_POINTS.get(len(problem.domain), 11)
    counts = grid_points if isinstance(grid_points, list) else [grid_points] * len(problem.domain)
    if by_row(problem):
        counts = [len(column) for column in list(problem.columns.values())[:1]]
    shown = 8 * math.prod(counts) * (len(problem.domain) + 4 * len(problem.unknowns) + 1)
    if shown > 0.5 * available:
        raise UserError(
            f"output.points={grid_points}: an output grid of {math.prod(counts):.3g} points takes about "
            f"{shown / 2**30:.3g} GiB, but {available / 2**30:.3g} GiB of memory are there; choose fewer"
        )
    if need > 0.8 * available:
        chosen = {key: getattr(options, key) for key in ("grid", "degree", "width") if hasattr(options, key)}
        size = "backbone.{}={}".format(*next(iter(chosen.items())))
        raise UserError(
            f"schedule.levels={schedule.levels} with {size}: about {need / 2**30:.3g} GiB for "
            f"{parameters} parameters at {points} points, but {available / 2**30:.3g} GiB of memory are there; choose "
            f"fewer levels, a coarser grid, fewer points or optimizer=lbfgs"
        )
