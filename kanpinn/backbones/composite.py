"""Layers made of whole networks, whose parameters stand one network after the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone, Layer, Parameters
from kanpinn.splines.nesting import Nesting


class Composite(Layer, ABC):
    """A layer made of networks, each with a name; all refine together.

    Attributes:
        bodies: The networks.
    """

    bodies: tuple[Backbone, ...]

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """One name per network, under which its arrays stand."""

    def _places(self) -> list[tuple[str, Layer]]:
        """Path and layer of every layer with parameters, in the order of the parameters."""
        return [
            (f"{name}/layer_{k}", layer)
            for name, body in zip(self.names, self.bodies, strict=True)
            for k, layer in enumerate(layer for layer in body.layers if layer.size)
        ]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {f"{path}/{name}": shape for path, layer in self._places() for name, shape in layer.shapes().items()}

    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        return {
            f"{path}/{name}": values
            for path, layer in self._places()
            for name, values in layer.initial(generator).items()
        }

    def constants(self) -> dict[str, np.ndarray]:
        return {
            f"{path}/{name}": values for path, layer in self._places() for name, values in layer.constants().items()
        }

    def nesting(self) -> dict[str, Nesting]:
        return {f"{path}/{name}": found for path, layer in self._places() for name, found in layer.nesting().items()}

    def described(self) -> dict[str, Any]:
        """`Layer.attributes` of the first layer of any network that has some."""
        return next((known for _, layer in self._places() if (known := layer.attributes())), {})

    def thetas(self, parameters: Parameters) -> list[Tensor]:
        """Each network's flat parameters `[P_k]`."""
        return [
            torch.cat([values.reshape(-1) for path, values in parameters.items() if path.startswith(f"{name}/")])
            for name in self.names
        ]

    def refined(self) -> Self:
        return self._of(tuple(body.refined() for body in self.bodies))

    def coarsened(self) -> Self | None:
        found = [coarse for body in self.bodies if (coarse := body.coarsened()) is not None]
        return self._of(tuple(found)) if len(found) == len(self.bodies) else None

    def _of(self, bodies: tuple[Backbone, ...]) -> Self:
        other = copy(self)
        other.bodies = bodies
        return other
