"""Spectra of errors: every wave keeps its power, and the powers add up to the mean square."""

import h5py
import numpy as np
import pytest

import kanpinn
from kanpinn.evaluate.spectrum import error_spectra, power, stacked, wave_numbers
from kanpinn.io.check import check
from kanpinn.io.solution import read_solution

RNG = np.random.default_rng(0)


def mean_square(error: np.ndarray) -> float:
    """By the trapezoidal rule, one axis after the other."""
    total = error**2
    for _ in range(error.ndim):
        total = np.trapezoid(total, dx=1 / (len(total) - 1), axis=0)
    return float(total)


@pytest.mark.parametrize("shape", [(9,), (8,), (5, 6), (4, 5, 6)])
def test_powers_add_up_to_the_mean_square_along_every_axis(shape):
    error = RNG.standard_normal(shape)
    for axis in range(error.ndim):
        assert power(error, axis).sum() == pytest.approx(mean_square(error), rel=1e-12)


@pytest.mark.parametrize("n", [8, 9])
def test_powers_along_a_periodic_axis_add_up_too(n):
    error = RNG.standard_normal((5, n))
    error[:, -1] = error[:, 0]
    for axis in (0, 1):
        assert power(error, axis, periodic=[1]).sum() == pytest.approx(mean_square(error), rel=1e-12)


@pytest.mark.parametrize("half_waves", [0, 1, 3, 19])
def test_a_cosine_has_all_its_power_at_its_wave_number(half_waves):
    x = np.linspace(-1, 3, 41)
    k, found = wave_numbers(x, periodic=False), power(np.cos(np.pi * half_waves * (x + 1) / 4), 0)
    assert k[found.argmax()] == pytest.approx(half_waves / 2 / 4)
    assert found.max() == pytest.approx(found.sum(), rel=1e-12)


@pytest.mark.parametrize("phase", [0.0, 0.4])
def test_a_periodic_wave_has_all_its_power_at_its_wave_number_whatever_its_phase(phase):
    x = np.linspace(0, 2, 33)
    k, found = wave_numbers(x, periodic=True), power(np.sin(2 * np.pi * 3.5 * x + phase), 0, periodic=[0])
    assert len(k) == len(found)
    assert k[found.argmax()] == 3.5
    assert found.max() == pytest.approx(0.5, rel=1e-12)


def test_a_jump_from_end_to_end_does_not_fill_all_wave_numbers():
    # x = Σ over odd k of −8/(πk)² cos(πk(x + 1)/2) on [−1, 1]; the periodic series has amplitudes of 2/(πk).
    found = power(np.linspace(-1, 1, 513), 0)
    odd = np.arange(1, 40, 2)
    np.testing.assert_allclose(found[odd], 32 / (np.pi * odd) ** 4, rtol=0.01)
    assert found[2::2].max() < 1e-25


def test_unknowns_without_reference_or_with_gaps_have_no_spectrum():
    x = {"x": np.linspace(0, 1, 9), "y": np.linspace(0, 1, 8)}
    fields = {"u": RNG.standard_normal((8, 9)), "v": RNG.standard_normal((8, 9)), "w": np.zeros((8, 9))}
    reference = {"u": np.zeros((8, 9)), "v": np.where(np.eye(8, 9) > 0, np.nan, 0.0)}
    found = error_spectra(fields, reference, x, ("y", "x"), ())
    assert set(found) == {"wave_number_x", "wave_number_y", "u_x", "u_y"}
    assert found["u_x"].shape == (9,) and found["u_y"].shape == (8,)


@pytest.mark.parametrize("size", [1e-170, 1e-3, 1e170])
def test_spectra_are_relative_to_the_reference(size):
    x, error = {"x": np.linspace(0, 1, 9)}, RNG.standard_normal(9)
    reference = np.where(np.arange(9) % 2, 2.0, -2.0)
    with np.errstate(all="raise"):
        found = error_spectra({"u": size * (reference + error)}, {"u": size * reference}, x, ("x",), ())
    np.testing.assert_allclose(found["u_x"], power(error / 2, 0), rtol=1e-12)


def test_visits_without_a_spectrum_are_nan_in_the_table():
    table = stacked({0: {"wave_number_x": np.arange(3), "u_x": np.ones(3)}, 2: {"u_x": np.full(3, 2.0)}}, 3)
    np.testing.assert_array_equal(table["wave_number_x"], [0, 1, 2])
    np.testing.assert_array_equal(table["u_x"], [[1] * 3, [np.nan] * 3, [2] * 3])


def test_a_run_keeps_the_spectrum_of_every_visit(folder):
    small = [
        "schedule.levels=2",
        "schedule.steps=3",
        "output.points=[33,24]",
        "output.progress=false",
        "output.figures=false",
    ]
    solution = kanpinn.solve(["problem=poisson", "hydra.run.dir=run", *small])
    data = read_solution(folder / "run" / "solution.h5")
    levels = solution.metrics["levels"]
    assert {name: values.shape for name, values in data.spectra.items()} == {
        "wave_number_x": (33,), "wave_number_y": (24,), "u_x": (2, 33), "u_y": (2, 24),
    }  # fmt: skip
    np.testing.assert_allclose(data.spectra["wave_number_x"], np.arange(33) / 4)  # the interval is [−1, 1]
    np.testing.assert_allclose(data.spectra["u_x"].sum(1), data.spectra["u_y"].sum(1), rtol=1e-10)
    # The last visit left the field in the file; the error of the first is known from the level table alone.
    relative = data.fields["u_error"] / np.sqrt(np.mean(data.fields["u_ref"] ** 2))
    np.testing.assert_allclose(data.spectra["u_x"][-1], power(relative, 1), rtol=1e-10)
    relative = np.sqrt(data.spectra["u_x"].sum(1))
    np.testing.assert_allclose(relative, [record["relative_l2"]["u"] for record in levels], rtol=0.05)
    assert check(folder / "run") == []
    with h5py.File(folder / "run" / "solution.h5") as file:
        stored = file["spectrum/u_x"]
        assert [scale[0].name for scale in stored.dims] == ["/spectrum/entry", "/spectrum/wave_number_x"]
        assert file["spectrum/wave_number_x"].attrs["long_name"] == "wave number along x, cycles per unit"
