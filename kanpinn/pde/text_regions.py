"""Regions as text, such as "Box(x=[0, 1], y=[0, 1]) - Disk(radius=R)": read by a list of what is allowed; never run."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kanpinn import geometry
from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.geometry import Box, Region
from kanpinn.geometry.chart import Array
from kanpinn.pde.formulas import number

REGIONS = ("Ball", "Box", "Disk", "Ellipse", "Mesh", "Polygon")
_REGION_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Sub: operator.sub,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.Mult: operator.mul,
}


def region_in(given: Any, coefficients: Mapping[str, Any], key: str = "problem.domain") -> Region:
    """Make a region of intervals by coordinate, or of text such as "Disk(radius=R) - Box(x=[0, 1], y=[0, 1])".

    Raises:
        UserError: If the text of this key is no region, with the place.
    """
    if isinstance(given, Mapping):
        ends = {}
        for name, interval in given.items():
            if not isinstance(interval, list | tuple) or len(interval) != 2:
                raise invalid(f"{key}.{name}", interval, "two numbers, such as [0, 1]")
            ends[str(name)] = tuple(number(end, coefficients, f"{key}.{name}") for end in interval)
        try:
            return Box(**ends)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None
    try:
        tree = ast.parse(str(given).strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = getattr(error, "offset", 1) or 1
        raise UserError(f"{key}={given!r}: letter {at}: is no region here, such as Disk(radius=1)") from None
    return _region(tree, str(given).strip(), coefficients, key)


def check_overlap(regions: Mapping[str, Region], domain: Region) -> None:
    """Refuse regions inside the domain, by name, that have other coordinates, or no point in it; raises UserError."""
    ends = np.array([domain.interval(name) for name in domain.names])
    for key, region in regions.items():
        if other := [name for name in region.names if name not in domain.names]:
            told = f"has a coordinate {other[0]}; those of the domain are {', '.join(domain.names)}"
            raise UserError(f"problem.regions.{key}: {told}")
        columns = [domain.names.index(name) for name in region.names]

        def shared(points: Array, columns: list[int] = columns) -> NDArray[np.bool_]:
            whole = np.random.default_rng(0).uniform(ends[:, 0], ends[:, 1], (len(points), len(ends)))
            whole[:, columns] = points
            return domain.contains(whole)

        if not region.chart.restricted(shared).measure:
            raise UserError(f"problem.regions.{key}: lies outside the domain")


def _region(node: ast.AST, text: str, coefficients: Mapping[str, Any], key: str) -> Region:
    """Make the region that a part of the tree stands for."""
    where = f"{key}={text!r}: letter {getattr(node, 'col_offset', 0) + 1}"
    if isinstance(node, ast.BinOp) and type(node.op) in _REGION_OPERATORS:
        left, right = (_region(side, text, coefficients, key) for side in (node.left, node.right))
        try:
            return _REGION_OPERATORS[type(node.op)](left, right)
        except UserError as error:
            raise UserError(f"{where}: {str(error).rpartition(': ')[2]}") from None
    source = ast.get_source_segment(text, node) or ""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise UserError(f"{where}: {source[:40]}: is no region; write them as Disk(radius=1), joined by -, &, |, *")
    if node.func.id not in REGIONS:
        raise UserError(f"{where}: {unknown_choice('region', node.func.id, REGIONS)}")
    plain = [_plain(one, text, coefficients, key) for one in node.args]
    named = {str(one.arg): _plain(one.value, text, coefficients, key) for one in node.keywords}
    kind = getattr(geometry, node.func.id)
    try:
        return kind(*plain, **named)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
    except TypeError as error:
        arguments = "intervals by name, such as x=[0, 1]" if kind is Box else ", ".join(signature(kind).parameters)
        told = str(error).partition("__init__() ")[2] or error
        raise UserError(f"{where}: {source[:40]}: {told}; its arguments are {arguments}") from None


def _plain(node: ast.AST, text: str, coefficients: Mapping[str, Any], key: str) -> Any:
    """Return the text, list or number that a part of the tree stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(one, text, coefficients, key) for one in node.elts]
    try:
        value = number(ast.get_source_segment(text, node) or "", coefficients, key)
    except UserError as error:
        letter, _, told = str(error).partition(": letter ")[2].partition(": ")
        place = getattr(node, "col_offset", 0) + (int(letter) if letter.isdigit() else 1)
        raise UserError(f"{key}={text!r}: letter {place}: {told or error}") from None
    return int(value) if math.isfinite(value) and value == int(value) and abs(value) < 2**53 else value
