"""Jets: a value together with the derivatives a problem needs, carried forward in closed form.

A `JetSpace` is the set of derivatives carried (a lower set of multi-indices over named coordinates, so that every
chain and product rule closes); a `Jet` is a tensor whose first axis runs over that set. Jets add, multiply and divide
like numbers and go through `torch.sin`, `torch.exp` and the like; layers use `Jet.compose` with their own derivatives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add, mul
from typing import Any

import torch
from torch import Tensor

from kanpinn.jets.functions import FUNCTIONS

Monomial = tuple[tuple[int, ...], int]
"""Positions of the jet components that are multiplied, and how often the product occurs."""


def _set_partitions(items: tuple[int, ...]) -> Iterable[list[tuple[int, ...]]]:
    """Yield every partition of `items` into non-empty blocks."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for partition in _set_partitions(rest):
        yield [(first,), *partition]
        for k, block in enumerate(partition):
            yield [*partition[:k], (first, *block), *partition[k + 1 :]]


@dataclass(frozen=True)
class JetSpace:
    """The derivatives that travel through a network together.

    Attributes:
        coordinates: Names of the independent variables, one letter each, in the order of the input columns.
        derivatives: The derivatives asked for, such as `("t", "x", "xx")`; all lower ones are added.

    Raises:
        ValueError: If a derivative names an unknown coordinate.
    """

    coordinates: tuple[str, ...]
    derivatives: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.derivatives:
            for letter in name:
                if letter not in self.coordinates:
                    raise ValueError(
                        f"derivative '{name}': '{letter}' is not among the coordinates {', '.join(self.coordinates)}"
                    )

    def canonical(self, name: str) -> str:
        """Order the letters of a derivative as the coordinates are ordered ("tx" becomes "xt")."""
        return "".join(sorted(name, key=self.coordinates.index))

    @cached_property
    def indices(self) -> tuple[str, ...]:
        """Every derivative carried, the value "" first, by order and then by coordinate."""
        lower: set[str] = {""}
        todo = [self.canonical(name) for name in self.derivatives]
        while todo:
            name = todo.pop()
            if name not in lower:
                lower.add(name)
                todo.extend(name[:k] + name[k + 1 :] for k in range(len(name)))
        return tuple(sorted(lower, key=lambda n: (len(n), [self.coordinates.index(c) for c in n])))

    @cached_property
    def order(self) -> int:
        """The highest derivative order carried."""
        return max(len(name) for name in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def position(self, name: str) -> int:
        """Position of the derivative `name` on the jet axis, "" for the value; raises KeyError if it is not carried."""
        if any(letter not in self.coordinates for letter in name):
            raise KeyError(name)
        canonical = self.canonical(name)
        if canonical not in self._positions:
            raise KeyError(name)
        return self._positions[canonical]

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: k for k, name in enumerate(self.indices)}

    @cached_property
    def chain(self) -> tuple[tuple[tuple[Monomial, ...], ...], ...]:
        """Faà di Bruno's formula: `chain[a][d-1]` lists the products of inner derivatives with f⁽ᵈ⁾ in (f∘g)_a.

        Derivation: (f∘g)_a = Σ over set partitions π of the letters of a of f^(|π|)(g) Π_{B∈π} g_B (Hardy,
        Electron. J. Combin. 13, 2006, R1, eq. 2).
        """
        table = []
        for name in self.indices:
            by_order: list[Counter[tuple[int, ...]]] = [Counter() for _ in name]
            for partition in _set_partitions(tuple(range(len(name)))):
                if partition:
                    blocks = sorted(self._positions["".join(name[k] for k in sorted(block))] for block in partition)
                    by_order[len(partition) - 1][tuple(blocks)] += 1
            table.append(tuple(tuple(counter.items()) for counter in by_order))
        return tuple(table)

    @cached_property
    def leibniz(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """The product rule: `leibniz[a]` lists (b, c, count) with (f g)_a = Σ count · f_b g_c."""
        table = []
        for name in self.indices:
            terms: Counter[tuple[int, int]] = Counter()
            for mask in range(2 ** len(name)):
                left = "".join(c for k, c in enumerate(name) if mask >> k & 1)
                right = "".join(c for k, c in enumerate(name) if not mask >> k & 1)
                terms[self._positions[left], self._positions[right]] += 1
            table.append(tuple((b, c, count) for (b, c), count in terms.items()))
        return tuple(table)

    def variables(self, points: Tensor) -> list[Jet]:
        """The coordinates of points `[N, d]` as jets `[C, N]`, one per column: 1 for its own first derivative."""
        jets = []
        for k, name in enumerate(self.coordinates):
            data = points.new_zeros(len(self), len(points))
            data[0] = points[:, k]
            if name in self._positions:
                data[self._positions[name]] = 1.0
            jets.append(Jet(self, data))
        return jets

    def constant(self, value: Tensor) -> Jet:
        """A jet with the given value `[...]` and no derivatives."""
        data = value.new_zeros(len(self), *value.shape)
        data[0] = value
        return Jet(self, data)


class Jet:
    """A tensor with its derivatives along the first axis.

    Attributes:
        space: The derivatives that the first axis of `data` runs over.
        data: `[C, ...]` with C = len(space).
    """

    __slots__ = ("data", "space")

    def __init__(self, space: JetSpace, data: Tensor) -> None:
        self.space = space
        self.data = data

    @property
    def value(self) -> Tensor:
        """The undifferentiated part `[...]`."""
        return self.data[0]

    def __getitem__(self, name: str) -> Tensor:
        """The derivative `name` `[...]`, "" for the value; raises KeyError if it is not carried."""
        return self.data[self.space.position(name)]

    def compose(self, derivatives: Sequence[Tensor]) -> Jet:
        """The jet of f∘g for this jet g, by Faà di Bruno's formula.

        `derivatives` are f, f′, f″, … at `self.value`, up to the order of the space, each of the value's shape.
        """
        if torch.is_grad_enabled() and (self.data.requires_grad or any(f.requires_grad for f in derivatives)):
            chain = (enumerate(by_order, start=1) for by_order in self.space.chain[1:])
            parts = [reduce(add, (derivatives[d] * self.monomial(terms) for d, terms in orders)) for orders in chain]
            return Jet(self.space, torch.stack([derivatives[0], *parts]))
        out = torch.empty_like(self.data)  # strides as they are: what is contiguous stays so
        places = out.unbind(0)
        places[0].copy_(derivatives[0])
        if len(places) > 1:
            torch.mul(derivatives[1], self.data[1:], out=out[1:])
        for place, by_order in zip(places[1:], self.space.chain[1:], strict=True):
            for d, terms in enumerate(by_order[1:], start=2):
                place.addcmul_(derivatives[d], self.monomial(terms))
        return Jet(self.space, out)

    def monomial(self, terms: Sequence[Monomial]) -> Tensor:
        """Σ count · Π components, for one entry of `JetSpace.chain`; `[...]`."""

        def product(positions: tuple[int, ...], count: int) -> Tensor:
            found = reduce(mul, (self.data[position] for position in positions))
            return found if count == 1 else found * count

        return reduce(add, (product(*term) for term in terms))

    def __abs__(self) -> Jet:
        return self.compose(FUNCTIONS["abs"](self.value, self.space.order))

    def _coerce(self, other: Any) -> Jet | None:
        if isinstance(other, Jet):
            return other
        if isinstance(other, int | float | Tensor):
            return None
        raise TypeError(f"a jet cannot be combined with {type(other).__name__}")

    def __add__(self, other: Any) -> Jet:
        jet = self._coerce(other)
        if jet is not None:
            return Jet(self.space, self.data + jet.data)
        return Jet(self.space, torch.cat([(self.data[0] + other)[None], self.data[1:]]))

    __radd__ = __add__

    def __neg__(self) -> Jet:
        return Jet(self.space, -self.data)

    def __sub__(self, other: Any) -> Jet:
        return self + (-other)

    def __rsub__(self, other: Any) -> Jet:
        return -self + other

    def __mul__(self, other: Any) -> Jet:
        jet = self._coerce(other)
        if jet is None:
            return Jet(self.space, self.data * other)
        f, g = self.data, jet.data
        parts = [reduce(add, (count * f[b] * g[c] for b, c, count in terms)) for terms in self.space.leibniz]
        return Jet(self.space, torch.stack(parts))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Jet:
        if self._coerce(other) is None:
            return Jet(self.space, self.data / other)
        return self * other**-1.0

    def __rtruediv__(self, other: Any) -> Jet:
        return self**-1.0 * other

    def __pow__(self, exponent: float) -> Jet:
        if not isinstance(exponent, int | float):
            raise TypeError(f"a jet can be raised to the power of a number only, not of a {type(exponent).__name__}")
        x = self.value
        derivatives, factor = [], 1.0
        for d in range(self.space.order + 1):
            derivatives.append(factor * x ** (exponent - d) if factor else torch.zeros_like(x))
            factor *= exponent - d
        return self.compose(derivatives)

    def __rpow__(self, base: Any) -> Jet:
        raise TypeError("a jet cannot be an exponent; write torch.exp(jet * math.log(base))")

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Let `torch.sin(jet)` and `tensor * jet` do what they say."""
        name = getattr(func, "__name__", str(func)).strip("_")
        kwargs = {key: value for key, value in (kwargs or {}).items() if value}  # silu passes on inplace=False
        if name in FUNCTIONS and len(args) == 1 and not kwargs:
            jet = args[0]
            return jet.compose(FUNCTIONS[name](jet.value, jet.space.order))
        if name in _OPERATORS and len(args) == 2 and not kwargs:
            (left, right), (operation, reflected) = args, _OPERATORS[name]
            return getattr(left, operation)(right) if isinstance(left, Jet) else getattr(right, reflected)(left)
        if name in ("neg", "negative"):
            return -args[0]
        raise TypeError(f"torch.{name} is not defined for jets; use one of {', '.join(sorted(FUNCTIONS))}")


def chain_cotangent(
    jet: Jet, scaled: Callable[[int, int], Tensor], monomials: Sequence[Sequence[Tensor]] | None = None
) -> Tensor:
    """Pull a cotangent back through Faà di Bruno's formula.

    With (f∘g)_a = Σ_d f⁽ᵈ⁾(g) M_{a,d}, the value of g collects Σ_{a,d} λ_a f⁽ᵈ⁺¹⁾ M_{a,d}, and each factor of a
    monomial of M_{a,d} collects λ_a f⁽ᵈ⁾ times the other factors.

    Args:
        jet: The inner jet g, `[C, ...]`.
        scaled: Gives λ_a f⁽ᵈ⁾ `[...]`, summed over whatever f maps to, for the position a and order d = 1 … |a| + 1.
        monomials: The M_{a,d}, by a and then by d from 1, if they are known.

    Returns:
        The cotangent of `jet.data`, `[C, ...]`.
    """
    data = jet.data.unbind(0)
    total = torch.zeros_like(jet.data)
    out = total.unbind(0)
    out[0].copy_(scaled(0, 1))
    for a, by_order in enumerate(jet.space.chain[1:], start=1):
        for d, terms in enumerate(by_order, start=1):
            monomial = monomials[a][d - 1] if monomials else data[a] if d == 1 else jet.monomial(terms)
            out[0].addcmul_(monomial, scaled(a, d + 1))
            here = scaled(a, d)
            for positions, count in terms:
                for k, position in enumerate(positions):
                    others = positions[:k] + positions[k + 1 :]
                    if not others:
                        out[position].add_(here, alpha=count)
                        continue
                    factor = here
                    for other in others[:-1]:
                        factor = factor * data[other]
                    out[position].addcmul_(factor, data[others[-1]], value=count)
    return total


def product_cotangent(other: Jet, cotangent: Tensor) -> Tensor:
    """Pull a cotangent λ `[C, ...]` back through the product rule with a factor g, to that of f.

    With (f g)_a = Σ count · f_b g_c, the component f_b collects Σ count · λ_a g_c.
    """
    out = torch.zeros_like(other.data)
    for a, terms in enumerate(other.space.leibniz):
        for b, c, count in terms:
            out[b].addcmul_(cotangent[a], other.data[c], value=count)
    return out


_DIVISION = ("__truediv__", "__rtruediv__")
_OPERATORS: dict[str, tuple[str, str]] = {
    "add": ("__add__", "__radd__"),
    "sub": ("__sub__", "__rsub__"),
    "mul": ("__mul__", "__rmul__"),
    "pow": ("__pow__", "__rpow__"),
    **dict.fromkeys(("div", "true_divide", "truediv"), _DIVISION),
}
"""Methods of a jet for torch's operators: for a jet on the left, and for one on the right alone."""
