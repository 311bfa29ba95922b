"""Knots that a network's first splines want in few places, by the error found on the splines of its estimate."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch

from kanpinn.backbones.parallel import Parallel
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.estimate.defect import Correction
from kanpinn.estimate.estimate import ErrorEstimate
from kanpinn.geometry.chart import Array
from kanpinn.pde.problem import inside
from kanpinn.solver.solver import Solver

AIM = 1e-6
"""Error relative to the largest one up to which a polynomial represents it on an interval."""

LOOSER = 10.0
"""Factor of the same where too many intervals want knots, up to `COARSE`."""

COARSE = 0.1

FEW = 0.25
"""Share of the coarsest level's intervals that may want knots; of more the next level has them."""

MOST = 200
"""Knots that are inserted at most."""

LINES = 16
"""Lines along a coordinate on which errors are looked at, where there are several coordinates."""

HOLDS = 0.5
"""Share of the defect left over up to which the estimate's splines show where the error is."""


def knots_wanted(solver: Solver, estimate: ErrorEstimate | None) -> tuple[float, ...]:
    """Return middles of intervals of the coarsest level, and of their parts, between -1 and 1.

    The correction e that the defect equation gives is what the network is to gain. An interval is halved as long as no
    polynomial of the splines' degree is near e there, as Chebfun splits intervals (Pachón, Platte and Trefethen, IMA J.
    Numer. Anal. 30, 2010, 898), with the least tolerance by which that happens in few of the network's intervals. None
    where it happens in many, where e is not known, or where the first layer has no such splines.
    """
    network, names = solver.slab.backbone, solver.setup.problem.domain.names
    first = network.layers[0] if network.layers else None
    first = first.layers[0] if isinstance(first, Parallel) else first
    alone = type(first) is SplineLayer and not first.spec.periodic and first.spec.knots != "cosine"
    plain = alone and all(map(network.embedding.scaled, names)) and len(solver.slabs) == 1
    if not plain or estimate is None or not estimate.parts or not estimate.left <= HOLDS:
        return ()
    assert isinstance(first, SplineLayer)
    ends = np.asarray(first.spec.breaks(network.level))
    shape = _Shape(estimate.parts[0], first.spec.degree, network.level)
    aim = AIM
    while aim <= COARSE:
        if (found := _split(ends, shape, aim)) is not None:
            return found
        aim *= LOOSER
    return ()


def _split(ends: Array, shape: _Shape, aim: float) -> tuple[float, ...] | None:
    """Return the middles of intervals that are halved; None if they are too many, or in too many intervals."""
    found: list[float] = []
    wholes = [pair for pair in pairwise(ends.tolist()) if shape.misses(*pair) > aim]
    if len(wholes) > max(1, FEW * (len(ends) - 1)):
        return None
    parts = wholes
    while parts:
        a, b = parts.pop()
        middle = (a + b) / 2
        found.append(middle)
        if len(found) > MOST:
            return None
        parts += [half for half in ((a, middle), (middle, b)) if shape.misses(*half) > aim]
    return tuple(sorted(found))


class _Shape:
    """The shape of a correction along each coordinate."""

    def __init__(self, part: Correction, degree: int, level: int) -> None:
        self._part, self._level = part, level
        self._problem = part.about.problem
        domain = self._problem.domain
        self._low, self._high = np.asarray(domain.lower), np.asarray(domain.upper)
        self._places = np.polynomial.legendre.leggauss(2 * (degree + 1))[0]
        basis = np.polynomial.legendre.legvander(self._places, degree)
        self._left = np.eye(len(basis)) - basis @ np.linalg.pinv(basis)
        many = LINES if len(self._low) > 1 else 1
        self._lines = np.random.default_rng(0).random((many, len(self._low)))
        self._known: dict[tuple[float, float], float] = {}
        at = self._low + (self._high - self._low) * np.random.default_rng(1).random((2048, len(self._low)))
        mask = inside(self._problem, torch.from_numpy(at))
        at = at if mask is None else at[mask.cpu().numpy()]
        self._sizes = {name: float(np.abs(own).max()) or math.inf for name, own in part.values(at).items()}

    def misses(self, a: float, b: float) -> float:
        """Return how far the correction is from polynomials on an interval of the level in [a, b], of [-1, 1]."""
        if (a, b) not in self._known:
            parts = 2**self._level
            edges = np.linspace(a, b, parts + 1)
            self._known[a, b] = max(self._along(k, *p) for p in pairwise(edges) for k in range(len(self._low)))
        return self._known[a, b]

    def _along(self, k: int, a: float, b: float) -> float:
        """Return the same on lines along one coordinate, relative to the largest correction."""
        places = (a + b) / 2 + (b - a) / 2 * self._places
        points = np.repeat(self._lines[:, None], len(places), 1)
        points[:, :, k] = (places + 1) / 2
        points = self._low + (self._high - self._low) * points
        flat = points.reshape(-1, points.shape[2])
        mask = inside(self._problem, torch.from_numpy(flat))
        whole = np.ones(len(points), bool) if mask is None else mask.cpu().numpy().reshape(points.shape[:2]).all(1)
        if not whole.any():
            return 0.0
        flat = points[whole].reshape(-1, points.shape[2])
        found = self._part.values(flat)
        return max(
            float(np.sqrt(np.mean((own.reshape(-1, len(places)) @ self._left) ** 2))) / self._sizes[name]
            for name, own in found.items()
        )
