"""Edges by one product with all basis functions: values and gradients against scipy, and when it is taken."""

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from kanpinn.backbones.dense_edges import pays
from kanpinn.backbones.spline_layer import SplineLayer
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.jets.jet import JetSpace

VALUES = JetSpace(("x", "y", "z"), ())


@pytest.mark.parametrize("knots", ["uniform", "cosine"])
@pytest.mark.parametrize(("n", "degree"), [(3, 3), (7, 2), (4, 5)])
def test_values_and_gradients_are_those_of_scipys_splines(n, degree, knots):
    layer = SplineLayer(3, 4, SplineSpec(n, degree, knots))
    rng = np.random.default_rng(0)
    weights = torch.from_numpy(layer.initial(rng)["coefficients"]).requires_grad_()
    x = torch.from_numpy(rng.uniform(-1, 1, (1, 40, 3))).requires_grad_()
    out, features = layer.forward({"coefficients": weights}, x, VALUES)
    assert pays(features, n + degree, degree)
    cotangent = torch.from_numpy(rng.standard_normal((40, 4)))
    by_x, by_weights = torch.autograd.grad((out[0] * cotangent).sum(), [x, weights])

    place, c, g = x.detach().numpy()[0], weights.detach().numpy(), cotangent.numpy()
    basis = BSpline(np.asarray(layer.spec.knot_vector()), np.eye(n + degree), degree)
    values, slopes = basis(place), basis.derivative()(place)  # (N, in, n + k)
    np.testing.assert_allclose(out[0].detach().numpy(), np.einsum("npi,qpi->nq", values, c), atol=1e-12)
    np.testing.assert_allclose(by_weights.numpy(), np.einsum("nq,npi->qpi", g, values), atol=1e-11)
    np.testing.assert_allclose(by_x.numpy()[0], np.einsum("nq,npi,qpi->np", g, slopes, c), atol=1e-10)


def test_it_is_taken_for_gradients_of_values_on_few_intervals_only():
    x = torch.rand(1, 20, 2, dtype=torch.float64)
    plane = JetSpace(("x", "y"), ())
    few, many = (SplineLayer(2, 3, SplineSpec(n, 3)) for n in (5, 60))
    assert pays(few.prepare(x, plane), 8, 3)
    assert not pays(many.prepare(x, plane), 63, 3)
    assert not pays(few.prepare(torch.rand(2, 20, 2, dtype=torch.float64), JetSpace(("x", "y"), ("x",))), 8, 3)
    with torch.no_grad():
        assert not pays(few.prepare(x, plane), 8, 3)
