"""Grid update: hidden values brought back to the range of the knots that follow, and the functions there fitted anew.

The grid update of Liu et al. 2024 (arXiv:2404.19756, sec. 2.2 and app. A) moves the knots of an edge to the inputs that
it sees. Here the knots stay, and the inputs move: a hidden node's values x become x̂ = (x − c)/h, which fill [−1, 1]. An
affine map of a layer's outputs is one of its coefficients, as splines contain the constants, so that it is exact; the
edges f behind the node become f(c + h x̂), splines whose knots lie at c + h t_i in x, and are fitted in least squares
over [−1, 1]. That is the same space as with moved knots, while the levels stay exactly nested. The knots stay equally
spaced: quantiles of the inputs would need knots of their own for every node.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kanpinn.backbones.base import Backbone
from kanpinn.backbones.layer import Parameters, packed
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.errors import invalid
from kanpinn.jets.jet import JetSpace

FILLED = 0.8
"""Share of [−1, 1] that values have to fill, without leaving it, to stay as they are."""

MARGIN = 1.05
"""New range over that of the values, so that they may move a little."""

PLACES = 16
"""Places on each interval at which functions are fitted."""

GRID_UPDATES = "0, or backbone=kan with backbone.squash=none, one network and all its edges"
"""What has grid updates, for messages."""

VALUES = JetSpace((), ())


def updated(network: Backbone, theta: Tensor, points: Tensor) -> Tensor:
    """Return parameters `[P]` with which hidden values at points `[N, d]` fill the knots, and the function is kept.

    It is kept to rounding where all functions of a hidden value are polynomials, else as well as the moved knots allow;
    parameters come back as they are where all values fill the knots already.

    Raises:
        UserError: If the network is not one of splines alone.
    """
    layers = tuple(layer for layer in network.layers if not layer.behind)  # coefficients that are found stay
    if not all(type(layer) is SplineLayer for layer in layers):
        raise invalid("backbone.grid_updates", "above 0", GRID_UPDATES)
    x, found = network.embedding.forward(points, JetSpace(network.embedding.names, ())), []
    middle, half = theta.new_zeros(x.shape[2]), theta.new_ones(x.shape[2])
    arrays = network.arrays(theta)
    for k, (layer, before) in enumerate(zip(layers, arrays, strict=False)):
        assert isinstance(layer, SplineLayer)
        own = before if k == 0 else _refitted(layer, before, middle, half)
        y = layer.forward(own, x, VALUES)[0]
        if k < len(layers) - 1:
            middle, half = _range(y[0])
            own = _scaled(layer, own, middle, half)
            y = (y - middle) / half
        found.append(own)
        x = y
    return packed(values for own in (*found, *arrays[len(layers) :]) for values in own.values())


def _range(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return c and h `[nodes]` of hidden values `[N, nodes]`; 0 and 1 where these fill the knots or are constant."""
    low, high = values.aminmax(dim=0)
    middle, half = (low + high) / 2, (high - low) / 2
    stay = (half <= 1e-6 * (1 + middle.abs())) | ((half >= FILLED) & (low >= -1) & (high <= 1))
    return middle.masked_fill(stay, 0.0), (MARGIN * half).masked_fill(stay, 1.0)


def _scaled(layer: SplineLayer, own: Parameters, middle: Tensor, half: Tensor) -> dict[str, Tensor]:
    """Return the blocks with which outputs y become (y − c)/h."""
    scaled = {name: values / half.view(-1, *[1] * (values.dim() - 1)) for name, values in own.items()}
    if layer.spec.base:
        scaled["spline_scale"] = own["spline_scale"]
    raised = layer.raised(scaled, -middle / half)
    assert raised is not None
    return {name: raised[name] for name in own}


def _refitted(layer: SplineLayer, own: Parameters, middle: Tensor, half: Tensor) -> dict[str, Tensor]:
    """Return the blocks with which functions of x are those of x̂ = (x − c)/h, as nearly as splines allow."""
    spec, moved = layer.spec, (half != 1) | (middle != 0)
    places = torch.linspace(-1, 1, PLACES * spec.intervals + 1, dtype=torch.float64, device=middle.device).to(middle)
    plain = SplineLayer(1, spec.width, replace(spec, base=False, bias=False))
    units = {"coefficients": torch.eye(spec.width, dtype=places.dtype, device=places.device)[:, None]}
    basis = plain.forward(units, places[None, :, None], VALUES)[0][0]  # (places, width)
    out = {name: values.clone() for name, values in own.items()}
    beyond = "extrapolate" if spec.outside == "error" else spec.outside
    one = SplineLayer(1, layer.outputs, replace(spec, bias=False, outside=beyond))
    for p in moved.nonzero()[:, 0].tolist():
        edges = {name: values[:, p : p + 1] for name, values in own.items() if name != "bias"}
        wanted = one.forward(edges, (middle[p] + half[p] * places)[None, :, None], VALUES)[0][0]
        if spec.base:  # the base terms stay what they are of x̂, the splines take up the rest
            zero = {**edges, "coefficients": torch.zeros_like(edges["coefficients"])}
            wanted = wanted - one.forward(zero, places[None, :, None], VALUES)[0][0]
        fitted = torch.linalg.lstsq(basis, wanted, driver="gelsd").solution.T  # (out, width)
        if spec.base:
            scale = own["spline_scale"][:, p, None]
            fitted = torch.where(scale != 0, fitted / scale, own["coefficients"][:, p])
        out["coefficients"][:, p] = fitted
    return out
