"""What a backbone is: a description of a network whose parameters live outside it, in one flat vector.

A backbone maps points to jets of its outputs. Every layer with parameters is linear in its effective weights, so the
Jacobian of any per-point residual is an outer product of the layer's features and the cotangent at its output; a `Tape`
keeps both, and one backward pass fills them for all layers and all points.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kanpinn.backbones.embedding import Embedding
from kanpinn.jets.jet import Jet, JetSpace
from kanpinn.splines.nesting import Nesting

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Support:
    """Which of a layer's parameters each point sees, where those are few.

    The parameters are `copies` × K × `width`: K groups in a row, the row as often as there are copies. Of every group a
    point sees a run of equal length, the same in all copies.

    Attributes:
        first: Where in its group the run begins, int64 `[N, K]`.
        length: Of the runs.
        width: Parameters in a group.
        copies: How often the row stands.
        places: Which of its copy's own parameters each of the K × `width` is, `[K·width]`, where several are one; None
            where each is its own.
    """

    first: Tensor
    length: int
    width: int
    copies: int
    places: Tensor | None = None

    def at(self, points: Tensor) -> Support:
        """That of some points, int64 `[n]`; points last in memory."""
        return replace(self, first=torch.gather(self.first.T, 1, points.expand(self.first.shape[1], -1)).T)


class Layer(ABC):
    """One layer of a backbone: jets `[C, N, in]` to jets `[C, N, out]`."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each parameter array, in the order they stand in the flat vector; empty for none."""

    @abstractmethod
    def initial(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Random starting values for each array of `shapes`."""

    def resumed(self, parameters: Parameters) -> dict[str, Tensor]:
        """Arrays to begin with on the time interval after the one they have been found on: themselves, for most."""
        return dict(parameters)

    def prepare(self, data: Tensor, space: JetSpace) -> Any:
        """What `forward` finds out about its input alone, whatever the parameters; None where that is nothing.

        Args:
            data: `[C, N, in]`.
            space: The derivatives the first axis runs over.
        """
        return None

    @abstractmethod
    def forward(
        self, parameters: Parameters, data: Tensor, space: JetSpace, prepared: Any = None
    ) -> tuple[Tensor, Any]:
        """Carry jets through the layer.

        Args:
            parameters: The layer's own arrays by name.
            data: `[C, N, in]`.
            space: The derivatives the first axis runs over.
            prepared: What `prepare` returned for these data, if it was asked.

        Returns:
            `[C, N, out]` and the features `jacobian` needs.
        """

    @abstractmethod
    def jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, out: Tensor) -> None:
        """Write ∂r_n/∂(this layer's parameters).

        Args:
            parameters: The layer's own arrays by name.
            features: What `forward` returned.
            cotangent: ∂r_n/∂(outputs of this layer at point n), `[C, N, out]`.
            out: `[N, number of parameters of the layer]`, overwritten.
        """

    def support(self, features: Any) -> Support | None:
        """Which parameters each point sees, from what `forward` returned; None where every point sees all of them."""
        return None

    def supports(self, features: Any) -> list[Support | int]:
        """The same of the layer's parts, whose parameters follow each other; their number where there is none."""
        return [self.support(features) or self.size]

    def local_jacobians(self, parameters: Parameters, features: Any, cotangent: Tensor, order: Tensor) -> list[Tensor]:
        """`local_jacobian` of every part of `supports`; arguments as there."""
        return [self.local_jacobian(parameters, features, cotangent, order)]

    def local_jacobian(self, parameters: Parameters, features: Any, cotangent: Tensor, order: Tensor) -> Tensor:
        """∂r_n/∂(the parameters that point n sees).

        Args:
            parameters: The layer's own arrays by name.
            features: What `forward` returned.
            cotangent: ∂r_n/∂(outputs of this layer at point n), `[C, N, out]`.
            order: Which point's numbers come first and so on, int64 `[N]`.

        Returns:
            `[N, copies, K·length]` of the layer's `support`, or `[N, number of parameters]` where it has none.
        """
        block = cotangent.new_empty(cotangent.shape[1], self.size)
        self.jacobian(parameters, features, cotangent, block)
        return block[order]

    def jvp(self, parameters: Parameters, features: Any, cotangent: Tensor, tangent: Parameters) -> Tensor:
        """∂r_n/∂(this layer's parameters) · tangent, by its dense Jacobian unless a layer knows better.

        Args:
            parameters: The layer's own arrays by name.
            features: What `forward` returned.
            cotangent: ∂r_n/∂(outputs of this layer at point n), `[C, N, out]`.
            tangent: A change of each array.

        Returns:
            `[N]`.
        """
        block = cotangent.new_empty(cotangent.shape[1], self.size)
        self.jacobian(parameters, features, cotangent, block)
        return block @ torch.cat([tangent[name].reshape(-1) for name in self.shapes()])

    def vjp(self, parameters: Parameters, features: Any, cotangent: Tensor, weights: Tensor) -> dict[str, Tensor]:
        """Σ over points of weight · ∂r_n/∂(this layer's parameters), by its dense Jacobian unless a layer knows better.

        Args:
            parameters: The layer's own arrays by name.
            features: What `forward` returned.
            cotangent: ∂r_n/∂(outputs of this layer at point n), `[C, N, out]`.
            weights: `[N]`.

        Returns:
            By array name, each of its array's shape.
        """
        block = cotangent.new_empty(cotangent.shape[1], self.size)
        self.jacobian(parameters, features, cotangent, block)
        flat, out, start = weights @ block, {}, 0
        for name, shape in self.shapes().items():
            count = math.prod(shape)
            out[name] = flat[start : start + count].view(shape)
            start += count
        return out

    def refined(self) -> Layer:
        """The same layer on the next finer level; itself for a layer without levels."""
        return self

    def coarsened(self) -> Layer | None:
        """The layer that `refined` makes this one of; itself for a layer without levels, None where there is none."""
        return None if self.nesting() else self

    def nesting(self) -> dict[str, Nesting]:
        """By array name, the operators between this layer and `refined()`, which act on the array's last axis.

        Arrays without one have the same meaning and shape in both layers.
        """
        return {}

    def constants(self) -> dict[str, np.ndarray]:
        """Arrays without which the parameters mean nothing, such as knots, by name; empty for most layers."""
        return {}

    def attributes(self) -> dict[str, Any]:
        """Plain values that say what the functions on the edges are; empty for layers without such."""
        return {}

    @property
    @abstractmethod
    def kept(self) -> int:
        """About how many numbers a pass keeps per point and derivative carried, for estimates of memory."""

    @property
    def intervals(self) -> int | None:
        """Equal intervals into which knots divide each input; None without knots or with others."""
        return None

    def cells(self, embedding: Embedding) -> dict[str, int]:
        """The same by coordinate, of those that a first layer gets from the embedding only scaled."""
        if self.intervals is None:
            return {}
        return {name: self.intervals for name in embedding.domain.names if embedding.scaled(name)}

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes().values())


class Inputs(NamedTuple):
    """What a backbone knows about points before it knows its parameters.

    Attributes:
        data: The embedded points, `[C, N, width]`.
        prepared: What the first layer's `Layer.prepare` says about them.
        factor: `Embedding.factor`.
    """

    data: Tensor
    prepared: Any
    factor: Jet | None


@dataclass
class Tape:
    """What one forward pass leaves for the Jacobian: per parametrised layer its features and its output jets."""

    features: list[Any] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


class Backbone:
    """A stack of layers behind an input embedding.

    Attributes:
        embedding: Maps coordinates to the inputs of the first layer.
        layers: The layers in order.
        level: How often the network has been refined.
        grid: Spline intervals per edge on this level, or the degree of polynomials; None for a network without levels.
    """

    def __init__(self, embedding: Embedding, layers: list[Layer], grid: int | None = None, level: int = 0) -> None:
        self.embedding = embedding
        self.layers = layers
        self.grid = grid
        self.level = level
        self._slices: list[slice] = []
        start = 0
        for layer in layers:
            self._slices.append(slice(start, start + layer.size))
            start += layer.size
        self.size = start

    @property
    def cells(self) -> dict[str, int]:
        """Equal intervals into which the first layer's knots divide coordinates; without those that have no such."""
        return self.layers[0].cells(self.embedding) if self.layers else {}

    @property
    def last_layer(self) -> slice:
        """Where the parameters of the last layer stand in the flat vector."""
        return self._slices[-1]

    @property
    def refinable(self) -> bool:
        """Whether a finer level exists that contains this network's functions."""
        return self.grid is not None

    def initial(self, generator: np.random.Generator) -> Tensor:
        """Random starting parameters, `[P]` float64."""
        arrays = [values.ravel() for layer in self.layers for values in layer.initial(generator).values()]
        return torch.from_numpy(np.concatenate(arrays))

    def resumed(self, theta: Tensor) -> Tensor:
        """`Layer.resumed` of every layer, `[P]`."""
        pairs = zip(self.layers, self.arrays(theta), strict=True)
        return torch.cat([values.flatten() for layer, own in pairs for values in layer.resumed(own).values()])

    def arrays(self, theta: Tensor) -> list[dict[str, Tensor]]:
        """The flat parameter vector `[..., P]` as named views `[..., *shape]`, one dictionary per layer."""
        out = []
        for layer, part in zip(self.layers, self._slices, strict=True):
            vector, named, start = theta[..., part], {}, 0
            for name, shape in layer.shapes().items():
                count = math.prod(shape)
                named[name] = vector[..., start : start + count].reshape(*theta.shape[:-1], *shape)
                start += count
            out.append(named)
        return out

    def inputs(self, points: Tensor, space: JetSpace) -> Inputs:
        """What of `forward` at points `[N, d]` does not depend on parameters, for points that it meets again."""
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
        """Evaluate the network with derivatives.

        Args:
            theta: Parameters `[P]`.
            points: `[N, d]` in the coordinates of the domain.
            space: Which derivatives to carry.
            tape: Filled with what `jacobian` needs, if given.
            inputs: What `inputs` returned for these points and derivatives, if it is known.

        Returns:
            A jet `[C, N, outputs]`.
        """
        if inputs is None:
            inputs = Inputs(self.embedding.forward(points, space), None, self.embedding.factor(points, space))
        raw = Jet(space, self.carry(theta, inputs.data, space, tape, inputs.prepared))
        return raw if inputs.factor is None else raw * inputs.factor

    def carry(
        self, theta: Tensor, data: Tensor, space: JetSpace, tape: Tape | None = None, prepared: Any = None
    ) -> Tensor:
        """The layers without the embedding, its odd factor included.

        Args:
            theta: Parameters `[P]`.
            data: What the embedding makes of the points, `[C, N, width]`.
            space: Which derivatives it holds.
            tape: Filled with what `jacobian` needs, if given.
            prepared: What the first layer's `prepare` returned for these data, if it was asked.

        Returns:
            `[C, N, outputs]`.
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
        entries = zip(tape.features, self.cotangents(tape, scalar, retain=retain), strict=True)
        for layer, parameters, part in zip(self.layers, self.arrays(theta), self._slices, strict=True):
            if layer.size:
                features, cotangent = next(entries)
                layer.jacobian(parameters, features, cotangent, out[:, part])

    def supports(self, tape: Tape) -> list[Support | int]:
        """`Layer.supports` of every layer with parameters, one after the other."""
        layers = [layer for layer in self.layers if layer.size]
        return [s for layer, known in zip(layers, tape.features, strict=True) for s in layer.supports(known)]

    def local_jacobian(
        self, theta: Tensor, tape: Tape, scalar: Tensor, order: Tensor, *, retain: bool = False
    ) -> list[Tensor]:
        """`Layer.local_jacobians` of every layer with parameters; arguments as of `jacobian`, and the points' order."""
        entries = zip(tape.features, self.cotangents(tape, scalar, retain=retain), strict=True)
        pairs = [(layer, own) for layer, own in zip(self.layers, self.arrays(theta), strict=True) if layer.size]
        return [
            found
            for (layer, own), entry in zip(pairs, entries, strict=True)
            for found in layer.local_jacobians(own, *entry, order)
        ]

    def cotangents(self, tape: Tape, scalar: Tensor, *, retain: bool = False) -> tuple[Tensor, ...]:
        """∂r_n/∂(outputs at point n) of every layer with parameters, `[C, N, out]` each; arguments as of `jacobian`."""
        if not scalar.requires_grad:  # residuals in which no unknown occurs
            return tuple(torch.zeros_like(output) for output in tape.outputs)
        return torch.autograd.grad(scalar, tape.outputs, retain_graph=retain, materialize_grads=True)

    def jvp(self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], tangent: Tensor) -> Tensor:
        """∂r_n/∂theta · tangent for every point, without the Jacobian: a sum over layers.

        Args:
            theta: Parameters `[P]`.
            tape: Filled by `forward`.
            cotangents: From `cotangents`.
            tangent: `[P]`.

        Returns:
            `[N]`.
        """
        total = theta.new_zeros(tape.outputs[0].shape[1])
        for layer, parameters, change, features, cotangent in self._taped(
            theta, tape, cotangents, self.arrays(tangent)
        ):
            total += layer.jvp(parameters, features, cotangent, change)
        return total

    def vjp(self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], weights: Tensor) -> Tensor:
        """Σ_n weight_n ∂r_n/∂theta, without the Jacobian.

        Args:
            theta: Parameters `[P]`.
            tape: Filled by `forward`.
            cotangents: From `cotangents`.
            weights: `[N]`.

        Returns:
            `[P]`.
        """
        out = torch.empty_like(theta)
        for layer, parameters, part, features, cotangent in self._taped(theta, tape, cotangents, self.arrays(out)):
            for name, values in layer.vjp(parameters, features, cotangent, weights).items():
                part[name].copy_(values)
        return out

    def _taped(
        self, theta: Tensor, tape: Tape, cotangents: Sequence[Tensor], other: list[dict[str, Tensor]]
    ) -> Iterator[tuple[Layer, dict[str, Tensor], dict[str, Tensor], Any, Tensor]]:
        """Every layer with parameters: its arrays, those of `other`, its features and its cotangent."""
        entries = zip(tape.features, cotangents, strict=True)
        for layer, parameters, arrays in zip(self.layers, self.arrays(theta), other, strict=True):
            if layer.size:
                yield layer, parameters, arrays, *next(entries)

    def coarsened(self) -> Backbone | None:
        """The network on the next coarser level, whose `refined()` is this one; None where there is none."""
        layers = [layer.coarsened() for layer in self.layers]
        found = [layer for layer in layers if layer is not None]
        if self.grid is None or self.grid % 2 or len(found) < len(layers):
            return None
        return Backbone(self.embedding, found, self.grid // 2, self.level - 1)

    def refined(self) -> Backbone:
        """The network on the next finer level: spline intervals halved or degrees doubled, width and depth kept.

        Raises:
            ValueError: If the network has no levels.
        """
        if self.grid is None:
            raise ValueError("this backbone has no finer level")
        return Backbone(self.embedding, [layer.refined() for layer in self.layers], 2 * self.grid, self.level + 1)

    def nestings(self) -> list[dict[str, Nesting]]:
        """`Layer.nesting` of every layer."""
        return [layer.nesting() for layer in self.layers]

    def transferred(
        self, theta: Tensor, nestings: Sequence[Mapping[str, Nesting]], apply: Callable[[Nesting, Tensor], Tensor]
    ) -> Tensor:
        """Apply one operator of each array's nesting, array by array; arrays without a nesting are copied.

        Args:
            theta: Parameters of this network, `[..., P]`.
            nestings: From `nestings` of this network to go up, of the next coarser one to go down.
            apply: Which of the operators.

        Returns:
            Parameters of the next finer or coarser network, `[..., P']`.
        """
        parts = []
        for parameters, operators in zip(self.arrays(theta), nestings, strict=True):
            for name, values in parameters.items():
                moved = apply(operators[name], values) if name in operators else values
                parts.append(moved.flatten(start_dim=theta.dim() - 1))
        return torch.cat(parts, dim=-1)

    def refine(self, theta: Tensor) -> Tensor:
        """Parameters `[..., P_fine]` of `refined()` with exactly the same function as `theta` `[..., P]`."""
        return self.transferred(theta, self.nestings(), lambda nesting, c: nesting.prolong(c))
