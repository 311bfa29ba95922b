"""Networks that carry jets: Kolmogorov–Arnold networks in two bases and multilayer perceptrons."""

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.kan import Kan
from kanpinn.backbones.mlp import Mlp
from kanpinn.backbones.relu_kan import ReluKan

BACKBONES: dict[str, type[Kan] | type[ReluKan] | type[Mlp]] = {"kan": Kan, "relu_kan": ReluKan, "mlp": Mlp}

__all__ = ["BACKBONES", "Backbone", "Kan", "Mlp", "ReluKan"]
