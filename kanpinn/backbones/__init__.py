"""Networks that carry jets: Kolmogorov–Arnold networks and multilayer perceptrons."""

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.mlp import Mlp

BACKBONES: dict[str, type[Kan] | type[Mlp]] = {"kan": Kan, "mlp": Mlp}

__all__ = ["BACKBONES", "Backbone", "Kan", "Mlp"]
