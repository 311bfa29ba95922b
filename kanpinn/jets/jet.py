"""Jets: a value together with the derivatives a problem needs, carried forward in closed form.

A `JetSpace` is the set of derivatives carried (a lower set of multi-indices over named coordinates, so that every
chain and product rule closes); a `Jet` is a tensor whose first axis runs over that set. Jets add, multiply and divide
like numbers and go through `torch.sin`, `torch.exp` and the like; layers use `Jet.compose` with their own derivatives.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add, mul
from typing import Any

import torch
from torch import Tensor

from kanpinn.jets.functions import FUNCTIONS
from kanpinn.jets.indices import Index, index_of, set_partitions

Monomial = tuple[tuple[int, ...], int]
"""Positions of the jet components that are multiplied, and how often the product occurs."""


@dataclass(frozen=True)
class JetSpace:
    """The derivatives that travel through a network together.

    Attributes:
        coordinates: Names of the independent variables, in the order of the input columns.
        derivatives: The derivatives asked for, such as `("t", "x", "xx")`; all lower ones are added.

    Raises:
        ValueError: If a derivative is not made of the coordinates.
    """

    coordinates: tuple[str, ...]
    derivatives: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in self.derivatives:
            index_of(name, self.coordinates)

    def canonical(self, name: str | Index) -> Index:
        """Order the coordinates of a derivative as those of the space are ("tx" becomes ("x", "t"))."""
        index = index_of(name, self.coordinates) if isinstance(name, str) else name
        return tuple(sorted(index, key=self.coordinates.index))

    @cached_property
    def indices(self) -> tuple[Index, ...]:
        """Every derivative carried, the value () first, by order and then by coordinate."""
        lower: set[Index] = {()}
        todo = [self.canonical(name) for name in self.derivatives]
        while todo:
            index = todo.pop()
            if index not in lower:
                lower.add(index)
                todo.extend(index[:k] + index[k + 1 :] for k in range(len(index)))
        return tuple(sorted(lower, key=lambda n: (len(n), [self.coordinates.index(c) for c in n])))

    @cached_property
    def order(self) -> int:
        """The highest derivative order carried."""
        return max(len(index) for index in self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def position(self, name: str | Index) -> int:
        """Position of the derivative `name` on the jet axis, "" for the value; raises KeyError if it is not carried."""
        try:
            return self._positions[self.canonical(name)]
        except ValueError:
            raise KeyError(name) from None

    @cached_property
    def _positions(self) -> dict[Index, int]:
        return {index: k for k, index in enumerate(self.indices)}

    @cached_property
    def chain(self) -> tuple[tuple[tuple[Monomial, ...], ...], ...]:
        """Faà di Bruno's formula: `chain[a][d-1]` lists the products of inner derivatives with f⁽ᵈ⁾ in (f∘g)_a.

        Derivation: (f∘g)_a = Σ over set partitions π of the coordinates in a of f^(|π|)(g) Π_{B∈π} g_B (Hardy,
        Electron. J. Combin. 13, 2006, R1, eq. 2).
        """
        table = []
        for index in self.indices:
            by_order: list[Counter[tuple[int, ...]]] = [Counter() for _ in index]
            for partition in set_partitions(tuple(range(len(index)))):
                if partition:
                    blocks = sorted(self._positions[tuple(index[k] for k in sorted(block))] for block in partition)
                    by_order[len(partition) - 1][tuple(blocks)] += 1
            table.append(tuple(tuple(counter.items()) for counter in by_order))
        return tuple(table)

    @cached_property
    def leibniz(self) -> tuple[tuple[tuple[int, int, int], ...], ...]:
        """The product rule: `leibniz[a]` lists (b, c, count) with (f g)_a = Σ count · f_b g_c."""
        table = []
        for index in self.indices:
            terms: Counter[tuple[int, int]] = Counter()
            for mask in range(2 ** len(index)):
                left = tuple(c for k, c in enumerate(index) if mask >> k & 1)
                right = tuple(c for k, c in enumerate(index) if not mask >> k & 1)
                terms[self._positions[left], self._positions[right]] += 1
            table.append(tuple((b, c, count) for (b, c), count in terms.items()))
        return tuple(table)

    def variables(self, points: Tensor) -> list[Jet]:
        """The coordinates of points `[N, d]` as jets `[C, N]`, one per column: 1 for its own first derivative."""
        jets = []
        for k, name in enumerate(self.coordinates):
            data = points.new_zeros(len(self), len(points))
            data[0] = points[:, k]
            if (name,) in self._positions:
                data[self._positions[name,]] = 1.0
            jets.append(Jet(self, data))
        return jets

    def constant(self, value: Tensor) -> Jet:
        """A jet with the given value `[...]` and no derivatives."""
        data = value.new_zeros(len(self), *value.shape)
        data[0] = value
        return Jet(self, data)


def _value(other: Any) -> Any:
    return other.value if isinstance(other, Jet) else other


def _comparison(holds: Callable[[Any, Any], Tensor]) -> Callable[[Jet, Any], Tensor]:
    return lambda jet, other: holds(jet.value, _value(other))


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

    @property
    def real(self) -> Jet:
        """The real part, for jets made with complex numbers."""
        return Jet(self.space, self.data.real)

    def __getitem__(self, name: str | Index) -> Tensor:
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

    # Comparisons look at values, as those of tensors do: booleans `[...]`.
    __lt__, __le__ = _comparison(operator.lt), _comparison(operator.le)
    __gt__, __ge__ = _comparison(operator.gt), _comparison(operator.ge)

    def __abs__(self) -> Jet:
        return self.compose(FUNCTIONS["abs"](self.value, self.space.order))

    def _coerce(self, other: Any) -> Jet | None:
        if isinstance(other, Jet):
            return other
        if isinstance(other, int | float | complex | Tensor):
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
        if name in _CHOICES and not kwargs:
            return _CHOICES[name](*args)
        known = ", ".join(sorted(one for one in [*FUNCTIONS, *_CHOICES] if not one.startswith("special_")))
        raise TypeError(f"torch.{name} is not defined for jets; use one of {known}")


def _jets(*values: Any) -> list[Jet]:
    """Return jets, numbers and tensors as jets of one space; raises TypeError where none is a jet."""
    like = next((value for value in values if isinstance(value, Jet)), None)
    if like is None:
        raise TypeError("none of the values is a jet")
    return [
        v
        if isinstance(v, Jet)
        else like.space.constant(
            torch.as_tensor(v, dtype=like.data.dtype, device=like.data.device).expand_as(like.value)
        )
        for v in values
    ]


def _where(condition: Tensor, a: Any, b: Any) -> Jet:
    """Choose point by point between two values; the derivatives are those of the chosen one."""
    left, right = _jets(a, b)
    return Jet(left.space, torch.where(condition, left.data, right.data))


def _atan2(y: Any, x: Any) -> Jet:
    """Return the angle of (x, y): but for a constant atan(y/x) or −atan(x/y), whichever divides by the larger."""
    y, x = _jets(y, x)
    flat = x.value.abs() >= y.value.abs()
    angle = _where(flat, torch.atan(y / _where(flat, x, 1.0)), -torch.atan(x / _where(flat, 1.0, y)))
    return Jet(y.space, torch.cat([torch.atan2(y.value, x.value)[None], angle.data[1:]]))


_CHOICES: dict[str, Callable[..., Jet]] = {
    "where": _where,
    "atan2": _atan2,
    "maximum": lambda a, b: _where(_value(a) >= _value(b), a, b),
    "minimum": lambda a, b: _where(_value(a) <= _value(b), a, b),
}
"""Functions of several values, jets among them."""

_DIVISION = ("__truediv__", "__rtruediv__")
_OPERATORS: dict[str, tuple[str, str]] = {
    "add": ("__add__", "__radd__"),
    "sub": ("__sub__", "__rsub__"),
    "mul": ("__mul__", "__rmul__"),
    "pow": ("__pow__", "__rpow__"),
    **dict.fromkeys(("div", "true_divide", "truediv"), _DIVISION),
    "lt": ("__lt__", "__gt__"),
    "le": ("__le__", "__ge__"),
    "gt": ("__gt__", "__lt__"),
    "ge": ("__ge__", "__le__"),
}
"""Methods of a jet for torch's operators: for a jet on the left, and for one on the right alone."""
