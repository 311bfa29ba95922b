"""State of the solve on one time slab, most often the only one: its levels, points and optimisers."""

from __future__ import annotations

from dataclasses import asdict

from torch import Tensor

from kanpinn.backbones import Backbone
from kanpinn.backbones.separable.khatri_rao import CostTable
from kanpinn.evaluate.grid_evaluation import OutputGrid
from kanpinn.evaluate.table_errors import held_rows
from kanpinn.least_squares.constraint import Constraint
from kanpinn.least_squares.gram_costs import cost_table
from kanpinn.least_squares.objective import LeastSquares, Objective, plain_loss
from kanpinn.least_squares.sparsity import Penalised, Penalty
from kanpinn.least_squares.wrapped import ShardedProblem
from kanpinn.multilevel import Stage
from kanpinn.multilevel.hierarchy import Hierarchy
from kanpinn.solver.collocation import Collocation
from kanpinn.solver.history import StageEnd, StageState
from kanpinn.solver.record import Monitor, Record
from kanpinn.solver.setup import Setup
from kanpinn.solver.stage_optimizers import StageOptimizers
from kanpinn.state import State, check_size, generator_of, generator_state


class SlabSolve:
    """Network of a time slab on its current level, with all that its next step depends on.

    Attributes:
        setup: Problem and methods.
        before: The slab before; None for the first.
        number: Its number, 0 the first.
        plan: The stages.
        record: Record of the whole solve.
        costs: Cost table of the device, by which it is decided how JᵀJ is formed.
        monitor: Errors on the slab's output grid.
        collocation: Source of its points.
        constraint: Penalty of equations and conditions beside data, on all levels the same.
        hierarchy: Its levels, and which of them is under work.
        optimizers: Those of its levels.
        initial: Generator of random parameters.
        stage: The stage entered last; None before the first.
        stage_state: State of the stage under way; None between stages.
    """

    def __init__(self, setup: Setup, before: SlabSolve | None = None) -> None:
        """Begin the first slab, or the one after `before`."""
        self.setup, self.before = setup, before
        self.number = 0 if before is None else before.number + 1
        self.plan = setup.plan()
        self.record = Record() if before is None else before.record
        self.costs = cost_table(setup.device) if before is None else before.costs
        grid = OutputGrid(setup.problem, setup.points, setup.schedule.slabs)
        self.monitor = Monitor(grid, tuple(setup.problem.periodic), held_rows(setup.problem))
        later = (self.number,) if self.number else ()
        self.collocation = Collocation(setup, setup.random("points", *later))
        self.initial = setup.random("initial", *later)
        self.constraint = Constraint(setup.weighting.constraint)
        self.stage: Stage | None = None
        self.stage_state: StageState | None = None
        self.hierarchy = Hierarchy(setup.network(), self.objective_of, self._draw)
        self.optimizers = StageOptimizers(setup, self.hierarchy)
        self._penalty: Penalty | None = None
        self._shared: tuple[LeastSquares, LeastSquares] | None = None  # a problem, and what its optimiser sees

    @property
    def least_squares(self) -> LeastSquares:
        """Problem that is minimised on the level under work."""
        return self.hierarchy.problem

    @property
    def posed(self) -> LeastSquares:
        """Problem that an optimiser sees: with the penalty on edges, its points shared out among processes."""
        if self.setup.processes == 1:
            return self._penalised
        if self._shared is None or self._shared[0] is not self.least_squares:
            self._shared = self.least_squares, self._penalised.rebased(ShardedProblem)
        return self._shared[1]

    @property
    def _penalised(self) -> LeastSquares:
        """The least-squares problem with the penalty on the size of edges, where it is no coarse one."""
        problem, weighting = self.least_squares, self.setup.weighting
        if not weighting.sparsity or self.hierarchy.keeps_points:
            return problem
        if self._penalty is None or self._penalty.backbone is not problem.backbone:
            self._penalty = Penalty(problem.backbone, weighting.sparsity, weighting.entropy)
        return Penalised(problem, self._penalty)

    @property
    def objective(self) -> Objective:
        """Objective of the network that the level under work stands for."""
        return self.least_squares.network(self.hierarchy.theta)[0]

    @property
    def theta(self) -> Tensor:
        """Parameters of the network that the level under work stands for, `[P]`."""
        return self.least_squares.network(self.hierarchy.theta)[1]

    @property
    def backbone(self) -> Backbone:
        """Network that the level under work stands for."""
        return self.objective.backbone

    @property
    def grid(self) -> OutputGrid:
        """Output grid of the slab."""
        return self.monitor.grid

    @property
    def finest(self) -> tuple[Backbone, Tensor]:
        """The finest network there is, with its parameters `[P]`: of a level that waits, without its correction."""
        waiting = self.hierarchy.suspended
        problem, theta = (
            (waiting[0].problem, waiting[0].theta) if waiting else (self.least_squares, self.hierarchy.theta)
        )
        if self.stage_state is not None and not waiting:
            theta = self.stage_state.theta
        objective, theta = problem.network(theta)
        return objective.backbone, theta

    @property
    def waiting(self) -> bool:
        """True while a finer level waits for a correction."""
        return bool(self.hierarchy.suspended)

    def objective_of(self, backbone: Backbone) -> Objective:
        """Return the objective of a network on its level."""
        # Each has multipliers of its own: those of a level that waits outlive the points of its coarse problem.
        return self.setup.objective(backbone, self._level(backbone), self.costs, self.constraint)

    def _level(self, backbone: Backbone) -> int:
        """The level a network is trained on: its own, or the stage's where it has none."""
        return backbone.level if backbone.refinable or self.stage is None else self.stage.level

    def _draw(self, objective: Objective, theta: Tensor) -> None:
        self.collocation.draw(objective, theta, self._level(objective.backbone))

    def resample(self, theta: Tensor) -> None:
        """Draw new collocation points for parameters `[P]` of the level under work."""
        self._draw(*self.least_squares.network(theta))

    def loss(self, theta: Tensor) -> float:
        """Return ‖r‖² of the network that parameters of the level stand for, without multipliers of points."""
        objective, own = self.least_squares.network(theta)
        return plain_loss(objective, own)

    def settle(self, end: StageEnd) -> None:
        """Keep the result of a stage: parameters, history rows and the level's record."""
        self.hierarchy.theta = end.theta
        self.record.keep(end)
        self.measure()

    def measure(self) -> None:
        """Measure the network under work for the level's record."""
        self.record.level.points = len(self.least_squares.points)
        self.monitor.measure(self.record, self.objective.residuals, self.theta)

    def state(self) -> State:
        """All that the next step depends on and that does not follow from the setup."""
        under_way = self.stage_state is not None
        return {
            "stage": None if self.stage is None else self.plan.index(self.stage),
            "hierarchy": self.hierarchy.state(),
            "optimizers": self.optimizers.state(underway=under_way),
            "collocation": self.collocation.state(),
            "below": self.monitor.below,
            "costs": asdict(self.costs),
            "constraint": self.constraint.state(),
            "initial": generator_state(self.initial),
            "stage_state": None if self.stage_state is None else self.stage_state.state(),
        }

    def load_state(self, state: State) -> None:
        """Stand where another slab of the same setup stood; the record is loaded apart.

        Raises:
            LookupError, TypeError, ValueError: If it is not a state of this setup.
        """
        self.stage = self.plan[int(state["stage"])]
        if not 1 <= int(state["hierarchy"]["levels"]) <= self.setup.schedule.levels:
            raise ValueError(f"{state['hierarchy']['levels']} levels of {self.setup.schedule.levels}")
        self.costs = CostTable(**{str(name): float(value) for name, value in state["costs"].items()})
        edits = [(str(kind), tuple(n) if isinstance(n, list) else n) for kind, n in state["hierarchy"]["edits"]]
        planned = [edit for stage in self.plan for edit in stage.edits]
        if edits != planned[: len(edits)]:
            raise ValueError(f"edits {edits} of {planned}")
        if "constraint" in state:
            self.constraint.load_state(state["constraint"])
        self.hierarchy.load_state(state["hierarchy"], edits, self.setup.device)
        self.optimizers.load_state(state["optimizers"], self.setup.device)
        self.collocation.load_state(state["collocation"])
        self.monitor.below = state["below"]
        self.initial = generator_of(state["initial"])
        if state["stage_state"] is not None:
            self.stage_state = StageState.from_state(state["stage_state"], self.setup.device)
            for theta in (self.stage_state.theta, self.stage_state.best, self.stage_state.held):
                check_size(theta, self.least_squares.size)
            if self.optimizers.last not in self.optimizers:
                raise ValueError("a stage under way without its optimiser")
