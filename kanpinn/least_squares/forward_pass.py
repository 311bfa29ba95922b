"""One forward pass of an objective: where its terms' points stand, their residuals, what the backward passes need."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kanpinn.backbones.base import Tape


@dataclass(frozen=True)
class Term:
    """Where one loss term's points stand in the joint array, and how its rows are weighted.

    Attributes:
        name: Of the term.
        points: Its points.
        partner: Those across, of a condition that compares two.
        scale: √(w q/|set|), `[n]`.
        coordinates: `[n, d]`.
        part: Which of the points drawn for the term these are; None for all.
    """

    name: str
    points: slice
    partner: slice | None
    scale: Tensor
    coordinates: Tensor
    part: slice | Tensor | None = None


@dataclass(frozen=True)
class Recording:
    """One forward pass.

    Attributes:
        tape: What the layers have left.
        rows: Every equation's term and weighted residual `[n]`.
        passes: Which of them one backward pass serves: those of different points.
        losses: Each term's part of the loss.
    """

    tape: Tape
    rows: list[tuple[Term, Tensor]]
    passes: list[list[int]]
    losses: dict[str, float]

    def scalar(self, members: list[int]) -> Tensor:
        """Σ_n r_n over the equations of one pass."""
        return sum((self.rows[m][1].sum() for m in members), start=self.rows[0][1].new_zeros(()))
