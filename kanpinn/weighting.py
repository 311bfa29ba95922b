"""Loss weights: fixed per term from the config, and residual-based attention per point."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kanpinn.errors import invalid


@dataclass
class Weighting(ABC):
    """Weights of the loss terms.

    Attributes:
        terms: Weight by term name ("interior" and the names of the problem's conditions).
        base: Weights of the terms not named there, by default what the problem recommends; 1 where neither names one.
    """

    terms: dict[str, float] = field(default_factory=dict)
    base: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key, weights in (("terms", self.terms), ("base", self.base)):
            for name, weight in weights.items():
                if not (weight >= 0 and math.isfinite(weight)):
                    raise invalid(f"weighting.{key}.{name}", weight, "a finite number of at least 0")
        self.check()

    def check(self) -> None:  # noqa: B027
        """Validate the scheme's own options; raises UserError."""

    def term(self, name: str) -> float:
        """The weight of one term."""
        return float(self.terms.get(name, self.base.get(name, 1.0)))

    @property
    @abstractmethod
    def adapts(self) -> bool:
        """Whether `update` does anything."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the multipliers: the points have changed."""

    @abstractmethod
    def multipliers(self, term: str, equation: str) -> Tensor | float:
        """Multipliers m of the residuals of one equation: `[n]`, or one number for all points."""

    @abstractmethod
    def update(self, term: str, equation: str, residual: Tensor) -> None:
        """See the residuals `[n]` of one equation after a step."""


@dataclass
class Fixed(Weighting):
    """One constant weight per loss term."""

    @property
    def adapts(self) -> bool:
        return False

    def reset(self) -> None:
        return

    def multipliers(self, term: str, equation: str) -> float:
        return 1.0

    def update(self, term: str, equation: str, residual: Tensor) -> None:
        return


@dataclass
class ResidualAttention(Weighting):
    """Residual-based attention: multipliers grow where residuals stay large (Anagnostopoulos et al. 2024).

    m_n ← decay · m_n + rate · |r_n| / max |r|, from m = rate/(1 − decay) · start (arXiv:2307.00379, eq. 6).

    Attributes:
        decay: γ in [0, 1).
        rate: η above 0.
        start: First multiplier, as a fraction of its largest possible value η/(1 − γ).
        only: Terms it acts on; every term if empty.
    """

    decay: float = 0.999
    rate: float = 0.01
    start: float = 0.1
    only: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._m: dict[tuple[str, str], Tensor] = {}

    def check(self) -> None:
        if not 0 <= self.decay < 1:
            raise invalid("weighting.decay", self.decay, "a number from 0 to below 1")
        if not self.rate > 0:
            raise invalid("weighting.rate", self.rate, "a number above 0")
        if not 0 < self.start <= 1:
            raise invalid("weighting.start", self.start, "a number above 0 and at most 1")

    @property
    def adapts(self) -> bool:
        return True

    def reset(self) -> None:
        self._m.clear()

    def multipliers(self, term: str, equation: str) -> Tensor | float:
        if self.only and term not in self.only:
            return 1.0
        return self._m.get((term, equation), self._first)

    @property
    def _first(self) -> float:
        return self.start * self.rate / (1 - self.decay)

    def update(self, term: str, equation: str, residual: Tensor) -> None:
        if self.only and term not in self.only:
            return
        size = residual.abs()
        old = self._m.get((term, equation), self._first)
        self._m[term, equation] = self.decay * old + self.rate * size / size.max().clamp_min(
            torch.finfo(size.dtype).tiny
        )


WEIGHTINGS: dict[str, type[Weighting]] = {"fixed": Fixed, "rba": ResidualAttention}
