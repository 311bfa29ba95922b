"""Dense quasi-Newton updates against their definitions, dense inverses and scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from support.minimisation import START, LeastSquares, P, carried, hold, iterate, linear, regression, rosenbrock
from torch import Tensor

from kanpinn.backbones import Mlp
from kanpinn.errors import UserError
from kanpinn.least_squares.linearization import GRAM_BLOCK, mirror
from kanpinn.optimizers import Lbfgs, SsBroyden
from kanpinn.optimizers.ssbroyden import LARGEST, UPDATES, update_inverse, update_parameters
from kanpinn.run import preflight
from kanpinn.settings.compose import compose
from kanpinn.settings.config import validate


def pair(seed: int, size: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """A positive definite H, and s, y with sᵀy > 0."""
    generator = np.random.default_rng(seed)
    root = torch.from_numpy(generator.standard_normal((size, size)))
    s, y = torch.from_numpy(generator.standard_normal((2, size)))
    y = y if float(s @ y) > 0 else -y
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64), s, y


def parameters(update: str, inverse: Tensor, s: Tensor, y: Tensor, *, first: bool = False) -> tuple[float, float]:
    curvature = float(s @ y)
    b = float(s @ torch.linalg.solve(inverse, s)) / curvature
    return update_parameters(update, b, float(y @ inverse @ y) / curvature, len(s), first=first)


@pytest.mark.parametrize("update", UPDATES)
def test_updates_meet_the_secant_equation_and_stay_positive_definite(update: str) -> None:
    for seed in range(40):
        inverse, s, y = pair(seed)
        tau, phi = parameters(update, inverse, s, y)
        update_inverse(inverse, s, y, inverse @ y, tau, phi)
        assert torch.allclose(inverse @ y, s, rtol=0, atol=1e-10 * float(inverse.norm() * y.norm()))
        assert torch.allclose(inverse, inverse.T, rtol=1e-13, atol=1e-13 * float(inverse.norm()))
        assert float(torch.linalg.eigvalsh(inverse)[0]) > 0


def test_bfgs_is_the_product_form() -> None:
    # Nocedal and Wright 2006, eq. 6.17
    for seed in range(5):
        inverse, s, y = pair(seed)
        rho, one = 1 / (s @ y), torch.eye(len(s), dtype=torch.float64)
        left = one - rho * torch.outer(s, y)
        expected = left @ inverse @ left.T + rho * torch.outer(s, s)
        update_inverse(inverse, s, y, inverse @ y, *parameters("bfgs", inverse, s, y))
        assert torch.allclose(inverse, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("update", UPDATES)
def test_the_inverse_is_that_of_the_self_scaled_broyden_family(update: str) -> None:
    # Al-Baali and Khalfan 2005: B ← τ (B − B s sᵀB/sᵀBs + θ w wᵀ) + y yᵀ/sᵀy, w = √(sᵀBs) (y/sᵀy − B s/sᵀBs), with θ
    # nearest to 1/b − 1 in their interval; τ and φ here are those of the inverse.
    for seed in range(20):
        inverse, s, y = pair(seed)
        hessian = torch.linalg.inv(inverse)
        curvature, bs = float(s @ y), hessian @ s
        b, h = float(s @ bs) / curvature, float(y @ inverse @ y) / curvature
        a, theta = b * h - 1, 0.0
        if update == "ssbroyden":
            lower = min(1.0, h * (1 - np.sqrt(a / (a + 1))))
            theta = float(np.clip(1 / b - 1, (lower - 1) / a, 1 / lower))
        tau, phi = parameters(update, inverse, s, y)
        if update != "bfgs":
            det = (1 + a * theta) ** (-1 / (len(s) - 1))
            bound = 1 / theta if theta > 0 else np.inf
            assert tau == pytest.approx(min(min(1, 1 / b) * min(det, bound), 1 + a * theta if theta <= 0 else np.inf))
        w = np.sqrt(float(s @ bs)) * (y / curvature - bs / (s @ bs))
        scaled = tau * (hessian - torch.outer(bs, bs) / (s @ bs) + theta * torch.outer(w, w))
        expected = scaled + torch.outer(y, y) / curvature
        update_inverse(inverse, s, y, inverse @ y, tau, phi)
        one = torch.eye(len(s), dtype=torch.float64)
        assert float((expected @ inverse - one).abs().max()) < 1e-13 * float(expected.norm() * inverse.norm())


def test_the_first_update_scales_the_identity() -> None:
    # Nocedal and Wright 2006, eq. 6.20: across s and y, H is left as sᵀy/yᵀy.
    _, s, y = pair(3)
    across = torch.linalg.qr(torch.stack([s, y], 1), mode="complete").Q[:, 2:]
    for update in ("ssbfgs", "bfgs"):
        inverse = torch.eye(len(s), dtype=torch.float64)
        update_inverse(inverse, s, y, y, *parameters(update, inverse, s, y, first=True))
        assert torch.allclose(inverse @ across, float(s @ y / (y @ y)) * across, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("update", UPDATES)
def test_a_quadratic_is_solved_in_as_many_steps_as_unknowns(update: str) -> None:
    # With exact line searches the Broyden family moves along conjugate directions, whatever the scaling.
    generator = np.random.default_rng(0)
    size = 7
    root = torch.from_numpy(generator.standard_normal((size, size)))
    matrix = root @ root.T + torch.eye(size, dtype=torch.float64)
    x, inverse, directions = torch.ones(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64), []
    first = float((matrix @ x).norm())
    for k in range(size):
        g = matrix @ x
        direction = -inverse @ g
        directions.append(direction / direction.norm())
        s = -float(g @ direction) / float(direction @ matrix @ direction) * direction
        y = matrix @ s
        update_inverse(inverse, s, y, inverse @ y, *parameters(update, inverse, s, y, first=k == 0))
        x = x + s
    assert float((matrix @ x).norm()) < 1e-9 * first
    d = torch.stack(directions)
    products = d @ matrix @ d.T
    assert float((products - torch.diag(products.diagonal())).abs().max()) < 1e-8 * float(products.max())
    if update == "bfgs":
        assert torch.allclose(inverse, torch.linalg.inv(matrix), rtol=1e-7, atol=1e-9)


def test_mirrored_matrices_keep_their_upper_triangle() -> None:
    matrix = torch.from_numpy(np.random.default_rng(0).standard_normal((2 * GRAM_BLOCK + 3, 2 * GRAM_BLOCK + 3)))
    expected = torch.triu(matrix) + torch.triu(matrix, 1).T
    mirror(matrix)
    assert torch.equal(matrix, expected)


def extended_rosenbrock(size: int) -> tuple[LeastSquares, Tensor]:
    def residual(x: Tensor) -> Tensor:
        return torch.cat([10 * (x[1::2] - x[::2] ** 2), 1 - x[::2]])

    return LeastSquares(residual), torch.tensor([-1.2, 1.0], dtype=torch.float64).repeat(size // 2)


@pytest.mark.parametrize("which", ["rosenbrock", "network"])
def test_bfgs_needs_about_as_many_iterations_as_scipys(which: str) -> None:
    objective, theta = extended_rosenbrock(6) if which == "rosenbrock" else regression(Mlp(width=[4]))
    target = 1e-10 if which == "rosenbrock" else 1e-4

    def of(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient, _ = objective.loss_and_gradient(torch.from_numpy(x))
        return loss, gradient.numpy()

    losses: list[float] = []

    def watch(x: np.ndarray) -> None:
        losses.append(of(x)[0])
        if losses[-1] < target:
            raise StopIteration

    scipy.optimize.minimize(of, theta.numpy(), jac=True, method="BFGS", callback=watch, options={"gtol": 1e-12})
    theirs = len(losses)
    assert losses[-1] < target
    ours = [s.loss for s in iterate(SsBroyden(update="bfgs"), objective, theta, 2 * theirs)]
    assert 0.5 * theirs < np.argmax(np.array(ours) < target) < 1.5 * theirs


@pytest.mark.parametrize("update", UPDATES)
def test_every_update_finds_the_minimum_and_never_raises_the_loss(update: str) -> None:
    for objective, theta, target in (
        (rosenbrock(), START, 1e-18),
        (*extended_rosenbrock(20), 1e-16),
    ):
        optimizer = SsBroyden(update=update)
        losses = [s.loss for s in iterate(optimizer, objective, theta, 150)]
        assert np.all(np.diff(losses) <= 0)
        assert losses[-1] < target


def test_curvature_survives_new_points_and_gradients_do_not() -> None:
    objective, matrix, b, _ = linear()
    optimizer = SsBroyden()
    theta = iterate(optimizer, objective, torch.zeros(6, dtype=torch.float64), 6)[-1].theta
    before = optimizer.state()["inverse"].clone()
    objective.points = torch.empty(0, 1)
    other = 2 * torch.ones(12, dtype=torch.float64)
    objective.r = lambda x: matrix @ x - other
    gradient = 2 * matrix.T @ (matrix @ theta - other)
    direction = -before @ gradient
    step = optimizer.step(objective, theta)
    moved = step.theta - theta
    assert torch.allclose(moved / moved.norm(), direction / direction.norm(), rtol=1e-9)
    assert not torch.allclose(b, other)


def test_curvature_that_misleads_is_dropped() -> None:
    optimizer = SsBroyden()
    optimizer.start(2, 10)
    hold(optimizer, inverse=-np.eye(2))
    step = optimizer.step(rosenbrock(), START)
    assert step.stop is None
    assert step.loss < rosenbrock().loss(START)[0]
    assert float(torch.linalg.eigvalsh(optimizer.state()["inverse"])[0]) > 0


def test_the_inverse_stays_on_its_level() -> None:
    optimizer = SsBroyden()
    iterate(optimizer, rosenbrock(), START, 5)
    assert carried(optimizer, lambda s: P @ s, lambda y: P @ y).state()["inverse"] is None
    inverse, same = optimizer.state()["inverse"], carried(optimizer, lambda s: s, lambda y: y).state()["inverse"]
    assert torch.equal(same, inverse)
    assert same is not inverse


def test_it_says_why_it_stopped() -> None:
    assert "stationary" in str(iterate(SsBroyden(), LeastSquares(lambda x: 0 * x + 1), START, 3)[0].stop)
    assert "not finite" in str(iterate(SsBroyden(), LeastSquares(lambda x: x * torch.nan), START, 3)[0].stop)
    wrong_gradient = LeastSquares(lambda x: x - x.detach() + 1)
    assert "line search" in str(iterate(SsBroyden(), wrong_gradient, START, 3)[0].stop)


def test_networks_too_large_for_a_dense_matrix_are_refused() -> None:
    with pytest.raises(UserError, match=r"^optimizer=ssbroyden: 10001 parameters would take 0\.745 GiB"):
        SsBroyden().start(LARGEST + 1, 10)
    backbone = regression(Mlp(width=[110, 110]))[0].backbone
    with pytest.raises(UserError, match="choose a smaller network"):
        SsBroyden().check_backbone(backbone)
    Lbfgs().check_backbone(backbone)


def test_too_fine_a_level_is_refused_before_any_work() -> None:
    words = [
        "problem=poisson",
        "backbone=kan",
        "optimizer=ssbroyden",
        "backbone.width=[30,30]",
        "backbone.degree=5",
        "backbone.grid=4",
    ]
    preflight.check(validate(compose([*words, "schedule.levels=1"])[0]).setup)
    with pytest.raises(UserError, match="optimizer=ssbroyden: 12870 parameters"):
        preflight.check(validate(compose([*words, "schedule.levels=3"])[0]).setup)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"update": "sbfgs"}, r"^optimizer\.update=sbfgs: unknown\. Did you mean 'ssbfgs'\?"),
        ({"evaluations": 0}, r"^optimizer\.evaluations=0: expected a whole number of at least 1"),
    ],
)
def test_senseless_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        SsBroyden(**options)
