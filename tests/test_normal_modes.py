"""Numbers of conditions that linear equations ask for at their boundaries, against what is known of each class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from support.records import stays

from kanpinn.geometry import Box, Disk
from kanpinn.jets.jet import JetSpace
from kanpinn.least_squares.normal_modes import Weight, asked

STRIP, LAYER, SQUARE = Box(x=(-2, 1), t=(1, 3)), Box(x=(-2, 1), y=(0, 5), t=(1, 3)), Box(x=(-2, 1), y=(0, 5))
FORTH, BACK, ALONG = Weight("t"), Weight("t", -1), Weight("x")


def needs(
    terms: dict[str, Any], domain: Any, normals: Sequence[Sequence[float]], *weights: Weight, fixed: Sequence[str] = ()
) -> list[list[int]]:
    """Conditions asked for at places by their outward normals, of Σ M_α ∂_α u = 0 with matrices M_α by the names α."""
    space = JetSpace(domain.names, tuple(terms))
    matrices = {name: np.atleast_2d(np.asarray(one, float)) for name, one in terms.items()}
    first = next(iter(matrices.values()))
    slopes = np.zeros((len(normals), *first.shape, len(space.indices)))
    for name, one in matrices.items():
        slopes[:, :, :, space.position(name)] += one
    return asked(slopes, np.array(normals, float), weights or [Weight()], domain, space, fixed).tolist()


def ends(domain: Any) -> list[list[float]]:
    """Outward normals at the first and the last end of each coordinate."""
    eye = np.eye(len(domain.names))
    return [(sign * eye[k]).tolist() for k in range(len(eye)) for sign in (-1, 1)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("unit", [1.0, 1e-3, 1e4])
def test_hyperbolic_systems_ask_for_what_comes_in(seed: int, unit: float) -> None:
    """As many as A has positive eigenvalues where x begins, negative ones where it ends; all at the first time."""
    generator = np.random.default_rng(seed)
    a, b = (generator.standard_normal((2, 2)) for _ in range(2))
    a, b = (a + a.T) * unit, (b + b.T) * unit
    plus, more = (int((np.linalg.eigvalsh(one) > 0).sum()) for one in (a, b))
    strip, layer = Box(x=(-2 * unit, unit), t=(1, 3)), Box(x=(-2 * unit, unit), y=(0, 5 * unit), t=(1, 3))
    terms = {"t": np.eye(2), "x": a}
    expected = [[plus, 2 - plus, 2, 0], [2 - plus, plus, 0, 2]]
    assert needs(terms, strip, ends(strip), FORTH, BACK) == expected
    terms = {"t": np.eye(2), "x": a, "y": b}
    expected = [[plus, 2 - plus, more, 2 - more, 2, 0], [2 - plus, plus, 2 - more, more, 0, 2]]
    assert needs(terms, layer, ends(layer), FORTH, BACK) == expected
    drum = Disk(radius=unit) * Box(t=(0, 1))
    angles = np.linspace(0, 6, 7)
    normals = [[np.cos(one), np.sin(one), 0.0] for one in angles]
    inflow = [int((np.linalg.eigvalsh(-np.cos(one) * a - np.sin(one) * b) > 0).sum()) for one in angles]
    assert needs(terms, drum, normals, FORTH)[0] == inflow


@pytest.mark.parametrize("seed", range(4))
def test_parabolic_systems_ask_at_all_sides_and_the_first_time(seed: int) -> None:
    generator = np.random.default_rng(seed)
    d, e = (generator.standard_normal((2, 2)) for _ in range(2))
    d, e = d @ d.T + 0.1 * np.eye(2), e @ e.T + 0.1 * np.eye(2)
    transport = generator.standard_normal((2, 2))
    terms = {"t": np.eye(2), "xx": -d, "x": transport, "yy": -e}
    flat = {name: one for name, one in terms.items() if name != "yy"}
    assert needs(flat, STRIP, ends(STRIP), Weight(), FORTH) == [[2, 2, 2, 0]] * 2
    assert needs(terms, LAYER, ends(LAYER), Weight(), FORTH) == [[2, 2, 2, 2, 2, 0]] * 2
    backwards = {**terms, "t": -np.eye(2)}
    assert needs(backwards, LAYER, ends(LAYER), Weight(), BACK) == [[2, 2, 2, 2, 0, 2]] * 2
    assert needs({"t": 1.0, "xxxx": 1.0}, STRIP, ends(STRIP), FORTH) == [[2, 2, 1, 0]]
    assert needs({"t": 1.0, "xxx": 1.0}, STRIP, ends(STRIP)[:2], FORTH) == [[1, 2]]
    assert needs({"t": 1.0, "xxx": -1.0}, STRIP, ends(STRIP)[:2], FORTH) == [[2, 1]]


@pytest.mark.parametrize("seed", range(4))
def test_elliptic_equations_ask_for_half_of_their_order_anywhere(seed: int) -> None:
    generator = np.random.default_rng(seed)
    form = generator.standard_normal((2, 2))
    form = form @ form.T + 0.2 * np.eye(2)
    quadratic = {"xx": form[0, 0], "xy": 2 * form[0, 1], "yy": form[1, 1], "x": 3.0, "": -2.0}
    quartic = np.polymul([form[0, 0], 2 * form[0, 1], form[1, 1]], [1, 0, 2])
    fourth = dict(zip(("xxxx", "xxxy", "xxyy", "xyyy", "yyyy"), quartic, strict=True))
    around = [[np.cos(one), np.sin(one)] for one in np.linspace(0, 6, 9)]
    assert needs(quadratic, SQUARE, around) == [[1] * 9] and needs(fourth, SQUARE, around) == [[2] * 9]
    stokes = {
        "xx": np.diag([1, 1, 0]), "yy": np.diag([1, 1, 0]),
        "x": [[0, 0, -1], [0, 0, 0], [1, 0, 0]], "y": [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
    }  # fmt: skip
    assert needs(stokes, SQUARE, around) == [[2] * 9]
    riemann = {"x": [[1, 0], [0, 1]], "y": [[0, -1], [1, 0]]}
    assert needs(riemann, SQUARE, around) == [[1] * 9]
    assert needs({**riemann, "xx": np.zeros((2, 2))}, SQUARE, around) == [[1] * 9]


def test_growth_along_a_coordinate_takes_it_for_time() -> None:
    wave = {"tt": 1.0, "xx": -1.0}
    assert needs(wave, STRIP, ends(STRIP), FORTH, BACK, ALONG) == [[1, 1, 2, 0], [1, 1, 0, 2], [2, 0, 1, 1]]
    first = {"x": 2.0, "y": 1.0}
    for damping, normals in ((0.1, [1, 0, 1, 0]), (-0.1, [0, 1, 0, 1])):
        assert needs(first, SQUARE, ends(SQUARE), Weight(damping=damping)) == [normals]
    assert needs(first, SQUARE, ends(SQUARE)) == [[0, 0, 0, 0]]
    for nothing in ({"": 1.0}, {"": 1.0, "x": 0.0}, {"": 0.0, "x": 0.0}):
        assert needs(nothing, SQUARE, ends(SQUARE)) == [[0, 0, 0, 0]]


def test_coordinates_without_frequencies_are_parameters() -> None:
    """u_xx + k u_kk with no waves along k: one condition at both ends of x, k being a number of modes 0."""
    domain = Box(x=(0, 1), k=(1, 2))
    assert needs({"xx": 1.0, "k": 1.0, "": -1e9}, domain, ends(domain)[:2], fixed=["k"]) == [[1, 1]]


def test_the_determinants_that_are_looked_at(request, monkeypatch) -> None:
    """Their numbers, whatever order they come in."""
    seen: list[Any] = []
    fft, roots = np.fft.fft, np.linalg.eigvals

    def noted(values: Any) -> list[float]:
        logs = np.log(np.abs(values) + 1e-3)
        return [
            values.size,
            values.real.sum(),
            values.imag.sum(),
            (values.imag * values.real**2).sum(),
            (logs**2).sum(),
        ]

    def transform(values: Any, axis: int) -> Any:
        seen.append(noted(values))
        return fft(values, axis=axis)

    def eigenvalues(matrices: Any) -> Any:
        found = roots(matrices)
        seen.append([len(matrices), np.log(np.abs(found) + 1e-6).sum(), (np.abs(found) > 1e-3).sum()])
        return found

    monkeypatch.setattr(np.fft, "fft", transform)
    monkeypatch.setattr(np.linalg, "eigvals", eigenvalues)
    ways = [Weight(), FORTH, BACK, ALONG, Weight(damping=0.1)]
    told = [
        needs({"t": np.eye(2), "x": [[1, 2], [2, -1]], "xx": [[0.1, 0], [0, 0]]}, STRIP, ends(STRIP), *ways),
        needs({"t": 1.0, "xx": -2.0, "yyy": 0.3, "": 1.0}, LAYER, ends(LAYER), *ways, fixed=["y"]),
        needs({"tt": 1.0, "xx": -2.0, "yy": -0.3}, LAYER, ends(LAYER), *ways),
        needs({"x": 1.0, "y": 0.5}, SQUARE, [*ends(SQUARE), [0.6, 0.8]], *ways[:1], *ways[3:]),
    ]
    stays(request.node.name, [told, seen])
