"""Figures: what a reader may trust in them (limits, scales, labels), for every shape a solution can have."""

import os
import re
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image
from support.solutions import FEW_SPLINES, solution

from kanpinn.backbones import ChebyKan, Kan, MultKan, ReluKan, Separable
from kanpinn.backbones.separable.factors import Factors
from kanpinn.errors import UserError
from kanpinn.evaluate.grid_evaluation import model_arrays
from kanpinn.geometry import Box
from kanpinn.io.solution import SolutionFile, write_solution
from kanpinn.jets.jet import JetSpace
from kanpinn.plots import (
    activations_figure,
    animate,
    cycle_figure,
    history_figure,
    plot_all,
    residual_figure,
    slices_figure,
    solution_figure,
    spectrum_figure,
)
from kanpinn.plots.activations import edge_layers
from kanpinn.plots.frames import frames
from kanpinn.plots.history import coarse_steps, level_changes
from kanpinn.plots.panels import cut_mesh
from kanpinn.plots.slices import relative_l2_slices
from kanpinn.plots.spectrum import banded, shown_visits
from kanpinn.plots.style import axis_label, formula, number, relative_l2

pytestmark = pytest.mark.filterwarnings("error")


def panels(figure: Figure) -> list[Axes]:
    """The panels with a field in them; colour bars are meshes too, but in axes inset in these."""
    return [axes for axes in figure.axes if axes.child_axes or _mesh(axes) is not None]


def _mesh(axes: Axes) -> QuadMesh | None:
    meshes = [item for item in axes.collections if isinstance(item, QuadMesh)]
    return meshes[0] if meshes and axes.get_label() != "<colorbar>" else None


def meshes(figure: Figure) -> list[QuadMesh]:
    return [mesh for axes in panels(figure) if (mesh := _mesh(axes)) is not None]


def titles(figure: Figure) -> str:
    return "\n".join(axes.get_title() + axes.get_title(loc="left") for axes in figure.axes)


def png_size(path: Path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


# --- files


@pytest.mark.parametrize(
    ("axes", "names"),
    [
        ("xt", ["solution_u", "slices_u", "residual", "history", "cycle", "spectrum_u", "activations"]),
        pytest.param(
            *("t", ["solution_u", "residual", "history", "cycle", "spectrum_u", "activations"]), marks=pytest.mark.slow
        ),
    ],
)
def test_plot_all_writes_these_files(tmp_path: Path, axes: str, names: list[str]):
    written = plot_all(solution(axes), tmp_path / "figures", dpi=40)
    assert written == [tmp_path / "figures" / f"{name}.png" for name in names]
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(path.name for path in written)
    assert all(path.stat().st_size > 2000 for path in written)


def test_pixels_are_inches_times_dpi(tmp_path: Path):
    data = solution("x")
    width, height = solution_figure(data, "u").get_size_inches()
    path = plot_all(data, tmp_path, dpi=50, every=False)[0]
    assert png_size(path) == (round(width * 50), round(height * 50))


def test_plotting_leaves_matplotlib_as_it_was(tmp_path: Path):
    before = dict(mpl.rcParams)
    plot_all(solution("x"), tmp_path, dpi=30, every=False)
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in plot_all.__globals__


# --- fields


@pytest.mark.parametrize(("axes", "count"), [("xt", 1), ("xy", 1), ("xyt", 4), ("xyz", 4), ("xyzt", 4)])
def test_error_limits_are_symmetric_and_network_and_reference_share_a_scale(axes: str, count: int):
    data = solution(axes, points=6)
    found = meshes(solution_figure(data, "u"))
    assert len(found) == 3 * count
    ours, theirs, errors = found[:count], found[count : 2 * count], found[2 * count :]
    assert len({(mesh.norm.vmin, mesh.norm.vmax) for mesh in [*ours, *theirs]}) == 1
    limit = np.abs(data.fields["u_error"]).max()
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in errors} == {(-limit, limit)}


def test_a_signed_solution_has_its_colours_centred_at_zero_and_a_positive_one_its_own_limits():
    data = solution("xy")
    norm = meshes(solution_figure(data, "u"))[0].norm
    assert norm.vmin == -norm.vmax
    data.fields["u"], data.fields["u_ref"] = data.fields["u"] + 5, data.fields["u_ref"] + 5
    found = meshes(solution_figure(data, "u"))[0]
    assert found.norm.vmin == min(data.fields["u"].min(), data.fields["u_ref"].min())
    assert found.cmap.name == "viridis"


def test_a_table_has_the_colours_of_its_rows_and_arrows_for_what_lies_beyond():
    data = solution("xy")
    data.fields.update(u=data.fields["u"] + 5, u_ref=data.fields["u_ref"] + 5)  # from 3 to 7
    rows = {"x": np.zeros(2), "y": np.zeros(2), "u": np.array([2.0, 5.5]), "solution_u": np.zeros(2)}
    figure = solution_figure(replace(data, measured={"train": rows}), "u")
    norm = meshes(figure)[0].norm
    assert (norm.vmin, norm.vmax) == (2, 5.5)
    bars = [axes._colorbar.extend for panel in panels(figure) for axes in panel.child_axes]
    assert bars == ["max", "neither"]


def test_space_time_has_time_to_the_right_and_the_array_the_right_way_up():
    data = solution("xt")
    axes = panels(solution_figure(data, "u"))[0]
    assert axes.get_xlabel() == "time $t$"
    assert axes.get_ylabel() == "position $x$ (m)"
    assert axes.get_xlim() == (0, 1)
    assert axes.get_ylim() == (0, 2)
    np.testing.assert_array_equal(_mesh(axes).get_array(), data.fields["u"].T)


def test_two_space_axes_have_one_scale():
    axes = panels(solution_figure(solution("xy"), "u"))[0]
    assert axes.get_aspect() == 1
    assert axes.get_xlabel() == "position $x$ (m)"
    assert axes.get_ylabel() == "$y$"
    assert panels(solution_figure(solution("xt"), "u"))[0].get_aspect() == "auto"


def test_titles_carry_the_errors_of_the_fields():
    data = solution("xy")
    text = titles(solution_figure(data, "u"))
    error = data.fields["u_error"]
    assert number(np.abs(error).max()) in text
    assert number(np.linalg.norm(error) / np.linalg.norm(data.fields["u_ref"])) in text


@pytest.mark.parametrize("axes", ["x", "t", "xt", "xy", "xyt"])
def test_without_a_reference_only_the_solution_is_drawn(axes: str):
    data = solution(axes, reference=False, points=6)
    text = titles(solution_figure(data, "u"))
    assert "reference" not in text
    assert "error" not in text
    if axes == "xy":
        assert len(meshes(solution_figure(data, "u"))) == 1


@pytest.mark.parametrize("axes", ["x", "t"])
def test_one_variable_gives_lines_and_a_symmetric_error_axis(axes: str):
    data = solution(axes)
    values, error = solution_figure(data, "u").axes
    np.testing.assert_array_equal(values.lines[0].get_ydata(), data.fields["u"])
    np.testing.assert_array_equal(values.lines[1].get_ydata(), data.fields["u_ref"])
    low, high = error.get_ylim()
    assert low == -high
    assert high > np.abs(data.fields["u_error"]).max()


def test_residual_is_its_modulus_on_whole_decades_one_panel_per_equation():
    data = solution("xy")
    data.fields = {"u": data.fields["u"], "residual_mass": data.fields["residual"], "residual_energy": data.fields["u"]}
    figure = residual_figure(data)
    found = meshes(figure)
    assert len(found) == 2
    assert len(panels(figure)) == 3  # the points, by the size of all residuals
    for mesh, name in zip(found, ("residual_mass", "residual_energy"), strict=True):
        assert isinstance(mesh.norm, LogNorm)
        assert mesh.norm.vmax >= np.abs(data.fields[name]).max() > mesh.norm.vmax / 10
        decades = np.log10(mesh.norm.vmax / mesh.norm.vmin)
        assert 1 <= round(decades) <= 5
        np.testing.assert_allclose(decades, round(decades), atol=1e-9)
    assert "mass" in titles(figure)
    assert residual_figure(replace(data, fields={"u": data.fields["u"]})) is None


def test_collocation_points_have_the_colours_of_the_residual_map():
    data = solution("xy")
    figure = residual_figure(data)
    left, right = (axes for axes in figure.axes if axes.get_label() != "<colorbar>")
    (dots,) = right.collections
    assert dots.norm is _mesh(left).norm
    columns = data.points["interior"]
    order = np.argsort(columns["residual"])  # the largest on top
    np.testing.assert_array_equal(dots.get_offsets(), np.stack([columns["x"], columns["y"]], axis=1)[order])
    np.testing.assert_array_equal(dots.get_array(), columns["residual"][order])


def test_every_collocation_point_lies_on_the_cut_nearest_in_time():
    data = solution("xyt", points=6)
    shown = [axes.collections[0] for axes in residual_figure(data).axes[4:8]]
    assert sum(len(dots.get_offsets()) for dots in shown) == 30
    times = data.coordinates["t"][[0, 2, 3, 5]]
    t = data.points["interior"]["t"]
    for k, dots in enumerate(shown):
        assert len(dots.get_offsets()) == sum(np.abs(t[:, None] - times).argmin(axis=1) == k)


# --- slices


def test_slices_show_five_times_and_the_error_of_every_time():
    data = solution("xt")
    figure = slices_figure(data, "u")
    by_name = {axes.get_label(): axes for axes in figure.axes}
    lines = by_name["values"].lines
    assert len(lines) == 10
    np.testing.assert_array_equal(lines[0].get_ydata(), data.fields["u"][0])
    np.testing.assert_array_equal(lines[9].get_ydata(), data.fields["u_ref"][-1])
    assert by_name["error"].get_yscale() == "log"
    expected = [relative_l2(a, b) for a, b in zip(data.fields["u"], data.fields["u_ref"], strict=True)]
    np.testing.assert_array_equal(by_name["over time"].lines[0].get_ydata(), expected)


def test_times_asked_for_are_the_nearest_of_the_grid():
    data = solution("xt", points=11)
    np.testing.assert_allclose(data.coordinates["t"], np.linspace(0, 1, 11))
    lines = slices_figure(data, "u", asked=[0.52, 0.2, 0.21]).axes[0].lines
    assert [line.get_label() for line in lines[:2]] == ["$t$ = 0.2", "$t$ = 0.5"]
    np.testing.assert_array_equal(lines[1].get_ydata(), data.fields["u"][5])
    text = titles(solution_figure(solution("xyt", points=11), "u", [0.5]))
    assert "$t$ = 0.5" in text and "$t$ = 0\n" not in text
    with pytest.raises(UserError, match=r"--times=1\.5: expected times from 0 to 1"):
        slices_figure(data, "u", asked=[1.5])


def test_slices_of_two_space_axes_run_along_the_middle():
    data = solution("xyt", points=7)
    figure = slices_figure(data, "u")
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), data.fields["u"][0, 4])
    assert "y" in figure.get_suptitle()


@pytest.mark.parametrize("axes", ["x", "t", "xy"])
def test_no_slices_without_both_time_and_space(axes: str):
    assert slices_figure(solution(axes), "u") is None


def test_relative_error_of_a_vanishing_slice_is_nan():
    reference = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_array_equal(relative_l2_slices(reference + np.diag([1.0, 5.0]), reference), [np.nan, 1.0])


# --- history


def test_levels_begin_where_the_column_changes_and_carry_their_grid():
    data = solution("xy")
    assert level_changes(data) == [(0, "$G$ = 4"), (10, "$G$ = 8"), (20, "$G$ = 16")]
    data.levels = [{"level": k, "grid": None} for k in range(3)]
    assert [name for _, name in level_changes(data)] == ["level 0", "level 1", "level 2"]


def test_history_marks_level_changes_against_steps_and_seconds():
    figure = history_figure(solution("xy"))
    assert len(figure.axes) == 6
    loss, seconds, error = figure.axes[0], figure.axes[1], figure.axes[2]
    assert all(axes.get_yscale() == "log" for axes in figure.axes[:4])
    assert [line.get_label() for line in loss.lines[:3]] == ["total", "residual", "boundary"]
    assert [line.get_xdata()[0] for line in loss.lines[3:]] == [10.5, 20.5]
    assert [line.get_xdata()[0] for line in seconds.lines[3:]] == [5.25, 10.25]
    assert [text.get_text() for text in loss.texts] == ["$G$ = 4", "$G$ = 8", "$G$ = 16"]
    np.testing.assert_array_equal(error.lines[0].get_xdata(), [5, 10, 15, 20, 25, 30])


def stairs(axes: Axes) -> tuple[list[float], list[float]]:
    """Heights and edges of a panel's staircase, once as an area and once as a line."""
    area, line = (patch.get_data() for patch in axes.patches)
    np.testing.assert_array_equal(area.values, line.values)
    return list(line.values), list(line.edges)


def test_a_staircase_shows_the_level_under_work_below_the_curves():
    data = solution("xy")
    by_step, by_second = history_figure(data).axes[4:]
    assert stairs(by_step) == ([0, 1, 2], [0, 10.5, 20.5, 30])
    assert stairs(by_second) == ([0, 1, 2], [0, 5.25, 10.25, 15])
    assert [tick.get_text() for tick in by_step.get_yticklabels()] == ["$G$ = 4", "$G$ = 8", "$G$ = 16"]
    data.history["level"] = np.zeros(30, int)
    assert len(history_figure(data).axes) == 4  # a single level needs no staircase


def cycling() -> SolutionFile:
    """Two levels by turns, five steps each: refined, then two corrections by a coarse problem."""
    data = solution("xy")
    data.history["level"] = np.repeat([0, 1, 0, 1, 0, 1], 5)
    entered = ["start", "refine", "restrict", "correct", "restrict", "correct"]
    data.levels = [
        {"level": k % 2, "grid": 4 + 4 * (k % 2), "steps": 5, "entered": e, "relative_l2": {"u": 0.1 ** (k + 1)}}
        for k, e in enumerate(entered)
    ]
    return data


def test_steps_on_coarse_problems_are_those_between_a_restriction_and_its_correction():
    data = cycling()
    np.testing.assert_array_equal(coarse_steps(data), np.repeat([False, False, True, False, True, False], 5))
    deep = ["start", "restrict", "restrict", "correct", "restrict", "correct"]  # a W-cycle cut short
    data.levels = [record | {"entered": how} for record, how in zip(data.levels, deep, strict=True)]
    np.testing.assert_array_equal(coarse_steps(data), np.repeat([False, True, True, True, True, True], 5))
    data.levels.pop()
    assert not coarse_steps(data).any()  # records that do not account for every step tell nothing


def test_cycles_are_read_from_the_staircase_and_coarse_problems_are_pale():
    data = cycling()
    figure = history_figure(data)
    axes = figure.axes[0]
    total, pale = axes.lines[:2]
    coarse = coarse_steps(data)
    np.testing.assert_array_equal(np.isnan(total.get_ydata()), coarse)
    assert min(mpl.colors.to_rgb(pale.get_color())) > 0.5
    # The pale curve reaches the dark one on both sides.
    assert np.flatnonzero(np.isfinite(pale.get_ydata())).tolist() == [*range(9, 16), *range(19, 26)]
    assert len(axes.lines) == 2 * 3
    assert not axes.texts
    assert "on coarse problems" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert stairs(figure.axes[4])[0] == [0, 1, 0, 1, 0, 1]


def test_crowded_level_labels_are_left_out_but_their_lines_stay():
    data = solution("xy")
    data.history["level"] = np.minimum(np.arange(30), 9)
    axes = history_figure(data).axes[0]
    assert len(axes.lines) == 3 + 9
    assert 1 <= len(axes.texts) < 8


def test_history_without_error_or_without_steps():
    data = solution("xy")
    del data.history["relative_l2_u"]
    assert len(history_figure(data).axes) == 4
    assert history_figure(replace(data, history={})) is None


# --- spectrum, cycle, activations, frames


def test_the_spectrum_has_a_panel_per_coordinate_and_a_curve_per_level():
    data = solution("xt")
    figure = spectrum_figure(data, "u")
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "wave number along $x$ (cycles per m)", "wave number along $t$ (cycles per unit)"
    ]  # fmt: skip
    for axes, name in zip(figure.axes, "xt", strict=True):
        assert axes.get_xscale() == axes.get_yscale() == "log"
        drawn = [line for line in axes.lines if line.get_label().startswith("$G$")]
        assert [line.get_label() for line in drawn] == ["$G$ = 4", "$G$ = 8", "$G$ = 16"]
        for k, line in enumerate(drawn):  # without the mean, at wave number 0
            np.testing.assert_array_equal(line.get_xdata(), data.spectra[f"wave_number_{name}"][1:])
            np.testing.assert_array_equal(line.get_ydata(), data.spectra[f"u_{name}"][k, 1:])
    assert spectrum_figure(solution("xt", reference=False), "u") is None


def test_bands_of_a_spectrum_keep_its_mean_and_leave_the_lowest_wave_numbers_alone():
    k, power = np.arange(300) / 2, np.random.default_rng(0).uniform(1, 2, 300)
    middle, mean = banded(k, power)
    assert len(middle) < 80
    np.testing.assert_array_equal(middle[:8], k[1:9])
    np.testing.assert_array_equal(mean[:8], power[1:9])
    assert mean.min() > 1 and mean.max() < 2
    assert (np.diff(middle) > 0).all()


def test_the_spectra_shown_are_those_of_first_visits_and_of_the_end():
    data = cycling()
    assert shown_visits(data) == {"$G$ = 4": [0], "$G$ = 8": [1], "at the end": [5]}
    data.levels = [
        {"level": k % 2, "grid": 4, "slab": k // 2, "entered": "refine" if k % 2 else "start"} for k in range(4)
    ]
    data.levels[1]["grid"] = data.levels[3]["grid"] = 8
    assert shown_visits(data) == {"$G$ = 4": [0, 2], "$G$ = 8": [1, 3]}


def test_the_cycle_is_drawn_visit_by_visit_with_steps_and_errors():
    data = cycling()
    visits, errors = cycle_figure(data).axes
    np.testing.assert_array_equal(visits.lines[0].get_xydata(), np.stack([np.arange(1, 7), [0, 1, 0, 1, 0, 1]], axis=1))
    assert [text.get_text() for text in visits.texts] == ["5"] * 6
    coarse = [line.get_color() for line in visits.lines[1:7]]
    assert coarse[2] == coarse[4] != coarse[0] == coarse[1] == coarse[3] == coarse[5]
    assert [tick.get_text() for tick in visits.get_yticklabels()] == ["level 0,  $G$ = 4", "level 1,  $G$ = 8"]
    np.testing.assert_allclose(errors.lines[0].get_ydata(), 0.1 ** np.arange(1, 7))
    assert len(cycle_figure(replace(data, levels=[r | {"relative_l2": None} for r in data.levels])).axes) == 1
    assert cycle_figure(replace(data, levels=[])) is None


@pytest.mark.parametrize(
    "options",
    [
        Kan(width=[3], degree=4, grid=3, base=True, bias=True),
        Kan(width=[3], degree=3, grid=4, knots="cosine"),
        ReluKan(width=[3], degree=3, grid=4),
        MultKan(width=[2], mult=[1], degree=3, grid=3),
        ChebyKan(width=[3], degree=5),
        Separable(width=[3], degree=3, grid=4, rank=2),
    ],
    ids=lambda options: type(options).__name__,
)
def test_activations_add_up_to_what_the_layers_compute(options):
    backbone = options.build(options.embedding.build(Box(x=(0, 1), t=(0, 2)), (), np.random.default_rng(0)), 1)
    theta = backbone.initial(np.random.default_rng(1)).double()
    found = list(edge_layers(replace(solution("x"), model=model_arrays(backbone, theta))))
    bodies = [backbone]
    if isinstance(backbone.layers[0], Factors):
        bodies = list(backbone.layers[0].networks)[::-1]  # t before x, as the file has them
        thetas = backbone.layers[0].thetas(backbone.arrays(theta)[0])[::-1]
    else:
        thetas = [theta]
    layers = [
        (layer, arrays)
        for body, own in zip(bodies, thetas, strict=True)
        for layer, arrays in zip(body.layers, body.arrays(own), strict=True)
        if "coefficients" in " ".join(arrays)
    ]
    assert len(found) == len(layers) >= 2
    for edges, (layer, arrays) in zip(found, layers, strict=True):
        x = torch.from_numpy(edges.x)
        same = x[None, :, None].expand(1, -1, edges.values.shape[1]).contiguous()  # every input at once
        out, _ = layer.forward(arrays, same, JetSpace(("x", "t"), ()))
        expected = out[0] - arrays.get("bias", torch.zeros(()))
        np.testing.assert_allclose(edges.values.sum(axis=1), expected.numpy().T, rtol=1e-9, atol=1e-12)


def test_the_largest_activations_come_first_on_one_scale_with_their_knots():
    figure = activations_figure(solution("x"))
    first, second = figure.subfigs
    assert "4 → 5, 4 knot intervals,  16 largest of 20 edges" in first.get_suptitle()
    assert "5 → 1, 4 knot intervals,  5 edges" in second.get_suptitle()
    shown = [axes for axes in first.axes if axes.lines]
    curves, knots = [axes.lines[1] for axes in shown], [axes.lines[2] for axes in shown]
    size = [np.std(line.get_ydata()) for line in curves]
    assert len(size) == 16 and size == sorted(size, reverse=True)
    assert all(abs(line.get_ydata().mean()) < 1e-12 for line in curves)
    assert len({axes.get_ylim() for axes in shown}) == 1
    np.testing.assert_allclose(knots[0].get_xdata(), np.linspace(-1, 1, 5), atol=1e-12)
    assert activations_figure(replace(solution("x"), model={"layer_0/weight": np.zeros((3, 2))})) is None


@pytest.mark.parametrize("axes", ["xt", *(pytest.param(axes, marks=pytest.mark.slow) for axes in ("xyt", "xyzt"))])
def test_an_animation_has_a_frame_per_time_on_scales_that_stay(tmp_path: Path, axes: str):
    data = solution(axes, points=5)
    (path,) = animate(data, tmp_path, dpi=40)
    assert path == tmp_path / "animation_u.gif"
    with Image.open(path) as film:
        assert film.format == "GIF" and film.info["loop"] == 0
        assert film.n_frames == len(data.coordinates["t"]) == 5
        total = sum(film.info["duration"] for k in range(5) if film.seek(k) is None)
    assert total == pytest.approx(6000, rel=0.02)
    figure, show = frames(data, "u")
    show(3)
    if axes == "xt":
        np.testing.assert_array_equal(figure.axes[0].lines[0].get_ydata(), data.fields["u"][3])
        assert (
            figure.axes[0].get_ylim()[0]
            < data.fields["u"].min()
            < data.fields["u"].max()
            < figure.axes[0].get_ylim()[1]
        )
    else:
        middle = {"xyt": 3, "xyzt": (3, 3)}[axes]
        ours, theirs, errors = meshes(figure)
        np.testing.assert_array_equal(ours.get_array(), data.fields["u"][middle])
        assert ours.norm is theirs.norm and ours.norm.vmax >= np.abs(data.fields["u"]).max()
        assert errors.norm.vmax == -errors.norm.vmin == np.abs(data.fields["u_error"]).max()
    assert not animate(solution("xy"), tmp_path)


# --- values no figure likes


def spoil(data: SolutionFile, how: str) -> None:
    for name, values in data.fields.items():
        if how == "some nan":
            values.flat[0], values.flat[-1] = np.nan, np.inf
        elif how == "all nan":
            values[...] = np.nan
        elif how == "zero":
            values[...] = 0
        elif how == "constant":
            values[...] = 7
        elif how == "huge":
            data.fields[name] = values * 1e300


WAYS = {
    "t": ("some nan", "all nan", "zero", "constant"),
    "xt": ("some nan", "all nan", "zero", "huge"),
    "xyt": ("huge",),
}


@pytest.mark.parametrize(
    ("axes", "how"),
    [
        pytest.param(axes, how, marks=() if how == "some nan" else pytest.mark.slow)
        for axes, ways in WAYS.items()
        for how in ways
    ],
)
def test_values_no_figure_likes_are_drawn_all_the_same(axes: str, how: str):
    data = solution(axes, points=5)
    spoil(data, how)
    if how == "all nan":
        data.history |= {"loss": np.full(30, np.nan), "relative_l2_u": np.full(30, np.nan)}
    figures = [solution_figure(data, "u"), residual_figure(data), slices_figure(data, "u"), history_figure(data)]
    for figure in figures:
        if figure is not None:
            figure.set_dpi(20)
            figure.canvas.draw()
    if "nan" in how:
        assert any("not finite" in text.get_text() for axes in figures[0].axes for text in axes.texts)


def test_a_single_time_or_point_is_drawn():
    data = solution("xt")
    data.coordinates["t"] = data.coordinates["t"][:1]
    data.fields = {name: values[:1] for name, values in data.fields.items()}
    data.history = {name: values[:1] for name, values in data.history.items()}
    for figure in (solution_figure(data, "u"), slices_figure(data, "u"), history_figure(data)):
        figure.set_dpi(20)
        figure.canvas.draw()


# --- text


def test_labels_have_units_except_for_pure_numbers():
    data = solution("xt")
    assert axis_label(data, "x") == "position $x$ (m)"
    assert axis_label(data, "t") == "time $t$"
    assert axis_label(data, "u") == "$u$"


@pytest.mark.parametrize(
    ("plain", "typeset"),
    [
        ("u_xx + u_yy = f", "$u_{xx} + u_{yy} = f$"),
        ("u_t + u u_x = ν u_xx", r"$u_{t} + u\,u_{x} = ν\,u_{xx}$"),
        ("u_t = D u_xx + 5 (u - u³)", r"$u_{t} = D\,u_{xx} + 5\,(u - u^3)$"),
        ("u_thetatheta = nu u_r_theta", r"$u_{{\theta}{\theta}} = \nu\,u_{r{\theta}}$"),
        ("laplace(u) + k**2*u = x**(1/2)", r"${\Delta}u + k^2\,u = x^{1/2}$"),
        ("u_xx = sin(k*pi*x)", r"$u_{xx} = \sin(k\,\pi\,x)$"),
        ("a $ b", r"a \$ b"),
    ],
)
def test_equations_are_typeset(plain: str, typeset: str):
    assert formula(plain) == typeset


def test_numbers_have_two_digits():
    assert [number(x) for x in (0.0, 0.5, 12.0, 752.0, 1.234e-7)] == ["0", "0.5", "12", "752", r"$1.2\times10^{-7}$"]
    assert number(np.nan) == "not finite"
    assert re.fullmatch(r"\$-3\.0\\times10\^\{5\}\$", number(-3e5))


@pytest.mark.parametrize("axes", ["xy", "xt", pytest.param("xyt", marks=pytest.mark.slow)])
def test_outside_the_domain_is_blank_and_does_not_count(axes):
    whole, part = solution(axes), solution(axes)
    outside = np.zeros(part.fields["u"].shape, bool)
    outside[..., -3:] = True  # the largest x
    for values in part.fields.values():
        values[outside] = np.nan
    assert np.array_equal(part.outside, outside)
    assert not whole.outside.any()
    inside = {name: values[~outside] for name, values in whole.fields.items()}
    expected = relative_l2(inside["u"], inside["u_ref"])
    assert relative_l2(part.fields["u"], part.fields["u_ref"]) == pytest.approx(expected)
    for figure in (solution_figure(part, "u"), residual_figure(part), slices_figure(part, "u")):
        if figure is not None:
            figure.draw_without_rendering()
            texts = [text.get_text() for panel in figure.axes for text in (*panel.texts, panel.title)]
            assert not any("not finite" in text for text in texts)
    part.fields["u"][tuple([0] * outside.ndim)] = np.nan  # a failure inside is still told
    texts = [text.get_text() for panel in solution_figure(part, "u").axes for text in panel.texts]
    assert any("not finite" in text for text in texts)


# --- the command


@pytest.fixture
def stored(folder: Path) -> Path:
    write_solution(folder / "run" / "solution.h5", solution("xt", points=4))
    return folder


@pytest.mark.slow
def test_plot_cuts_at_the_times_asked_for_and_animates(stored, kanpinn):
    result = kanpinn("plot", "run", "-o", "out", "--times", "0.2,0.6", "--animate", "--dpi", "20")
    assert result.code == 0, result.err
    names = ["solution_u.png", "slices_u.png", "residual.png", "history.png", "cycle.png", "spectrum_u.png"]
    expected = [f"out/{name}" for name in [*names, "activations.png", "animation_u.gif"]]
    assert result.out.split() == expected
    assert {f"out/{path.name}" for path in (stored / "out").iterdir()} == set(expected)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--times", "0.5,x"], "x: expected a finite number in decimal digits"),
        (["--times", "7"], "--times=7: expected times from 0 to 1"),
        (["--dpi", "5"], "5: expected a whole number from 20 to 1200"),
    ],
)
def test_what_plot_cannot_do_is_said_in_one_line(stored, kanpinn, words, complaint):
    result = kanpinn("plot", "run", *words)
    assert result.code == 2 and complaint in result.err and result.err.count("\n") == 1
    assert not (stored / "run" / "figures").exists()


def test_plot_without_time_has_no_times_and_nothing_to_animate(folder, kanpinn):
    write_solution(folder / "solution.h5", solution("xy", points=6))
    for words in (["--times", "0.5"], ["--animate"]):
        result = kanpinn("plot", "solution.h5", *words)
        assert result.code == 2 and words[0] in result.err


PLATE = """
from dataclasses import dataclass
from math import pi

from torch import Tensor, exp, sin

from kanpinn.geometry import Box
from kanpinn.pde import Condition, Problem


@dataclass(frozen=True)
class Plate(Problem):
    domain = Box(x=(0, 1), y=(0, 2), t=(0, 1))
    derivatives = ("t", "xx", "yy")
    equation = "u_t = (u_xx + u_yy) / 10"

    def residual(self, p) -> Tensor:
        return p.u_t - (p.u_xx + p.u_yy) / 10

    def conditions(self) -> list[Condition]:
        faces = ("t-", "x-", "x+", "y-", "y+")
        return [Condition("given", faces, lambda p: p.u - self.reference(p))]

    def reference(self, p) -> Tensor:
        return exp(-pi**2 / 8 * p.t) * sin(pi * p.x) * sin(pi * p.y / 2)
"""


@pytest.mark.slow
def test_a_problem_in_two_space_coordinates_and_time_is_solved_and_drawn(folder, kanpinn):
    (folder / "problems").mkdir()
    (folder / "problems" / "plate.py").write_text(PLATE)
    (folder / "conf" / "problem").mkdir(parents=True)
    (folder / "conf" / "problem" / "plate.yaml").write_text("name: plate\nconditions: soft\n")
    small = [
        "backbone.width=[4]",
        "schedule.levels=2",
        "schedule.steps=3",
        "schedule.starts=1",
        "backbone.degree=3",
        "sampler.interior=60",
        "sampler.boundary=20",
        "output.progress=false",
        "output.figures=false",
    ]
    result = kanpinn("solve", "problem=plate", *small, "output.points=[7,6,4]", "hydra.run.dir=run")
    assert result.code == 0, result.err
    result = kanpinn("plot", "run", "--times", "0,1", "--animate", "--dpi", "20")
    assert result.code == 0, result.err
    drawn = {path.name for path in (folder / "run" / "figures").iterdir()}
    assert drawn == {f"{name}.png" for name in (
        "solution_u", "slices_u", "residual", "history", "cycle", "spectrum_u", "activations"
    )} | {"animation_u.gif"}  # fmt: skip
    with Image.open(folder / "run" / "figures" / "animation_u.gif") as film:
        assert film.n_frames == 4


HEAT = replace(solution("xt"), model=FEW_SPLINES)
ODD_SETTINGS = {"text.usetex": True, "axes.grid": True, "font.size": 31.0, "savefig.dpi": 7, "figure.autolayout": True}


@pytest.mark.slow
def test_figures_look_the_same_whatever_the_callers_settings_are(tmp_path):
    plot_all(HEAT, tmp_path / "plain", 40)
    with mpl.rc_context(ODD_SETTINGS):
        before = dict(mpl.rcParams)
        plot_all(HEAT, tmp_path / "odd", 40)
        assert dict(mpl.rcParams) == before
    for file in (tmp_path / "plain").iterdir():
        assert file.read_bytes() == (tmp_path / "odd" / file.name).read_bytes(), file.name


def test_threads_that_draw_at_once_leave_the_settings_as_they_were():
    before = dict(mpl.rcParams)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: history_figure(HEAT), range(8)))
    assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_dollar_signs_in_labels_are_dollar_signs(tmp_path):
    labels = {**HEAT.labels, "u": ("price in US$", "$"), "x": ("strike $K", "$/unit")}
    history = {**HEAT.history, "term_cost_$": HEAT.history["loss"]}
    assert plot_all(replace(HEAT, labels=labels, history=history, equation="$x = u"), tmp_path, 40)


def test_a_notebook_shows_a_figure_though_it_has_not_asked_for_pyplot() -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    data, _ = formatters.DisplayFormatter().format(history_figure(HEAT))
    assert data["image/png"].startswith(b"\x89PNG")


@pytest.mark.slow
def test_letters_that_no_font_has_make_no_noise(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    labels = {**HEAT.labels, "u": ("速度", "\x07")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plot_all(replace(HEAT, labels=labels), tmp_path, 40, every=False)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("backend", "settings", "told"),
    [
        ("nonsense", b"text.usetex: True\nfont.family: Nope\n", ""),
        pytest.param(
            "module://no_such.backend",
            b"\xff\xfe",
            "Cannot decode configuration file 'matplotlibrc' as utf-8.\n",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_backend_and_no_settings_keep_a_figure_from_being_drawn(
    backend: str, settings: bytes, told: str, tmp_path: Path
) -> None:
    write_solution(tmp_path / "solution.h5", replace(HEAT, levels=[], spectra={}, model={}))
    (tmp_path / "matplotlibrc").write_bytes(settings)
    code = (
        "import os; from kanpinn.cli.main import main; before = dict(os.environ); main(['plot', '.', '--dpi', '20']); "
    )
    code += "import matplotlib; assert os.environ == before"
    environment = {**os.environ, "MPLBACKEND": backend, "MPLCONFIGDIR": mpl.get_configdir()}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stderr) == (0, told)
    assert (tmp_path / "figures" / "solution_u.png").is_file()


def test_a_cut_mesh_fills_what_lies_inside_to_half_way_to_the_points_outside():
    x, y = np.linspace(-1, 1, 41), np.linspace(-2, 2, 61)
    across, up = np.meshgrid(x, y)
    inside = (across**2 + (up / 2) ** 2 < 0.9) & ((across - 0.2) ** 2 + up**2 > 0.1)
    mesh, values = cut_mesh(x, y, np.where(inside, 3 * across - up, np.nan), inside)
    corners = np.stack([mesh.x, mesh.y], axis=1)[mesh.triangles]
    (a, b), (c, d) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    assert np.abs(a * d - b * c).sum() / 2 == pytest.approx(np.pi * (0.9 * 2 - 0.1), rel=0.01)
    used = np.unique(mesh.triangles)
    assert np.isfinite(values[used]).all()
    assert np.abs(values[used] - (3 * mesh.x - mesh.y)[used]).max() < 3 * 0.025 + 0.034
    assert not (inside.all() or mesh.triangles.max() >= values.size)
