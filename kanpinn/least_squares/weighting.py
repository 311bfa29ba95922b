"""Loss weights: fixed per term from the config, residual-based attention per point, causal weights along time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from kanpinn.errors import invalid, unknown_choice
from kanpinn.options import Options, option
from kanpinn.state import State, tensor


@dataclass
class Weighting(Options, ABC):
    """Weights of the loss terms."""

    key: ClassVar[str] = "weighting"

    terms: dict[str, float | list[float]] = option(
        {},
        "weight by loss term, as weighting.terms.initial=100; a list for the levels, the last for all after",
        at_least=0,
    )
    base: dict[str, float | list[float]] = option(
        {}, "weights of the terms not named there: what the problem recommends", at_least=0
    )
    constraint: float = option(
        1e8, "largest factor of all terms but data, where these tell a coefficient; found in training", at_least=1
    )
    growth: float = option(0.0, "rate λ at which errors grow; residuals count as exp(−λ t)")
    sparsity: float = option(0.0, "weight λ of the sizes of all edges, a penalty that empties some of them", at_least=0)
    entropy: float = option(0.0, "weight μ of the entropy of the sizes in a layer, relative to them", at_least=0)

    def term(self, name: str) -> float:
        """The weight of one term."""
        found = self.terms.get(name, self.base.get(name, 1.0))
        return float(found[-1] if isinstance(found, list) else found)

    def on_level(self, level: int | None) -> Self:
        """Return weights of one level, without state; those of the finest for None.

        Penalties that grow from level to level lead to constraints that could not be met from the start (Nocedal and
        Wright 2006, Numerical Optimization, sec. 17.1), such as an equation beside noisy data.
        """
        found = deepcopy(self)
        for weights in (found.terms, found.base):
            for name, given in weights.items():
                if isinstance(given, list) and level is not None:
                    weights[name] = given[min(level, len(given) - 1)]
        return found

    def check(self) -> None:
        """Refuse lists without a weight; raises UserError."""
        for key, weights in (("terms", self.terms), ("base", self.base)):
            for name, given in weights.items():
                if given == []:
                    raise invalid(f"weighting.{key}.{name}", given, "a number, or a list of one for each level")

    def check_terms(self, names: Sequence[str]) -> None:
        """Refuse weights of terms that do not exist; raises UserError. Those of built-in conditions do no harm."""
        for key, given in (("terms", self.terms), ("base", self.base), ("only", getattr(self, "only", ()))):
            for name in given:
                if name not in names:
                    raise unknown_choice(f"weighting.{key}", name, names)

    @property
    @abstractmethod
    def adapts(self) -> bool:
        """True if `update` does anything."""

    @abstractmethod
    def reset(self, times: Mapping[str, Tensor]) -> None:
        """The points have changed: forget multipliers of single points.

        Args:
            times: By term, how far along the time interval each new point lies, `[n]` from 0 to 1; empty without time.
        """

    @abstractmethod
    def multipliers(self, term: str, equation: str) -> Tensor | float:
        """Multipliers m of the residuals of one equation: `[n]`, or one number for all points."""

    @abstractmethod
    def update(self, term: str, equation: str, residual: Tensor) -> None:
        """See the residuals `[n]` of one equation after a step."""

    @abstractmethod
    def state(self) -> State:
        """State that residuals seen have left."""

    @abstractmethod
    def load_state(self, state: State, device: torch.device) -> None:
        """Stand where another one's `state` stood, arrays in place of tensors; called after `reset` with its points."""


@dataclass
class Fixed(Weighting):
    """One constant weight per loss term."""

    @property
    def adapts(self) -> bool:
        return False

    def reset(self, times: Mapping[str, Tensor]) -> None:
        return

    def multipliers(self, term: str, equation: str) -> float:
        return 1.0

    def update(self, term: str, equation: str, residual: Tensor) -> None:
        return

    def state(self) -> State:
        return {}

    def load_state(self, state: State, device: torch.device) -> None:
        return


@dataclass
class ResidualAttention(Weighting):
    """Residual-based attention: multipliers grow where residuals stay large (Anagnostopoulos et al. 2024).

    m_n ← decay · m_n + rate · |r_n| / max |r|, from m = rate/(1 − decay) · start (arXiv:2307.00379, eq. 6).
    """

    decay: float = option(0.999, "decay γ of the multipliers per step", at_least=0, below=1)
    rate: float = option(0.01, "rate η at which they follow the residuals", above=0)
    start: float = option(0.1, "first multiplier, in units of its largest value η/(1 − γ)", above=0, at_most=1)
    only: list[str] = option([], "terms it acts on; all if empty")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._m: dict[tuple[str, str], Tensor] = {}

    @property
    def adapts(self) -> bool:
        return True

    def reset(self, times: Mapping[str, Tensor]) -> None:
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

    def state(self) -> State:
        return {"m": [{"term": term, "equation": equation, "m": m} for (term, equation), m in self._m.items()]}

    def load_state(self, state: State, device: torch.device) -> None:
        self._m = {(str(s["term"]), str(s["equation"])): tensor(s["m"], device) for s in state["m"]}


@dataclass
class Causal(Weighting):
    """Causal weights: an equation counts at a time only once it is met before it (Wang, Sankaran, Perdikaris 2022).

    The time interval is cut into equal bins with mean squares L_k of the interior residuals; points of bin i get
    m² = exp(−ε Σ_{k<i} L_k) (arXiv:2203.07404, eq. 3.5; with several equations L_k is their sum). Whenever every weight
    is above `threshold`, ε grows tenfold, as their list of tolerances does. Weights outlive a change of points.
    """

    bins: int = option(32, "time bins", at_least=2)
    epsilon: float = option(1.0, "ε at the start of a level: how fast a bin waits for those before it", above=0)
    threshold: float = option(0.99, "ε grows tenfold once every weight is above this", above=0, below=1)
    largest: float = option(1e8, "largest ε", above=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._epsilon = self.epsilon
        self._squares: dict[str, Tensor] = {}  # mean square in each bin, by equation
        self._bin: Tensor | None = None

    def check(self) -> None:
        super().check()
        if not self.largest >= self.epsilon:
            raise invalid("weighting.largest", self.largest, f"a number of at least weighting.epsilon={self.epsilon:g}")

    @property
    def adapts(self) -> bool:
        return True

    def reset(self, times: Mapping[str, Tensor]) -> None:
        if "interior" not in times:
            raise invalid("weighting", "causal", "a problem with a time t, or weighting=fixed, weighting=rba")
        self._bin = (times["interior"] * self.bins).long().clamp_(0, self.bins - 1)

    def weights(self) -> Tensor | None:
        """m² of each bin, `[bins]`; None before a residual has been seen."""
        if not self._squares:
            return None
        total = torch.stack(list(self._squares.values())).sum(0)
        return torch.exp(-self._epsilon * (total.cumsum(0) - total))

    def multipliers(self, term: str, equation: str) -> Tensor | float:
        weights = self.weights() if term == "interior" else None
        return 1.0 if weights is None or self._bin is None else weights.sqrt()[self._bin]

    def update(self, term: str, equation: str, residual: Tensor) -> None:
        if term != "interior" or self._bin is None:
            return
        counts = torch.bincount(self._bin, minlength=self.bins)
        sums = residual.new_zeros(self.bins).index_add_(0, self._bin, residual.square())
        self._squares[equation] = sums / counts.clamp_min(1)
        weights = self.weights()
        if weights is not None and float(weights.min()) > self.threshold:
            self._epsilon = min(10 * self._epsilon, self.largest)

    def state(self) -> State:
        squares = [{"equation": equation, "squares": values} for equation, values in self._squares.items()]
        return {"epsilon": self._epsilon, "squares": squares}

    def load_state(self, state: State, device: torch.device) -> None:
        self._epsilon = float(state["epsilon"])
        self._squares = {str(s["equation"]): tensor(s["squares"], device) for s in state["squares"]}


WEIGHTINGS: dict[str, type[Weighting]] = {"fixed": Fixed, "rba": ResidualAttention, "causal": Causal}
