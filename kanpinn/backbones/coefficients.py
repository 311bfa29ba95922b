"""Coefficients of a problem beside the outputs of its network, found with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layer import Layer, Parameters
from kanpinn.jets.jet import JetSpace


@final
@dataclass(frozen=True)
class Coefficients(Layer):
    """Last layer (u_1, …) to (u_1, …, c_1, …): coefficients c, the same at all points.

    Without bounds c = s + m θ for its start s and m = |s|, 1 where s = 0; with one bound b, c = b + (s − b) exp θ; with
    two, c runs from one to the other as the logistic function of θ does. All θ begin at 0.

    Attributes:
        names: Their names.
        starts: Their starting values.
        bounds: Lower and upper bound of each, None for none.
    """

    names: tuple[str, ...]
    starts: tuple[float, ...]
    bounds: tuple[tuple[float | None, float | None], ...]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {"constants": (len(self.names),)}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {"constants": np.zeros(len(self.names))}

    def values(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients `[count]` of θ `[count]`, and their slopes."""
        pairs = [_value(t, start, ends) for t, start, ends in zip(theta, self.starts, self.bounds, strict=True)]
        values, slopes = zip(*pairs, strict=True)
        return torch.stack(values), torch.stack(slopes)

    def forward(
        self,
        parameters: Parameters,
        data: Tensor,
        space: JetSpace,
        prepared: Any = None,
    ) -> tuple[Tensor, None]:
        values = self.values(parameters["constants"])[0].expand(1, data.shape[1], -1)
        nothing = values.new_zeros(len(space) - 1, *values.shape[1:])
        return torch.cat([data, torch.cat([values, nothing])], dim=-1), None

    def jacobian(self, parameters: Parameters, features: None, cotangent: Tensor, out: Tensor) -> None:
        slopes = self.values(parameters["constants"].detach())[1]
        torch.mul(cotangent[0, :, -len(self.names) :], slopes, out=out)

    @property
    def behind(self) -> int:
        return len(self.names)

    @property
    def kept(self) -> int:
        return len(self.names)


def _value(theta: Tensor, start: float, bounds: tuple[float | None, float | None]) -> tuple[Tensor, Tensor]:
    lower, upper = bounds
    if lower is None and upper is None:
        size = abs(start) or 1.0
        return start + size * theta, torch.full_like(theta, size)
    if lower is not None and upper is not None:
        share = (start - lower) / (upper - lower)
        run = torch.sigmoid(theta + np.log(share / (1 - share)))
        return lower + (upper - lower) * run, (upper - lower) * run * (1 - run)
    bound = lower if lower is not None else upper
    assert bound is not None
    away = (start - bound) * torch.exp(theta)
    return bound + away, away


def with_coefficients(backbone: Backbone, found: Mapping[str, Any]) -> Backbone:
    """Return a network with coefficients behind its outputs; itself where there is none.

    `found` has, by name, numbers with the attributes `lower` and `upper`.
    """
    if not found:
        return backbone
    bounds = tuple((one.lower, one.upper) for one in found.values())
    layer = Coefficients(tuple(found), tuple(map(float, found.values())), bounds)
    return replace(backbone, layers=(*backbone.layers, layer))


def coefficients_of(backbone: Backbone, theta: Tensor) -> dict[str, float]:
    """Return the coefficients that a network with parameters `[P]` holds, by name."""
    layer = backbone.layers[-1]
    if not isinstance(layer, Coefficients):
        return {}
    values = layer.values(backbone.arrays(theta)[-1]["constants"])[0]
    return dict(zip(layer.names, values.tolist(), strict=True))
