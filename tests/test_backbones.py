"""Networks, their derivatives and their refinement against plainly written formulas under torch.func."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from support.naive_network import Options, at_points, network
from support.networks import CHEBYSHEV, DOMAIN, MULTIPLYING, NETWORKS, SEPARABLE, WIDE, build
from torch import Tensor

from kanpinn.backbones import BACKBONES, Auto, ChebyKan, Kan, Mlp, MultKan
from kanpinn.backbones.base import Tape
from kanpinn.backbones.chebykan import ChebyshevLayer
from kanpinn.backbones.edits import refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.layers import Multiply
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import model_arrays, model_attributes
from kanpinn.geometry import Box
from kanpinn.jets.jet import Jet, JetSpace

DERIVATIVES = {"second": ("t", "xx"), "mixed": ("xt",), "third": ("xxx", "xxt", "xtt", "ttt")}


def points(count: int, domain: Box = DOMAIN, seed: int = 3) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(domain.lower, domain.upper, (count, len(domain))))


def test_every_backbone_is_tested_here() -> None:
    assert {type(options) for options in NETWORKS.values()} == set(BACKBONES.values()) - {Auto}


@pytest.mark.parametrize("derivatives", DERIVATIVES.values(), ids=DERIVATIVES)
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_jets_equal_nested_automatic_derivatives(options: Options, derivatives: tuple[str, ...]) -> None:
    backbone, theta = build(options)
    x, space = points(6), JetSpace(DOMAIN.names, derivatives)
    jet = backbone.forward(theta, x, space)
    assert jet.data.shape == (len(space), 6, 2)
    for name in space.indices:
        for k in range(2):
            expected = at_points(lambda p, k=k: network(options, backbone, theta, p)[k], DOMAIN.names, name, x)
            error = float((jet[name][:, k] - expected).abs().max())
            assert error <= 1e-10 * max(1.0, float(expected.abs().max())), (name, k)


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_backward_and_tape_equal_automatic_derivatives(options: Options) -> None:
    backbone, theta = build(options)
    x, space = points(5), JetSpace(DOMAIN.names, ("xx", "xt"))
    weights = torch.from_numpy(np.random.default_rng(9).standard_normal((len(space), 5, 2)))

    def residual(parameters: Tensor) -> Tensor:
        total = torch.zeros(5, dtype=torch.float64)
        for c, name in enumerate(space.indices):
            for k in range(2):
                values = at_points(lambda p, k=k: network(options, backbone, parameters, p)[k], DOMAIN.names, name, x)
                total = total + weights[c, :, k] * values**2
        return total

    expected = torch.func.jacrev(residual)(theta)
    size = max(1.0, float(expected.abs().max()))
    tape = Tape()
    data = backbone.forward(theta, x, space, tape).data
    block = torch.full((5, backbone.size), torch.nan, dtype=torch.float64)
    backbone.jacobian(theta, tape, (weights * data**2).sum(), block)
    assert float((block - expected).abs().max()) <= 1e-10 * size
    leaf = theta.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((weights * backbone.forward(leaf, x, space).data ** 2).sum(), leaf)
    assert float((gradient - expected.sum(0)).abs().max()) <= 1e-10 * size


DEEP = {
    name: replace(options, width=[3, 3, 3])
    for name, options in NETWORKS.items()
    if type(options) is Kan and options.squash != "none"
} | {
    # Without squashing hidden values leave the knots and the polynomial continuation amplifies rounding.
    name: options
    for name, options in NETWORKS.items()
    if type(options) is Kan and options.squash == "none"
}
NESTED: dict[str, Options] = {
    **DEEP,
    "multkan": replace(MULTIPLYING, width=[3, 3, 3], mult=[2, 1, 0]),
    "multkan, cosine knots, linear first": replace(MULTIPLYING, knots="cosine", first="linear", mult=1),
    "chebykan": replace(CHEBYSHEV, width=[3, 3, 3], degree=3),
    "separable": SEPARABLE,
    "separable, single layers, linear last": replace(SEPARABLE, width=[], last="linear"),
}


@pytest.mark.parametrize("options", NESTED.values(), ids=NESTED)
def test_refinement_changes_neither_output_nor_derivatives(options: Options) -> None:
    backbone, theta = build(options)
    coarsest = backbone.grid or 0
    x, space = points(200), JetSpace(DOMAIN.names, ("t", "xx"))
    before = backbone.forward(theta, x, space).data
    for level in (1, 2, 3):
        theta, backbone = refinement(backbone)(theta), backbone.refined()
        assert (backbone.level, backbone.grid) == (level, coarsest * 2**level)
        assert len(theta) == backbone.size
        after = backbone.forward(theta, x, space).data
        for c in range(len(space)):
            scale = float(before[c].abs().max())
            # Each differentiation multiplies rounding of the coefficients by the number of intervals.
            tolerance = 1e-12 if c == 0 else 1e-12 * backbone.grid ** len(space.indices[c])
            assert float((after[c] - before[c]).abs().max()) <= tolerance * scale, (level, space.indices[c])


def test_a_network_without_levels_cannot_be_refined() -> None:
    backbone, _ = build(Mlp(width=[3]))
    assert not backbone.refinable
    with pytest.raises(ValueError, match="no finer level"):
        backbone.refined()


def test_periodic_coordinates_make_the_network_periodic_with_all_derivatives() -> None:
    for options in (
        replace(WIDE, embedding=EmbeddingOptions("periodic")),
        Mlp([5], embedding=EmbeddingOptions("periodic")),
    ):
        backbone, theta = build(options)
        x, space = points(20), JetSpace(DOMAIN.names, ("xxx", "t"))
        shifted = x + torch.tensor([2.0, 0.0], dtype=torch.float64)
        a, b = backbone.forward(theta, x, space).data, backbone.forward(theta, shifted, space).data
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-9 * float(a.abs().max()))


def test_auto_takes_the_problems_periodic_coordinates_and_none_does_not() -> None:
    generator = np.random.default_rng(0)
    assert EmbeddingOptions("auto").build(DOMAIN, ("x",), generator).periodic == ("x",)
    assert EmbeddingOptions("none").build(DOMAIN, ("x",), generator).periodic == ()
    assert EmbeddingOptions("periodic").build(DOMAIN, (), generator).periodic == ("x",)
    assert EmbeddingOptions("fourier", features=4).build(DOMAIN, (), generator).width == 2 + 8


def test_spline_inputs_stay_within_the_knots() -> None:
    # outside=error never fires: coordinates are scaled to [-1, 1], hidden values squashed.
    backbone, theta = build(replace(WIDE, outside="error", scale=5.0))
    corners = torch.tensor([[a, b] for a in (-1.0, 1.0) for b in (0.5, 2.0)], dtype=torch.float64)
    assert bool(backbone.forward(theta, corners, JetSpace(DOMAIN.names, ("xx",))).data.isfinite().all())


def test_parameters_that_are_not_finite_give_outputs_that_are_not_finite() -> None:
    for options in (WIDE, replace(WIDE, squash="none")):
        backbone, theta = build(options)
        theta[0] = torch.inf
        space = JetSpace(DOMAIN.names, ("xx",))
        assert not bool(backbone.forward(theta, points(50), space).data.isfinite().all())
        assert not bool(backbone.forward(theta * torch.nan, points(5), space).data.isfinite().any())


def test_the_flat_vector_holds_every_array_once() -> None:
    backbone, theta = build(replace(WIDE, base=True, bias=True))
    arrays = backbone.arrays(torch.arange(backbone.size))
    together = torch.cat([a.reshape(-1) for layer in arrays for a in layer.values()])
    assert torch.equal(together, torch.arange(backbone.size))
    assert len(theta) == backbone.size
    # (2 inputs -> 3 -> 2 -> 2 outputs; n + k coefficients, a scale and a base weight per edge, a bias per output)
    assert backbone.size == (2 * 3 + 3 * 2 + 2 * 2) * (3 + 4 + 2) + 3 + 2 + 2


def test_a_linear_first_layer_is_a_matrix_without_bias() -> None:
    # Southworth et al. 2026, regression: [2, 5, 1] of degree 4 has 55 parameters at n = 5 and 230 at n = 40.
    backbone, _ = build(replace(WIDE, width=[5], degree=4, grid=5, first="linear"), outputs=1)
    assert backbone.size == 2 * 5 + 5 * (5 + 4) == 55
    assert backbone.refined().refined().refined().size == 230
    first, second = (a for a in backbone.arrays(torch.zeros(backbone.size)) if a)
    assert {name: a.shape for name, a in first.items()} == {"weight": (5, 2)}
    assert {name: a.shape for name, a in second.items()} == {"coefficients": (1, 5, 9)}


def test_solution_files_hold_knots_and_coefficients_that_give_the_splines() -> None:
    options = replace(WIDE, width=[1], knots="cosine", grid=4, first="linear", squash="none", outside="clamp")
    backbone, theta = build(options, outputs=1)
    model = model_arrays(backbone.refined(), refinement(backbone)(theta))
    assert set(model) == {"layer_0/weight", "layer_1/knots", "layer_1/coefficients"}
    x = points(20)
    z = np.stack([x[:, 0], (x[:, 1] - 1.25) / 0.75], axis=1) @ model["layer_0/weight"][0]
    spline = BSpline(model["layer_1/knots"], model["layer_1/coefficients"][0, 0], options.degree)
    expected = backbone.forward(theta, x, JetSpace(DOMAIN.names, ())).data[0, :, 0].numpy()
    assert np.allclose(spline(np.clip(z, -1, 1)), expected, rtol=0, atol=1e-13)
    attributes = model_attributes(backbone.refined())
    assert {name: attributes[name] for name in ("grid", "degree", "spacing", "outside", "level")} == {
        "grid": 8,
        "degree": options.degree,
        "spacing": "cosine",
        "outside": "clamp",
        "level": 1,
    }


def test_multiplication_nodes_follow_the_product_rule() -> None:
    # (f g)'' = f'' g + 2 f' g' + f g'' and (f g)_xy = f_xy g + f_x g_y + f_y g_x + f g_xy
    # with f = sin(x y), g = exp(x − y).
    space, x = JetSpace(("x", "y"), ("xx", "xy")), points(30)
    a, b = space.variables(x)
    f, g, other = torch.sin(a * b), torch.exp(a - b), a * a * a  # type: ignore[arg-type]
    data = torch.stack([other.data, f.data, g.data], dim=-1)
    out = Jet(space, Multiply(1, 1).forward({}, data, space)[0])
    assert torch.equal(out.data[..., 0], other.data)
    s, c, e = torch.sin(x[:, 0] * x[:, 1]), torch.cos(x[:, 0] * x[:, 1]), torch.exp(x[:, 0] - x[:, 1])
    assert torch.allclose(out["xx"][:, 1], (-(x[:, 1] ** 2) * s + 2 * x[:, 1] * c + s) * e, rtol=1e-13, atol=1e-13)
    mixed = (c - x[:, 0] * x[:, 1] * s) - x[:, 1] * c + x[:, 0] * c - s
    assert torch.allclose(out["xy"][:, 1], mixed * e, rtol=1e-13, atol=1e-13)


def test_multiplication_nodes_stand_beside_the_additions() -> None:
    # Liu et al. 2024 (KAN 2.0): two subnodes for each multiplication, one value for the next layer.
    backbone, theta = build(MULTIPLYING)
    first, second, third = (a["coefficients"].shape for a in backbone.arrays(theta) if a)
    assert (first, second, third) == ((4, 2, 7), (5, 3, 7), (2, 3, 7))


def test_a_chebykan_starts_at_the_scale_it_is_given() -> None:
    layer = ChebyshevLayer(4, 3000, 8, 0.5)
    coefficients = torch.from_numpy(layer.initial(np.random.default_rng(0))["chebyshev_coefficients"])
    x = torch.cos(math.pi * torch.from_numpy(np.random.default_rng(1).uniform(size=(400, 4))))[None]  # arcsine law
    values = layer.forward({"chebyshev_coefficients": coefficients}, x, JetSpace(("x",), ()))[0]
    assert float(values.std()) == pytest.approx(0.5, rel=0.05)


def test_liu_et_al_start_has_scaled_small_splines_and_xavier_base_weights() -> None:
    backbone, _ = build(replace(WIDE, width=[16], base=True))
    first = backbone.arrays(backbone.initial(np.random.default_rng(0)))[0]
    assert torch.allclose(first["spline_scale"], torch.full((16, 2), 2**-0.5, dtype=torch.float64))
    bound = (6 / 18) ** 0.5
    assert 0.8 * bound < float(first["base_weight"].abs().max()) <= bound
    assert 0.05 < float(first["coefficients"].std()) < 0.15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kan(width=[5, 0]), r"^backbone\.width=\[5,0\]: expected a list of whole numbers of at least 1"),
        (lambda: Kan(squash="tnh"), r"^backbone\.squash=tnh: unknown\. Did you mean 'tanh'\?"),
        (lambda: Kan(grid=0), r"^backbone\.grid=0: expected a whole number of at least 1"),
        (lambda: Kan(outside="clmp"), r"^backbone\.outside=clmp: unknown\. Did you mean 'clamp'\?"),
        (lambda: Kan(scale=0.0), r"^backbone\.scale=0\.0: expected a number above 0"),
        (lambda: Kan(first="linaer"), r"^backbone\.first=linaer: unknown\. Did you mean 'linear'\?"),
        (lambda: Kan(width=[], first="linear"), r"^backbone\.width=\[\]: expected at least one hidden width with"),
        (lambda: Kan(knots="cosin"), r"^backbone\.knots=cosin: unknown\. Did you mean 'cosine'\?"),
        (lambda: Kan(degree=9), r"^backbone\.degree=9: expected a whole number from 1 to 7"),
        (lambda: Kan(degree=2).check_order(2), r"^backbone\.degree=2: expected at least 3"),
        (lambda: MultKan(width=[]), r"^backbone\.width=\[\]: expected at least one hidden width"),
        (
            lambda: MultKan(width=[3], mult=[1, 2]),
            r"^backbone\.mult=\[1,2\]: expected one number, or one for each of the 1",
        ),
        (lambda: MultKan(width=[3], mult=-1), r"^backbone\.mult=-1: expected a whole number of at least 0 or a list"),
        (lambda: ChebyKan(width=[0]), r"^backbone\.width=\[0\]: expected a list of whole numbers of at least 1"),
        (lambda: ChebyKan(degree=0), r"^backbone\.degree=0: expected a whole number of at least 1"),
        (lambda: ChebyKan(squash="none"), r"^backbone\.squash=none: unknown\. Valid choices: sin, tanh"),
        (lambda: ChebyKan(scale=-1.0), r"^backbone\.scale=-1\.0: expected a number above 0"),
        (lambda: Mlp(activation="relu"), r"^backbone\.activation=relu: unknown"),
        (lambda: EmbeddingOptions("fourrier"), r"embedding\.kind=fourrier: unknown\. Did you mean 'fourier'\?"),
        (
            lambda: EmbeddingOptions("fourier", features=0),
            r"embedding\.features=0: expected a whole number of at least 1",
        ),
        (lambda: EmbeddingOptions("fourier", scale=-1.0), r"embedding\.scale=-1\.0: expected a number above 0"),
    ],
)
def test_senseless_options_are_refused(make, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_degree_one_above_the_order_is_enough() -> None:
    Kan(degree=3).check_order(2)
