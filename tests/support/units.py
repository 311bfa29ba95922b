"""Problems in other units: coordinates, unknowns and equations multiplied by numbers, all else the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kanpinn.geometry import Box, Coordinates, Disk, Interface, Points, Region
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.pde import Condition, Data, Point, Problem
from kanpinn.pde.problem import output_names
from kanpinn.pde.unknown import Unknown, free_coefficients, posed
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate
from kanpinn.settings.configuration import Configuration


@dataclass(frozen=True)
class InUnits(Problem):
    """The problem `whole` posed in x̃ = s x and ũ = c u, its residuals d r; every method asks the whole's own.

    Attributes:
        whole: The problem.
        lengths: s of each coordinate.
        amplitude: c of all unknowns, and of the network's outputs; of coefficients to be found too, see `changed`.
        equations: d of all residuals.
    """

    whole: Problem
    lengths: Mapping[str, float] = field(default_factory=dict)
    amplitude: float = 1.0
    equations: float = 1.0

    def __post_init__(self) -> None:
        self.adapt(**{name: getattr(self.whole, name) for name in Problem.__annotations__})
        self.adapt(domain=scaled(self.whole.domain, self.of))

    @property
    def original(self) -> Problem:
        """The whole, whose coefficients to be found have the values that they have here."""
        return posed(self.whole, {name: getattr(self, name) / self.amplitude for name in free_coefficients(self.whole)})

    def of(self, name: str) -> float:
        return self.lengths.get(name, 1.0)

    def inner(self, p: Coordinates | Point) -> list[Any]:
        """The whole's coordinates."""
        return [getattr(p, name) / self.of(name) for name in self.domain.names]

    def factors(self, space: JetSpace, like: Tensor) -> Tensor:
        """Factors from derivatives by x̃ to those by x, `[C, 1]`."""
        found = [math.prod(self.of(name) for name in index) for index in space.indices]
        return torch.tensor(found, dtype=like.dtype)[:, None]

    def inner_jet(self, jet: Jet) -> Jet:
        return Jet(jet.space, jet.data * self.factors(jet.space, jet.data))

    def built(self, method: Callable[..., Any], p: Coordinates, raw: Coordinates, names: Sequence[str]) -> Any:
        """The result of the whole's `ansatz` or `exact`, in these units."""
        jets = [getattr(p, name) for name in self.domain.names]
        inside = [self.inner_jet(jet) / self.of(name) for jet, name in zip(jets, self.domain.names, strict=True)]
        given = [self.inner_jet(getattr(raw, name)) / self.amplitude for name in names]
        found = method(Coordinates(self.domain.names, inside), Coordinates(tuple(names), given))
        if found is None:
            return None
        named = found if isinstance(found, Mapping) else {self.unknowns[0]: found}
        return {
            name: Jet(jet.space, jet.data / self.factors(jet.space, jet.data) * self.amplitude)
            for name, jet in named.items()
        }

    def point(self, p: Point) -> Point:
        """The whole's point."""
        names, space = self.domain.names, JetSpace(self.domain.names, tuple(self.derivatives))
        fields = {}
        for unknown in self.unknowns:
            parts = [getattr(p, f"{unknown}_{''.join(index)}" if index else unknown) for index in space.indices]
            data = torch.stack(parts)
            fields[unknown] = Jet(space, data * self.factors(space, data) / self.amplitude)
        try:
            normals = torch.stack([getattr(p, f"n_{name}") for name in names], dim=1)
        except Exception:  # inside there are none
            normals = None
        return Point(names, torch.stack(self.inner(p), dim=1), fields, normals)

    def multiplied(self, result: Any) -> Any:
        if isinstance(result, Mapping):
            return {name: self.equations * value for name, value in result.items()}
        return self.equations * result

    def residual(self, p: Point) -> Any:
        return self.multiplied(self.original.residual(self.point(p)))

    def conditions(self) -> list[Any]:
        found = self.original.conditions()
        return [self._data(c) if isinstance(c, Data) else self._condition(c) for c in found]

    def _data(self, data: Data) -> Data:
        """Measured values of unknowns, and their standard deviations, in these units."""
        factors = {name: self.of(name) for name in self.domain.names}
        factors |= {f"{sigma}{name}": self.amplitude for name in self.unknowns for sigma in ("", "sigma_")}
        return replace(data, table={name: factors[name] * column for name, column in data.columns().items()})

    def _condition(self, c: Condition) -> Condition:
        def residual(*points: Point) -> Any:
            return self.multiplied(c.residual(*map(self.point, points)))

        def support(on: Any) -> Any:
            if isinstance(on, Interface):
                return replace(on, region=scaled(on.region, self.of))
            if isinstance(on, Region) and not isinstance(on, Points):
                return scaled(on, self.of)
            if isinstance(on, Points):
                columns = zip(on.names, on.values.T, strict=True)
                return Points(**{name: column * self.of(name) for name, column in columns})
            name, _, value = on.partition("=") if isinstance(on, str) else (on, "", "")
            return f"{name}={float(value) * self.of(name)!r}" if value else on

        where = c.where
        part = None if where is None else lambda p: where(Coordinates(self.domain.names, self.inner(p)))
        return replace(c, on=tuple(map(support, c.supports)), residual=residual, where=part)

    def inside(self, p: Coordinates) -> Tensor | None:
        return self.original.inside(Coordinates(self.domain.names, self.inner(p)))

    def inputs(self, p: Coordinates) -> Sequence[Jet]:
        return self.original.inputs(Coordinates(self.domain.names, self.inner(p)))

    def ansatz(self, p: Coordinates, raw: Coordinates) -> Any:
        return self.built(self.original.ansatz, p, raw, output_names(self.whole))

    def exact(self, p: Coordinates, raw: Coordinates) -> Any:
        return self.built(self.original.exact, p, raw, self.unknowns)

    def reference(self, p: Coordinates) -> Any:
        found = self.original.reference(Coordinates(self.domain.names, self.inner(p)))
        if isinstance(found, Mapping):
            return {name: self.amplitude * value for name, value in found.items()}
        return None if found is None else self.amplitude * found


def scaled(region: Region, factor: Callable[[str], float]) -> Region:
    """A region with its coordinates multiplied; round ones in all by the same number.

    A region reads like the calls that make it.
    """

    def box(name: str = "", **intervals: Sequence[float]) -> Box:
        ends = {one: tuple(factor(one) * end for end in interval) for one, interval in intervals.items()}
        return Box(**ends, name=name)

    def disk(center: Sequence[float], radius: float, *, name: str, names: Sequence[str]) -> Disk:
        (s,) = {factor(one) for one in names}
        return Disk([s * c for c in center], s * radius, name=name, names=names)

    def points(**columns: Sequence[float]) -> Points:
        return Points(**{one: [factor(one) * x for x in column] for one, column in columns.items()})

    return eval(repr(region), {"Box": box, "Disk": disk, "Points": points})


UNITS: dict[str, dict[str, float]] = {
    "given": {},
    "micrometres": {"length": 1e6, "time": 1e3},
    "uneven": {"x": 1e3, "amplitude": 1e-3},
    "large": {"amplitude": 1e6, "equations": 1e-3},
    "small": {"amplitude": 1e-12, "equations": 1e9, "length": 1e-9},
}
"""Changes of units: factors of lengths or single coordinates, times, unknowns and equations."""


def changed(problem: Problem, units: str) -> InUnits:
    """A problem in units of `UNITS`."""
    change = UNITS[units]
    kinds = {name: "time" if name == "t" else "length" for name in problem.domain.names}
    lengths = {name: change.get(name, change.get(kind, 1.0)) for name, kind in kinds.items()}
    c = change.get("amplitude", 1.0)
    free = [(name, float, _scaled(value, c)) for name, value in free_coefficients(problem).items()]
    kind = make_dataclass("InUnits", free, bases=(InUnits,), frozen=True) if free else InUnits
    return kind(problem, lengths, c, change.get("equations", 1.0))


def _scaled(value: Unknown, c: float) -> Unknown:
    lower, upper = (None if bound is None else c * bound for bound in (value.lower, value.upper))
    return Unknown(c * value, lower=lower, upper=upper)


def configured(name: str, units: str, *overrides: str) -> Configuration:
    """The config of a shipped problem in other units; a weight's growth in time is in units of time too."""
    configuration = validate(compose([f"problem={name}", "threads=1", "output.progress=false", *overrides])[0])
    setup, growth = configuration.setup, configuration.setup.weighting.growth / UNITS[units].get("time", 1.0)
    setup = replace(setup, problem=changed(setup.problem, units), weighting=replace(setup.weighting, growth=growth))
    return replace(configuration, setup=setup)
