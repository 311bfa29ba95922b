"""Networks that follow each other in time: one per time slab, together one network on the whole interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Tape
from kanpinn.backbones.composite import Composite
from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Parameters
from kanpinn.jets.jet import JetSpace


@dataclass(frozen=True)
class TimeSlabs(Composite):
    """The k-th of K networks where time lies in the k-th of K equal parts of its interval; at a joint the later one.

    Attributes:
        networks: One network per slab; each sees its own slab's time scaled to [−1, 1].
        column: Column of the scaled time among the inputs.
    """

    column: int

    @property
    def names(self) -> tuple[str, ...]:
        """slab_0, slab_1, … in the order of time."""
        return tuple(f"slab_{k}" for k in range(len(self.networks)))

    def attributes(self) -> dict[str, Any]:
        return {**self.described(), "slabs": len(self.networks)}

    @property
    def kept(self) -> int:
        return max(sum(layer.kept for layer in one.layers) for one in self.networks)

    def _parts(self, parameters: Parameters, data: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """For each slab with points: its number, the flat parameters, which points of `[C, N, in]` lie in it."""
        count = len(self.networks)
        slab = ((data[0, :, self.column].detach() + 1) * (count / 2)).floor().clamp(0, count - 1)
        parts = [(k, theta, torch.nonzero(slab == k)[:, 0]) for k, theta in enumerate(self.thetas(parameters))]
        return [part for part in parts if len(part[2])] or parts[:1]

    def _local(self, data: Tensor, k: int, inside: Tensor) -> Tensor:
        """The inputs of some points with time scaled to slab k, `[C, n, in]`."""
        count = len(self.networks)
        part = data[:, inside]
        scale = part.new_ones(part.shape[2])
        scale[self.column] = count
        shift = torch.zeros_like(part)
        shift[0, :, self.column] = count - 1 - 2 * k  # K (t + 1) − 1 − 2k
        return part * scale + shift

    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        parts = self._parts(parameters, data)
        values = [self.networks[k].carry(theta, self._local(data, k, inside), space) for k, theta, inside in parts]
        order = torch.argsort(torch.cat([inside for _, _, inside in parts]))
        return torch.cat(values, dim=1)[:, order], (data.detach(), space)

    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        data, space = features
        out.zero_()
        starts = np.cumsum([0, *(one.size for one in self.networks)]).tolist()
        for k, theta, inside in self._parts(parameters, data):
            network, tape = self.networks[k], Tape()
            block = out.new_empty(len(inside), network.size)
            with torch.enable_grad():
                values = network.carry(theta, self._local(data, k, inside), space, tape)
                network.jacobian(theta, tape, (values * cotangent[:, inside]).sum(), block)
            out[inside, starts[k] : starts[k + 1]] = block


def in_sequence(embedding: Embedding, networks: tuple[Backbone, ...]) -> Backbone:
    """Return one network of several, each for an equal part of the time interval and embedded as the whole is.

    Its parameters are theirs, one after the other.
    """
    before = embedding.names[: embedding.names.index("t")]
    column = sum(embedding.count(name) for name in before)
    finest = max(networks, key=lambda one: one.level)
    return Backbone(embedding, (TimeSlabs(networks, column),), grid=finest.grid, level=finest.level)


def joined(embedding: Embedding, trained: Sequence[tuple[Backbone, Tensor]], count: int) -> tuple[Backbone, Tensor]:
    """Return one network of several in sequence, with its parameters `[P]`; what is given where `count` is 1.

    The networks trained, with their parameters `[P_k]`, are the first of so many; parameters of those missing are NaN.
    """
    if count == 1:
        return trained[0]
    last, theta = trained[-1]
    missing = [(last, torch.full_like(theta, torch.nan))] * (count - len(trained))
    networks, vectors = zip(*trained, *missing, strict=True)
    return in_sequence(embedding, networks), torch.cat(vectors)


def slabs_begun(backbone: Backbone, theta: Tensor) -> int:
    """Number of a network's time slabs that have been begun; parameters `[P]` of the others are NaN."""
    sizes = [one.size for one in slab_networks(backbone)]
    return sum(not bool(part.isnan().all()) for part in torch.split(theta, sizes))


def slab_networks(backbone: Backbone) -> tuple[Backbone, ...]:
    """The networks that `in_sequence` has made one; the network itself if it is not made of others."""
    first = backbone.layers[0] if backbone.layers else None
    return first.networks if isinstance(first, TimeSlabs) else (backbone,)
