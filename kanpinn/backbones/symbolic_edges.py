"""Symbolic edges: known functions c f(a x + b) + d in the place of learned ones, with trained a, b, c and d.

Liu et al. 2024 (KAN, arXiv:2404.19756), sec. 2.5.1. The function f is any formula of x, such as "sin(x)", "x**2" or
"exp(-x**2)"; its derivatives come from jets of one variable.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.layer import Layer, Parameters, Shape
from kanpinn.backbones.layers import Compose
from kanpinn.errors import UserError
from kanpinn.jets.functions import FUNCTIONS, Derivatives
from kanpinn.jets.jet import Jet, JetSpace

VARIABLE = "x"
"""Name of an edge's argument in its formula."""

_OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


@lru_cache(maxsize=1000)
def edge_function(text: str) -> Derivatives:
    """Return a function of x, given as a formula, with its derivatives; raises UserError for another text."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        name, _, rest = ast.unparse(tree).partition("(")
        if name in FUNCTIONS and rest == f"{VARIABLE})":
            return FUNCTIONS[name]

        def derivatives(x: Tensor, order: int) -> list[Tensor]:
            space = JetSpace((VARIABLE,), (VARIABLE * order,) if order else ())
            found = _value(tree, space.variables(x.reshape(-1, 1))[0])
            jet = found if isinstance(found, Jet) else space.constant(x.new_full((x.numel(),), found))
            return list(jet.data.view(order + 1, *x.shape).unbind(0))

        derivatives(torch.full((1,), 0.5, dtype=torch.float64), 1)
    except (SyntaxError, ValueError, TypeError, KeyError, IndexError, RecursionError, ZeroDivisionError):
        names = ", ".join(sorted(name for name in FUNCTIONS if not name.startswith("special_")))
        raise UserError(
            f"{text!r}: expected a formula of {VARIABLE}, such as sin({VARIABLE}) or 1/{VARIABLE}**2, of numbers, "
            f"+, -, *, /, ** and {names}"
        ) from None
    return derivatives


def _value(tree: ast.AST, x: Jet) -> Any:
    """Evaluate a formula on the jet x; raises one of several errors where it is none."""
    if isinstance(tree, ast.Name):
        return {VARIABLE: x, "pi": math.pi}[tree.id]
    if isinstance(tree, ast.Constant):
        return float(tree.value) if isinstance(tree.value, int | float) else {}[tree.value]
    if isinstance(tree, ast.BinOp):
        return _OPERATORS[type(tree.op)](_value(tree.left, x), _value(tree.right, x))
    if isinstance(tree, ast.UnaryOp):
        return _OPERATORS[type(tree.op)](_value(tree.operand, x))
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or len(tree.args) != 1:
        raise ValueError
    function, inner = FUNCTIONS[tree.func.id], _value(tree.args[0], x)
    if not isinstance(inner, Jet):
        return float(function(torch.tensor(inner, dtype=torch.float64), 0)[0])
    return inner.compose(function(inner.value, inner.space.order))


@dataclass(frozen=True)
class SymbolicLayer(Layer):
    """A layer of known functions on edges: y_q = Σ_p c f(a x_p + b) + d, each edge with its own f, a, b, c, d.

    Attributes:
        functions: Formula of x for every edge, `[out][in]`.
    """

    functions: tuple[tuple[str, ...], ...]

    def shapes(self) -> dict[str, Shape]:
        return {"affine": (len(self.functions), len(self.functions[0]), 4)}

    @cached_property
    def _groups(self) -> list[tuple[Derivatives, list[int], list[int]]]:
        """Different functions with the outputs and inputs of their edges."""
        found: dict[str, tuple[list[int], list[int]]] = {}
        for q, row in enumerate(self.functions):
            for p, text in enumerate(row):
                places = found.setdefault(text, ([], []))
                places[0].append(q)
                places[1].append(p)
        return [(edge_function(text), *places) for text, places in found.items()]

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        affine = np.zeros(self.blocks.shapes["affine"])
        affine[..., 0] = 1.0
        affine[..., 2] = generator.standard_normal(affine.shape[:2]) / math.sqrt(affine.shape[1])
        return {"affine": affine}

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Jet]:
        out = data.new_zeros(*data.shape[:2], len(self.functions))
        for function, q, p in self._groups:
            a, b, c, d = parameters["affine"][q, p].unbind(-1)
            inner = _affine(data[..., p], a, b)
            values = _affine(Compose.apply(inner, space, function), c, d)
            out = out.index_add(2, torch.tensor(q, device=data.device), values)
        return out, Jet(space, data.detach())

    def jacobian(self, parameters: Parameters, features: Jet, cotangent: Tensor, out: Tensor) -> None:
        # With g = a x + b: ∂y/∂a = c f′(g) x, ∂y/∂b = c f′(g), ∂y/∂c = f(g), ∂y/∂d = 1, all as jets.
        space, block = features.space, out.view(len(out), *self.blocks.shapes["affine"])
        for function, q, p in self._groups:
            a, b, c, _ = parameters["affine"].detach()[q, p].unbind(-1)
            x, given = Jet(space, features.data[..., p]), cotangent[..., q]
            inner = Jet(space, _affine(x.data, a, b))
            derivatives = function(inner.value, space.order + 1)
            slope = inner.compose(derivatives[1:])
            columns = [c * (given * (slope * x).data).sum(0), c * (given * slope.data).sum(0)]
            columns += [(given * inner.compose(derivatives).data).sum(0), given[0]]
            block[:, q, p] = torch.stack(columns, dim=-1)

    def attributes(self) -> dict[str, Any]:
        return {"functions": "; ".join(", ".join(row) for row in self.functions)}

    @property
    def kept(self) -> int:
        return 4 * len(self.functions) * len(self.functions[0])

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor]:
        affine = parameters["affine"].clone()
        affine[:, 0, 3] += values
        return {"affine": affine}

    def column(self, p: int) -> SymbolicLayer:
        """Return the layer of the edges from one input alone."""
        return SymbolicLayer(tuple((row[p],) for row in self.functions))


def _affine(data: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """Jets `[C, N, E]` times a factor plus a shift of each `[E]`; only the value sees the shift."""
    scaled = data * factor
    return torch.cat([scaled[:1] + shift, scaled[1:]])
