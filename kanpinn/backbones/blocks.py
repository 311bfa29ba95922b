"""Parameter blocks: the named arrays that share one flat parameter vector θ.

A network's layers each bring blocks; later members, such as an unknown coefficient of the PDE, are layers with a block
of their own. A block with a nesting changes when the network is refined, any other is copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]
Shape = tuple[int, ...]


class Blocks:
    """Named arrays in a fixed order, each a slice of one flat vector.

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
