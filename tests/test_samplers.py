"""Samplers: where points lie, what their weights sum to, how evenly they spread, what their quadrature integrates."""

import itertools
import math
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import qmc

from kanpinn.errors import DivergedError, UserError
from kanpinn.geometry import Box, Restricted
from kanpinn.pde import Condition, Problem
from kanpinn.samplers import SAMPLERS, CollocationSample, quasi
from kanpinn.samplers.placing import share
from kanpinn.samplers.tensor import gauss_legendre_rule, grid_shape

CONF = Path(__file__).parents[1] / "conf" / "sampler"


def nothing(p):
    return p.x


@dataclass(frozen=True)
class Slab(Problem):
    """A 3-D box with unequal sides and one condition of every kind."""

    domain = Box(x=(-1, 2), y=(0, 0.5), t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t

    def conditions(self):
        return [
            Condition("initial", "t-", nothing),
            Condition("walls", ("x-", "x+", "y+"), nothing),
            Condition("wrap", "y-", nothing, periodic="y"),
        ]


@dataclass(frozen=True)
class Layers(Problem):
    """A 3-D box with planes inside it, one of them at a number that single precision rounds."""

    domain = Box(x=(-1, 2), y=(0, 0.5), t=(0, 1))
    derivatives = ("t",)

    def residual(self, p):
        return p.u_t

    def conditions(self):
        return [Condition("planes", ("x=0", "y=0.1"), lambda p, q: p.u - q.u), Condition("initial", "t-", nothing)]


@dataclass(frozen=True)
class Rod(Problem):
    """A 1-D box whose faces are single points."""

    domain = Box(x=(-1, 3))
    derivatives = ("x",)
    on: str | tuple[str, ...] = ("x-", "x+")
    periodic_in: str | None = None

    def residual(self, p):
        return p.u_x

    def conditions(self):
        return [Condition("ends", self.on, nothing, periodic=self.periodic_in)]


@dataclass(frozen=True)
class Square(Problem):
    """The unit square without conditions."""

    domain = Box(x=(0, 1), y=(0, 1))
    derivatives = ("x",)

    def residual(self, p):
        return p.u_x

    def conditions(self):
        return []


def draw(
    name: str, problem: Problem, seed: int = 0, level: int = 0, cells=None, residual=None, **options
) -> CollocationSample:
    sampler = SAMPLERS[name](**options)
    return sampler.draw(problem, level, np.random.default_rng(seed), cells=cells, residual=residual)


def peaked(points):
    """A residual that is large near the lower left corner."""
    return 1e-3 + torch.exp(-20 * (points**2).sum(1))


@pytest.mark.parametrize("name", SAMPLERS)
def test_points_lie_in_the_box_and_exactly_on_their_faces(name):
    found = draw(name, Slab(), interior=300, boundary=70, residual=peaked)
    lower, upper = torch.tensor(Slab.domain.lower), torch.tensor(Slab.domain.upper)
    for points in (found.interior, *found.conditions.values()):
        assert points.points.dtype == points.weights.dtype == torch.float64
        assert points.points.shape == (len(points.weights), 3)
        assert (points.points >= lower).all() and (points.points <= upper).all()
    assert (found.conditions["initial"].points[:, 2] == 0).all()
    walls = found.conditions["walls"].points
    on_faces = torch.stack([walls[:, 0] == -1, walls[:, 0] == 2, walls[:, 1] == 0.5], 1)
    assert (on_faces.sum(1) == 1).all()
    assert (on_faces.sum(0) > 0).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_weights_sum_to_the_measure(name):
    found = draw(name, Slab(), interior=300, boundary=70, residual=peaked)
    assert found.interior.weights.sum().item() == pytest.approx(1.5, rel=1e-12)
    areas = {"initial": 1.5, "walls": 0.5 + 0.5 + 3.0, "wrap": 3.0}
    for condition, area in areas.items():
        weights = found.conditions[condition].weights
        assert (weights > 0).all()
        assert weights.sum().item() == pytest.approx(area, rel=1e-12)


@pytest.mark.parametrize("name", sorted(set(SAMPLERS) - {"grid", "gauss_legendre"}))
def test_as_many_points_as_asked_for(name):
    found = draw(name, Slab(), interior=301, boundary=75, residual=peaked)
    assert len(found.interior.weights) == 301
    assert {len(points.weights) for points in found.conditions.values()} == {75}


@pytest.mark.parametrize("name", SAMPLERS)
def test_periodic_points_are_paired_with_opposite_ones(name):
    found = draw(name, Slab(), boundary=20)
    below, above = found.conditions["wrap"].points, found.paired["wrap"]
    assert list(found.paired) == ["wrap"]
    assert (below[:, 1] == 0).all() and (above[:, 1] == 0.5).all()
    assert torch.equal(below[:, [0, 2]], above[:, [0, 2]])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SAMPLERS)
def test_points_beside_inner_planes_are_next_to_them(name, dtype):
    sampler = SAMPLERS[name](interior=100, boundary=90)
    found = sampler.draw(Layers(), 0, np.random.default_rng(0), residual=peaked, dtype=dtype)
    below, above = found.conditions["planes"].points, found.paired["planes"]
    assert list(found.paired) == ["planes"]
    assert below.dtype == above.dtype == dtype
    apart = below != above
    assert apart.sum(1).tolist() == [1] * len(below)
    on_x = apart[:, 0]
    assert 0 < on_x.sum() < len(below)
    assert apart[~on_x, 1].all()
    for side, points in ((-1, below), (1, above)):
        tiny = torch.finfo(dtype).tiny
        assert (points[on_x, 0] == side * tiny).all()
        plane = torch.tensor(0.1, dtype=dtype)
        assert (points[~on_x, 1] == torch.nextafter(plane, plane + side)).all()
        assert (side * (points[~on_x, 1].double() - 0.1) > 0).all()
    weights = found.conditions["planes"].weights
    assert weights.sum().item() == pytest.approx(0.5 + 3.0, rel=1e-6)
    # Both planes cut the whole box: measured in its lengths they are alike, whatever their units.
    assert weights[on_x].sum().item() == pytest.approx(1.75, rel=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plane_inside_a_line_is_a_single_point(name):
    problem = Rod(on="x=1.5")
    found = draw(name, problem, interior=10)
    assert found.conditions["ends"].points.item() == math.nextafter(1.5, 0)
    assert found.paired["ends"].item() == math.nextafter(1.5, 2)


def test_conditions_may_have_their_own_numbers_of_points():
    sampler = SAMPLERS["sobol"](boundary={"initial": 8, "planes": [20, 40]}, growth=1.5)
    found = [sampler.draw(Layers(), level, np.random.default_rng(0)) for level in (0, 1)]
    assert [len(f.conditions["initial"].weights) for f in found] == [8, 12]
    assert [len(f.conditions["planes"].weights) for f in found] == [20, 40]
    assert sampler.counts(1)[1] == 40
    with pytest.raises(UserError, match=r"sampler\.boundary\.planes=\[20,40\].*3 in all"):
        sampler.check_levels(3)
    with pytest.raises(UserError, match=r"sampler\.boundary=walls: unknown.*initial"):
        SAMPLERS["sobol"](boundary={"initial": 8, "walls": 8}).condition_counts(["initial"], 0)
    with pytest.raises(UserError, match=r"sampler\.boundary=.*'walls' too"):
        SAMPLERS["sobol"](boundary={"initial": 8}).condition_counts(["initial", "walls"], 0)


@pytest.mark.parametrize("name", SAMPLERS)
def test_ends_of_a_line_are_single_points(name):
    ends = draw(name, Rod(), interior=10).conditions["ends"]
    assert ends.points.tolist() == [[-1.0], [3.0]]
    assert ends.weights.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_generator_alone_decides(name):
    def both(found: CollocationSample) -> torch.Tensor:
        return torch.cat([found.interior.points, found.conditions["walls"].points])

    first, again, other = (draw(name, Slab(), seed, interior=50, residual=peaked) for seed in (1, 1, 2))
    assert torch.equal(both(first), both(again))
    random = name not in ("grid", "gauss_legendre")
    assert torch.equal(both(first), both(other)) is not random
    generator = np.random.default_rng(1)
    sampler = SAMPLERS[name](interior=50)
    kept = [sampler.draw(Slab(), 0, generator, residual=peaked) for _ in range(2)]
    assert torch.equal(both(kept[0]), both(first))
    assert torch.equal(both(kept[0]), both(kept[1])) is not random


def test_dtype_is_kept_and_single_precision_stays_in_the_box():
    @dataclass(frozen=True)
    class Tenths(Square):
        domain = Box(x=(0.1, 0.7), y=(0.1, 0.3))

    found = SAMPLERS["sobol"](interior=4096).draw(Tenths(), 0, np.random.default_rng(0), dtype=torch.float32)
    ends = torch.tensor([Tenths.domain.lower, Tenths.domain.upper])
    assert found.interior.points.dtype == found.interior.weights.dtype == torch.float32
    assert (found.interior.points >= ends[0]).all() and (found.interior.points <= ends[1]).all()


def test_intervals_that_single_precision_cannot_resolve_are_refused():
    @dataclass(frozen=True)
    class Late(Square):
        domain = Box(x=(0, 1), t=(1.7e9, 1.7e9 + 60))

    sampler = SAMPLERS["sobol"](interior=64)
    assert len(sampler.draw(Late(), 0, np.random.default_rng(0)).interior.points[:, 1].unique()) == 64
    with pytest.raises(UserError, match=r"dtype=float32: numbers lie 2e\+02 apart in t from 1.7e\+09 to 1.7e\+09"):
        sampler.draw(Late(), 0, np.random.default_rng(0), dtype=torch.float32)


def test_points_per_level():
    assert SAMPLERS["sobol"](interior=100, boundary=[8, 16, 32], growth=1.5).counts(2) == (225, 32)
    found = draw("sobol", Rod(), level=1, interior=[16, 64])
    assert len(found.interior.weights) == 64
    with pytest.raises(UserError, match=r"sampler\.interior=\[16,64\].*3"):
        SAMPLERS["sobol"](interior=[16, 64]).check_levels(3)
    with pytest.raises(UserError, match=r"sampler\.growth"):
        SAMPLERS["sobol"](growth=100).check_levels(9)


def test_shares_follow_the_measures():
    assert share(256, [2.0, 2.0, 2.0, 2.0]) == [64, 64, 64, 64]
    assert share(80, [0.5, 0.5, 3.0]) == [10, 10, 60]
    assert share(2, [1.0, 1.0, 1.0]) == [1, 1, 1]


@pytest.mark.parametrize("name", ["sobol", "halton"])
@pytest.mark.parametrize("count", [256, 300])
def test_low_discrepancy(name, count):
    for seed in range(3):
        even, plain = (draw(n, Square(), seed, interior=count).interior.points.numpy() for n in (name, "uniform"))
        assert qmc.discrepancy(even) < 0.2 * qmc.discrepancy(plain)


def test_latin_hypercube_has_one_point_per_stratum():
    points = draw("latin_hypercube", Square(), interior=37).interior.points
    strata = (points * 37).floor().long()
    for column in strata.T:
        assert sorted(column.tolist()) == list(range(37))


@pytest.mark.parametrize("split", range(7))
def test_sobol_powers_of_two_fill_dyadic_boxes_equally(split):
    """Sobol points in 2-D are a (0, m, 2)-net: 2^6 points leave one in each of 2^split × 2^(6-split) boxes."""
    points = draw("sobol", Square(), interior=64).interior.points.numpy()
    counts, _, _ = np.histogram2d(*points.T, bins=(2**split, 2 ** (6 - split)), range=((0, 1), (0, 1)))
    assert (counts == 1).all()


def test_grid_has_equal_midpoint_cells():
    found = draw("grid", Rod(), interior=4).interior
    assert found.points[:, 0].tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert found.weights.tolist() == [1.0] * 4


@pytest.mark.parametrize(
    ("lengths", "count", "shape"),
    [
        ((1, 1), 4096, (64, 64)),
        ((2, 1), 512, (32, 16)),
        ((1, 1, 1), 64**3, (64, 64, 64)),
        ((1, 1), 1000, (31, 32)),
        ((1, 1000), 10, (1, 10)),
        ((1e-3, 1, 1), 100, (1, 10, 10)),
        ((1, 1), 1, (1, 1)),
    ],
)
def test_grid_shape_is_the_nearest_with_even_cells(lengths, count, shape):
    assert grid_shape(lengths, count) == shape


def test_grid_can_give_every_coordinate_the_same_number():
    found = draw("grid", Slab(), interior=27, aspect="box").interior
    assert [len(column.unique()) for column in found.points.T] == [3, 3, 3]


@pytest.mark.parametrize("order", range(1, 8))
def test_gauss_legendre_is_exact_to_degree_2m_minus_1_on_every_interval(order):
    points, weights = gauss_legendre_rule(-1, 2, 3, order)
    for degree in range(2 * order):
        for k in range(3):
            left = -1.0 + k
            part = slice(k * order, (k + 1) * order)
            exact = ((left + 1) ** (degree + 1) - left ** (degree + 1)) / (degree + 1)
            assert weights[part] @ points[part] ** degree == pytest.approx(exact, rel=1e-12, abs=1e-13)
    first = weights[:order] @ (points[:order] + 0.5) ** (2 * order)
    assert first != pytest.approx(0.5 ** (2 * order) / (2 * order + 1), rel=1e-4)


def test_gauss_legendre_follows_the_splines_intervals():
    """A product of polynomials kinked at the intervals' ends is integrated exactly; one kinked elsewhere is not."""
    found = draw("gauss_legendre", Slab(), cells={"x": 6, "y": 2, "t": 4}, order=2)
    assert len(found.interior.weights) == 2**3 * 6 * 2 * 4
    assert len(found.conditions["initial"].weights) == 2**2 * 6 * 2
    x, y, t = found.interior.points.T

    def integral(kink: float) -> float:
        values = (x - kink).abs() ** 3 * (y - 0.25).abs() * (t - 0.75).clamp(min=0) ** 2
        return (found.interior.weights * values).sum().item()

    def exact(kink: float) -> float:
        return ((kink + 1) ** 4 + (2 - kink) ** 4) / 4 * 0.25**2 * 0.25**3 / 3

    assert integral(0.5) == pytest.approx(exact(0.5), rel=1e-12)
    assert integral(0.6) != pytest.approx(exact(0.6), rel=1e-9)


def test_gauss_legendre_without_a_spline_takes_about_the_points_asked_for():
    assert len(draw("gauss_legendre", Square(), interior=36**2, order=3).interior.weights) == 36**2
    found = draw("gauss_legendre", Square(), interior=36**2, order=3, cells={"x": 5})
    assert len(found.interior.weights) == 15 * 36


def test_adaptive_follows_the_stated_density():
    """A residual of 3 on a quarter of the square, 1 elsewhere: k = 2, c = 1/2 makes that quarter 3.5 / (5/6) denser."""

    def step(points):
        return torch.where(points[:, 0] < 0.25, 3.0, 1.0).to(points)

    options = {"interior": 200, "candidates": 8, "exponent": 2.0, "offset": 0.5}
    inside = 0.0
    for seed in range(100):
        points = draw("adaptive", Square(), seed, residual=step, **options).interior.points
        assert len(points.unique(dim=0)) == 200
        inside += (points[:, 0] < 0.25).double().mean().item() / 100
    # 9 and 1 over their mean 3 are 3 and 1/3, plus 1/2 each.
    assert inside == pytest.approx(0.25 * 3.5 / (0.25 * 3.5 + 0.75 * (1 / 3 + 0.5)), abs=0.01)


def test_adaptive_keeps_the_floor():
    """Where the residual vanishes the density is still c / (1 + c) of the even one; with c = 0 it is none."""

    def left(points):
        return (points[:, 0] < 0.5).to(points)

    def share_right(offset: float) -> float:
        found = [
            draw("adaptive", Square(), seed, residual=left, interior=100, offset=offset).interior.points[:, 0] >= 0.5
            for seed in range(200)
        ]
        return torch.cat(found).double().mean().item()

    assert share_right(1.0) == pytest.approx(0.25, abs=0.01)
    assert share_right(0.0) == 0.0


def test_inclusion_is_proportional_until_certain():
    assert quasi.inclusion(np.array([1.0, 2.0, 1.0]), 2) == pytest.approx([0.5, 1.0, 0.5])
    assert quasi.inclusion(np.array([100.0, 1.0, 3.0]), 2) == pytest.approx([1.0, 0.25, 0.75])
    assert quasi.inclusion(np.array([5.0, 0.0, 0.0]), 2) == pytest.approx([1.0, 0.5, 0.5])
    assert quasi.inclusion(np.ones(4), 4) == pytest.approx(np.ones(4))


def test_systematic_choice_keeps_each_point_with_its_probability():
    generator = np.random.default_rng(0)
    probabilities = np.array([0.1, 0.9, 0.5, 0.5, 1.0])
    counts = np.zeros(5)
    for _ in range(4000):
        kept = quasi.systematic_choice(probabilities, generator)
        assert len(kept) == 3
        counts[kept] += 1
    assert counts.max() <= 4000  # none twice
    assert counts / 4000 == pytest.approx(probabilities, abs=0.03)


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_adaptive_density_has_no_scale(scale):
    values = scale * np.array([1.0, 2.0, 3.0])
    assert quasi.density(values, 4.0, 1.0) == pytest.approx(np.array([1, 16, 81]) / (98 / 3) + 1)
    assert (quasi.density(np.zeros(3), 2.0, 1.0) == 2.0).all()


def test_unbiased_weights_integrate_correctly_in_the_mean():
    """∫ exp(x + y) over the unit square is (e - 1)²; equal weights miss it as points crowd into one corner."""
    means = {}
    for unbiased in (True, False):
        estimates = []
        for seed in range(300):
            found = draw("adaptive", Square(), seed, residual=peaked, interior=100, unbiased=unbiased).interior
            values = torch.stack([torch.ones(100), found.points.sum(1).exp()])
            estimates.append((values @ found.weights).numpy())
        means[unbiased] = np.mean(estimates, axis=0), np.std(estimates, axis=0) / math.sqrt(300)
    mean, error = means[True]
    exact = np.array([1.0, (math.e - 1) ** 2])
    assert (np.abs(mean - exact) < 4 * error).all()
    assert (error < 0.01 * exact).all()
    assert means[False][0][1] < 0.9 * exact[1]


def test_adaptive_says_when_the_residual_is_not_finite():
    with pytest.raises(DivergedError):
        draw("adaptive", Square(), residual=lambda points: points[:, 0] / 0)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sobol", {"interior": 0}, "sampler.interior=0"),
        ("sobol", {"interior": 12.5}, "sampler.interior=12.5"),
        ("sobol", {"interior": []}, "sampler.interior"),
        ("sobol", {"interior": [16, -1]}, "sampler.interior=[16,-1]"),
        ("uniform", {"boundary": "many"}, "sampler.boundary=many"),
        ("uniform", {"boundary": True}, "sampler.boundary=true"),
        ("uniform", {"boundary": {"wall": 0}}, "sampler.boundary.wall=0"),
        ("uniform", {"boundary": {"wall": []}}, "sampler.boundary.wall"),
        ("halton", {"resample_every": -5}, "sampler.resample_every=-5"),
        ("halton", {"growth": math.nan}, "sampler.growth=nan"),
        ("latin_hypercube", {"growth": 0}, "sampler.growth=0"),
        ("grid", {"aspect": "eqal"}, "Did you mean 'equal'"),
        ("gauss_legendre", {"order": 0}, "sampler.order=0"),
        ("adaptive", {"candidates": 0}, "sampler.candidates=0"),
        ("adaptive", {"exponent": -1}, "sampler.exponent=-1"),
        ("adaptive", {"offset": math.inf}, "sampler.offset=inf"),
        ("adaptive", {"unbiased": "yes"}, "sampler.unbiased=yes"),
        ("adaptive", {"unbiased": True, "offset": 0.0}, "sampler.offset=0.0"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, options, message):
    with pytest.raises(UserError) as refused:
        SAMPLERS[name](**options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (Rod(on="z-"), "condition ends: on=z-: unknown.*x-"),
        (Rod(on="x"), "condition ends: on=x: unknown"),
        (Rod(on=()), r"condition ends: on=\(\): expected a piece of the boundary"),
        (Rod(periodic_in="x"), "periodic in x needs on='x-'"),
        (Rod(on="z=0"), "condition ends: plane z=0: coordinate=z: unknown.*x"),
        (Rod(on="x=3"), "condition ends: plane x=3: expected a number between -1 and 3"),
        (Rod(on="x=nan"), "condition ends: plane x=nan: expected a number between -1 and 3"),
        (Rod(on="x=left"), "condition ends: plane x=left: expected a number between -1 and 3"),
        (Rod(on=("x=0", "x-")), "condition ends: on=.*: inner planes and interfaces need conditions of their own"),
    ],
)
def test_wrong_supports_are_refused_in_one_line(problem, message):
    with pytest.raises(UserError, match=message):
        draw("sobol", problem)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_config_file_holds_every_option_with_its_default(name):
    written = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert written.pop("name") == name
    defaults = {
        field.name: field.default if field.default_factory is MISSING else field.default_factory()
        for field in fields(SAMPLERS[name])
    }
    assert set(written) == set(defaults)
    for key, value in written.items():
        tuned = isinstance(value, str) and value.startswith("${tuned:")
        assert (yaml.safe_load(value[:-1].split(",")[1]) if tuned else value) == defaults[key]
    assert {path.stem for path in CONF.glob("*.yaml")} == set(SAMPLERS)


@dataclass(frozen=True)
class Ell(Problem):
    """Three quarters of a square, with conditions on parts of faces and on the two edges within the box."""

    domain = Box(x=(-1, 1), y=(-1, 1))
    derivatives = ("x",)

    def inside(self, p):
        return (p.x <= 0) | (p.y >= 0)

    def residual(self, p):
        return p.u_x

    def conditions(self):
        return [
            Condition("outer", ("x-", "x+", "y-", "y+"), nothing),
            Condition("edge", "x=0", lambda p, _: p.u, where=lambda p: p.y < 0),
            Condition("top", "y+", nothing, where=lambda p: p.x > 0.5),
        ]


@pytest.mark.parametrize("name", SAMPLERS)
def test_part_of_a_box_is_filled_alone_and_evenly(name):
    cells = {"x": 16, "y": 16} if SAMPLERS[name].follows_knots else None
    found = draw(name, Ell(), cells=cells, interior=3000, boundary=240)
    interior, (outer, edge, top) = found.interior, found.conditions.values()
    for points, measure in ((interior, 3.0), (outer, 6.0), (edge, 1.0), (top, 0.5)):
        x, y = points.points.T
        assert ((x <= 0) | (y >= 0)).all()
        assert points.weights.sum().item() == pytest.approx(measure, rel=1e-12)
        assert (points.weights > 0).all()
    if name not in ("grid", "gauss_legendre"):
        assert [len(points.points) for points in (interior, outer, edge, top)] == [3000, 240, 240, 240]
        lengths = [(outer.points[:, k] == end).sum() for k, end in ((0, -1), (0, 1), (1, -1), (1, 1))]
        assert lengths == [80, 40, 40, 80]
    assert (edge.points[:, 0] < 0).all() and (found.paired["edge"][:, 0] > 0).all()
    assert (edge.points[:, 1] < 0).all() and (top.points[:, 0] > 0.5).all()
    # ∫ x = -1/2 and ∫ x² = 1 over the three squares.
    x = interior.points[:, 0]
    tolerance = 0.1 if name in ("uniform", "latin_hypercube") else 0.02
    assert (interior.weights * x).sum().item() == pytest.approx(-0.5, abs=tolerance)
    assert (interior.weights * x**2).sum().item() == pytest.approx(1, abs=tolerance)


def test_adaptive_points_in_part_of_a_box_follow_the_residual_there():
    def at_the_corner(points):
        assert ((points[:, 0] <= 0) | (points[:, 1] >= 0)).all()
        return torch.exp(-20 * (points**2).sum(1))

    found = draw("adaptive", Ell(), interior=500, residual=at_the_corner)
    even = draw("adaptive", Ell(), interior=500)
    near = [(d.interior.points.square().sum(1) < 0.1).double().mean() for d in (found, even)]
    assert near[0] > 2 * near[1]


@dataclass(frozen=True)
class Missed(Ell):
    """A condition on a part of its face that is outside the domain."""

    def conditions(self):
        return [Condition("ghost", "y-", nothing, where=lambda p: p.x > 0.5)]


@dataclass(frozen=True)
class Nowhere(Ell):
    """A domain without points."""

    def inside(self, p):
        return p.x > 5


@dataclass(frozen=True)
class Numbers(Ell):
    """Numbers where booleans are asked for."""

    def inside(self, p):
        return p.x


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (Missed(), "condition ghost: no point of its support lies inside the domain"),
        (Nowhere(), "no point of the box lies inside the domain"),
        (Numbers(), r"inside returned \(1,\) of torch.float64, expected booleans of shape \(1,\)"),
    ],
)
def test_domains_that_cannot_be_filled_are_refused(problem, words):
    with pytest.raises(UserError, match=words):
        draw("sobol", problem)


def test_a_condition_may_hold_at_one_end_of_an_interval_only():
    class Rod(Problem):
        domain = Box(x=(0, 1))
        derivatives = ("x",)

        def residual(self, p):
            return p.u_x

        def conditions(self):
            return [Condition("end", ("x-", "x+"), lambda p: p.u, where=lambda p: p.x > 0.5)]

    drawn = SAMPLERS["uniform"](interior=8, boundary=4).draw(Rod(), 0, np.random.default_rng(0))
    assert (drawn.conditions["end"].points == 1).all()


EVEN = ("uniform", "latin_hypercube", "sobol", "halton")


@pytest.mark.parametrize("name", EVEN)
def test_early_points_have_their_density_and_weights_that_make_up_for_it(name):
    @dataclass(frozen=True)
    class Late(Rod):
        domain = Box(x=(1, 3), t=(2, 4))

    sampler = SAMPLERS[name](interior=8192, early=0.3, early_rate=3)
    found = sampler.draw(Late(), 0, np.random.default_rng(0)).interior
    x, t = (found.points[:, k].numpy() for k in (0, 1))
    assert t.min() >= 2
    assert t.max() <= 4
    # The share of points before each time against the distribution function.
    for time in (2.1, 2.5, 3.0, 3.7):
        tau = time - 2
        expected = 0.7 * tau / 2 + 0.3 * math.expm1(-1.5 * tau) / math.expm1(-3)
        assert (t < time).mean() == pytest.approx(expected, abs=0.02 if name == "uniform" else 0.003)
    # Weighted sums are integrals over the box: of 1, of x cos t and of exp(−3 (t − 2)).
    w = found.weights.numpy()
    near = 0.03 if name == "uniform" else 2e-3
    assert w.sum() == pytest.approx(4, rel=near)
    assert (w * x * np.cos(t)).sum() == pytest.approx(4 * (math.sin(4) - math.sin(2)), rel=near)
    assert (w * np.exp(-3 * (t - 2))).sum() == pytest.approx(2 * -math.expm1(-6) / 3, rel=near)


@pytest.mark.parametrize(("options", "message"), [
    ({"early": 1.0}, r"sampler\.early=1\.0: expected a number from 0 to below 1"),
    ({"early": -0.1}, r"sampler\.early=-0\.1"),
    ({"early": 0.1, "early_rate": 0}, r"sampler\.early_rate=0"),
])  # fmt: skip
def test_wrong_shares_of_early_points_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        SAMPLERS["sobol"](**options)


def test_early_points_need_a_time_and_a_whole_box():
    @dataclass(frozen=True)
    class Still(Rod):
        domain = Box(x=(1, 2))

    with pytest.raises(UserError, match=r"sampler\.early=0\.1: expected 0 for a problem without a time t"):
        SAMPLERS["sobol"](early=0.1).check_problem(Still())

    @dataclass(frozen=True)
    class Part(Rod):
        domain = Box(x=(1, 2), t=(0, 1))

        def inside(self, p):
            return p.x < 1.5

    with pytest.raises(UserError, match=r"sampler\.early=0\.1: expected 0 for a problem on a part of its box"):
        SAMPLERS["halton"](early=0.1).check_problem(Part())


def test_a_list_too_short_for_a_level_is_refused_by_the_name_of_its_condition():
    sampler = SAMPLERS["uniform"](interior=[9, 9], boundary={"initial": [3], "wall": 4}, growth=2.0)
    assert sampler.condition_counts(["initial", "wall"], 0) == {"initial": 3, "wall": 4}
    with pytest.raises(UserError, match=r"^sampler\.boundary\.initial=\[3\]: expected .*, also for level 1"):
        sampler.condition_counts(["initial", "wall"], 1)
    with pytest.raises(UserError, match=r"^sampler\.boundary=.*: expected a number of points for 'wall' too"):
        SAMPLERS["uniform"](boundary={"initial": 3}).condition_counts(["initial", "wall"], 0)


def test_rejection_asks_at_once_for_as_many_points_as_the_share_that_counts_needs():
    half, asked, generator = Restricted(Box(x=(0, 1), y=(0, 1)), lambda p: p[:, 0] < 0.5), [], np.random.default_rng(0)
    points = quasi.fill(half.chart, 100, lambda n: asked.append(n) or generator.random((n, 2)))
    assert asked[0] == 200
    assert points.shape == (100, 2) and (points[:, 0] < 0.5).all()


@pytest.mark.parametrize(("count", "kept"), [(1, 30), (3, 57), (40, 1000), (40, 1300)])
def test_rejection_asks_for_a_twentieth_more_up_to_twice_as_many_and_then_for_twice_as_many(count, kept) -> None:
    """One of `kept` points counts in truth, one in four by the share that is known; until 30 times as many."""
    asked, chart = [], replace(Box(x=(0, 1)).chart, part=lambda p: np.arange(len(p)) % kept == kept - 1, known=0.25)
    expected, most = [4 * count], 30 * 4 * count
    while expected[-1] // kept < count and expected[-1] <= most:
        last = expected[-1]
        expected.append(last + max(2, last // 20 if last < 8 * count else last))

    def draw(n: int) -> np.ndarray:
        asked.append(n)
        return np.linspace(0, 1, n)[:, None]

    if expected[-1] // kept < count:
        with pytest.raises(UserError, match=f"only {expected[-1] // kept} of {expected[-1]} points"):
            quasi.fill(chart, count, draw)
    else:
        points = quasi.fill(chart, count, draw)
        assert points[:, 0] == pytest.approx(np.linspace(0, 1, expected[-1])[kept - 1 :: kept][:count])
    assert asked == expected


def test_a_rule_that_counts_points_is_refused_and_not_asked_for_ever() -> None:
    class Counted(Problem):
        domain = Box(x=(0, 1), y=(0, 1))

        def inside(self, p):
            return torch.arange(len(p.x)) < 3

        def residual(self, p):
            return p.u

        def conditions(self):
            return []

    sampler = SAMPLERS["uniform"](interior=4, boundary=4)
    with pytest.raises(
        UserError, match=r"^only 3 of \d+ points .*; expected a rule \(inside, where\) that asks of every"
    ):
        sampler.draw(Counted(), 0, np.random.default_rng(0), dtype=torch.float64, device=torch.device("cpu"))


@pytest.mark.parametrize("cells", [{}, {"x": 3}, {"x": 2, "y": 5, "t": 4}])
@pytest.mark.parametrize("orders", [{}, {"y": 2, "t": 5}])
def test_sizes_foretold_of_a_product_rule_are_those_drawn(cells, orders) -> None:
    """Inside, and on the largest face of the box, at both levels."""
    sampler = SAMPLERS["gauss_legendre"](interior=[60, 500], boundary=[20, 90], order=3, orders=orders)

    @dataclass(frozen=True)
    class Faces(Slab):
        def conditions(self):
            return [Condition(end, end, nothing) for end in ("x-", "y+", "t-")]

    for level in (0, 1):
        drawn = sampler.draw(Faces(), level, np.random.default_rng(0), cells=cells)
        faces = [len(one.weights) for one in drawn.conditions.values()]
        assert sampler.sizes(level, ("x", "y", "t"), cells) == (len(drawn.interior.weights), max(faces))
    with pytest.raises(UserError, match=r"sampler\.orders=z: unknown"):
        SAMPLERS["gauss_legendre"](orders={"z": 2}).check_problem(Slab())


def test_points_come_back_from_their_state_and_others_are_refused() -> None:
    sample = SAMPLERS["uniform"](interior=9, boundary=5).draw(Slab(), 0, np.random.default_rng(0))
    assert set(sample.paired) == {"wrap"} and sample.conditions["walls"].normals is not None
    cpu = torch.device("cpu")

    def arrays(state: dict) -> dict:
        """A copy with arrays in place of tensors."""
        return {
            name: arrays(one) if isinstance(one, dict) else None if one is None else one.numpy().copy()
            for name, one in state.items()
        }

    again = CollocationSample.from_state(arrays(sample.state()), cpu)
    assert list(again.conditions) == list(sample.conditions)
    pairs = [(again.interior, sample.interior)]
    pairs += [(again.conditions[name], one) for name, one in sample.conditions.items()]
    for one, other in pairs:
        assert torch.equal(one.points, other.points) and torch.equal(one.weights, other.weights)
        assert (one.normals is None) == (other.normals is None)
        assert one.normals is None or torch.equal(one.normals, other.normals)
    assert torch.equal(again.paired["wrap"], sample.paired["wrap"])

    def wrong(change) -> None:
        state = arrays(sample.state())
        change(state)
        with pytest.raises((ValueError, KeyError)):
            CollocationSample.from_state(state, cpu)

    walls = lambda state: state["conditions"]["walls"]  # noqa: E731
    for name in ("points", "weights", "normals"):
        wrong(lambda s, name=name: walls(s).update({name: walls(s)[name][:-1]}))
        wrong(lambda s, name=name: walls(s).update({name: walls(s)[name].astype(np.float32)}))
        wrong(lambda s, name=name: walls(s)[name].ravel().__setitem__(2, np.nan))
        wrong(lambda s, name=name: walls(s).pop(name))
    wrong(lambda s: walls(s).update({name: walls(s)[name][:0] for name in walls(s)}))
    wrong(lambda s: walls(s).update(weights=walls(s)["weights"][:, None]))
    wrong(lambda s: walls(s).update(normals=walls(s)["normals"][:, :2]))
    wrong(lambda s: s["paired"].update(wrap=s["paired"]["wrap"][:-1]))
    wrong(lambda s: s["paired"]["wrap"].ravel().__setitem__(0, np.inf))
    wrong(lambda s: s["interior"]["weights"].__setitem__(0, np.nan))
    wrong(lambda s: s["paired"].update(other=s["paired"]["wrap"]))


def test_gauss_points_lie_in_intervals_of_unequal_length() -> None:
    points, weights = gauss_legendre_rule(1.0, 5.0, 3, 2, ends := np.array([1.0, 3.0, 4.5, 5.0]))
    assert [((points > a) & (points < b)).sum() for a, b in itertools.pairwise(ends)] == [2, 2, 2]
    assert weights @ points**3 == pytest.approx((5.0**4 - 1) / 4, rel=1e-14)
    sampler = SAMPLERS["gauss_legendre"](order=2)
    drawn = sampler.draw(
        Square(), 0, np.random.default_rng(0), cells={"x": 3, "y": 1}, breaks={"x": (-1.0, 0.0, 0.75, 1.0)}
    )
    assert len(drawn.interior.points) == 12 and float(drawn.interior.weights.sum()) == pytest.approx(1.0)
    x = np.unique(drawn.interior.points[:, 0].numpy())
    np.testing.assert_allclose(x, gauss_legendre_rule(0.0, 1.0, 3, 2, np.array([0, 0.5, 0.875, 1]))[0], rtol=1e-14)
    part, shares = gauss_legendre_rule(2.0, 4.0, 3, 2, ends)  # of a piece that covers no more
    np.testing.assert_allclose(part, np.r_[gauss_legendre_rule(2, 3, 1, 2)[0], gauss_legendre_rule(3, 4, 1, 2)[0]])
    assert shares.sum() == pytest.approx(2.0)
