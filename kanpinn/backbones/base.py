"""Backbones: networks whose parameters live outside them, in one flat vector.

A backbone maps points to jets of its outputs. Every layer with parameters is linear in its effective weights, so the
Jacobian of any per-point residual is an outer product of the layer's features and the cotangent at its output; a `Tape`
keeps both, and one backward pass fills them for all layers and all points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.embedding import Embedding
from kanpinn.backbones.layer import Blocks, Layer, Support, packed
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.splines.nesting import Nesting

T = TypeVar("T")


class Inputs(NamedTuple):
    """Everything about some points that does not depend on the parameters.

    Attributes:
        data: The embedded points, `[C, N, width]`.
        prepared: `Layer.prepare` of the first layer at them.
        factor: `Embedding.factor`.
    """

    data: Tensor
    prepared: Any
    factor: Jet | None


@dataclass
class Tape:
    """Record of one forward pass for the Jacobian: features and output jets of each layer with parameters."""

    features: list[Any] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Structure:
    """Layers behind an input embedding and their parameter blocks; the part of `Backbone` that evaluates nothing.

    Attributes:
        embedding: Maps coordinates to the inputs of the first layer.
        layers: The layers in order.
        grid: Spline intervals per edge on this level, or the degree of polynomials; None for a network without levels.
        level: Number of refinements since the coarsest level.
        edits: Changes of width, depth or rank since the network was built, such as ("widen", 2); see `edits`.
    """

    embedding: Embedding
    layers: tuple[Layer, ...]
    grid: int | None = None
    level: int = 0
    edits: tuple[tuple[str, Any], ...] = ()

    @cached_property
    def blocks(self) -> Blocks:
        """The parameter blocks, named by layers with parameters: "layer_0/coefficients"."""
        sized = ((k, layer.blocks.shapes.items()) for k, layer in self._sized)
        return Blocks({f"layer_{k}/{name}": shape for k, shapes in sized for name, shape in shapes})

    @property
    def _sized(self) -> Iterator[tuple[int, Layer]]:
        """The layers with parameters, counted."""
        return enumerate(layer for layer in self.layers if layer.size)

    @cached_property
    def _slices(self) -> list[slice]:
        """The part of the flat vector that each layer has."""
        slices, start = [], 0
        for layer in self.layers:
            slices.append(slice(start, start + layer.size))
            start += layer.size
        return slices

    @cached_property
    def size(self) -> int:
        """Number of parameters P."""
        return self.blocks.size

    @property
    def cells(self) -> dict[str, int]:
        """Number of intervals into which the first layer's knots divide coordinates, of those that have such."""
        return self.layers[0].cells(filter(self.embedding.scaled, self.embedding.names)) if self.layers else {}

    @property
    def breaks(self) -> dict[str, tuple[float, ...]]:
        """Ends of these intervals on [−1, 1], of the coordinates where they are unequal."""
        return self.layers[0].breaks(filter(self.embedding.scaled, self.embedding.names)) if self.layers else {}

    @property
    def last_layer(self) -> slice:
        """Slice of the last layer's parameters in the flat vector."""
        return self._slices[-1]

    @property
    def refinable(self) -> bool:
        """True if a finer level exists that contains this network's functions."""
        return self.grid is not None

    def initial(self, generator: np.random.Generator) -> Tensor:
        """Random starting parameters, `[P]` float64."""
        arrays = [values.ravel() for layer in self.layers for values in layer.initial(generator).values()]
        return torch.from_numpy(np.concatenate(arrays))

    def resumed(self, theta: Tensor) -> Tensor:
        """`Layer.resumed` of every layer, `[P]`."""
        pairs = zip(self.layers, self.arrays(theta), strict=True)
        return packed(values for layer, own in pairs for values in layer.resumed(own).values())

    def arrays(self, theta: Tensor) -> list[dict[str, Tensor]]:
        """Return the flat parameter vector `[..., P]` as named views `[..., *shape]`, one dictionary per layer."""
        views = iter(self.blocks.view(theta).values())
        return [{name: next(views) for name in layer.blocks.shapes} for layer in self.layers]

    def constants(self) -> dict[str, np.ndarray]:
        """`Layer.constants` of every layer, named as the blocks are."""
        return {f"layer_{k}/{name}": values for k, layer in self._sized for name, values in layer.constants().items()}

    def nestings(self) -> dict[str, Nesting]:
        """`Layer.nesting` of every layer, by block name."""
        return {f"layer_{k}/{name}": found for k, layer in self._sized for name, found in layer.nesting().items()}

    def coarsened(self) -> Self | None:
        """Return the network on the next coarser level, whose `refined()` is this one; None if there is none."""
        layers = tuple(coarser for layer in self.layers if (coarser := layer.coarsened()) is not None)
        if self.grid is None or self.grid % 2 or len(layers) < len(self.layers):
            return None
        return replace(self, layers=layers, grid=self.grid // 2, level=self.level - 1)

    def refined(self) -> Self:
        """Return the network on the next finer level: spline intervals halved or degrees doubled.

        Raises:
            ValueError: If the network has no levels.
        """
        if self.grid is None:
            raise ValueError("this backbone has no finer level")
        layers = tuple(layer.refined() for layer in self.layers)
        return replace(self, layers=layers, grid=2 * self.grid, level=self.level + 1)


@dataclass(frozen=True)
class Backbone(Structure):
    """A stack of layers behind an input embedding; two are equal if they are the same function of θ and points."""

    def inputs(self, points: Tensor, space: JetSpace) -> Inputs:
        """Return the part of `forward` at points `[N, d]` that does not depend on the parameters, to use it again."""
        data = self.embedding.forward(points, space)
        prepared = self.layers[0].prepare(data, space) if self.layers else None
        return Inputs(data, prepared, self.embedding.factor(points, space))

    def forward(
        self,
        theta: Tensor,
        points: Tensor,
        space: JetSpace,
        tape: Tape | None = None,
        inputs: Inputs | None = None,
    ) -> Jet:
        """Return the outputs with their derivatives, a jet `[C, N, outputs]`, for θ `[P]` at points `[N, d]`.

        If given, the tape is filled with what `jacobian` needs, and `inputs` are what the method of that name returned
        for these points and derivatives.
        """
        if inputs is None:
            inputs = Inputs(self.embedding.forward(points, space), None, self.embedding.factor(points, space))
        raw = Jet(space, self.carry(theta, inputs.data, space, tape, inputs.prepared))
        if inputs.factor is None:
            return raw
        behind = self.layers[-1].behind if self.layers else 0
        if not behind:
            return raw * inputs.factor
        own = Jet(space, raw.data[..., :-behind]) * inputs.factor
        return Jet(space, torch.cat([own.data, raw.data[..., -behind:]], dim=-1))

    def carry(
        self, theta: Tensor, data: Tensor, space: JetSpace, tape: Tape | None = None, prepared: Any = None
    ) -> Tensor:
        """Return the outputs `[C, N, outputs]` of the layers without the embedding, its odd factor included.

        Takes θ `[P]` and the embedded points `[C, N, width]`; the tape is as in `forward`, `prepared` the result of
        the first layer's `prepare` for these data, if known.
        """
        for k, (layer, parameters) in enumerate(zip(self.layers, self.arrays(theta), strict=True)):
            data, features = layer.forward(parameters, data, space, None if k else prepared)
            if tape is not None and layer.size:
                if not data.requires_grad:
                    data.requires_grad_(True)  # so that a cotangent gets here even if theta needs none
                tape.features.append(features)
                tape.outputs.append(data)
        return data

    def jacobian(self, theta: Tensor, tape: Tape, scalar: Tensor, out: Tensor, *, retain: bool = False) -> None:
        """Per-point Jacobian of residuals from one backward pass.

        Args:
            theta: Parameters `[P]`.
            tape: Filled by `forward`.
            scalar: Σ_n r_n, where r_n depends on the network at point n only.
            out: `[N, P]`, overwritten with ∂r_n/∂theta.
            retain: Keep the graph for a further equation at the same points.
        """
        cotangents = self.cotangents(tape, scalar, retain=retain)
        for layer, parameters, part, features, cotangent in self._taped(theta, tape, cotangents, self._slices):
            layer.jacobian(parameters, features, cotangent, out[:, part])

    def supports(self, tape: Tape) -> list[Support | int]:
        """`Layer.supports` of every layer with parameters, one after the other."""
        return [s for (_, layer), known in zip(self._sized, tape.features, strict=True) for s in layer.supports(known)]

    def local_jacobian(
        self, theta: Tensor, tape: Tape, scalar: Tensor, order: Tensor, *, retain: bool = False
    ) -> list[Tensor]:
        """`Layer.local_jacobians` of every layer with parameters; arguments as of `jacobian`, and the points' order."""
        cotangents = self.cotangents(tape, scalar, retain=retain)
        taped = self._taped(theta, tape, cotangents, self._slices)
        return [
            found
            for layer, own, _, features, cotangent in taped
            for found in layer.local_jacobians(own, features, cotangent, order)
        ]

    def cotangents(self, tape: Tape, scalar: Tensor, *, retain: bool = False) -> tuple[Tensor, ...]:
        """∂r_n/∂(outputs at point n) of every layer with parameters, `[C, N, out]` each; arguments as of `jacobian`."""
        if not scalar.requires_grad:  # residuals in which no unknown occurs
            return tuple(torch.zeros_like(output) for output in tape.outputs)
        return torch.autograd.grad(scalar, tape.outputs, retain_graph=retain, materialize_grads=True)

    def jvp(self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], tangent: Tensor) -> Tensor:
        """∂r_n/∂theta · tangent for every point, without the Jacobian: a sum over layers, `[N]`.

        Takes theta and tangent `[P]`, the tape that `forward` has filled and what `cotangents` returned.
        """
        total = theta.new_zeros(tape.outputs[0].shape[1])
        taped = self._taped(theta, tape, cotangents, self.arrays(tangent))
        for layer, parameters, change, features, cotangent in taped:
            total += layer.jvp(parameters, features, cotangent, change)
        return total

    def vjp(self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Σ_n weight_n ∂r_n/∂theta, without the Jacobian, `[P]`; takes weights `[N]`, else as `jvp`."""
        out = torch.empty_like(theta)
        for layer, parameters, part, features, cotangent in self._taped(theta, tape, cotangents, self.arrays(out)):
            for name, values in layer.vjp(parameters, features, cotangent, weights).items():
                part[name].copy_(values)
        return out

    def _taped(
        self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], other: Sequence[T]
    ) -> Iterator[tuple[Layer, dict[str, Tensor], T, Any, Tensor]]:
        """Every layer with parameters: its arrays, what `other` has of it, its features and its cotangent."""
        entries = zip(tape.features, cotangents, strict=True)
        for layer, parameters, own in zip(self.layers, self.arrays(theta), other, strict=True):
            if layer.size:
                yield layer, parameters, own, *next(entries)
