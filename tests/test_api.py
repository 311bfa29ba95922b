"""The Python calls: a solution evaluates, differentiates, loads and converts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import kanpinn
from kanpinn.errors import UserError

OVERRIDES = [
    *("problem=burgers", "output.progress=false", "output.figures=false", "output.points=[9,6]", "threads=1"),
    *("backbone.width=[3]", "backbone.degree=5", "sampler.interior=100", "sampler.boundary=30", "weighting.terms={}"),
    *("schedule.levels=2", "schedule.steps=8", "schedule.starts=1", "backbone.embedding.kind=fourier"),
]


@pytest.fixture(scope="module")
def solution(tmp_path_factory: pytest.TempPathFactory) -> kanpinn.Solution:
    folder = tmp_path_factory.mktemp("api") / "run"
    return kanpinn.solve([*OVERRIDES, f"hydra.run.dir={folder}"])


def points(count: int = 30) -> np.ndarray:
    return np.random.default_rng(0).uniform([-0.9, 0.1], [0.9, 0.9], (count, 2))


def test_loading_gives_the_very_same_numbers(solution: kanpinn.Solution) -> None:
    loaded = kanpinn.load(solution.folder)
    assert loaded.metrics == solution.metrics
    assert np.array_equal(loaded(points())["u"], solution(points())["u"])
    with h5py.File(solution.folder / "solution.h5") as file:
        u, x, t = file["u"][...], file["x"][...], file["t"][...]
    assert u.shape == (6, 9)
    mesh = np.stack([a.ravel() for a in np.meshgrid(x, t)], axis=1)
    assert np.array_equal(loaded(mesh)["u"], u.ravel())


@pytest.mark.parametrize("backbone", ["multkan", "chebykan", "separable"])
def test_every_kind_of_network_comes_back_from_its_files(backbone: str, tmp_path: Path) -> None:
    small = [*(o for o in OVERRIDES if "embedding" not in o), f"backbone={backbone}", "schedule.steps=2"]
    solution = kanpinn.solve([*small, f"hydra.run.dir={tmp_path / 'run'}"])
    loaded = kanpinn.load(tmp_path / "run")
    assert np.array_equal(loaded(points())["u"], solution(points())["u"])
    assert np.array_equal(loaded.derivative(points(), "u", "xx"), solution.derivative(points(), "u", "xx"))
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        sizes: list[int] = []

        def add(path: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Dataset) and "coefficients" in path:
                sizes.append(item.size)

        file["model"].visititems(add)
    assert sum(sizes) == solution.metrics["parameters"]  # nothing but coefficients in these networks


@dataclass(frozen=True)
class Sector(kanpinn.Problem):
    """Laplace's equation in polar coordinates; its solution is r² cos 2θ."""

    domain = kanpinn.Box(r=(1, 2), theta=(0, 1))
    derivatives = ("rr", "theta_theta")

    def residual(self, p):
        return p.u_rr + p.u_r / p.r + p.u_thetatheta / p.r**2

    def conditions(self):
        edge = kanpinn.Condition("edge", ("r-", "r+", "theta-"), lambda p: p.u - self.reference(p))
        return [edge, kanpinn.Condition("slope", "theta+", lambda p: p.u_n + 2 * p.r**2 * torch.sin(2 * p.theta))]

    def reference(self, p):
        return p.r**2 * torch.cos(2 * p.theta)


def test_coordinates_of_several_letters_go_through_a_whole_run(tmp_path: Path) -> None:
    given = [*("schedule.levels=1", "schedule.steps=20", "threads=1", "output.figures=false"), "output.points=9"]
    solution = kanpinn.solve(Sector(), kanpinn.Separable(rank=3, degree=5), *given, folder=tmp_path / "run")
    assert solution.metrics["relative_l2"]["u"] < 1e-3
    at = np.array([[1.5, 0.25], [1.1, 0.9]])
    slope = -4 * at[:, 0] * np.sin(2 * at[:, 1])
    np.testing.assert_allclose(solution.derivative(at, "u", "r_theta"), slope, rtol=0.05)
    loaded = kanpinn.load(tmp_path / "run", Sector())
    assert np.array_equal(loaded(at)["u"], solution(at)["u"])
    with h5py.File(tmp_path / "run" / "solution.h5") as file:
        assert [file["u"].dims[k][0].name for k in range(2)] == ["/theta", "/r"]


@pytest.mark.parametrize(("name", "column"), [("x", 0), ("t", 1)])
def test_derivatives_agree_with_finite_differences(solution: kanpinn.Solution, name: str, column: int) -> None:
    h, p = 1e-5, points()
    step = np.zeros(2)
    step[column] = h
    for inner in ("", "x", "t", "xx", "xt"):
        ahead, behind = (solution.derivative(p + s * step, "u", inner) for s in (1, -1))
        ours = solution.derivative(p, "u", inner + name)
        assert np.allclose(ours, (ahead - behind) / (2 * h), rtol=1e-4, atol=1e-5 * np.abs(ours).max())
    assert np.array_equal(solution.derivative(p, "u", "xt"), solution.derivative(p, "u", "tx"))
    assert np.array_equal(solution.derivative(p, "u", ""), solution(p)["u"])


def test_points_are_independent_of_one_another(solution: kanpinn.Solution) -> None:
    together = solution(points(50))["u"]
    assert np.allclose(np.concatenate([solution(points(50)[k : k + 1])["u"] for k in range(50)]), together, rtol=1e-12)


def test_no_points_give_no_values_and_nan_gives_nan(solution: kanpinn.Solution) -> None:
    assert solution(np.empty((0, 2)))["u"].shape == (0,)
    values = solution(np.array([[np.nan, 0.5], [0.1, 0.5]]))["u"]
    assert np.isnan(values[0])
    assert np.isfinite(values[1])


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 3), (1, 3, 2)])
def test_points_of_another_shape_are_refused(solution: kanpinn.Solution, shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"expected \(N, 2\), columns x, t"):
        solution(np.zeros(shape))


def test_unknown_names_are_refused(solution: kanpinn.Solution) -> None:
    with pytest.raises(UserError, match="unknown=v: unknown"):
        solution.derivative(points(), "v", "x")
    with pytest.raises(UserError, match="'xy' is not made of the coordinates x, t"):
        solution.derivative(points(), "u", "xy")


def test_to_xarray_holds_the_fields_with_their_coordinates(solution: kanpinn.Solution) -> None:
    pytest.importorskip("h5netcdf")
    data = solution.to_xarray()
    assert data["u"].dims == ("t", "x")
    mesh = np.stack([a.ravel() for a in np.meshgrid(data["x"], data["t"])], axis=1)
    assert np.array_equal(data["u"].values.ravel(), solution(mesh)["u"])
    assert np.allclose(data["u_error"], data["u"] - data["u_ref"], rtol=0, atol=1e-15)


def test_what_is_not_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        kanpinn.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="not a run folder"):
        kanpinn.load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "checkpoint_00001.h5").write_bytes(b"not HDF5")
    with pytest.raises(UserError):
        kanpinn.load(tmp_path)


def test_solve_refuses_a_mistyped_override() -> None:
    with pytest.raises(UserError, match="schedule"):
        kanpinn.solve(["schedule.level=3"])


@pytest.mark.parametrize("odd", [[["a", 1]], [[1j, 0]], [[None, 1]], [[1, 2], [3]]])
def test_points_that_are_no_numbers_are_refused(solution: kanpinn.Solution, odd: list) -> None:
    with pytest.raises(UserError, match="points: expected an array of real numbers"):
        solution(odd)


def test_tensors_with_gradients_are_points(solution: kanpinn.Solution) -> None:
    at = torch.tensor([[0.5, 0.5]], dtype=torch.float64, requires_grad=True)
    assert solution(at)["u"] == solution([[0.5, 0.5]])["u"]
