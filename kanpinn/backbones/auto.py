"""Network that a run chooses by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.embedding import Embedding, EmbeddingOptions
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.parallel import NETWORKS
from kanpinn.options import Options, option


@dataclass
class Auto(Options):
    """Network chosen by the run: of a few that it tries the best, by the estimated error."""

    key: ClassVar[str] = "backbone"

    networks: str = option(
        "shared", "one network for all unknowns (shared), or one for each (separate)", one_of=NETWORKS
    )
    embedding: EmbeddingOptions = option(factory=EmbeddingOptions)

    def build(self, embedding: Embedding, outputs: int) -> Backbone:
        """The first network that is tried, on its coarsest level, without parameters."""
        return Kan().build(embedding, outputs)

    def check_order(self, order: int) -> None:
        """Accept every order: degrees follow it."""
