"""Input embeddings shared by all backbones: scaling to [−1, 1], periodic coordinates, random Fourier features."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kanpinn.errors import invalid, unknown_choice
from kanpinn.jets import Jet, JetSpace
from kanpinn.problem import Box

KINDS = ("auto", "none", "periodic", "fourier")


@dataclass
class EmbeddingOptions:
    """How coordinates enter the network.

    Attributes:
        kind: "auto" builds in the periodicity the problem declares, if any; "none" scales to [−1, 1] only; "periodic"
            makes every coordinate but time periodic; "fourier" appends random Fourier features (Tancik et al. 2020,
            arXiv:2006.10739) to the scaled coordinates.
        features: Number of random frequencies ("fourier").
        scale: Standard deviation of the frequencies, in radians per half-width of the box ("fourier").
    """

    kind: str = "auto"
    features: int = 8
    scale: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown_choice("backbone.embedding.kind", self.kind, KINDS)
        if self.features < 1:
            raise invalid("backbone.embedding.features", self.features, "an integer of at least 1")
        if not self.scale > 0:
            raise invalid("backbone.embedding.scale", self.scale, "a number above 0")

    def build(self, domain: Box, periodic: tuple[str, ...], generator: np.random.Generator) -> Embedding:
        """The embedding for one domain; random frequencies are drawn here and then stay."""
        coordinates: tuple[str, ...] = ()
        if self.kind == "auto":
            coordinates = periodic
        elif self.kind == "periodic":
            coordinates = tuple(name for name in domain.names if name != "t")
        frequencies = None
        if self.kind == "fourier":
            frequencies = torch.from_numpy(self.scale * generator.standard_normal((len(domain), self.features)))
        return Embedding(domain, coordinates, frequencies)


class Embedding:
    """Coordinates `[N, d]` to jets `[C, N, width]`, each in [−1, 1].

    Attributes:
        domain: The box whose intervals are scaled to [−1, 1].
        periodic: Coordinates that enter as (cos, sin) with the period of the box.
        frequencies: `[d, features]` or None.
        width: Number of inputs the first layer sees.
    """

    def __init__(self, domain: Box, periodic: tuple[str, ...] = (), frequencies: Tensor | None = None) -> None:
        self.domain = domain
        self.periodic = periodic
        self.frequencies = frequencies
        self.width = len(domain) + len(periodic) + (0 if frequencies is None else 2 * frequencies.shape[1])

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
        return torch.stack(columns, dim=-1)
