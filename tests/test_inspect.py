"""What `kanpinn inspect` says of run folders and files, as data and as text."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from kanpinn.errors import UserError
from kanpinn.io.atomic import write_json, write_text
from kanpinn.io.checkpoint import write_checkpoint
from kanpinn.io.hdf5 import seal
from kanpinn.io.inspect import inspect, render
from kanpinn.io.solution import SolutionFile, write_solution

LEVELS = [
    {
        "level": k, "grid": 4 * 2**k, "parameters": 352 * (k + 1), "optimizer": "levenberg_marquardt", "steps": 60,
        "loss": 1.2345e-3, "relative_l2": {"u": 1.2345e-2, "v": 1e-2}, "wall_time_s": 5.4321,
        "transfer_gap": 1e-16 if k else None,
    }
    for k in range(3)
]  # fmt: skip
METRICS = {
    "schema_version": 1, "status": "converged", "problem": "heat", "backbone": "kan", "schedule": "nested",
    "optimizer": "levenberg_marquardt", "seed": 0, "parameters": 1056, "wall_time_s": 41.2345, "loss": 1.23456e-9,
    "relative_l2": {"u": 1.23456e-7, "v": None}, "linf": {"u": 2e-7, "v": None}, "levels": LEVELS,
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "outputs" / "heat"
    t, x = np.linspace(0, 1, 11), np.linspace(-1, 1, 21)
    u = np.outer(np.exp(-t), np.cos(x))
    data = SolutionFile(
        problem="heat",
        equation="u_t = α u_xx",
        config="seed: 0\n",
        seed=0,
        dtype="float64",
        status="converged",
        coordinates={"t": t, "x": x},
        labels={"x": ("position", "m"), "t": ("time", "s"), "u": ("a name so long that no table has room for it", "K")},
        fields={"u": u, "u_ref": u, "u_error": u * 0},
        history={"step": np.arange(5), "loss": np.full(5, np.nan)},
        levels=LEVELS,
        points={"a_condition_with_a_very_long_name_indeed": {"x": x, "residual": x}},
        metrics=METRICS,
        model={"layer_0/coefficients": np.zeros((2, 5, 8))},
    )
    write_solution(folder / "solution.h5", data)
    write_json(folder / "metrics.json", METRICS)
    write_text(folder / "config.yaml", "seed: 0\n")
    write_checkpoint(folder / "checkpoints" / "step_60.h5", {"parameters": np.zeros(7)}, {"step": 60, "best": np.inf})
    return folder


def node(tree: list[dict], path: str) -> dict:
    name, _, rest = path.partition("/")
    found = next(item for item in tree if item["name"] == name)
    return node(found["children"], rest) if rest else found


def test_a_run_is_described_as_json_can_write_it(run: Path):
    found = json.loads(json.dumps(inspect(run), allow_nan=False))
    assert found["kind"] == "run"
    assert found["metrics"] == METRICS
    assert [file["name"] for file in found["files"]] == [
        "checkpoints/step_60.h5", "config.yaml", "metrics.json", "solution.h5",
    ]  # fmt: skip
    assert found["bytes"] == sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    tree = found["solution"]["tree"]
    u = node(tree, "u")
    assert (u["shape"], u["axes"], u["dtype"], u["units"]) == ([11, 21], ["t", "x"], "float64", "K")
    assert u["range"] == pytest.approx([np.exp(-1) * np.cos(1), 1.0])
    assert node(tree, "x")["kind"] == "coordinate"
    assert node(tree, "history/loss")["range"] is None
    assert node(tree, "model/layer_0/coefficients")["shape"] == [2, 5, 8]
    assert found["solution"]["attributes"]["schema"] == "kanpinn-solution"


def test_the_text_names_everything_and_fits_100_columns(run: Path):
    text = render(inspect(run))
    assert max(map(len, text.splitlines())) <= 100
    for part in ("status converged", "u_t = α u_xx", "1.23e-7", "41.2", "1056", "levenberg_marquardt", "KiB"):
        assert part in text
    for part in ("├─ u ", "t 11 × x 21", "[K]", "float64", "coefficients", "2 × 5 × 8", "└─ "):
        assert part in text
    assert "nan" not in text.lower()


def test_columns_of_the_tree_line_up(run: Path):
    lines = [line for line in render(inspect(run)).splitlines() if "float64" in line]
    assert len({line.index("float64") for line in lines}) == 1


def test_levels_are_a_table_with_one_line_each(run: Path):
    lines = render(inspect(run)).splitlines()
    start = lines.index("Levels")
    assert lines[start + 1].split()[:3] == ["level", "grid", "parameters"]
    assert [line.split()[:3] for line in lines[start + 3 : start + 6]] == [
        ["0", "4", "352"], ["1", "8", "704"], ["2", "16", "1056"],
    ]  # fmt: skip
    assert "transfer gap" in "\n".join(lines)


def test_a_single_file_is_described(run: Path):
    solution = inspect(run / "solution.h5")
    assert solution["kind"] == "solution"
    assert solution["metrics"] == METRICS
    assert "1.23e-7" in render(solution)
    checkpoint = inspect(run / "checkpoints" / "step_60.h5")
    assert checkpoint["kind"] == "checkpoint"
    assert checkpoint["record"] == {"step": 60, "best": None}
    assert node(checkpoint["tree"], "arrays/parameters")["shape"] == [7]
    json.dumps(checkpoint, allow_nan=False)
    assert "step  60" in render(checkpoint)


def test_a_run_without_a_solution_yet_is_still_described(run: Path):
    (run / "solution.h5").unlink()
    (run / "metrics.json").unlink()
    found = inspect(run)
    assert found["solution"] is None
    assert "config.yaml" in render(found)


def test_the_json_layout_is_that_of_the_page(run: Path):
    found = json.loads(json.dumps(inspect(run), allow_nan=False))
    page = (Path(__file__).parents[1] / "docs" / "solution-file.md").read_text()
    assert set(found) == {"layout", "kind", "path", "bytes", "files", "metrics", "solution", "unfinished", "warnings"}
    described = {"layout", "kind", "path", "bytes", "attributes", "metrics", "record", "provenance", "tree"}
    assert set(found["solution"]) == described | {"slabs", "errors_by_time", "residuals", "vtk"}
    assert set(inspect(run / "checkpoints" / "step_60.h5")) == described
    for key in {*found, *found["solution"]}:
        assert f"`{key}`" in page
    assert found["layout"] == 1
    assert found["solution"]["vtk"] == {"type": "ImageData", "steps": 11}
    assert found["solution"]["provenance"]["config"] == {"seed": 0}
    assert set(found["solution"]["provenance"]["versions"]) == {"kanpinn", "torch", "numpy", "h5py", "python"}
    assert node(found["solution"]["tree"], "VTKHDF/PointData/u")["target"] == "/u"


def test_errors_by_time_and_residuals_are_sums_over_the_arrays(run: Path):
    with h5py.File(run / "solution.h5", "r+") as f:
        error = np.outer(np.linspace(0, 1, 11), np.linspace(-2, 1, 21))
        f["u_error"][...] = error
        f["u_ref"][3] = 0
        reference, times = f["u_ref"][...], f["t"][...]
    seal(run / "solution.h5")
    found = inspect(run)["solution"]
    columns = found["errors_by_time"]["u"]
    assert columns["t"] == times.tolist()
    assert columns["linf"] == pytest.approx(abs(error).max(axis=1))
    assert columns["relative_l2"][3] is None
    assert columns["relative_l2"][7] == pytest.approx(np.linalg.norm(error[7]) / np.linalg.norm(reference[7]))
    x = np.linspace(-1, 1, 21)
    size = found["residuals"]["a_condition_with_a_very_long_name_indeed"]
    assert size == {"points": 21, "rms": pytest.approx(np.sqrt(np.mean(x**2))), "max": 1.0}
    text = render(inspect(run))
    assert "Error of u by time" in text and "Residuals at the collocation points" in text and "seed=0" in text


def test_more_axes_than_vtk_has_are_said(tmp_path: Path):
    axes = {name: np.linspace(0, 1, 2) for name in "wxyz"}
    fields = {"u": np.zeros((2, 2, 2, 2)), "residual": np.zeros((2, 2, 2, 2))}
    write_solution(tmp_path / "a.h5", SolutionFile("nd", "", "", 0, "float64", "converged", axes, {}, fields))
    assert inspect(tmp_path / "a.h5")["vtk"] is None
    assert "no /VTKHDF: VTK has no more than three axes of space" in render(inspect(tmp_path / "a.h5"))


def test_a_long_path_is_cut_in_the_middle(run: Path):
    found = inspect(run) | {"path": "/" + "a/" * 100 + "heat"}
    first = render(found).splitlines()[0]
    assert len(first) <= 100
    assert "…" in first
    assert "heat" in first


def test_what_is_not_ours_is_refused_in_one_line(run: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with h5py.File(tmp_path / "foreign.h5", "w") as f:
        f["u"] = 1.0
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metrics.json").write_text('{"loss": 1')
    cases = {
        "missing": "no such",
        "empty": "not a run folder",
        "foreign.h5": "no kanpinn schema",
        "notes.txt": "not an HDF5",
        "broken": "cannot be read as JSON",
        "outputs": "holds 1 runs",
    }
    for name, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            inspect(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a run that was killed at level 1 after three steps there and two before, a damaged file on top."""
    rows = {"columns": ["step", "loss"], "values": {"$array": "state/rows"}}
    before = {"columns": ["step", "loss"], "values": {"$array": "state/before"}}
    slab = {"stage": {"level": 1}, "underway": {"rows": rows}}
    meta = {"config": {"problem": {"name": "heat"}}, "state": {"history": before, "trials": [], "slabs": [slab]}}
    arrays = {"state/rows": np.array([[3, 0.5], [4, 0.25], [5, 0.125]]), "state/before": np.array([[1, 2.0], [2, 1.0]])}
    folder = tmp_path / "killed"
    (folder / "checkpoints").mkdir(parents=True)
    write_checkpoint(folder / "checkpoints/checkpoint_00001.h5", arrays, meta)
    (folder / "checkpoints/checkpoint_00002.h5").write_bytes(b"cut off")
    (folder / "config.yaml").write_text("problem: {name: heat}\n")
    return folder


def test_an_unfinished_run_says_how_far_it_came_and_how_to_go_on(killed, kanpinn):
    from kanpinn.io.lock import run_lock

    assert inspect(killed)["unfinished"] == {
        "checkpoint": "checkpoint_00001.h5",
        "problem": "heat",
        "level": 1,
        "step": 5,
        "loss": 0.125,
        "under_way": False,
    }
    line = "unfinished: last checkpoint at level 1, step 5, loss 0.125; go on with `kanpinn resume"
    for command in ("inspect", "compare"):
        words = " ".join(kanpinn(command, str(killed)).out.split())
        assert line in words
        assert "heat" in words or command == "compare"
    with run_lock(killed):
        words = " ".join(kanpinn("inspect", str(killed)).out.split())
    assert "still under way: last checkpoint at level 1, step 5, loss 0.125" in words
    assert "resume" not in words


def test_check_says_what_an_unfinished_run_lacks(killed, kanpinn):
    (killed / "checkpoints/checkpoint_00002.h5").unlink()
    result = kanpinn("inspect", "--check", str(killed))
    assert result.code == 0
    assert "checkpoints/checkpoint_00001.h5" in result.out
    assert "solution.h5 and metrics.json are missing" in result.out


@pytest.mark.parametrize("forged", [np.arange(3), "", np.float64("nan"), "a\nb"])
@pytest.mark.parametrize("name", ["long_name", "units"])
def test_labels_that_are_no_names_are_shown_as_text(run: Path, name: str, forged: object) -> None:
    with h5py.File(run / "solution.h5", "r+") as file:
        file["u"].attrs[name] = forged
    seal(run / "solution.h5")
    found = inspect(run)
    assert isinstance(node(found["solution"]["tree"], "u")[name], str)
    assert "u" in render(found)
