"""Collocation points of a least-squares problem as an immutable value, and how their residuals are weighted.

loss = Σ over terms of w_term · (1/|set|) Σ_n q_n (m_n r_n)², where q_n are the sampler's weights (they sum to |set|, so
that equal weights give the mean square) and m_n the multipliers of a weighting scheme. The weighted residual vector
holds √(w_term q_n/|set|) m_n r_n, so that loss = ‖r‖². Interior residuals of an evolution equation may carry a factor
exp(−λ (t_n − t_0)) too (`Weighting.growth`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Tape
from kanpinn.backbones.separable.product import SharedValues
from kanpinn.errors import UserError, invalid
from kanpinn.least_squares.coupling import Coupling
from kanpinn.least_squares.weighting import Weighting
from kanpinn.pde import Problem
from kanpinn.pde.problem_calls import problem_name
from kanpinn.samplers import CollocationSample

INTERIOR = "interior"

FEWEST = 16
"""Points of every term that a random sample has, if the term has as many."""


@dataclass(frozen=True)
class Term:
    """One loss term's points in the joint array, and the weights of its rows.

    Attributes:
        name: Of the term.
        points: Its points.
        paired: Those across, of a condition that compares two.
        scale: √(w q/|set|), `[n]`.
        coordinates: `[n, d]`.
        normals: Outward unit normals there `[n, d]`, the opposite ones at paired points; None without.
        part: Numbers of these among the points drawn for the term; None for all.
    """

    name: str
    points: slice
    paired: slice | None
    scale: Tensor
    coordinates: Tensor
    normals: Tensor | None = None
    part: slice | Tensor | None = None


@dataclass(frozen=True, eq=False)
class CollocationPoints:
    """Collocation points of all loss terms; parts and random subsets of them are new values.

    Attributes:
        points: All points, term by term, paired points after the term's own, `[N, d]`.
        terms: The loss terms.
    """

    points: Tensor
    terms: tuple[Term, ...] = ()
    _shared: dict[str, SharedValues] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.points)

    @property
    def compares(self) -> bool:
        """Some term compares two points, so that its rows of the Jacobian belong to two places."""
        return any(term.paired is not None for term in self.terms)

    def by_term(self) -> dict[str, Tensor]:
        """The points of each term, `[n, d]`, without paired ones."""
        return {term.name: term.coordinates for term in self.terms}

    def shared(self, name: str) -> SharedValues:
        """The coordinate values that points of a term share, found once."""
        if name not in self._shared:
            self._shared[name] = SharedValues(next(t.coordinates for t in self.terms if t.name == name))
        return self._shared[name]

    def pieces(self, rows: int) -> Iterator[CollocationPoints]:
        """At most `rows` points of one term after the other."""
        for term in self.terms:
            for start in range(0, len(term.coordinates), rows):
                yield self.select([(term, slice(start, min(start + rows, len(term.coordinates))), 1.0)])

    def sampled(self, share: float, generator: np.random.Generator) -> CollocationPoints:
        """A random share of every term's points, at least `FEWEST`, weighted up to all."""
        chosen = []
        for term in self.terms:
            many = len(term.coordinates)
            count = min(many, max(math.ceil(share * many), FEWEST))
            index = torch.from_numpy(np.sort(generator.choice(many, count, replace=False))).to(self.points.device)
            chosen.append((term, index, math.sqrt(many / count)))
        return self.select(chosen)

    def shard(self, rank: int, size: int) -> CollocationPoints:
        """One of `size` nearly equal shares of every term's points, number `rank`; terms without any are left out."""
        ranges = [
            (term, slice(len(term.coordinates) * rank // size, len(term.coordinates) * (rank + 1) // size))
            for term in self.terms
        ]
        return self.select([(term, own, 1.0) for term, own in ranges if own.stop > own.start])

    def of(self, names: Collection[str]) -> CollocationPoints:
        """All points of some terms."""
        terms = [term for term in self.terms if term.name in names]
        return self.select([(term, slice(0, len(term.coordinates)), 1.0) for term in terms])

    def select(self, chosen: Sequence[tuple[Term, slice | Tensor, float]]) -> CollocationPoints:
        """Some points of some terms: each term with which of its points to take, and a factor of its residuals."""
        sides: list[Tensor] = []
        terms: list[Term] = []
        end = 0
        for term, which, factor in chosen:
            coordinates = term.coordinates[which]
            places = []
            for where in (term.points, term.paired):
                if where is not None:
                    sides.append(self.points[where][which])
                    places.append(slice(end, end + len(coordinates)))
                    end += len(coordinates)
            scale = term.scale[which] * factor
            own = which if term.part is None else _within(term.part, which)
            normals = None if term.normals is None else term.normals[which]
            paired = places[1] if len(places) > 1 else None
            terms.append(Term(term.name, places[0], paired, scale, coordinates, normals, own))
        return CollocationPoints(torch.cat(sides) if sides else self.points[:0], tuple(terms))


def _within(part: slice | Tensor, which: slice | Tensor) -> Tensor:
    """Numbers `[n]`, among all points, of some of a part's points."""
    return (torch.arange(part.start, part.stop) if isinstance(part, slice) else part)[which]


def collocation_points(
    problem: Problem, conditions: Iterable[str], sample: CollocationSample, weighting: Weighting
) -> CollocationPoints:
    """Lay out a collocation sample: its terms one after the other, with the scales of their residuals.

    Raises:
        UserError: If a term has no point.
    """
    blocks: list[Tensor] = []
    terms: list[Term] = []
    start = 0

    def place(points: Tensor) -> slice:
        nonlocal start
        blocks.append(points)
        start += len(points)
        return slice(start - len(points), start)

    inside = [(INTERIOR, sample.interior)] if problem.has_equations else []
    for name, chosen in [*inside, *((n, sample.conditions[n]) for n in conditions)]:
        if not (len(chosen.points) and float(chosen.weights.sum()) > 0):
            raise UserError(
                f"problem={problem_name(problem)}: no point was drawn for '{name}'; ask for more of them by "
                "sampler.interior or sampler.boundary"
            )
        scale = torch.sqrt(weighting.term(name) * chosen.weights / chosen.weights.sum())
        if name == INTERIOR and weighting.growth:
            scale = scale * torch.exp(-weighting.growth * _elapsed(problem, chosen.points, weighting.growth))
        where = place(chosen.points)
        paired = place(sample.paired[name]) if name in sample.paired else None
        terms.append(Term(name, where, paired, scale, chosen.points, chosen.normals))
    return CollocationPoints(torch.cat(blocks), tuple(terms))


def _elapsed(problem: Problem, points: Tensor, growth: float) -> Tensor:
    """Return the time since the first one, `[N]`; raises UserError for problems without t."""
    domain = problem.domain
    if "t" not in domain.names:
        raise invalid("weighting.growth", growth, "0 for a problem without a time t")
    return points[:, domain.names.index("t")] - domain.interval("t")[0]


def relative_times(problem: Problem, points: CollocationPoints) -> dict[str, Tensor]:
    """Return each term's times from 0 at the start to 1 at the end, `[n]`; nothing for problems without t."""
    domain = problem.domain
    if "t" not in domain.names:
        return {}
    start, end = domain.interval("t")
    column = domain.names.index("t")
    return {name: (own[:, column] - start) / (end - start) for name, own in points.by_term().items()}


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass.

    Attributes:
        tape: Features and outputs of the layers.
        rows: Every equation's term and weighted residual `[n]`.
        passes: Equations that one backward pass serves: those of different points.
        losses: Each term's part of the loss.
        couplings: What equations, by number, have of nodes of integrals.
        curved: True where the losses are not the sums of squares of the rows.
    """

    tape: Tape
    rows: list[tuple[Term, Tensor]]
    passes: list[list[int]]
    losses: dict[str, float]
    couplings: Mapping[int, Sequence[Coupling]] = field(default_factory=dict)
    curved: bool = False

    @classmethod
    def of(
        cls,
        tape: Tape,
        rows: Iterable[tuple[Term, Tensor]],
        losses: dict[str, float],
        couplings: Mapping[int, Sequence[Coupling]] | None = None,
        *,
        curved: bool = False,
    ) -> ForwardPass:
        """Sort equations into passes: pass k takes the k-th equation of every term, whose points are disjoint."""
        found, passes = list(rows), []
        seen: dict[str, int] = {}
        for m, (term, _) in enumerate(found):
            k = seen[term.name] = seen.get(term.name, -1) + 1
            if k == len(passes):
                passes.append([])
            passes[k].append(m)
        return cls(tape, found, passes, losses, couplings or {}, curved)

    def scalar(self, members: list[int]) -> Tensor:
        """Σ_n r_n over the equations of one pass."""
        return torch.cat([self.rows[m][1] for m in members]).sum()

    def retained(self, k: int) -> bool:
        """Return whether a backward pass after pass k needs the graph again."""
        return k < len(self.passes) - 1
