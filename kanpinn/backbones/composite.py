"""Layers made of whole networks, whose parameters stand one network after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layer import Layer, Parameters, Shape
from kanpinn.splines.nesting import Nesting


@dataclass(frozen=True)
class Composite(Layer, ABC):
    """A layer made of networks, each with a name; all refine together.

    Attributes:
        networks: The networks.
    """

    networks: tuple[Backbone, ...]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """One name per network, under which its blocks stand."""

    def _named(self) -> zip[tuple[str, Backbone]]:
        return zip(self.names, self.networks, strict=True)

    def shapes(self) -> dict[str, Shape]:
        return {f"{name}/{block}": shape for name, one in self._named() for block, shape in one.blocks.shapes.items()}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        drawn = [one.blocks.view(one.initial(generator)) for one in self.networks]
        values = chain.from_iterable(views.values() for views in drawn)
        return {name: array.numpy() for name, array in zip(self.shapes(), values, strict=True)}

    def constants(self) -> dict[str, np.ndarray]:
        return {f"{name}/{key}": values for name, one in self._named() for key, values in one.constants().items()}

    def nesting(self) -> dict[str, Nesting]:
        return {f"{name}/{block}": found for name, one in self._named() for block, found in one.nestings().items()}

    def described(self) -> dict[str, Any]:
        """`Layer.attributes` of the first layer of any network that has some."""
        every = chain.from_iterable(one.layers for one in self.networks)
        return next((known for layer in every if (known := layer.attributes())), {})

    def thetas(self, parameters: Parameters) -> list[Tensor]:
        """Each network's flat parameters `[P_k]`."""
        return [
            torch.cat([values.reshape(-1) for path, values in parameters.items() if path.startswith(f"{name}/")])
            for name in self.names
        ]

    def refined(self) -> Self:
        return replace(self, networks=tuple(one.refined() for one in self.networks))

    def coarsened(self) -> Self | None:
        found = tuple(coarse for one in self.networks if (coarse := one.coarsened()) is not None)
        return replace(self, networks=found) if len(found) == len(self.networks) else None
