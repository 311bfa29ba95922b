"""Forward pass of a network at collocation points: its residuals, and what backward passes need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from kanpinn.backbones.base import Tape
from kanpinn.least_squares.points import Term


@dataclass(frozen=True)
class ForwardPass:
    """One forward pass.

    Attributes:
        tape: Features and outputs of the layers.
        rows: Every equation's term and weighted residual `[n]`.
        passes: Equations that one backward pass serves: those of different points.
        losses: Each term's part of the loss.
    """

    tape: Tape
    rows: list[tuple[Term, Tensor]]
    passes: list[list[int]]
    losses: dict[str, float]

    @classmethod
    def of(cls, tape: Tape, rows: Iterable[tuple[Term, Tensor]], losses: dict[str, float]) -> ForwardPass:
        """Sort equations into passes: pass k takes the k-th equation of every term, whose points are disjoint."""
        found, passes = list(rows), []
        seen: dict[str, int] = {}
        for m, (term, _) in enumerate(found):
            k = seen[term.name] = seen.get(term.name, -1) + 1
            if k == len(passes):
                passes.append([])
            passes[k].append(m)
        return cls(tape, found, passes, losses)

    def scalar(self, members: list[int]) -> Tensor:
        """Σ_n r_n over the equations of one pass."""
        return sum((self.rows[m][1].sum() for m in members), start=self.rows[0][1].new_zeros(()))

    def retained(self, k: int) -> bool:
        """Return whether a backward pass after pass k needs the graph again."""
        return k < len(self.passes) - 1
