"""What a sampler is: from a problem and a level to weighted points inside the box and on its conditions' faces."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kanpinn.errors import DivergedError, UserError, invalid, unknown_choice
from kanpinn.pde.problem import Condition, Coordinates, Problem, checked_part, inside
from kanpinn.samplers.faces import Array, Face, Part, Region, faces_of, share
from kanpinn.state import State, tensor

MOST_POINTS = 10**8
Residual = Callable[[Tensor], Tensor]
ArrayResidual = Callable[[Array], Array]


@dataclass(frozen=True)
class PointSet:
    """Points with quadrature weights.

    Attributes:
        points: The points `[N, d]`, columns in the order of the domain's names.
        weights: Their weights `[N]`; they sum to the measure of the set, |Ω| or the total area of the faces (a lone
            end point of a 1-D domain counts 1). Only `adaptive` with `unbiased` meets this sum in the mean instead.
    """

    points: Tensor
    weights: Tensor


@dataclass(frozen=True)
class Draw:
    """All points of one objective.

    Attributes:
        interior: Points inside the domain.
        conditions: By condition, points on its faces; for one on inner planes, those just below them.
        partners: By periodic condition, the points across `[N, d]`, in the order of its points on the lower face; by
            condition on inner planes, those just above.
    """

    interior: PointSet
    conditions: dict[str, PointSet]
    partners: dict[str, Tensor]

    def state(self) -> State:
        """All points and weights."""
        sets = {name: {"points": s.points, "weights": s.weights} for name, s in self.conditions.items()}
        interior = {"points": self.interior.points, "weights": self.interior.weights}
        return {"interior": interior, "conditions": sets, "partners": self.partners}

    @staticmethod
    def from_state(state: State, device: torch.device) -> Draw:
        """The draw whose `state` this is, arrays in place of tensors."""

        def placed(part: State) -> PointSet:
            return PointSet(tensor(part["points"], device), tensor(part["weights"], device))

        conditions = {str(name): placed(part) for name, part in state["conditions"].items()}
        partners = {str(name): tensor(points, device) for name, points in state["partners"].items()}
        return Draw(placed(state["interior"]), conditions, partners)


def check_whole(key: str, value: Any, least: int, most: int = MOST_POINTS) -> None:
    """Refuse what is not a whole number from `least` to `most`; raises UserError naming `sampler.<key>`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(f"sampler.{key}", value, f"a whole number from {least} to {most}")


def check_number(key: str, value: Any, least: float, most: float) -> None:
    """Refuse what is not a number from `least` to `most`; raises UserError naming `sampler.<key>`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise invalid(f"sampler.{key}", value, f"a number from {least:g} to {most:g}")


def beside(values: Tensor, side: int) -> Tensor:
    """The next floating-point numbers below or above, for limits from one side.

    Args:
        values: Numbers `[N]`.
        side: −1 for below, 1 for above.

    Returns:
        `[N]`. No result is subnormal: a processor that flushes those to zero would lose the side.
    """
    found = torch.nextafter(values, torch.full_like(values, side * math.inf))
    tiny = torch.finfo(values.dtype).tiny
    return torch.where(found.abs() < tiny, torch.full_like(values, side * tiny), found)


def part_inside(problem: Problem) -> Part | None:
    """Which points `[N, d]` belong to the problem's domain; None where it fills its box."""
    if inside(problem, torch.tensor([problem.domain.lower], dtype=torch.float64)) is None:
        return None

    def part(points: Array) -> NDArray[np.bool_]:
        found = inside(problem, torch.from_numpy(points))
        return np.ones(len(points), bool) if found is None else found.cpu().numpy()

    return part


def part_of(condition: Condition, problem: Problem) -> Part | None:
    """Which points `[N, d]` of its faces a condition holds on; None for all of them."""
    where = condition.where
    if where is None:
        return None

    def part(points: Array) -> NDArray[np.bool_]:
        found = where(Coordinates(problem.domain.names, torch.from_numpy(points).unbind(1)))
        return checked_part(f"condition {condition.name}: where", found, len(points)).cpu().numpy()

    return part


def _per_level(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


@dataclass
class Sampler(ABC):
    """A rule that places points; subclasses are final and say how one box is filled.

    Attributes:
        interior: Points inside the box: one number, or one per level.
        boundary: Points per condition, shared among its faces by their measure: one number, or one per level; or
            one of these by condition's name, for every condition.
        resample_every: Optimiser steps after which new points are drawn; 0 never.
        growth: Where a single number of points is given, it is that of level 0 and grows by this factor per level.
    """

    interior: Any = 2048
    boundary: Any = 256
    resample_every: int = 0
    growth: float = 1.0

    follows_knots: ClassVar[bool] = False
    """Whether the points depend on the spline's intervals."""

    def __post_init__(self) -> None:
        for key, value in self._numbers():
            if not _per_level(value):
                check_whole(key, value, 1)
                continue
            if not value:
                raise invalid(f"sampler.{key}", value, "one number of points per level")
            for count in value:
                check_whole(key, count, 1)
        check_whole("resample_every", self.resample_every, 0)
        check_number("growth", self.growth, 0.01, 100)

    def _numbers(self) -> list[tuple[str, Any]]:
        """Every number of points, or list of them, with its key."""
        if isinstance(self.boundary, Mapping):
            return [("interior", self.interior), *((f"boundary.{name}", v) for name, v in self.boundary.items())]
        return [("interior", self.interior), ("boundary", self.boundary)]

    def check_levels(self, levels: int) -> None:
        """Refuse lists of points that do not fit the number of levels, before any work starts.

        Args:
            levels: The schedule's number of levels.

        Raises:
            UserError: If a list is not one number per level or growth asks for too many points.
        """
        for key, value in self._numbers():
            if _per_level(value) and len(value) != levels:
                raise invalid(f"sampler.{key}", list(value), f"one number of points per level, {levels} in all")
        for level in range(levels):
            self.counts(level)

    def counts(self, level: int) -> tuple[int, int]:
        """The points asked for at a level, inside and per condition; level 0 is the coarsest.

        Args:
            level: The level.

        Returns:
            Interior points and points per condition, the most of any where they differ.

        Raises:
            UserError: If a list has no entry for the level, or growth asks for too many points.
        """
        found = [self._count(key, value, level) for key, value in self._numbers()]
        return found[0], max(found[1:], default=1)

    def sizes(self, level: int, names: Sequence[str], cells: Mapping[str, int]) -> tuple[int, int]:
        """About how many points a level gets: `counts`, unless the rule follows the spline's intervals.

        Args:
            level: The level.
            names: The coordinates.
            cells: Spline intervals of those that have them.

        Returns:
            Interior points and points per condition.
        """
        return self.counts(level)

    def _count(self, key: str, value: Any, level: int) -> int:
        """One number of points at a level."""
        if not _per_level(value):
            count = value * float(self.growth) ** level
            if count > MOST_POINTS:
                raise invalid("sampler.growth", self.growth, f"at most {MOST_POINTS} points at level {level}")
            return max(1, round(count))
        if level < len(value):
            return value[level]
        raise invalid(f"sampler.{key}", list(value), f"one number of points per level, also for level {level}")

    def condition_counts(self, names: Sequence[str], level: int) -> dict[str, int]:
        """The points asked for on each condition at a level.

        Args:
            names: The conditions of a problem.
            level: The level.

        Returns:
            Points by condition.

        Raises:
            UserError: If `boundary` goes by name and does not name exactly these conditions, or see `counts`.
        """
        if not isinstance(self.boundary, Mapping):
            return dict.fromkeys(names, self._count("boundary", self.boundary, level))
        for name in self.boundary:
            if name not in names:
                raise unknown_choice("sampler.boundary", name, names)
        for name in names:
            if name not in self.boundary:
                raise invalid("sampler.boundary", dict(self.boundary), f"a number of points for '{name}' too")
        return {name: self._count(f"boundary.{name}", value, level) for name, value in self.boundary.items()}

    def check_problem(self, problem: Problem) -> None:
        """Refuse a problem whose domain or conditions the rule does not fit, before any work; raises UserError."""
        self.condition_counts([condition.name for condition in problem.conditions()], 0)

    def moved(self, problem: Problem, points: Array, weights: Array) -> tuple[Array, Array]:
        """Interior points `[N, d]` and weights `[N]` once a rule has shifted points after placing them evenly."""
        return points, weights

    @abstractmethod
    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        """Fill one region, the domain or a face.

        Args:
            region: The region, of d ≥ 1 coordinates.
            count: Points asked for; a tensor rule takes the nearest number it can.
            generator: The source of randomness; nothing else may be one.
            residual: |residual| `[M]` at points `[M, d]` of the domain; None on faces and before there is a network.

        Returns:
            Points `[N, d]` and their weights `[N]`.
        """

    def draw(
        self,
        problem: Problem,
        level: int,
        generator: np.random.Generator,
        *,
        cells: Mapping[str, int] | None = None,
        residual: Residual | None = None,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> Draw:
        """Draw every point a problem needs at one level.

        Args:
            problem: The problem; its domain and conditions are used.
            level: The level, 0 the coarsest.
            generator: The source of randomness; each draw moves it on, so the next draw gives new points.
            cells: Spline intervals per coordinate, for rules that follow the spline.
            residual: The network's |residual| `[M]` at points `[M, d]`, for rules that follow the residual.
            dtype: Type of the points.
            device: Where the points go.

        Returns:
            Interior points, points of each condition, and partners of those that compare two points.

        Raises:
            DivergedError: If a rule looks at a residual that is not finite.
            UserError: If the level or a condition has no number of points, or a condition names no face, or none that
                touches the domain.
        """
        whole = Region.of(problem.domain, cells, part_inside(problem))
        if whole.measure == 0:
            raise UserError(f"problem={type(problem).__name__}: no point of the box lies inside the domain.")
        interior, _ = self.counts(level)
        posed = problem.conditions()
        counts = self.condition_counts([condition.name for condition in posed], level)

        def to_tensor(values: Array) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        def array_residual(points: Array) -> Array:
            assert residual is not None
            values = residual(to_tensor(points)).detach().abs().cpu().numpy().astype(np.float64)
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                at = ", ".join(f"{n}={v:.6g}" for n, v in zip(problem.domain.names, points[bad[0]], strict=True))
                raise DivergedError(
                    f"the residual is not finite at {len(bad)} of {len(points)} candidate points, the first at {at}"
                )
            return values

        points, weights = self.place(whole, interior, generator, array_residual if residual is not None else None)
        points, weights = self.moved(problem, points, weights)
        conditions: dict[str, PointSet] = {}
        partners: dict[str, Tensor] = {}
        for condition in posed:
            faces = faces_of(condition, problem.domain)
            regions = [whole.without(face, part_of(condition, problem)) for face in faces]
            if not any(region.measure for region in regions):
                raise UserError(f"condition {condition.name}: no point of its faces lies inside the domain.")
            on_faces, face_weights, columns = self._cover(faces, regions, counts[condition.name], generator)
            placed = to_tensor(on_faces)
            if condition.inner:
                # Only in their final precision are the next numbers known.
                fixed = torch.as_tensor(columns, device=device)[:, None]
                values = placed.gather(1, fixed)
                partners[condition.name] = placed.scatter(1, fixed, beside(values, 1))
                placed = placed.scatter(1, fixed, beside(values, -1))
            conditions[condition.name] = PointSet(placed, to_tensor(face_weights))
            if condition.periodic is not None:
                across = on_faces.copy()
                across[:, faces[0].column] = faces[0].opposite
                partners[condition.name] = to_tensor(across)
        return Draw(PointSet(to_tensor(points), to_tensor(weights)), conditions, partners)

    def _cover(
        self, faces: Sequence[Face], regions: Sequence[Region], count: int, generator: np.random.Generator
    ) -> tuple[Array, Array, np.ndarray]:
        """Points `[N, d]` on several faces, their weights `[N]`, and the coordinate that does not vary there `[N]`."""
        counts = share(count, [region.measure for region in regions])
        points, weights, columns = [], [], []
        for face, region, part in zip(faces, regions, counts, strict=True):
            if region.measure == 0:
                continue
            if region.dimension == 0:
                flat, weight = np.empty((1, 0)), np.ones(1)
            else:
                flat, weight = self.place(region, part, generator, None)
            points.append(np.insert(flat, face.column, face.value, axis=1))
            weights.append(weight)
            columns.append(np.full(len(weight), face.column))
        return np.concatenate(points), np.concatenate(weights), np.concatenate(columns)
