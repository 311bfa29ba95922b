"""Tree of a function: where it splits into parts, and which of its coordinates it knows through a combination only.

At every node the properties of `structure` are tested in this order, and the first that holds divides the function:
sums, products, combinations (a x + b y, x^a y^b, a x² + b y²: translations, scalings, rotations are symmetries of the
function), generalised sums F(g + h), and symmetries g(h(x, y), z) with nothing known of h (Liu et al. 2024, KAN 2.0,
arXiv:2408.10205, sec. 4.3). Parts are known up to what the property leaves open, such as F of a generalised sum.

A function known with an error has errors of its differences too. A property holds if what should vanish is below a
multiple of the function's error (`splits.VALUES`), of gradients a larger one (`splits.SLOPES`): errors of networks vary
faster than the functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, final

from kanpinn.explain.combinations import split_combination
from kanpinn.explain.splits import (
    COUNT,
    VALUES,
    Asked,
    inner_name,
    rms,
    slice_of,
    split_general,
    split_nested,
    split_product,
    split_sum,
)
from kanpinn.explain.structure import Field, Finding


@final
@dataclass
class Node:
    """A function in the tree.

    Attributes:
        names: The coordinates or combinations that it depends on.
        kind: "constant", "variable", "sum", "product", "combination", "general", "nested" or "none".
        text: What it is, in words.
        tests: Properties that were tested here.
        parts: The parts, with those of a nested function the inner one first.
    """

    names: tuple[str, ...]
    kind: str
    text: str
    tests: list[Finding] = field(default_factory=list)
    parts: list[Node] = field(default_factory=list)

    @property
    def form(self) -> str:
        """The tree in one line: "product(x + -1 t, sum(y, z))"."""
        if self.kind == "combination":
            return self.parts[0].form
        if self.kind == "nested":
            inner, outer = self.parts
            return outer.form.replace(inner_name(inner.names), f"h[{inner.form}]")
        if self.kind == "variable":
            return self.names[0]
        inside = [one.form for one in self.parts] or self.names
        return self.kind if self.kind == "constant" else f"{self.kind}({', '.join(inside)})"

    def plain(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        tests = [{"property": t.text, "measured": t.measured, "tolerance": t.tolerance} for t in self.tests]
        held = [{**entry, "holds": one.holds} for entry, one in zip(tests, self.tests, strict=True)]
        known = {"names": list(self.names), "kind": self.kind, "text": self.text, "form": self.form}
        return {**known, "tests": held, "parts": [one.plain() for one in self.parts]}


STEPS = (split_sum, split_product, split_combination, split_general, split_nested)
"""Properties in the order in which they are tested."""


MOST = 12
"""Most coordinates of a function that is asked."""


def tree(whole: Field) -> Node:
    """Divide a function, known with the error `tolerance` relative to its rms, as far as its properties go."""
    return _node(whole, whole.tolerance * rms(whole.value(whole.points(COUNT, 0))))


def _node(whole: Field, error: float) -> Node:
    """Divide a function that is known with an error, in its own units."""
    asked = Asked(whole, error)
    least = VALUES * error
    if asked.spread <= least:
        return Node((), "constant", "constant")
    if len(whole.names) == 1:
        return Node(whole.names, "variable", f"function of {whole.names[0]}")
    changes = asked.changes.items()
    names = [one for one, by in changes if not asked.holds(f"without {one}", by / asked.spread, least / asked.spread)]
    if not names:
        return Node((), "constant", "constant", asked.tests)
    if len(names) < len(whole.names):
        found = _node(slice_of(whole, names), error)
        return replace(found, tests=[*asked.tests, *found.tests])
    if len(names) > MOST:
        return Node(whole.names, "none", f"function of {len(names)} coordinates, too many to ask", asked.tests)
    for step in STEPS:
        split = step(asked)
        if split is not None:
            parts = [_node(part, error) for part in split.parts]
            return Node(whole.names, split.kind, split.text, asked.tests, parts)
    text = f"function of {', '.join(names)} without any of these properties"
    return Node(whole.names, "none", text, asked.tests)
