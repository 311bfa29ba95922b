"""Layers: maps of jets that are linear in their own parameters, which live outside in one flat vector.

So the Jacobian of any per-point residual is an outer product of the layer's features and the cotangent at its output.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError
from kanpinn.jets.jet import JetSpace
from kanpinn.splines.nesting import Nesting

Parameters = Mapping[str, Tensor]
Shape = tuple[int, ...]


class Blocks:
    """Named arrays in a fixed order, each a slice of one flat vector θ.

    A block with a nesting changes when the network is refined, any other is copied.

    Attributes:
        shapes: Shape of each array, by name.
        slices: Slice of each array in the vector, by name.
        size: Length P of the vector.
    """

    def __init__(self, shapes: Mapping[str, Shape]) -> None:
        self.shapes = dict(shapes)
        ends = [0, *accumulate(math.prod(shape) for shape in self.shapes.values())]
        self.slices = {name: slice(*ends[k : k + 2]) for k, name in enumerate(self.shapes)}
        self.size = ends[-1]

    def view(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the arrays of a vector `[..., P]` as views `[..., *shape]`, by name."""
        batch = vector.shape[:-1]
        return {
            name: vector[..., part].reshape((*batch, *shape))
            for (name, shape), part in zip(self.shapes.items(), self.slices.values(), strict=True)
        }

    def pack(self, arrays: Parameters) -> Tensor:
        """Return the vector `[P]` of arrays by name."""
        return packed(arrays[name] for name in self.shapes)


def packed(arrays: Iterable[Tensor], batch: int = 0) -> Tensor:
    """Return arrays `[..., *shape]` with so many batch axes as one vector `[..., P]`."""
    return torch.cat([values.unsqueeze(-1).flatten(start_dim=batch) for values in arrays], dim=-1)


@dataclass(frozen=True)
class Support:
    """The few parameters of a layer that each point sees.

    The parameters are `copies` × K × `width`: K groups in a row, the row as often as there are copies. Of every group a
    point sees a run of equal length, the same in all copies.

    Attributes:
        first: Start of the run in its group, int64 `[N, K]`.
        length: Length of the runs.
        width: Parameters in a group.
        copies: Number of rows.
        places: The parameter of its copy that each of the K × `width` is, `[K·width]`, if several are one; None if each
            is its own.
    """

    first: Tensor
    length: int
    width: int
    copies: int
    places: Tensor | None = None

    def at(self, points: Tensor) -> Support:
        """Return the support of some points, int64 `[n]`; points last in memory."""
        return replace(self, first=torch.gather(self.first.T, 1, points.expand(self.first.shape[1], -1)).T)


class Described(ABC):
    """The parameter blocks of a layer and what they mean."""

    @abstractmethod
    def shapes(self) -> dict[str, Shape]:
        """Name and shape of each parameter block, in the order of the flat vector; empty for none.

        The first block of a layer that joins nodes is `[out, in, ...]`.
        """

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays that give the parameters their meaning, such as knots, by name; empty for most layers."""
        return {}

    def attributes(self) -> dict[str, Any]:
        """Plain values that say what the functions on the edges are; empty for layers without such."""
        return {}

    @property
    @abstractmethod
    def kept(self) -> int:
        """Approximate count of numbers that a pass keeps per point and derivative carried, for estimates of memory."""

    @property
    def behind(self) -> int:
        """Number of outputs that are no functions of the points, such as coefficients; they come last."""
        return 0

    def cells(self, names: Iterable[str]) -> dict[str, int]:
        """Number of intervals into which a first layer's knots divide the coordinates that enter scaled only."""
        return {}

    def breaks(self, names: Iterable[str]) -> dict[str, tuple[float, ...]]:
        """Ends of these intervals on [−1, 1] where they are unequal."""
        return {}

    @cached_property
    def blocks(self) -> Blocks:
        """The layer's parameter blocks, from `shapes`."""
        return Blocks(self.shapes())

    @property
    def size(self) -> int:
        """Number of parameters."""
        return self.blocks.size


class Layer(Described):
    """One layer of a backbone: jets `[C, N, in]` to jets `[C, N, out]`; a frozen dataclass of its options."""

    @abstractmethod
    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Return random starting values for each block."""

    def resumed(self, parameters: Parameters) -> dict[str, Tensor]:
        """Return the blocks to begin with on the next time interval: those found so far, for most layers."""
        return dict(parameters)

    def prepare(self, data: Tensor, space: JetSpace) -> Any:
        """Return the part of `forward` that depends on the input `[C, N, in]` only; None if there is none."""
        return None

    @abstractmethod
    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        """Carry jets through the layer.

        Args:
            parameters: The layer's own blocks by name.
            data: `[C, N, in]`.
            space: The derivatives the first axis runs over.
            prepared: Result of `prepare` for these data, if known.

        Returns:
            `[C, N, out]` and the features `jacobian` needs.
        """

    @abstractmethod
    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        """Write ∂r_n/∂(this layer's parameters).

        Args:
            parameters: The layer's own blocks by name.
            features: Result of `forward`.
            cotangent: ∂r_n/∂(outputs of this layer at point n), `[C, N, out]`.
            out: `[N, number of parameters of the layer]`, overwritten.
        """

    def supports(self, features: Any) -> list[Support | int]:
        """Return the support of each part of the parameters, in order; the part's size if every point sees it all."""
        return [self.size]

    def local_jacobians(self, parameters: Parameters, features: Any, cotangent: Tensor, order: Tensor) -> list[Tensor]:
        """Return ∂r_n/∂(the parameters that point n sees) of each part of `supports`.

        Points come in the order of the int64 numbers `[N]`; other arguments as of `jacobian`.

        Returns:
            `[N, copies, K·length]` of a support, or `[N, number of parameters]`.
        """
        return [self._dense(parameters, features, cotangent)[order]]

    def jvp(self, parameters: Parameters, features: Any, cotangent: Tensor, tangent: Parameters) -> Tensor:
        """Return ∂r_n/∂(this layer's parameters) · tangent, `[N]`, by its dense Jacobian unless a layer knows better.

        The tangent is a change of each block; other arguments as of `jacobian`.
        """
        return self._dense(parameters, features, cotangent) @ self.blocks.pack(tangent)

    def vjp(self, parameters: Parameters, features: Any, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Return Σ over points of weight · ∂r_n/∂(parameters) by block name, each of its block's shape.

        By the dense Jacobian unless a layer knows better. Weights are `[N]`; other arguments as of `jacobian`.
        """
        return self.blocks.view(weights @ self._dense(parameters, features, cotangent))

    def _dense(self, parameters: Parameters, features: Any, cotangent: Tensor) -> Tensor:
        """The whole Jacobian, `[N, number of parameters]`; arguments as of `jacobian`."""
        block = cotangent.new_empty(cotangent.shape[1], self.size)
        self.jacobian(parameters, features, cotangent, block)
        return block

    def refined(self) -> Self:
        """Return the same layer on the next finer level; itself for a layer without levels."""
        return self

    def coarsened(self) -> Self | None:
        """Return the layer that `refined` makes this one of; itself without levels, None if there is none."""
        return None if self.nesting() else self

    def nesting(self) -> dict[str, Nesting]:
        """By block name, the operators between this layer and `refined()`, which act on the block's last axis.

        Blocks without one have the same meaning and shape in both layers.
        """
        return {}

    def resized(self, inputs: int, outputs: int) -> Layer:
        """Return the same layer with other numbers of inputs and outputs."""
        raise UserError(f"layers of type {type(self).__name__} cannot be widened")

    def raised(self, parameters: Parameters, values: Tensor) -> dict[str, Tensor] | None:
        """Return the blocks with which the outputs are larger by values `[out]`; None if the layer has no constants."""
        return None

    def identity(self) -> dict[str, np.ndarray] | None:
        """Return the blocks with which a layer of equal width changes nothing; None if there are none."""
        return None
