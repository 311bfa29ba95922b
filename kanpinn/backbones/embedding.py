"""Input embeddings of all backbones: scaling to [−1, 1], periodicity, symmetry, Fourier features, a problem's own.

Symmetry. With x̂ ∈ [−1, 1] the scaled coordinate and ε a small radius, a function that is even about x̂ = 0 is one of

    g(x̂) = √(x̂² + ε²),    and a 2-periodic even one is one of    g(x̂) = asin(κ cos πx̂),  κ = 1/√(1 + (πε)²),

the absolute value and the triangle wave with their kinks rounded off within ε. Nothing is lost by the rounding: a
smooth even function is a smooth one of x̂² = g² − ε², or of cos πx̂ = sin(g)/κ. An odd function is an even one times
s ∝ g′, a rounded sign or square wave. So a network of g, times s for odd ones, has the symmetry (and the period) of the
problem whatever its parameters are, spends them on one half of the box, and cannot shift a front off the mirror.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid
from kanpinn.jets.functions import FUNCTIONS
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.options import Options, option

KINDS = ("auto", "none", "periodic", "fourier")
PERIODIC = ("angle", "spline")
PARITIES = ("even", "odd")
PROBE = 5
"""Points per coordinate at which the range of a problem's further inputs is looked at."""

MOST_AXES = 5
"""Coordinates up to which these make a grid; of more as many points as of so many are drawn at random."""

Inputs = Callable[[Any], Sequence[Jet]]
"""Further inputs as jets, from an object that has the coordinates' jets as attributes."""


class Domain(Protocol):
    """A domain, as far as networks know one: named coordinates and their intervals."""

    @property
    def names(self) -> tuple[str, ...]:
        """Coordinate names, in the order of the columns of points."""
        ...

    def interval(self, name: str) -> tuple[float, float]:
        """Interval of one coordinate."""
        ...


@dataclass
class EmbeddingOptions(Options):
    """Input embedding of the coordinates."""

    key: ClassVar[str] = "backbone.embedding"

    kind: str = option(
        "auto",
        "auto: the problem's periodicity and symmetry built in; periodic: all but time; fourier: random features; none",
        one_of=KINDS,
    )
    features: int = option(8, "fourier: number of random frequencies", at_least=1)
    scale: float = option(
        2.0, "fourier: standard deviation of the frequencies, in radians per half-width of the box", above=0
    )
    inputs: bool = option(True, "append the further inputs that a problem may offer")
    rounding: float = option(
        0.01,
        "radius within which a built-in symmetry rounds the kink at its mirror, in half-widths",
        at_least=1e-3,
        at_most=1,
    )
    periodic: str = option(
        "angle",
        "a periodic coordinate enters as cos and sin (angle), or by periodic splines of itself",
        one_of=PERIODIC,
    )

    def of(self, problem: Any, generator: np.random.Generator) -> Embedding:
        """Return the embedding for a problem: anything with the attributes used here, as `build`."""
        further, parameters = (problem.inputs, problem.symmetry), tuple(problem.parameters)
        return self.build(problem.domain, problem.periodic, generator, *further, parameters)

    def build(
        self,
        domain: Domain,
        periodic: tuple[str, ...],
        generator: np.random.Generator,
        inputs: Inputs | None = None,
        symmetry: Mapping[str, str] | None = None,
        parameters: Sequence[str] = (),
    ) -> Embedding:
        """The embedding for one domain; random frequencies are drawn here and then stay.

        Periodic coordinates, further inputs, symmetry and parameters are those of the problem. Raises UserError if the
        further inputs are no jets or leave [−1, 1].
        """
        coordinates: tuple[str, ...] = ()
        if self.kind == "auto":
            coordinates = periodic
        elif self.kind == "periodic":
            coordinates = tuple(name for name in domain.names if name not in ("t", *parameters))
        frequencies = None
        if self.kind == "fourier":
            frequencies = torch.from_numpy(self.scale * generator.standard_normal((len(domain.names), self.features)))
        symmetry = symmetry if self.kind == "auto" else None
        further = inputs if self.inputs else None
        wrapped = self.periodic == "spline"
        intervals = {name: domain.interval(name) for name in domain.names}
        return Embedding(intervals, coordinates, frequencies, further, symmetry, self.rounding, wrapped=wrapped)


class Embedding:
    """Coordinates `[N, d]` to jets `[C, N, width]`, each in [−1, 1].

    Attributes:
        intervals: By coordinate, the interval that is scaled to [−1, 1].
        periodic: Coordinates in which outputs have the period of the box; one without symmetry enters as (cos, sin).
        symmetry: "even" or "odd" by coordinate: outputs are so about the middle of its interval.
        rounding: Radius ε of the symmetric coordinates.
        frequencies: `[d, features]` or None.
        inputs: The problem's further inputs, or None.
        wrapped: True if periodic coordinates without symmetry enter scaled only, for periodic splines.
        width: Number of inputs the first layer sees.
    """

    def __init__(
        self,
        intervals: Mapping[str, tuple[float, float]],
        periodic: tuple[str, ...] = (),
        frequencies: Tensor | None = None,
        inputs: Inputs | None = None,
        symmetry: Mapping[str, str] | None = None,
        rounding: float = 0.01,
        *,
        wrapped: bool = False,
    ) -> None:
        self.intervals = dict(intervals)
        self.periodic = periodic
        self.frequencies = frequencies
        self.inputs = inputs
        self.symmetry = dict(symmetry or {})
        self.rounding = rounding
        self.wrapped = wrapped
        self.width = sum(map(self.count, self.names)) + (0 if frequencies is None else 2 * frequencies.shape[1])
        self.width += self._checked_inputs()

    @property
    def names(self) -> tuple[str, ...]:
        """Coordinate names, in the order of the columns of points."""
        return tuple(self.intervals)

    def count(self, name: str) -> int:
        """Number of inputs per coordinate."""
        return 2 if self._turned(name) else 1

    def scaled(self, name: str) -> bool:
        """True if a coordinate enters scaled to [−1, 1] and nothing else."""
        return name not in self.symmetry and not self._turned(name)

    def around(self, name: str) -> bool:
        """True if a coordinate is periodic and enters scaled, so that splines of it have to be periodic."""
        return self.wrapped and name in self.periodic and name not in self.symmetry

    def refuse_splines(self) -> None:
        """For networks without periodic splines; raises UserError where the coordinates want them."""
        if any(map(self.around, self.names)):
            raise invalid("backbone.embedding.periodic", "spline", "angle, unless backbone=separable")

    def _turned(self, name: str) -> bool:
        """True if a coordinate enters as cos and sin."""
        return not self.wrapped and name in self.periodic and name not in self.symmetry

    def alone(self, name: str) -> Embedding:
        """Return the embedding of one of the coordinates, without frequencies and further inputs."""
        periodic = (name,) if name in self.periodic else ()
        symmetry = {name: self.symmetry[name]} if name in self.symmetry else {}
        own = {name: self.intervals[name]}
        return Embedding(own, periodic, None, None, symmetry, self.rounding, wrapped=self.wrapped)

    def restricted(self, names: tuple[str, ...]) -> tuple[Embedding, tuple[int, ...]]:
        """Return the embedding of some of the coordinates, and the numbers of its inputs among those of this one.

        Further inputs that depend on another coordinate are left out.

        Raises:
            UserError: If random features mix the coordinates.
        """
        if names == self.names:
            return self, tuple(range(self.width))
        if self.frequencies is not None:
            expected = "auto, none or periodic, where an unknown depends on some coordinates only"
            raise invalid("backbone.embedding.kind", "fourier", expected)
        columns: list[int] = []
        end = 0
        for name in self.names:
            end += self.count(name)
            columns += range(end - self.count(name), end) if name in names else ()
        kept = [k for k, depends in enumerate(self._dependence()) if depends <= set(names)]
        others = {one: sum(self.intervals[one]) / 2 for one in self.names if one not in names}

        def further(p: Any) -> list[Jet]:
            nothing = getattr(p, names[0]) * 0.0
            whole = SimpleNamespace(**vars(p), **{one: nothing + value for one, value in others.items()})
            jets = list(self.inputs(whole) if self.inputs else ())
            return [jets[k] for k in kept]

        own = Embedding(
            {one: self.intervals[one] for one in names},
            tuple(one for one in self.periodic if one in names),
            None,
            further if kept else None,
            {one: parity for one, parity in self.symmetry.items() if one in names},
            self.rounding,
            wrapped=self.wrapped,
        )
        return own, (*columns, *(end + k for k in kept))

    def _dependence(self) -> list[set[str]]:
        """The coordinates that each further input depends on, on a grid over the box."""
        space = JetSpace(self.names, self.names)
        return [
            {one for one in self.names if bool((jet[one] != 0).any())} for jet in self._further(self._grid(), space)
        ]

    def _grid(self) -> Tensor:
        if len(self.intervals) > MOST_AXES:
            drawn = np.random.default_rng(0).random((PROBE**MOST_AXES, len(self.intervals)))
            lower, upper = np.array(list(self.intervals.values())).T
            return torch.from_numpy(lower + (upper - lower) * drawn)
        axes = [torch.linspace(a, b, PROBE, dtype=torch.float64) for a, b in self.intervals.values()]
        return torch.cartesian_prod(*axes).reshape(-1, len(axes))

    def _checked_inputs(self) -> int:
        """The number of further inputs, once they are seen to stay within [−1, 1] on a grid over the box."""
        if self.inputs is None:
            return 0
        jets = self._further(self._grid(), JetSpace(self.names, ()))
        for jet in jets:
            if not isinstance(jet, Jet):
                raise UserError(f"inputs of the problem: expected jets, got {type(jet).__name__}")
            if not float(jet.value.abs().max()) <= 1 + 1e-6:
                low, high = float(jet.value.min()), float(jet.value.max())
                raise UserError(f"inputs of the problem: one runs from {low:g} to {high:g}, not within [-1, 1]")
        return len(jets)

    def _further(self, points: Tensor, space: JetSpace) -> list[Jet]:
        """The problem's further inputs at points `[N, d]`."""
        if self.inputs is None:
            return []
        return list(self.inputs(SimpleNamespace(**dict(zip(self.names, space.variables(points), strict=True)))))

    def forward(self, points: Tensor, space: JetSpace) -> Tensor:
        """Embed points `[N, d]`, with the derivatives of `space`, `[C, N, width]`."""
        columns: list[Tensor] = []
        scaled: list[Jet] = []
        for unit, name in self._units(points, space):
            scaled.append(unit)
            if name in self.symmetry:
                columns.append(self._folded(unit, name).data)
            elif self._turned(name):
                columns += [_apply(name, unit * math.pi).data for name in ("cos", "sin")]
            else:
                columns.append(unit.data)
        if self.frequencies is not None:
            frequencies = self.frequencies.to(points)
            for k in range(frequencies.shape[1]):
                phase = sum((unit * frequencies[d, k].item() for d, unit in enumerate(scaled)), start=scaled[0] * 0.0)
                columns += [_apply(name, phase).data for name in ("cos", "sin")]
        columns += [jet.data for jet in self._further(points, space)]
        return torch.stack(columns, dim=-1)

    def factor(self, points: Tensor, space: JetSpace) -> Jet | None:
        """Return the factor within [−1, 1] that makes outputs odd where they have to be, `[C, N, 1]`, or None for 1."""
        total = None
        for unit, name in self._units(points, space):
            if self.symmetry.get(name) == "odd":
                sign = self._sign(unit, name)
                total = sign if total is None else total * sign
        return None if total is None else Jet(space, total.data[..., None])

    def _units(self, points: Tensor, space: JetSpace) -> Iterator[tuple[Jet, str]]:
        """Every coordinate scaled to [−1, 1], with its name."""
        for jet, (name, (a, b)) in zip(space.variables(points), self.intervals.items(), strict=True):
            yield (jet - (a + b) / 2) * (2 / (b - a)), name

    def _folded(self, unit: Jet, name: str) -> Jet:
        """The even input g of a symmetric coordinate, scaled to [−1, 1]."""
        if name in self.periodic:
            kappa = 1 / math.hypot(1, math.pi * self.rounding)
            return _apply("asin", _apply("cos", unit * math.pi) * kappa) * (1 / math.asin(kappa))
        low, high = self.rounding, math.hypot(1, self.rounding)
        return ((unit * unit + low**2) ** 0.5 - (low + high) / 2) * (2 / (high - low))

    def _sign(self, unit: Jet, name: str) -> Jet:
        """The odd factor s of a symmetric coordinate, ±1 half-way to the next mirror or at the end."""
        if name in self.periodic:
            s = _apply("sin", unit * math.pi)
            return s * (s * s + (math.pi * self.rounding) ** 2) ** -0.5 * math.hypot(1, math.pi * self.rounding)
        return unit * (unit * unit + self.rounding**2) ** -0.5 * math.hypot(1, self.rounding)


def _apply(name: str, jet: Jet) -> Jet:
    """A function of `FUNCTIONS` of a jet."""
    return jet.compose(FUNCTIONS[name](jet.value, jet.space.order))
