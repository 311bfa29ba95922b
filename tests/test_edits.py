"""Edits of networks: the same function and derivatives after widening, deepening and raising the rank."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from support.naive_network import Options
from torch import Tensor

import kanpinn
from kanpinn.backbones import Backbone, ChebyKan, Kan, Mlp, MultKan, ReluKan, Separable
from kanpinn.backbones.edits import Edit, edited, rebuilt, refinement
from kanpinn.backbones.embedding import EmbeddingOptions
from kanpinn.backbones.spline_spec import SplineSpec
from kanpinn.errors import UserError
from kanpinn.geometry import Box
from kanpinn.jets.jet import JetSpace
from kanpinn.multilevel.diagram import diagram
from kanpinn.multilevel.schedules import Custom

DOMAIN = Box(x=(-1.0, 1.0), t=(0.5, 2.0))
NETWORKS: dict[str, Options] = {
    "kan": Kan(width=[3, 2], degree=5, grid=4),
    "kan, degree 1": Kan(width=[3], degree=1, grid=3),
    "kan, cosine knots, base, bias": Kan(width=[3], degree=4, grid=3, knots="cosine", base=True, bias=True),
    "kan, linear first, no squash": Kan(width=[3, 2], degree=4, grid=3, first="linear", squash="none"),
    "kan, fine": Kan(width=[3], degree=5, grid=48, squash="sin"),
    "kan, fourier": Kan(width=[3], degree=4, grid=3, embedding=EmbeddingOptions("fourier", features=2)),
    "relu_kan": ReluKan(width=[3], degree=5, grid=4, base=True),
    "multkan": MultKan(width=[3, 2], mult=[1, 2], degree=4, grid=3),
    "chebykan": ChebyKan(width=[3, 2], degree=4),
    "separable": Separable(width=[3], rank=2, degree=4, grid=3),
    "separable, base, bias": Separable(width=[3], rank=2, degree=4, grid=3, base=True, bias=True),
    "separable, linear last": Separable(width=[3], rank=2, last="linear", degree=4, grid=3),
    "separable, one layer": Separable(width=[], rank=3, degree=5, grid=4),
    "separable, legendre": Separable(width=[], rank=3, degree=5, grid=4, start="legendre"),
    "mlp": Mlp(width=[3, 2]),
}
FLAT = ("separable, one layer", "separable, legendre")
CASES = [
    *((name, "widen", 2) for name in NETWORKS if name not in FLAT),
    *((name, "widen", [2, 0]) for name in ("kan", "multkan", "mlp")),
    *((name, "deepen", amount) for name in NETWORKS if name != "mlp" for amount in (1, 2)),
    *((name, "rank", 2) for name in NETWORKS if "separable" in name or name == "multkan"),
]
INSERTED = [
    *(("kan", "insert", knots) for knots in (-0.25, [0.75, 0.875, -0.75])),
    *((name, "insert", [0.0]) for name in ("kan, degree 1", "multkan")),
]
each = pytest.mark.parametrize(("name", "kind", "amount"), CASES)


def build(options: Options, outputs: int = 2) -> Backbone:
    return options.build(options.embedding.build(DOMAIN, (), np.random.default_rng(0)), outputs)


def edit_of(name: str, kind: str, amount: Any, level: int = 0) -> Edit:
    network = build(NETWORKS[name])
    for _ in range(level):
        network = network.refined()
    return edited(network, kind, amount, np.random.default_rng(1))


def start(network: Backbone, name: str) -> Tensor:
    """Random parameters, also of the network that begins as zero."""
    theta = network.initial(np.random.default_rng(0))
    return theta + 0.1 * random(len(theta)) if name == "separable, legendre" else theta


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def points(count: int = 60) -> Tensor:
    """Random points and the corners of the domain."""
    inner = np.random.default_rng(3).uniform(DOMAIN.lower, DOMAIN.upper, (count, 2))
    return torch.from_numpy(np.r_[inner, [[a, b] for a in (-1.0, 1.0) for b in (0.5, 2.0)]])


def space_for(network: Backbone, name: str) -> JetSpace:
    order = getattr(NETWORKS[name], "degree", 5) - 1
    if isinstance(NETWORKS[name], ChebyKan | Mlp) or order >= 2:
        return JetSpace(DOMAIN.names, ("t", "xx", "xt"))
    return JetSpace(DOMAIN.names, ())


@pytest.mark.parametrize(("name", "kind", "amount"), [*CASES, *INSERTED])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_edits_keep_values_and_derivatives(name: str, kind: str, amount: Any, dtype: torch.dtype) -> None:
    edit = edit_of(name, kind, amount)
    assert edit.after.size > edit.before.size
    theta = start(edit.before, name).to(dtype)
    new = edit(theta)
    assert new.dtype == dtype
    space, x = space_for(edit.before, name), points().to(dtype)
    before, after = edit.before.forward(theta, x, space).data, edit.after.forward(new, x, space).data
    # Power-ReLU coefficients of degree 5 are large and cancel: two digits less in float32.
    unit = 1e-12 if dtype == torch.float64 else 1e-3 if name == "relu_kan" else 1e-5
    for c, letters in enumerate(space.indices):
        # Each differentiation multiplies rounding of the coefficients by 1/h.
        tolerance = unit * (edit.before.grid or 1) ** len(letters)
        assert float((after[c] - before[c]).abs().max()) <= tolerance * float(before[c].abs().max()), letters


@pytest.mark.parametrize(("name", "kind", "amount"), INSERTED)
def test_inserted_knots_have_adjoint_maps_on_all_levels(name: str, kind: str, amount: Any) -> None:
    edit = edit_of(name, kind, amount, level=1)
    b, g = random(edit.before.size, seed=1), random(edit.after.size, seed=2)
    assert float(edit.linear(b) @ g) == pytest.approx(float(b @ edit.transpose(g)), rel=1e-12)
    assert float(edit.dual(b) @ edit.linear(b)) == pytest.approx(float(b @ b), rel=1e-10)
    below = edit_of(name, kind, amount)
    finer = refinement(edit.before.coarsened() or edit.before)
    theta = start(finer.before, name)
    one, other = edit(finer(theta)), refinement(below.after)(below(theta))  # in either order
    torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_inserted_knots_give_scipys_coefficients() -> None:
    """Knot insertion of SciPy (Boehm) gives the same coefficients."""
    edit = edit_of("kan", "insert", [-0.375, -0.25, -0.125])
    layer, finer = edit.before.layers[0], edit.after.layers[0]
    assert finer.breaks(["x"])["x"] == (-1.0, -0.5, -0.375, -0.25, -0.125, 0.0, 0.5, 1.0)
    theta = start(edit.before, "kan")
    coefficients = edit.before.arrays(theta)[0]["coefficients"][1, 0].numpy()
    spline = BSpline(np.asarray(layer.spec.knot_vector()), coefficients, 5)
    for x in (-0.375, -0.25, -0.125):
        spline = spline.insert_knot(x)
    x = np.linspace(-1, 1, 101)
    own = BSpline(np.asarray(finer.spec.knot_vector()), edit.after.arrays(edit(theta))[0]["coefficients"][1, 0], 5)
    np.testing.assert_allclose(own(x), spline(x), atol=1e-13)
    assert len(spline.c) == finer.spec.width


@pytest.mark.parametrize("knots", [0.5, [0.25, 0.3], 0.125])
def test_only_middles_of_intervals_can_be_inserted(knots: Any) -> None:
    with pytest.raises(UserError, match="middles of intervals of the coarsest level, or of their halves"):
        edit_of("kan", "insert", knots)
    with pytest.raises(UserError, match="first layer is one of splines"):
        edit_of("mlp", "insert", 0.25)


@each
def test_maps_are_affine_and_their_transposes_adjoint(name: str, kind: str, amount: Any) -> None:
    edit = edit_of(name, kind, amount)
    a, b, g = random(edit.before.size), random(edit.before.size, seed=1), random(edit.after.size, seed=2)
    assert torch.equal(edit.linear(2.0 * a - 4.0 * b), 2.0 * edit.linear(a) - 4.0 * edit.linear(b))
    assert torch.equal(edit(a) - edit.offset, edit(b) - edit.offset + edit.linear(a - b)) or torch.allclose(
        edit(a) - edit(b), edit.linear(a - b), rtol=1e-14, atol=1e-14
    )
    assert float(edit.linear(a) @ g) == pytest.approx(float(a @ edit.transpose(g)), rel=1e-12)
    # The pairing of a gradient with a change of parameters is kept.
    assert float(edit.dual(a) @ edit.linear(b)) == pytest.approx(float(a @ b), rel=1e-12)
    batch = random(2, 3, edit.before.size)
    assert torch.equal(edit.linear(batch)[1, 2], edit.linear(batch[1, 2]))
    assert edit.transpose(edit.linear(batch)).shape == batch.shape


@each
def test_gradients_obey_the_chain_rule_and_reach_new_parameters(name: str, kind: str, amount: Any) -> None:
    edit = edit_of(name, kind, amount)
    theta = edit.before.initial(np.random.default_rng(0)) + 0.1 * random(edit.before.size)
    x, space = points(30), JetSpace(DOMAIN.names, ("x",) if space_for(edit.before, name).order else ())
    weights = random(len(space), len(x), 2, seed=2)

    def gradient(network: Backbone, vector: Tensor) -> Tensor:
        leaf = vector.clone().requires_grad_(True)
        loss = (weights * network.forward(leaf, x, space).data.square()).sum()
        return torch.autograd.grad(loss, leaf)[0]

    new, own = gradient(edit.after, edit(theta)), gradient(edit.before, theta)
    assert float((edit.transpose(new) - own).abs().max()) <= 1e-10 * float(own.abs().max())
    added = new.clone()
    added[edit.linear(torch.ones(edit.before.size)) != 0] = 0.0
    assert float(added.abs().max()) > 1e-6 * float(own.abs().max())


WIDER: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "kan": ("widen", 2, {"width": [5, 4]}),
    "relu_kan": ("widen", 1, {"width": [4]}),
    "chebykan": ("widen", [0, 3], {"width": [3, 5]}),
    "mlp": ("widen", 2, {"width": [5, 4]}),
    "multkan": ("rank", 2, {"mult": [3, 4]}),
    "separable": ("widen", 2, {"width": [5]}),
    "separable, one layer": ("rank", 2, {"rank": 5}),
    "separable, linear last": ("rank", 1, {"rank": 3}),
}


@pytest.mark.parametrize("name", WIDER)
def test_an_edited_network_is_the_one_of_the_larger_options(name: str) -> None:
    kind, amount, options = WIDER[name]
    larger, network = build(replace(NETWORKS[name], **options)), edit_of(name, kind, amount).after
    assert network.blocks.shapes == larger.blocks.shapes
    if "separable" not in name:  # whose factors have embeddings of their own
        assert network.layers == larger.layers


@pytest.mark.parametrize(("name", "kind", "amount"), [c for c in CASES if c[0] not in ("mlp", "kan, fine")])
def test_edits_and_refinement_commute(name: str, kind: str, amount: Any) -> None:
    first, second = edit_of(name, kind, amount), edit_of(name, kind, amount, level=1)
    if "separable" not in name:  # whose factors have embeddings of their own
        assert first.after.refined().layers == second.after.layers
    assert first.after.refined().blocks.shapes == second.after.blocks.shapes
    assert second.after.coarsened().blocks.shapes == first.after.blocks.shapes
    assert rebuilt(build(NETWORKS[name]), first.after.edits).blocks.shapes == first.after.blocks.shapes
    theta = start(first.before, name)
    finer = refinement(first.after)
    x, space = points(), JetSpace(DOMAIN.names, ())
    before, after = (
        first.before.forward(theta, x, space).value,
        finer.after.forward(finer(first(theta)), x, space).value,
    )
    unit = 1e-11 if name == "relu_kan" else 1e-12  # whose large coefficients cancel, more so on finer knots
    assert float((after - before).abs().max()) <= unit * float(before.abs().max())


@pytest.mark.parametrize("knots", ["uniform", "cosine"])
@pytest.mark.parametrize("degree", range(1, 8))
def test_the_identity_layers_coefficients_are_scipys_of_x(knots: str, degree: int) -> None:
    spec = SplineSpec(9, degree, knots=knots)
    x = np.linspace(-1, 1, 200)
    values = BSpline(np.asarray(spec.knot_vector()), spec.identity(), degree)(x)
    assert np.abs(values - x).max() < 4e-16 * 2**degree


@pytest.mark.parametrize(
    ("options", "kind", "amount", "message"),
    [
        (Kan(width=[]), "widen", 2, r"^widen=2: expected a network with hidden layers"),
        (Separable(width=[]), "widen", 2, r"^widen=2: expected a network with hidden layers"),
        (Kan(width=[3]), "widen", [1, 2], r"^widen=\[1, ?2\]: expected one number, or one for each of the 1 hidden"),
        (Mlp(), "deepen", 1, r"^deepen=1: expected a network of splines or polynomials"),
        (Kan(outside="clamp"), "deepen", 1, r"^backbone\.outside=clamp: expected extrapolate to deepen"),
        (Kan(), "rank", 1, r"^rank=1: expected backbone=separable or multkan"),
        (MultKan(width=[3], mult=0), "rank", 1, r"^rank=1: expected backbone=separable or multkan"),
    ],
)
def test_edits_that_a_network_has_not_are_refused_in_one_line(
    options: Options, kind: str, amount: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        edited(build(options), kind, amount, np.random.default_rng(0))


def test_a_network_of_periodic_splines_alone_is_not_deepened() -> None:
    options = Separable(width=[], grid=8, embedding=EmbeddingOptions(periodic="spline"))
    network = options.build(options.embedding.build(DOMAIN, ("x",), np.random.default_rng(0)), 1)
    with pytest.raises(UserError, match=r"^backbone\.embedding\.periodic=spline: expected angle to deepen"):
        edited(network, "deepen", 1, np.random.default_rng(0))


RUNS = {
    "kan": ["backbone=kan", "backbone.width=[3]"],
    "multkan": ["backbone=multkan", "backbone.width=[3]", "backbone.mult=1"],
    "separable": ["backbone=separable", "backbone.width=[]", "backbone.rank=2"],
}
STAGES = {
    "kan": "[{level:0,steps:8},{level:0,steps:8,widen:2},{level:1,steps:8,deepen:1},{level:0,steps:4},"
    "{level:1,steps:4}]",
    "multkan": "[{level:0,steps:8},{level:1,steps:8,widen:[1],rank:1}]",
    "separable": "[{level:0,steps:8},{level:0,steps:8,rank:3},{level:1,steps:8}]",
}
ENTERED = {
    "kan": ["start", "widen", "refine", "restrict", "correct"],
    "multkan": ["start", "refine"],
    "separable": ["start", "rank", "refine"],
}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "adam", "ssbroyden"])
def test_stages_change_the_network_and_training_goes_on(name: str, optimizer: str, tmp_path: Path) -> None:
    words = ["problem=heat", "output.points=9", "output.figures=false", "output.progress=false", "threads=1"]
    words += [*RUNS[name], "backbone.grid=2", "backbone.degree=4", "schedule=custom", f"schedule.stages={STAGES[name]}"]
    words += [f"optimizer={optimizer}", "schedule.optimizer_state=transfer", f"hydra.run.dir={tmp_path / 'run'}"]
    solution = kanpinn.solve(words)
    levels = solution.metrics["levels"]
    assert [record["entered"] for record in levels] == ENTERED[name]
    for before, record in itertools.pairwise(levels):
        if record["entered"] in ("widen", "rank", "refine"):
            assert record["transfer_gap"] < 1e-12
            assert record["parameters"] > before["parameters"]
            assert record["loss"] < before["loss"] or optimizer == "adam"  # whose loss may rise again
    assert levels[-1]["loss"] < levels[0]["loss"]
    x = np.array([[0.3, 0.2], [0.7, 0.9]])
    assert np.array_equal(kanpinn.load(tmp_path / "run")(x)["u"], solution(x)["u"])


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[{level:0,steps:1,widen:2}]", r"^schedule\.stages\[0\]\.widen=2: expected no change in the first stage"),
        ("[{level:0,steps:1},{level:0,steps:1,widen:0}]", r"\.stages\[1\]\.widen=0: expected a whole number from 1"),
        ("[{level:0,steps:1},{level:0,steps:1,widen:[0,0]}]", r"\.stages\[1\]\.widen=\[0,0\]: expected a whole number"),
        ("[{level:0,steps:1},{level:0,steps:1,deepen:true}]", r"\.stages\[1\]\.deepen=true: expected a whole number"),
        ("[{level:0,steps:1},{level:0,steps:1,rank:[1]}]", r"\.stages\[1\]\.rank=\[1\]: expected a whole number"),
        ("[{level:0,steps:1},{level:0,steps:1,wide:2}]", r"\.stages\[1\]=wide: unknown\. Did you mean 'widen'"),
        (
            "[{level:1,steps:1},{level:0,steps:1,widen:2},{level:1,steps:1}]",
            r"\.stages\[1\]\.widen=2: expected no change on a level below one visited before",
        ),
        (
            "[{level:0,steps:1},{level:0,steps:1,rank:2}]",
            r"^schedule\.stages\[1\]\.rank=2: expected backbone=separable or multkan",
        ),
        (
            "[{level:0,steps:1},{level:0,steps:1,widen:[1,1,1]}]",
            r"^schedule\.stages\[1\]\.widen=\[1, ?1, ?1\]: expected one number, or one for each of the 2 hidden",
        ),
    ],
)
def test_stages_with_edits_that_cannot_be_are_refused_before_any_work(
    stages: str, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    words = ["problem=heat", "backbone=kan", "backbone.width=[3,2]", "schedule=custom", f"schedule.stages={stages}"]
    with pytest.raises(UserError, match=message) as refused:
        kanpinn.solve([*words, f"hydra.run.dir={folder}"])
    assert "\n" not in str(refused.value)
    assert not folder.exists()


def test_time_slabs_refuse_edits() -> None:
    with pytest.raises(UserError, match=r"widen=2: expected no change of the network with schedule\.slabs above 1"):
        Custom(slabs=2, stages=[{"level": 0, "steps": 1}, {"level": 0, "steps": 1, "widen": 2}])


def test_the_diagram_shows_edits() -> None:
    stages = [{"level": 0, "steps": 20}, {"level": 0, "steps": 20, "widen": 2}, {"level": 1, "steps": 9, "deepen": 1}]
    top, joint, bottom = diagram(Custom(stages=stages).plan(), {0: 4, 1: 8}).splitlines()[:3]
    assert top.split() == ["level", "1", "grid", "8", "[deepen", "1]9"]
    assert bottom == "level 0  grid 4  20+[widen 2]20"
    assert joint.index("╱") == len(bottom)
    assert diagram(Custom(stages=stages[:2]).plan(), {0: 4}) == "level 0  grid 4  40 steps: 20+[widen 2]20"
