"""Jumps under a derivative in equations as text, of which pointwise derivatives keep nothing."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from kanpinn.errors import UserError, caution
from kanpinn.pde.formulas import formula, sides_of
from kanpinn.pde.grammar import Names

_DERIVATIVES = ("div", "grad", "laplace", "d")


def warn_of_jumps(equations: Mapping[str, Any], names: Names, key: str) -> None:
    """Warn, once for each equation, of a `where` under a derivative that is taken across its jump.

    Args:
        equations: Their texts by name, which parse.
        names: Names that they may use.
        key: Key they stand under.
    """
    for name, text in equations.items():
        trees = [ast.parse(side.strip(), mode="eval") for side in sides_of(str(text))]
        calls = [one for tree in trees for one in ast.walk(tree) if isinstance(one, ast.Call)]
        for call in (one for one in calls if _function(one) in _DERIVATIVES):
            across = [one.id for by in call.args[1:] for one in ast.walk(by) if isinstance(one, ast.Name)]
            twice, across = _function(call) == "laplace" or len(across) > 1, across or list(names.space)
            inner = [one for one in ast.walk(call.args[0]) if isinstance(one, ast.Call)]
            if jumps := [one for one in inner if _function(one) == "where" and _jumps(one, across, names, twice)]:
                caution(
                    f"{f'{key}.{name}'.rstrip('.')}={text}: the jump of {ast.unparse(jumps[0])} is no part of this "
                    "equation; name its region in problem.regions, and state it by a condition "
                    "{on: REGION, continuous: {value: u, flux: …}}"
                )
                break


def _function(node: ast.AST) -> str:
    """Return the name of the function that is called, "" where none is."""
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


def _jumps(node: ast.Call, across: list[str], names: Names, twice: bool) -> bool:
    """Tell whether a `where` may jump in one of some coordinates; a kink is enough under two derivatives."""
    test, *branches = node.args
    used = {one.id for one in ast.walk(test) if isinstance(one, ast.Name)}
    if not used & {*across, *names.regions, *names.unknowns}:
        return False
    try:
        a, b = map(ast.unparse, branches)
        gap = formula(f"({a}) - ({b})", names, "problem.equations").expression
        if not twice and isinstance(test, ast.Compare) and len(test.comparators) == 1:
            place = formula(f"({ast.unparse(test.left)}) - ({ast.unparse(test.comparators[0])})", names, "").expression
            for symbol in place.free_symbols:
                if str(symbol) in across and place.diff(symbol) in (1, -1):
                    gap = gap.subs(symbol, symbol - place / place.diff(symbol))
    except UserError:  # a variable of integration
        return True
    return not gap.expand().is_zero
