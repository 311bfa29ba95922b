"""Pursuit of an accuracy: work after work of a search, each judged by its estimated error, until one meets it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from torch import Tensor

from kanpinn.auto.search import Search, search_of
from kanpinn.auto.work import Outcome, Work
from kanpinn.axes import norm
from kanpinn.backbones import Auto, Backbone
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import evaluate
from kanpinn.run import preflight
from kanpinn.run.context import Estimates, RunContext
from kanpinn.run.estimate_trust import WRONG
from kanpinn.run.flag import percent
from kanpinn.run.judgement import LARGE, VETOES, estimated_again, judged, largest, outcome_of
from kanpinn.run.results import estimates
from kanpinn.run.verdict import Verdict
from kanpinn.samplers import SAMPLERS
from kanpinn.settings.configuration import Configuration
from kanpinn.solver.history import StageEnd
from kanpinn.solver.solve import Watch, solve
from kanpinn.solver.solver import ENDINGS, Solver
from kanpinn.state import State, join, split

ANOTHER = "there seems to be more than one solution"
APART = 10.0
"""Factor by which two solutions differ more than by the sum of their estimated errors, where there are two."""


@final
@dataclass(frozen=True)
class Done:
    """Work that is done, with its solve; the solve is None where it was not kept."""

    work: Work
    outcome: Outcome
    solver: Solver | None
    end: StageEnd | None


@final
class Pursuit:
    """Search of one run.

    Attributes:
        asked: The config as asked for.
        done: Work done so far, in its order.
    """

    def __init__(self, context: RunContext, known: State | None = None) -> None:
        """Begin, or go on where the state of an earlier process stood."""
        self._context, self.asked = context, context.configuration
        self._accuracy = self.asked.settings.accuracy
        self._search: Search = search_of(self.asked)
        self._work: Work | None = next(self._search)
        self.done: list[Done] = []
        self._ended = ""
        self._began = time.perf_counter()
        self._attempt: State | None = None
        self._ahead = False  # whether work that was stopped is better than all that was finished
        self._doubt = ""  # about another solution, of work that was stopped
        self._stopped: Work | None = None  # the part done of work that time has stopped and that is given back
        self._last: Outcome | None = None  # of what time has stopped, where that has met the accuracy
        self._made: list[tuple[Solver, float, Estimates]] = []  # with efforts: of the best, and of the last one judged
        if known is not None:
            self._take_up(known)

    @property
    def seconds(self) -> float:
        """Seconds since the run began, earlier processes counted."""
        return time.perf_counter() - self._began

    @property
    def best(self) -> Done | None:
        """The work whose outcome is the best."""
        finished = [one for one in self.done if math.isfinite(one.outcome.score)]
        return min(finished, key=lambda one: one.outcome.score, default=None)

    def run(self, watch: Watch) -> tuple[Solver, StageEnd]:
        """Do all work until the accuracy is met, nothing is left to try, or the run is stopped.

        Returns:
            The best solve and how the whole has ended; the context has its config.
        """
        while self._work is not None:
            configuration = self._work.configuration(self.asked)
            stopped = self._do(self._work, configuration, watch)
            if stopped is not None:
                return stopped
        best = self.best or self.done[-1]
        if best.solver is None:
            raise UserError(self.done[-1].outcome.doubt)
        self._context.configuration = best.work.configuration(self.asked)
        end = best.solver.outcome()
        return best.solver, replace(end, reason="diverged") if self.best is None else end

    @property
    def _met(self) -> bool:
        best = self.best
        return best is not None and best.outcome.meets(self._accuracy) and not self._another

    @property
    def _another(self) -> str:
        """Words on a trial that has found another solution; "" without one."""
        return self._doubt or next(
            (one.outcome.doubt for one in self.done if one.outcome.doubt.startswith(ANOTHER)), ""
        )

    @property
    def _settled(self) -> bool:
        """True once nothing more need be tried: a network that is to be chosen takes a second opinion."""
        opinions = {one.work.candidate.name for one in self.done}
        enough = len(opinions) > 1 or not isinstance(self.asked.setup.backbone, Auto)
        # Beside doubts known before no estimate is ever believed.
        return bool(self._context.doubts or self._another) or (self._met and enough)

    def _do(self, work: Work, configuration: Configuration, watch: Watch) -> tuple[Solver, StageEnd] | None:
        """Do some work; gives the best solve back where the run is stopped in it."""
        try:
            if self.done:
                preflight.check_methods(configuration.setup)
            solver = self._begun(work, configuration)
        except UserError as error:
            self._keep(Done(work, Outcome("refused", doubt=str(error), seconds=self.seconds), None, None))
            return None
        self._context.configuration = configuration
        solver, end = solve(configuration.setup, watch, solver)
        if end.reason in ENDINGS:
            best = self.best
            if best is None or best.solver is None or self._better(solver, end, work, best):
                if end.reason == "time_limit" and work.candidate.slabs == 1:
                    done = [record.steps for record in solver.record.levels]
                    self._stopped = work.cut(done)
                    self._context.configuration = self._stopped.configuration(self.asked)
                return solver, end
            self._context.configuration = best.work.configuration(self.asked)
            return best.solver, replace(best.solver.outcome(), reason=end.reason, message=end.message)
        self._keep(Done(work, self._judged(solver, end), solver, end))
        return None

    def _begun(self, work: Work, configuration: Configuration) -> Solver:
        """Return the solve of some work where it stands: new, or that of its first stages, opened again."""
        solver = Solver(configuration.setup)
        if self._attempt is not None:
            solver.load_state(self._attempt)
            self._attempt = None
        elif work.candidate.slabs == 1:
            earlier = [
                one for one in self.done if one.solver is not None and work.continues(one.work) and one.work != work
            ]
            if earlier:
                last = max(earlier, key=lambda one: len(one.work.stages))
                assert last.solver is not None
                state = join(*split(last.solver.state(), ""))
                solver.load_state({**state, "ends": [], "number": len(last.work.stages)})
        if solver.slabs:
            solver.record.started = self._began
        return solver

    def slab_begun(self, solver: Solver) -> None:
        """Let the clock of a new solve count all seconds of the run."""
        solver.record.started = self._began

    def _better(self, solver: Solver, end: StageEnd, work: Work, best: Done) -> bool:
        """Tell whether work that was stopped, where it goes on from the best so far, is better already."""
        if not work.continues(best.work) or work.candidate.slabs > 1:
            return False
        outcome = self._judged(solver, end)
        self._ahead = outcome.score <= best.outcome.score
        self._doubt = outcome.doubt if self._ahead and outcome.doubt.startswith(ANOTHER) else ""
        return self._ahead

    def _judged(self, solver: Solver, end: StageEnd) -> Outcome:
        """Judge the end of some work without any reference; keeps the estimates."""
        limit = self.asked.settings.time_limit_s
        left = math.inf if limit is None else limit - self.seconds
        outcome, made = judged(solver, end, self._accuracy, self._context.doubts, left)
        best = self.best
        self._made = [one for one in self._made if best is not None and one[0] is best.solver] + [
            (solver, outcome.effort, made)
        ]
        if outcome.believed(self._accuracy) and outcome.estimate <= WRONG:
            outcome = replace(outcome, doubt="; ".join(self._others(solver, outcome.estimate)))
        return replace(outcome, seconds=self.seconds)

    def estimates(self, solver: Solver) -> Estimates:
        """Return the estimates of a solve, those by which it was judged, gone on to the effort of a finished run."""
        effort, known = next(((effort, made) for own, effort, made in self._made if own is solver), (0.0, None))
        if known is not None:
            return known if effort >= 1 else estimates(solver, 1.0, known[0])
        effort = next((one.outcome.effort for one in self.done if one.solver is solver), 1.0)
        return estimated_again(solver, max(effort, 1.0))

    def _others(self, solver: Solver, estimate: float) -> list[str]:
        """Say which earlier trial has another solution, by far more than the estimates of both."""
        for one in self.done:
            known = one.outcome
            sure = known.estimate <= WRONG and (known.trusted or known.ceiling <= WRONG)
            if one.solver is None or known.doubt or not sure:
                continue
            apart = _distance(solver, one.solver)
            if apart > max(WRONG, APART * (estimate + known.estimate)):
                text = f"{ANOTHER}: that of {one.work.candidate.name} differs by {percent(apart)}"
                return [f"{text}, and its estimated error is {known.estimate:.1e}"]
        return []

    def _keep(self, done: Done) -> None:
        """Keep what was done, tell of it, and ask for the next."""
        self.done.append(done)
        self._context.tell(_line(done))
        self._next(done.outcome)

    def _next(self, outcome: Outcome) -> None:
        if self._settled:
            self._work = None
            return
        try:
            self._work = self._search.send(outcome)
        except StopIteration as stop:
            self._work, self._ended = None, str(stop.value)

    def verdict(self, found: Verdict) -> Verdict:
        """Return the verdict on the solve that is given back, with status and limit of the whole search."""
        wanted, met = self._accuracy, self._met
        if found.status == "time_limit" and not self._another:
            last = outcome_of(found, wanted)
            self._last = last if last.meets(wanted) else None
        if self._last is not None:
            return replace(found, status="converged", limited_by=None, advice="")
        if found.status in ("time_limit", "interrupted", "diverged"):
            return replace(found, limited_by=_with_estimate(found.limited_by or "", found, self._accuracy))
        if met:
            return replace(found, status="converged", limited_by=None)
        flagged = next((flag for flag in found.flags if flag.kind in (*VETOES, *LARGE)), None)
        limit = self._ended
        if flagged is not None and flagged.kind == "conditions":
            limit = "problem: equations and conditions do not determine the solution"
        elif self._another:
            limit = f"problem: {self._another}"
        elif found.estimate is None:
            limit = "estimate: there is none for this problem"
        elif largest(found) > WRONG:
            limit = "problem: no network tried comes near a solution; there may be none, or more than one"
        elif wanted is not None and largest(found) <= wanted:
            limit = f"estimate: {flagged.message if flagged else 'it cannot be trusted'}"
        return replace(found, status="step_limit", limited_by=_with_estimate(limit, found, self._accuracy), advice="")

    def message(self) -> str | None:
        """Return words for a run that has met its accuracy."""
        best = self.best
        found = self._last or (best.outcome if best is not None and self._met else None)
        if found is None:
            return None
        told = f"the estimate of the error, {found.estimate:.1e}, is below accuracy={self._accuracy:g}"
        return told if found.trusted else f"{told}; not to be trusted, but hardly above {found.ceiling:.1e}"

    def path(self) -> list[dict[str, Any]]:
        """Return what was tried, in plain values for metrics.json."""
        best = self.best
        return [{**_named(one), **one.outcome.record(), "kept": one is best} for one in self.done]

    def network(self, solver: Solver) -> tuple[Backbone, Tensor]:
        """Return the best network so far, its config being that of the next checkpoint."""
        best, saved = self.best, self._context.saved
        work, chosen = self._stopped or self._work, solver
        if best is not None and best.solver is not None and not self._ahead:
            work, chosen = best.work, best.solver
        if saved is not None and work is not None:
            saved.configuration = work.configuration(self.asked)
        return chosen.network()

    def state(self, attempt: State) -> State:
        """Return all that a resumed search needs, with the state of the solve under way."""
        best = self.best
        kept = None
        if best is not None and best.solver is not None:
            kept = {"number": self.done.index(best), "state": best.solver.state()}
        path = [one.outcome.record() for one in self.done]
        return {"attempt": attempt if self._work else None, "seconds": self.seconds, "path": path, "best": kept}

    def _take_up(self, known: State) -> None:
        """Stand where another search of the same config stood; raises UserError where its state is none."""
        try:
            for k, record in enumerate(known["path"]):
                assert self._work is not None
                work, outcome, solver = self._work, Outcome.from_record(record), None
                if known["best"] is not None and known["best"]["number"] == k:
                    solver = Solver(work.configuration(self.asked).setup)
                    solver.load_state(known["best"]["state"])
                self.done.append(Done(work, outcome, solver, None))
                self._next(outcome)
            self._attempt = known["attempt"]
            self._began = time.perf_counter() - float(known["seconds"])
        except (LookupError, TypeError, ValueError, ArithmeticError, AssertionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"the checkpoint does not fit its own config ({type(error).__name__}: {error})") from error


def _with_estimate(limit: str, found: Verdict, accuracy: float | None) -> str:
    """Add the estimate, and what was asked for, to what limits a run."""
    if found.estimate is None:
        return limit
    sure = "" if found.trusted else ", not to be trusted"
    wanted = "" if accuracy is None else f" against accuracy={accuracy:g}"
    return f"{limit} (estimated error {largest(found):.1e}{sure}{wanted})"


def _distance(one: Solver, other: Solver) -> float:
    """Return the largest relative L2 distance of two solutions, over the unknowns, at evenly drawn points."""
    setup = one.setup
    sampler = SAMPLERS["sobol"](interior=1024, boundary=1)
    drawn = sampler.draw(setup.problem, 0, np.random.default_rng(0), dtype=setup.dtype, device=setup.device)
    points, values = drawn.interior.points, []
    for solver in (one, other):
        backbone, theta = solver.network()
        values.append(evaluate(solver.setup.residuals(backbone), theta, points))
    first, second = values
    return max(norm(first[name] - second[name]) / (norm(second[name]) or 1.0) for name in setup.problem.unknowns)


def _named(done: Done) -> dict[str, Any]:
    stages = [dict(stage) for stage in done.work.stages]
    return {"network": done.work.candidate.name, "why": done.work.reason, "stages": stages}


def _line(done: Done) -> str:
    """One line on some work."""
    outcome, last = done.outcome, done.work.stages[-1]
    edits = "".join(f", {kind} {amount}" for kind, amount in last.items() if kind not in ("level", "steps"))
    told = f"{outcome.seconds:8.1f} s  {done.work.candidate.name}, level {last['level']}{edits} ({done.work.reason})"
    if outcome.reason in ("refused", "diverged"):
        return f"{told}: {outcome.reason}: {outcome.doubt}"
    estimate = "none" if math.isnan(outcome.estimate) else f"{outcome.estimate:.1e}{'' if outcome.trusted else ' (?)'}"
    return f"{told}: {outcome.parameters} parameters, estimated error {estimate}"
