"""Input embeddings of all backbones: scaling to [−1, 1], periodic coordinates, Fourier features, a problem's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import UserError, invalid, unknown_choice
from kanpinn.jets import Jet, JetSpace
from kanpinn.problem import Box, Coordinates

KINDS = ("auto", "none", "periodic", "fourier")
PROBE = 5
"""Points per coordinate at which the range of a problem's further inputs is looked at."""

Inputs = Callable[[Coordinates], Sequence[Jet]]


@dataclass
class EmbeddingOptions:
    """How coordinates enter the network.

    Attributes:
        kind: "auto" builds in the periodicity the problem declares, if any; "none" scales to [−1, 1] only; "periodic"
            makes every coordinate but time periodic; "fourier" appends random Fourier features (Tancik et al. 2020,
            arXiv:2006.10739) to the scaled coordinates.
        features: Number of random frequencies ("fourier").
        scale: Standard deviation of the frequencies, in radians per half-width of the box ("fourier").
        inputs: Whether the further inputs that a problem may offer are appended.
    """

    kind: str = "auto"
    features: int = 8
    scale: float = 2.0
    inputs: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_choice("backbone.embedding.kind", self.kind, KINDS)
        if self.features < 1:
            raise invalid("backbone.embedding.features", self.features, "an integer of at least 1")
        if not self.scale > 0:
            raise invalid("backbone.embedding.scale", self.scale, "a number above 0")

    def build(
        self,
        domain: Box,
        periodic: tuple[str, ...],
        generator: np.random.Generator,
        inputs: Inputs | None = None,
    ) -> Embedding:
        """The embedding for one domain; random frequencies are drawn here and then stay.

        Args:
            domain: The domain, of d coordinates.
            periodic: Coordinates in which the problem is periodic.
            generator: Draws the frequencies.
            inputs: The problem's further inputs, `Problem.inputs`.

        Returns:
            The embedding.

        Raises:
            UserError: If the further inputs are no jets or leave [−1, 1].
        """
        coordinates: tuple[str, ...] = ()
        if self.kind == "auto":
            coordinates = periodic
        elif self.kind == "periodic":
            coordinates = tuple(name for name in domain.names if name != "t")
        frequencies = None
        if self.kind == "fourier":
            frequencies = torch.from_numpy(self.scale * generator.standard_normal((len(domain), self.features)))
        return Embedding(domain, coordinates, frequencies, inputs if self.inputs else None)


class Embedding:
    """Coordinates `[N, d]` to jets `[C, N, width]`, each in [−1, 1].

    Attributes:
        domain: The box whose intervals are scaled to [−1, 1].
        periodic: Coordinates that enter as (cos, sin) with the period of the box.
        frequencies: `[d, features]` or None.
        inputs: The problem's further inputs, or None.
        width: Number of inputs the first layer sees.
    """

    def __init__(
        self,
        domain: Box,
        periodic: tuple[str, ...] = (),
        frequencies: Tensor | None = None,
        inputs: Inputs | None = None,
    ) -> None:
        self.domain = domain
        self.periodic = periodic
        self.frequencies = frequencies
        self.inputs = inputs
        self.width = len(domain) + len(periodic) + (0 if frequencies is None else 2 * frequencies.shape[1])
        self.width += self._checked_inputs()

    def _checked_inputs(self) -> int:
        """The number of further inputs, once they are seen to stay within [−1, 1] on a grid over the box."""
        if self.inputs is None:
            return 0
        ends = zip(self.domain.lower, self.domain.upper, strict=True)
        axes = [torch.linspace(a, b, PROBE, dtype=torch.float64) for a, b in ends]
        points = torch.cartesian_prod(*axes).reshape(-1, len(axes))
        jets = self._further(points, JetSpace(self.domain.names, ()))
        for jet in jets:
            if not isinstance(jet, Jet):
                raise UserError(f"inputs of the problem: expected jets, got {type(jet).__name__}")
            if not float(jet.value.abs().max()) <= 1 + 1e-6:
                low, high = float(jet.value.min()), float(jet.value.max())
                raise UserError(f"inputs of the problem: one runs from {low:g} to {high:g}, not within [-1, 1]")
        return len(jets)

    def _further(self, points: Tensor, space: JetSpace) -> list[Jet]:
        """The problem's further inputs at points `[N, d]`."""
        if self.inputs is None:
            return []
        return list(self.inputs(Coordinates(self.domain.names, space.variables(points))))

    def forward(self, points: Tensor, space: JetSpace) -> Tensor:
        """Embed points.

        Args:
            points: `[N, d]`.
            space: Which derivatives to carry.

        Returns:
            `[C, N, width]`.
        """
        columns: list[Tensor] = []
        scaled: list[Jet] = []
        for jet, name in zip(space.variables(points), self.domain.names, strict=True):
            a, b = self.domain.interval(name)
            unit = (jet - (a + b) / 2) * (2 / (b - a))
            scaled.append(unit)
            if name in self.periodic:
                columns += [torch.cos(unit * math.pi).data, torch.sin(unit * math.pi).data]  # type: ignore[arg-type]
            else:
                columns.append(unit.data)
        if self.frequencies is not None:
            frequencies = self.frequencies.to(points)
            for k in range(frequencies.shape[1]):
                phase = sum((unit * frequencies[d, k].item() for d, unit in enumerate(scaled)), start=scaled[0] * 0.0)
                columns += [torch.cos(phase).data, torch.sin(phase).data]  # type: ignore[arg-type]
        columns += [jet.data for jet in self._further(points, space)]
        return torch.stack(columns, dim=-1)
