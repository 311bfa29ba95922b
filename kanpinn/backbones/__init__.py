"""Networks that carry jets: Kolmogorov–Arnold networks in several bases and forms, and multilayer perceptrons."""

from kanpinn.backbones.auto import Auto
from kanpinn.backbones.base import Backbone
from kanpinn.backbones.chebykan import ChebyKan
from kanpinn.backbones.kan import Kan, MultKan
from kanpinn.backbones.mlp import Mlp
from kanpinn.backbones.relu_kan import ReluKan
from kanpinn.backbones.separable.network import Separable

BACKBONES: dict[
    str, type[Kan] | type[ReluKan] | type[MultKan] | type[ChebyKan] | type[Separable] | type[Mlp] | type[Auto]
] = {
    "kan": Kan,
    "relu_kan": ReluKan,
    "multkan": MultKan,
    "chebykan": ChebyKan,
    "separable": Separable,
    "mlp": Mlp,
    "auto": Auto,
}

__all__ = ["BACKBONES", "Auto", "Backbone", "ChebyKan", "Kan", "Mlp", "MultKan", "ReluKan", "Separable"]
