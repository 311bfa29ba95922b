"""Points of a problem: coordinates, unknowns, derivatives and normals by the names they have in the equations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.jets.jet import Jet

NORMAL = "n"


@final
class Point:
    """Coordinates, unknowns and their derivatives at N points, by name: `p.x`, `p.u`, `p.u_xx`; each `[N]`.

    In a condition `p.n_x` is a component of the outward unit normal and `p.u_n` the derivative along it, unless the
    problem has a coordinate or an unknown called n. Of two compared points each has its own, opposite normal.
    """

    def __init__(
        self, names: tuple[str, ...], points: Tensor, fields: Mapping[str, Jet], normals: Tensor | None = None
    ) -> None:
        self._names, self._points, self._fields, self._normals = names, points, fields, normals

    def with_fields(self, fields: Mapping[str, Jet]) -> Point:
        """Return the same points with other unknowns, jets `[C, N]` by name."""
        return Point(self._names, self._points, fields, self._normals)

    def __getattr__(self, name: str) -> Tensor:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._names:
            return self._points[:, self._names.index(name)]
        unknown, _, derivative = name.partition("_")
        if unknown in self._fields:
            if derivative == NORMAL and NORMAL not in self._names:
                return self._along_normal(name, self._fields[unknown])
            return self._derivative(name, self._fields[unknown], derivative)
        if unknown == NORMAL and derivative in self._names:
            return self._normal(name)[:, self._names.index(derivative)]
        raise UserError(
            f"p.{name}: no such coordinate or unknown; known are {', '.join([*self._names, *self._fields])}"
        )

    def _derivative(self, name: str, field: Jet, derivative: str) -> Tensor:
        try:
            return field[derivative]
        except KeyError:
            raise UserError(f"p.{name} is not computed: add '{derivative}' to the problem's derivatives") from None

    def _normal(self, name: str) -> Tensor:
        if self._normals is None:
            raise UserError(f"p.{name}: there is no normal here; only pieces of a boundary and inner planes have one")
        return self._normals

    def _along_normal(self, name: str, field: Jet) -> Tensor:
        """The derivative Σ n_k u_k `[N]` over the coordinates in which some normal has a component."""
        normals = self._normal(name)
        turned = [k for k, some in enumerate((normals != 0).any(dim=0).tolist()) if some]
        parts = [normals[:, k] * self._derivative(name, field, self._names[k]) for k in turned]
        return torch.stack(parts).sum(dim=0)
