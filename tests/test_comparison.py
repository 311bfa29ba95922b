"""Runs side by side: the numbers are those of each file, the names tell them apart, whatever their runs came to."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.run_folders import run_folder

from kanpinn.backbones import Kan
from kanpinn.backbones.edits import enlarged
from kanpinn.backbones.embedding import Embedding
from kanpinn.compare.comparison import by_level, csv_text, differing, flat_config, grown, named, read_run, table
from kanpinn.plots.comparison import comparison_figure, error_curve


def cells(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_the_numbers_are_those_of_each_file(tmp_path):
    folders = [run_folder(tmp_path / f"run{seed}", seed=seed) for seed in (0, 1)]
    rows = cells(csv_text(*table(named([read_run(folder) for folder in folders]))))
    for row, folder, seed in zip(rows, folders, (0, 1), strict=True):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert float(row["relative_l2_u"]) == metrics["relative_l2"]["u"]
        assert float(row["linf_u"]) == 0.5
        assert (int(row["parameters"]), int(row["steps"]), float(row["wall_time_s"])) == (100 + seed, 30, 15.5)
        assert (row["folder"], row["status"], row["seed"]) == (str(folder), "step_limit", str(seed))
        for k in range(3):
            assert float(row[f"level_{k}_relative_l2"]) == pytest.approx(0.1 ** (k + 1))
            assert float(row[f"level_{k}_wall_time_s"]) == 2 + k
            assert int(row[f"level_{k}_grid"]) == 4 * 2**k


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    a, b = run_folder(tmp_path / "a"), run_folder(tmp_path / "b", backbone="mlp")
    c = run_folder(tmp_path / "c", backbone="mlp", seed=4)
    assert [run.name for run in named([read_run(a), read_run(b)])] == ["kan", "mlp"]
    runs = [read_run(path) for path in (a, b, c)]
    assert [run.name for run in named(runs)] == ["kan, seed=0", "mlp, seed=0", "mlp, seed=4"]
    assert differing(runs) == ["backbone", "seed", "backbone.width"]
    other = run_folder(tmp_path / "deep" / "a")
    assert [run.name for run in named([read_run(a), read_run(other)])] == [f"{tmp_path.name}/a", "deep/a"]
    assert len({run.name for run in named([read_run(a)] * 3)}) == 3


def test_a_config_is_flat_with_choices_under_their_groups():
    config = {"problem": {"name": "heat", "nu": 1, "inner": {"name": "x"}}, "seed": 3}
    assert flat_config(config) == {"problem": "heat", "problem.nu": 1, "problem.inner.name": "x", "seed": 3}


@pytest.mark.parametrize(
    "edits", [[("widen", 3)], [("widen", [1, 2]), ("deepen", 1)], [("deepen", 2), ("widen", [0, 1, 0, 2])], []]
)
def test_the_width_is_that_of_the_network_in_the_end(edits):
    embedding = Embedding({"x": (0, 1), "t": (0, 1)})
    network = Kan(width=[4, 3]).build(embedding, 1)
    for kind, amount in edits:
        network = enlarged(network, kind, amount)
    stages = [{"level": 0, "steps": 2}, *({"level": 0, "steps": 2, kind: amount} for kind, amount in edits)]
    config = {"backbone.width": [4, 3], "schedule.stages": [*stages, {"level": 0, "steps": 1, "widen": 5}]}
    made = grown(config, len(stages))  # the last stage was not reached
    assert Kan(width=made["backbone.width"]).build(embedding, 1).size == network.size
    assert config["backbone.width"] == [4, 3]


@pytest.mark.parametrize("stages", [3, [3], [{"widen": "a"}], [{"widen": [1]}], [{"deepen": 10**9}], [{"rank": 1}]])
def test_a_config_nobody_solved_is_shown_as_it_is(stages):
    assert len(grown({"backbone.width": [4, 3], "schedule.stages": stages}, 9)["backbone.width"]) <= 1002


def test_levels_visited_often_count_their_last_error_and_all_their_seconds(tmp_path):
    visits = [(0, 1e-1, 1.0), (1, 1e-2, 2.0), (0, 1e-3, 3.0), (1, 1e-4, 4.0)]
    records = [{"level": k, "grid": 4, "relative_l2": {"u": e}, "wall_time_s": s} for k, e, s in visits]
    run = replace(read_run(run_folder(tmp_path / "a")), metrics={"levels": records})
    assert by_level(run, 3) == [
        {"grid": 4, "error": pytest.approx(1e-3), "seconds": 4.0},
        {"grid": 4, "error": pytest.approx(1e-4), "seconds": 6.0},
        {},
    ]
    slabs = [{"level": 0, "slab": k, "relative_l2": {"u": e}, "wall_time_s": 1.0} for k, e in enumerate((0.3, 0.4))]
    assert by_level(replace(run, metrics={"levels": slabs}), 1)[0]["error"] == pytest.approx(np.sqrt(0.125))


def test_the_figure_has_a_panel_per_problem_and_a_curve_per_run(tmp_path):
    runs = named([read_run(run_folder(tmp_path / f"{k}", seed=k)) for k in range(3)])
    other = replace(runs[0], metrics={**runs[0].metrics, "problem": "wave", "relative_l2": None}, name="other")
    axes, second = comparison_figure([*runs, other]).axes
    assert axes.get_title() == "Heat"
    assert second.get_title() == "Wave"
    curves, ends = axes.lines[::2], axes.lines[1::2]
    assert [line.get_label() for line in curves] == ["seed=0", "seed=1", "seed=2"]
    for line, end, run in zip(curves, ends, runs, strict=True):
        seconds, error = run.history["wall_time"], run.history["relative_l2_u"]
        known = np.isfinite(error)
        np.testing.assert_array_equal(line.get_xydata(), np.stack([seconds[known], error[known]], axis=1))
        assert end.get_xydata().tolist() == [[15.5, run.error]]
    assert axes.get_xlabel() == "seconds of training"
    assert axes.get_xlim()[0] == 0


def test_several_unknowns_are_drawn_by_the_largest_error(tmp_path):
    run = read_run(run_folder(tmp_path / "a"))
    more = replace(run, history={**run.history, "relative_l2_v": 1.0 / run.history["step"]})
    _, error = error_curve(more)
    known = np.isfinite(run.history["relative_l2_u"])
    np.testing.assert_array_equal(
        error[known], np.maximum(run.history["relative_l2_u"], 1.0 / run.history["step"])[known]
    )


def test_without_any_reference_the_loss_is_drawn(tmp_path):
    run = read_run(run_folder(tmp_path / "a", relative_l2=None))
    (axes,) = comparison_figure(named([run])).axes
    assert axes.get_ylabel() == "loss"
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), run.history["loss"])
    assert comparison_figure([replace(run, history={})]) is None


def test_compare_prints_and_writes_what_there_is(tmp_path, kanpinn):
    good = run_folder(tmp_path / "good")
    bad = run_folder(tmp_path / "bad", backbone="mlp", status="diverged")
    blind = run_folder(tmp_path / "blind", backbone="relu_kan", relative_l2=None, linf=None)
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "config.yaml").write_text("problem: {name: heat}\nbackbone: {name: multkan}\nseed: 0\n")
    paths = [str(path) for path in (good, bad, blind, killed)]
    result = kanpinn("compare", *paths, "--csv", "out/all.csv", "-o", "out/all.png")
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines() if line.strip()]
    shown = {line[0]: line for line in lines[2:6]}
    assert shown["kan"][3:] == ["step_limit", "1.00e-03", "1.00e-06", "100", "30", "15.5"]
    assert shown["mlp"][3] == "diverged"
    assert shown["relu_kan"][3:5] == ["step_limit", "–"]
    assert shown["multkan"][1:3] == ["unfinished", "–"] or "unfinished" in shown["multkan"]
    assert "level 2" in result.out
    rows = cells(Path("out/all.csv").read_text())
    assert [row["status"] for row in rows] == ["step_limit", "diverged", "step_limit", "unfinished"]
    assert rows[3]["relative_l2_u"] == rows[2]["relative_l2_u"] == ""
    assert Path("out/all.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], ".: not a run; expected a run folder"),
        (["run", "-o", "figure.pdf"], "ends in .png"),
        (["damaged"], "damaged"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path, kanpinn, argv, complaint):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "metrics.json").write_text("{")
    result = kanpinn("compare", *argv)
    assert result.code == 2
    assert complaint in result.err and result.err.count("\n") == 1
