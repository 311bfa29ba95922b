"""References without a closed form: compared with other methods, finer resolutions and their own equations."""

from __future__ import annotations

import math
import os
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp
from scipy.sparse import diags
from scipy.special import roots_hermite

from kanpinn.errors import UserError
from kanpinn.references.allen_cahn import AllenCahnSolution, Resolution, allen_cahn
from kanpinn.references.cache import cached
from kanpinn.references.cahn_hilliard import cahn_hilliard
from kanpinn.references.cole_hopf import cole_hopf
from kanpinn.references.gray_scott import gray_scott
from kanpinn.references.in_time import ordinary
from kanpinn.references.kdv import fourier_steps, kdv
from kanpinn.references.kuramoto_sivashinsky import kuramoto_sivashinsky
from kanpinn.references.schrodinger import schrodinger

NU = 0.01 / math.pi


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Keep the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def scattered(seed: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points over [-1, 1] x [0, 1], half of them crowded at x = 0, |x| = 1/2, |x| = 1 and t = 0."""
    rng = np.random.default_rng(seed)
    x, t = rng.uniform(-1, 1, count), rng.uniform(0, 1, count)
    near = rng.uniform(size=count) < 0.5
    offsets = rng.choice([-1, 1], count) * 10 ** rng.uniform(-6, -1, count)
    x[near] = np.clip(rng.choice([-1, -0.5, 0, 0.5, 1], count) + offsets, -1, 1)[near]
    t[::3] = 10 ** rng.uniform(-12, 0, len(t[::3]))
    return torch.from_numpy(x), torch.from_numpy(t)


def gauss_hermite(x: np.ndarray, t: np.ndarray, nu: float, order: int) -> np.ndarray:
    """The Cole-Hopf integrals by Gauss-Hermite quadrature, `[N]`."""
    z, w = roots_hermite(order)
    y = x[:, None] - np.sqrt(4 * nu * t)[:, None] * z
    exponent = -np.cos(np.pi * y) / (2 * np.pi * nu)
    f = w * np.exp(exponent - exponent.max(1, keepdims=True))
    return -(f * np.sin(np.pi * y)).sum(1) / f.sum(1)


@pytest.mark.parametrize("nu", [1e-3, NU, 0.01, 0.1, 1.0])
def test_cole_hopf_agrees_with_gauss_hermite_quadrature(nu):
    x, t = scattered(0, 1500)
    expected = gauss_hermite(x.numpy(), t.numpy(), nu, 400)
    assert np.abs(cole_hopf(x, t, nu).numpy() - expected).max() < 1e-12


@pytest.mark.parametrize("nu", [1e-4, 1e-3, NU, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("t", [1e-9, 1e-3, 0.3, 1.0])
def test_cole_hopf_agrees_with_adaptive_quadrature(nu, t):
    spread = math.sqrt(4 * nu * t)

    def integral(x, factor):
        def exponent(eta):
            return (1 - math.cos(math.pi * (x - eta)) - 2) / (2 * math.pi * nu) - (eta / spread) ** 2

        reach = t + 8 * spread
        peak = max(exponent(eta) for eta in np.linspace(-reach, reach, 4001))
        breaks = np.linspace(-reach, reach, 41)
        pieces = [
            quad(lambda e: factor(x - e) * math.exp(exponent(e) - peak), a, b, epsabs=1e-14 * spread, epsrel=1e-12)[0]
            for a, b in pairwise(breaks)
        ]
        return math.fsum(pieces)

    for x in (-0.71, 0.013, 0.5):
        expected = -integral(x, lambda y: math.sin(math.pi * y)) / integral(x, lambda _: 1.0)
        found = cole_hopf(torch.tensor([x], dtype=torch.float64), torch.tensor([t], dtype=torch.float64), nu)
        assert found.item() == pytest.approx(expected, abs=1e-10)


def test_cole_hopf_starts_at_the_initial_condition_and_keeps_its_symmetry():
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    assert torch.equal(cole_hopf(x, torch.zeros_like(x), NU), -torch.sin(math.pi * x))
    for t in (1e-12, 0.2, 1.0):
        u = cole_hopf(x, torch.full_like(x, t), NU)
        assert (u + u.flip(0)).abs().max() < 1e-13
        assert max(abs(u[0]), abs(u[-1])) < 1e-13


@pytest.mark.parametrize("nu", [1e-12, 1e12])
def test_cole_hopf_refuses_what_would_take_too_many_nodes(nu):
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(UserError, match=r"problem\.nu=1.*: expected"):
        cole_hopf(one, one, nu)


def test_cole_hopf_does_not_depend_on_chunks(monkeypatch):
    x, t = scattered(1, 200)
    whole = cole_hopf(x, t, NU)
    monkeypatch.setattr("kanpinn.references.cole_hopf.CELLS", 5000)
    assert (cole_hopf(x, t, NU) - whole).abs().max() < 1e-15


@pytest.mark.parametrize("diffusion", [1e-5, 1e-4, 1e-2])
def test_allen_cahn_does_not_change_under_refinement(diffusion):
    x, t = scattered(2, 4000)
    finer = Resolution(degree=18, time_degree=16, smallest=0.01, tolerance=3e-11, method="BDF")
    difference = allen_cahn(diffusion, Resolution())(x, t) - allen_cahn(diffusion, finer)(x, t)
    assert difference.abs().max() < 1e-8


@pytest.mark.slow
@pytest.mark.parametrize("diffusion", [1e-5, 1e-4, 1e-2])
def test_allen_cahn_agrees_with_finite_differences(diffusion):
    times = [0.1, 0.25, 0.5, 0.75, 1.0]
    cells = 243 if diffusion > 1e-3 else 729
    # The centres of n cells are among those of 3n and 9n, which Richardson's extrapolation needs.
    coarse, middle, fine = (finite_differences(diffusion, cells * m, times)[m // 2 :: m] for m in (1, 3, 9))
    first, second = (9 * middle - coarse) / 8, (9 * fine - middle) / 8
    expected = (81 * second - first) / 80
    x = torch.from_numpy((np.arange(cells) + 0.5) / cells)
    for k, t in enumerate(times):
        found = allen_cahn(diffusion, Resolution())(x, torch.full_like(x, t))
        assert np.abs(found.numpy() - expected[:, k]).max() < 1e-8


def finite_differences(diffusion: float, cells: int, times: list[float]) -> np.ndarray:
    """Second-order differences on uniform cells of [0, 1] with no flux at the ends, `[cells, times]`."""
    x = (np.arange(cells) + 0.5) / cells
    main = np.full(cells, -2.0)
    main[[0, -1]] = -1
    laplacian = diags([np.ones(cells - 1), main, np.ones(cells - 1)], [-1, 0, 1]).tocsc() * (diffusion * cells**2)
    return solve_ivp(
        lambda _, u: laplacian @ u + 5 * (u - u**3),
        (0, 1),
        x**2 * np.cos(np.pi * x),
        method="BDF",
        jac=lambda _, u: (laplacian + diags(5 - 15 * u**2)).tocsc(),
        rtol=1e-10,
        atol=1e-10,
        t_eval=times,
    ).y


def test_allen_cahn_is_even_and_flat_at_the_ends():
    solution = allen_cahn(1e-4)
    t = torch.tensor([1e-6, 1e-3, 0.1, 1.0], dtype=torch.float64)
    x = torch.linspace(0, 1, 4, dtype=torch.float64)
    assert torch.equal(solution(x, t), solution(-x, t))
    end = torch.ones_like(t).requires_grad_()
    (slope,) = torch.autograd.grad(solution(end, t).sum(), end)
    assert slope.abs().max() < 1e-5


def test_allen_cahn_starts_at_the_initial_condition():
    x = torch.linspace(-1, 1, 201, dtype=torch.float64)
    start = x**2 * torch.cos(math.pi * x)
    solution = allen_cahn(1e-4)
    assert torch.equal(solution(x, torch.zeros_like(x)), start)
    # The kinks are smoothed at once: u(±1, t) + 1 = 4 √(Dt/π) to leading order.
    change = (solution(x, torch.full_like(x, 1e-12)) - start).abs().max()
    assert change == pytest.approx(4e-8 / math.sqrt(math.pi), rel=1e-3)


def test_allen_cahn_gives_up_with_advice(monkeypatch):
    monkeypatch.setattr("kanpinn.references.allen_cahn.MOST_CALLS", 10)
    with pytest.raises(UserError, match=r"problem\.D=0\.5: expected"):
        allen_cahn(0.5, Resolution(degree=5))


def three() -> dict[str, np.ndarray]:
    return {"a": np.arange(3.0)}


def never() -> dict[str, np.ndarray]:
    raise AssertionError("computed although cached")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kanpinn"


def test_cache_keeps_arrays_by_key(cache):
    cached("name", "key 1", three)
    assert np.array_equal(cached("name", "key 1", never)["a"], [0, 1, 2])
    cached("name", "key 2", three)
    names = sorted(path.name for path in cache.iterdir())
    assert len(names) == 2
    assert all(name.startswith("name-") and name.endswith(".npz") for name in names)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "not finite", "other key"])
def test_damaged_cache_is_computed_again(cache, damage):
    cached("name", "key", three)
    (path,) = cache.iterdir()
    content = path.read_bytes()
    if damage == "not finite":
        np.savez(path, key=np.array("key"), a=np.array([math.nan]))
    elif damage == "other key":
        np.savez(path, key=np.array("other"), a=np.zeros(3))
    else:
        at = content.index(np.float64(2.0).tobytes())
        flipped = content[:at] + b"\xff" * 8 + content[at + 8 :]
        path.write_bytes({"truncated": content[:100], "flipped": flipped, "empty": b"", "text": b"hello"}[damage])
    assert np.array_equal(cached("name", "key", three)["a"], [0, 1, 2])
    assert np.array_equal(cached("name", "key", never)["a"], [0, 1, 2])


def test_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert np.array_equal(cached("name", "key", three)["a"], [0, 1, 2])


def test_failed_write_leaves_nothing_behind(cache, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    assert np.array_equal(cached("name", "key", three)["a"], [0, 1, 2])
    assert list(cache.iterdir()) == []


def test_allen_cahn_from_the_cache_is_the_same(cache):
    allen_cahn.cache_clear()
    first = allen_cahn(3e-3)
    allen_cahn.cache_clear()
    second = allen_cahn(3e-3)
    allen_cahn.cache_clear()
    assert isinstance(second, AllenCahnSolution)
    assert torch.equal(first.coefficients, second.coefficients)
    assert len(list(cache.iterdir())) == 1


def series(spectrum: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Re Σ û_m e^{iπmx} at x `[N]`."""
    return (np.exp(1j * np.pi * x[:, None] * np.arange(len(spectrum))) @ spectrum).real


@pytest.mark.slow
def test_kdv_agrees_with_another_integrator():
    """Dormand and Prince's method of order 8 in the variables e^{-iδ²k³t} û."""
    k = np.pi * np.arange(171)
    linear = 1j * 0.022**2 * k**3

    def rate(t: float, w: np.ndarray) -> np.ndarray:
        turn = np.exp(linear * t)
        u = np.fft.irfft(turn * w, 512) * 512
        return -0.5j * k / 512 * np.fft.rfft(u * u)[:171] / turn

    start = np.zeros(171, complex)
    start[1] = 0.5
    times = (0.3, 0.7, 1.0)
    found = solve_ivp(rate, (0, 1), start, method="DOP853", rtol=1e-11, atol=1e-13, t_eval=times).y
    x = np.linspace(-1, 1, 777)
    for k_time, t in enumerate(times):
        spectrum = np.exp(linear * t) * found[:, k_time]
        spectrum[1:] *= 2
        (u,) = kdv(0.022)(torch.from_numpy(x), torch.full((777,), t, dtype=torch.float64))
        assert np.abs(u.numpy() - series(spectrum, x)).max() < 1e-9


def test_kdv_steps_are_of_order_four_and_short_enough():
    """Each halving divides the error by 16 or more, so that the default's 16384 steps leave a 16th of that of 8192."""
    x = np.linspace(-1, 1, 777)
    u = kdv(0.022)(torch.from_numpy(x), torch.ones(777, dtype=torch.float64))[0].numpy()
    coarse, fine = (np.abs(series(fourier_steps(0.022, 128, n)[-1], x) - u).max() for n in (4096, 8192))
    assert 15 < coarse / fine < 22
    assert fine / 15 < 1e-9


def test_kdv_starts_at_the_initial_condition_and_keeps_its_integrals():
    """∫u, ∫u² and ∫(u³/3 - δ²u_x²) do not change (Miura, Gardner and Kruskal 1968), and u is 2-periodic."""
    x = torch.arange(512, dtype=torch.float64).mul(2 / 512).sub(1).requires_grad_()
    kept = []
    for t in (0.0, 0.4, 0.9, 1.0):
        (u,) = kdv(0.022)(x, torch.full((512,), t, dtype=torch.float64))
        (slope,) = torch.autograd.grad(u.sum(), x)
        kept.append([u.mean().item(), u.square().mean().item(), (u**3 / 3 - 0.022**2 * slope**2).mean().item()])
        if t == 0:
            assert (u - torch.cos(math.pi * x)).abs().max() < 1e-14
    assert np.abs(np.array(kept) - kept[0]).max() < 1e-9
    ends = kdv(0.022)(torch.tensor([-1.0, 1.0]).double(), torch.tensor([0.8, 0.8]).double())[0]
    assert ends[0].item() == pytest.approx(ends[1].item(), abs=1e-12)


@pytest.mark.parametrize("delta", [1e-3, 1e-9])
def test_kdv_refuses_what_it_cannot_resolve(delta):
    with pytest.raises(UserError, match=r"^problem\.delta=.*: expected a value for which"):
        kdv(delta)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solve", "coefficients", "error"),
    [
        (schrodinger, (), 1e-8),
        (kuramoto_sivashinsky, (1.0,), 1e-9),
        (gray_scott, (1.0, 0.026, 0.055), 1e-10),
        (cahn_hilliard, (0.01, 1e-6), 6e-8),
    ],
)
def test_fourier_references_are_as_right_as_they_say(solve, coefficients, error):
    """Against half as many modes more and steps of a quarter, between the steps they were fitted on too."""
    solution = solve(*coefficients)
    finer = solution.equation.spectra(3 * solution.modes // 2, 8192)[::63]
    t = torch.linspace(0, solution.equation.end, 8193, dtype=torch.float64)[::63]
    found = solution.amplitudes(t).reshape(len(t), finer.shape[1], 2, -1).numpy()
    kept = finer[..., : solution.modes + 1]
    size = np.abs(finer[0]).max()
    assert np.abs(found[:, :, 0] - 1j * found[:, :, 1] - kept).sum(2).max() < error * size
    assert np.abs(finer[..., solution.modes + 1 :]).sum(2).max() < error * size


def test_schrodinger_keeps_its_integrals():
    """∫|h|² and ∫(|h_x|² − |h|⁴) do not change (Zakharov and Shabat 1972)."""
    x = torch.arange(512, dtype=torch.float64).mul(10 / 512).requires_grad_()
    kept = []
    for t in (0.0, 0.8, 1.5):
        u, v = schrodinger()(x, torch.full((512,), t, dtype=torch.float64))
        u_x, v_x = (torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in (u, v))
        intensity = u.square() + v.square()
        kept.append([intensity.mean().item(), (u_x.square() + v_x.square() - intensity.square()).mean().item()])
    assert np.abs(np.array(kept) - kept[0]).max() < 1e-7


def test_ordinary_equations_have_their_closed_solutions():
    t = torch.linspace(0, 7, 301, dtype=torch.float64)
    found = ordinary(lambda _, y: [y[1], -4 * y[0]], [1, 0], 7.0)(t)
    assert (found - torch.stack([torch.cos(2 * t), -2 * torch.sin(2 * t)], dim=1)).abs().max() < 1e-10


def test_ordinary_equations_that_are_too_stiff_are_refused(monkeypatch):
    monkeypatch.setattr("kanpinn.references.in_time.MOST_CALLS", 1000)
    with pytest.raises(UserError, match="takes more than 1,000 evaluations"):
        ordinary(lambda _, y: [-1e6 * y[0]], [1], 1.0)
