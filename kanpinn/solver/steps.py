"""Single steps of a stage: points, optimiser, history, a way back from numbers that are not finite, the verdict."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kanpinn.backbones.coefficients import coefficients_of
from kanpinn.backbones.grid_update import updated
from kanpinn.backbones.kan import Kan
from kanpinn.errors import DivergedError
from kanpinn.least_squares.diagnosis import is_stationary, what_is_wrong
from kanpinn.least_squares.objective import update_constraint
from kanpinn.multilevel.stages import Stage
from kanpinn.optimizers.base import Step
from kanpinn.solver.history import Row, StageEnd, StageState
from kanpinn.solver.slab_solve import SlabSolve

RISEN = 1e3
"""A stage whose loss ends this many times above the run's first one has diverged, though all its numbers are finite."""

ROLLBACKS = 3
"""Number of returns to its best state that a stage may make before it counts as diverged."""

DEAD = 1e-12
"""Above this share of the run's first loss a zero gradient is no solution but a network that reaches nothing."""


def resample_every(slab: SlabSolve) -> int:
    """Return the number of steps after which new points are drawn; 0 for never."""
    stay = slab.hierarchy.keeps_points or not slab.setup.problem.has_equations
    return 0 if stay else slab.setup.sampler.resample_every


def take_step(slab: SlabSolve, state: StageState) -> Step:
    """Draw points where they are due and take one step; raises DivergedError if it leaves the finite numbers."""
    problem, every = slab.least_squares, resample_every(slab)
    if state.due or (every and len(state.rows) % every == 0):
        slab.resample(state.theta)
        state.due = False
    _update_grid(slab, state)
    step = slab.optimizers.current.step(slab.posed, state.theta)
    if math.isfinite(step.loss) and step.loss < state.best_loss:
        state.best_loss, state.best = step.loss, step.theta if step.measured is None else step.measured
    if not (math.isfinite(step.loss) and bool(torch.isfinite(step.theta).all())):
        raise DivergedError(what_is_wrong(problem, state.theta) or step.stop or "the step is not finite")
    if step.stop and (wrong := what_is_wrong(problem, step.theta)):
        raise DivergedError(wrong)  # what an optimiser may take for a minimum
    state.theta = step.theta
    if not slab.hierarchy.keeps_points:
        objective, own = problem.network(state.theta)
        objective.update_multipliers(own)
        assert slab.stage is not None
        update_constraint(objective, own, step.terms, (len(state.rows) + 1) / slab.stage.steps)
    state.losses.append(step.loss)
    state.rows.append(_row(slab, step, state.theta))
    hold(slab, state)
    return step


def _update_grid(slab: SlabSolve, state: StageState) -> None:
    """Move hidden values so that they fill the knots, where the network's options have it before this step."""
    options, number = slab.setup.backbone, len(state.rows)
    if slab.hierarchy.keeps_points or slab.waiting or not (isinstance(options, Kan) and options.updates_grid(number)):
        return
    residuals, theta = slab.objective.residuals, state.theta
    with torch.no_grad():
        state.theta = updated(slab.backbone, theta, slab.objective.points)
    if torch.equal(state.theta, theta):
        return
    gap = slab.monitor.gap(slab.monitor.values(residuals, theta), residuals, state.theta)
    slab.record.events.append(f"grid update before step {number + 1}: the output changes by {gap:.1e}")
    slab.optimizers.current.moved()


def hold(slab: SlabSolve, state: StageState) -> None:
    """Keep parameters that fit the validation rows of a table better than all before in the stage."""
    if slab.hierarchy.keeps_points or not slab.monitor.validates:
        return
    error = slab.monitor.score(slab.objective.residuals, state.theta)
    if error < state.held_error:
        state.held, state.held_error = state.theta, error


def tolerance_holds(slab: SlabSolve, stage: Stage, state: StageState) -> bool:
    """Tell whether the last step has met the stage's tolerance, also at new points and without multipliers.

    Raises:
        DivergedError: If the residual is not finite at the new points.
    """
    tolerance = stage.stop.tolerance
    # A problem with a linear term may have any loss, also below zero: tolerances do not apply.
    if slab.hierarchy.keeps_points or tolerance is None or not state.losses or state.losses[-1] > tolerance:
        return False
    if resample_every(slab):
        slab.resample(state.theta)
        state.due = False
    return slab.loss(state.theta) <= tolerance


def _row(slab: SlabSolve, step: Step, theta: Tensor) -> Row:
    """The history's row of a step: the network's ‖r‖² without a coarse problem's linear term, its error."""
    assert slab.stage is not None
    objective, own = slab.least_squares.network(theta)
    row = {"level": float(slab.stage.level), "wall_time": slab.record.seconds, "loss": sum(step.terms.values())}
    row["work"] = float(len(objective.points) * objective.size)
    if slab.setup.schedule.slabs > 1:
        row["slab"] = float(slab.number)
    row.update({f"term_{name}": value for name, value in step.terms.items()})
    weighting = slab.setup.weighting.on_level(slab.stage.level)
    penalty = {name: objective.constraint.weight(noisy=name in objective.noisy) for name in step.terms}
    row.update({f"weight_{name}": weighting.term(name) * penalty[name] for name in step.terms})
    row.update({f"coefficient_{name}": value for name, value in coefficients_of(objective.backbone, own).items()})
    return {**row, **slab.monitor.errors(objective.residuals, own)}


def roll_back(slab: SlabSolve, state: StageState, message: str) -> bool:
    """Go back to the best state of the stage, more carefully; returns False where that was tried often enough."""
    every, optimizer = resample_every(slab), slab.optimizers.current
    if not math.isfinite(state.best_loss) or state.rollbacks == ROLLBACKS or not (optimizer.back_off() or every):
        return False
    state.theta, state.due, state.stuck = state.best, bool(every), False
    state.rollbacks += 1
    slab.record.level.rollbacks += 1
    slab.record.events.append(f"{message}; back to the best state, loss {state.best_loss:.3e}, and on with more care")
    return True


def failure(slab: SlabSolve, step: Step, state: StageState) -> str | None:
    """Return why an optimiser that cannot go on has not found a minimum; None where it may well have."""
    where = f"step {len(state.rows)} of level {slab.record.level.level}"
    if is_stationary(slab.least_squares, state.theta):
        if step.loss <= DEAD * (slab.record.history or state.rows)[0]["loss"]:
            return None
        return (
            f"{where}: the gradient is zero at loss {step.loss:.3g}, no parameter reaches the residual any more; "
            "try another seed or a smaller optimizer.lr"
        )
    return f"{where}: {step.stop}" if step.failed else None


def judge(slab: SlabSolve, state: StageState, reason: str, message: str) -> StageEnd:
    """Judge the result of a stage that is over for some reason, and close it."""
    slab.stage_state = None
    level = slab.record.level
    if not len(slab.least_squares.points):
        try:
            slab.resample(state.theta)
        except DivergedError as error:  # without points there is no loss
            return StageEnd("diverged", message or f"level {level.level}: {error}", state.theta, math.inf, state.rows)
    theta = state.best if reason == "diverged" else state.theta
    if math.isfinite(state.held_error):
        theta = state.held
    loss = slab.loss(theta)
    if not math.isfinite(loss) and reason != "diverged":
        # An optimiser that measures the loss before its step has not seen the last one's.
        wrong = what_is_wrong(slab.least_squares, theta) or "loss is not finite"
        reason, message, theta = "diverged", f"the last step of level {level.level}: {wrong}", state.best
        loss = slab.loss(theta)
    own = [row for row in slab.record.history if row.get("slab", 0) == slab.number]
    first = (own or state.rows or [{"loss": math.inf}])[0]["loss"]
    # A stage that was interrupted is judged at its end, after it was resumed.
    if reason not in ("diverged", "interrupted") and loss > RISEN * first:
        reason, theta = "diverged", state.best
        message = f"level {level.level}: the loss, {loss:.3g}, is far above the first one, {first:.3g}"
        loss = slab.loss(theta)
    if reason == "diverged" and slab.waiting:
        # The line search will refuse what is of no use; the level that waits is as good as it was.
        reason, theta = "refused", slab.hierarchy.theta
        loss = slab.loss(theta)
    end = StageEnd(reason, message, theta, loss, state.rows)
    slab.record.spent(end)
    level.wall_time_s += state.elapsed
    return end
