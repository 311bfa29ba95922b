"""What a sampler is: from a problem and a level to weighted points inside the box and on its conditions' faces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import invalid
from kanpinn.problem import Problem
from kanpinn.samplers.faces import Array, Face, Region, faces_of, share

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
        interior: Points inside the box.
        conditions: By condition, points on its faces.
        partners: By periodic condition, the points across `[N, d]`, in the order of its points on the lower face.
    """

    interior: PointSet
    conditions: dict[str, PointSet]
    partners: dict[str, Tensor]


def check_whole(key: str, value: Any, least: int, most: int = MOST_POINTS) -> None:
    """Refuse what is not a whole number from `least` to `most`; raises UserError naming `sampler.<key>`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise invalid(f"sampler.{key}", value, f"a whole number from {least} to {most}")


def check_number(key: str, value: Any, least: float, most: float) -> None:
    """Refuse what is not a number from `least` to `most`; raises UserError naming `sampler.<key>`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise invalid(f"sampler.{key}", value, f"a number from {least:g} to {most:g}")


def _per_level(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


@dataclass
class Sampler(ABC):
    """A rule that places points; subclasses are final and say how one box is filled.

    Attributes:
        interior: Points inside the box: one number, or one per level.
        boundary: Points per condition, shared among its faces by their measure: one number, or one per level.
        resample_every: Optimiser steps after which new points are drawn; 0 never.
        growth: Where a single number of points is given, it is that of level 0 and grows by this factor per level.
    """

    interior: Any = 2048
    boundary: Any = 256
    resample_every: int = 0
    growth: float = 1.0

    def __post_init__(self) -> None:
        for key in ("interior", "boundary"):
            value = getattr(self, key)
            if not _per_level(value):
                check_whole(key, value, 1)
                continue
            if not value:
                raise invalid(f"sampler.{key}", value, "one number of points per level")
            for count in value:
                check_whole(key, count, 1)
        check_whole("resample_every", self.resample_every, 0)
        check_number("growth", self.growth, 0.01, 100)

    def check_levels(self, levels: int) -> None:
        """Refuse lists of points that do not fit the number of levels, before any work starts.

        Args:
            levels: The schedule's number of levels.

        Raises:
            UserError: If a list is not one number per level or growth asks for too many points.
        """
        for key in ("interior", "boundary"):
            value = getattr(self, key)
            if _per_level(value) and len(value) != levels:
                raise invalid(f"sampler.{key}", list(value), f"one number of points per level, {levels} in all")
        for level in range(levels):
            self.counts(level)

    def counts(self, level: int) -> tuple[int, int]:
        """The points asked for at a level, inside and per condition; level 0 is the coarsest.

        Args:
            level: The level.

        Returns:
            Interior points and points per condition.

        Raises:
            UserError: If a list has no entry for the level, or growth asks for too many points.
        """
        found = []
        for key in ("interior", "boundary"):
            value = getattr(self, key)
            if not _per_level(value):
                count = value * float(self.growth) ** level
                if count > MOST_POINTS:
                    raise invalid("sampler.growth", self.growth, f"at most {MOST_POINTS} points at level {level}")
                found.append(max(1, round(count)))
            elif level < len(value):
                found.append(value[level])
            else:
                raise invalid(f"sampler.{key}", list(value), f"one number of points per level, also for level {level}")
        return found[0], found[1]

    @abstractmethod
    def place(
        self, region: Region, count: int, generator: np.random.Generator, residual: ArrayResidual | None
    ) -> tuple[Array, Array]:
        """Fill one box, the domain or a face.

        Args:
            region: The box, of d ≥ 1 coordinates.
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
            Interior points, points of each condition and partners of the periodic ones.

        Raises:
            UserError: If the level has no number of points or a condition names no face.
        """
        whole = Region.of(problem.domain, cells)
        interior, boundary = self.counts(level)

        def to_tensor(values: Array) -> Tensor:
            return torch.as_tensor(values, dtype=dtype, device=device)

        def array_residual(points: Array) -> Array:
            assert residual is not None
            return residual(to_tensor(points)).detach().abs().cpu().numpy().astype(np.float64)

        points, weights = self.place(whole, interior, generator, array_residual if residual is not None else None)
        conditions: dict[str, PointSet] = {}
        partners: dict[str, Tensor] = {}
        for condition in problem.conditions():
            faces = faces_of(condition, problem.domain)
            on_faces, face_weights = self._cover(faces, whole, boundary, generator)
            conditions[condition.name] = PointSet(to_tensor(on_faces), to_tensor(face_weights))
            if condition.periodic is not None:
                across = on_faces.copy()
                across[:, faces[0].column] = faces[0].opposite
                partners[condition.name] = to_tensor(across)
        return Draw(PointSet(to_tensor(points), to_tensor(weights)), conditions, partners)

    def _cover(
        self, faces: Sequence[Face], whole: Region, count: int, generator: np.random.Generator
    ) -> tuple[Array, Array]:
        """Points `[N, d]` on several faces, and their weights `[N]`."""
        insides = [whole.without(face.column) for face in faces]
        counts = share(count, [inside.measure for inside in insides])
        points, weights = [], []
        for face, inside, part in zip(faces, insides, counts, strict=True):
            if inside.dimension == 0:
                flat, weight = np.empty((1, 0)), np.ones(1)
            else:
                flat, weight = self.place(inside, part, generator, None)
            points.append(np.insert(flat, face.column, face.value, axis=1))
            weights.append(weight)
        return np.concatenate(points), np.concatenate(weights)
