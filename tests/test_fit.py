"""Fits of tables: least squares against independent ones, parts of a table, what a run keeps of it, bad input."""

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.interpolate import BSpline

import kanpinn
from kanpinn.cli.main import main
from kanpinn.io.check import check
from kanpinn.io.data_files import read_data_file
from kanpinn.least_squares.objective import Objective
from kanpinn.least_squares.weighting import Fixed
from kanpinn.pde.table import short_names, table_of
from kanpinn.plots import figures
from kanpinn.report.runs import _CAPTIONS
from kanpinn.samplers import SAMPLERS

QUICK = ["schedule.levels=1", "schedule.steps=30", "output.points=9", "output.figures=false", "output.progress=false"]
ONE_LAYER = ["backbone.width=[]", "backbone.degree=3", "backbone.grid=5"]


def write(file: Path, **columns: np.ndarray) -> Path:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return file


@pytest.fixture
def two(folder: Path) -> dict[str, np.ndarray]:
    x, z = np.random.default_rng(0).uniform(-1, 1, (2, 120))
    columns = {"x": x, "z": z, "y": np.exp(np.sin(3 * x) + z**2)}
    write(folder / "t.csv", **columns)
    return columns


def design(columns: list[np.ndarray], lower: list[float], upper: list[float], grid: int, degree: int) -> np.ndarray:
    """Values of the B-splines of each column on its own interval, side by side."""
    blocks = []
    for x, a, b in zip(columns, lower, upper, strict=True):
        knots = np.arange(-degree, grid + degree + 1) * (b - a) / grid + a
        splines = BSpline(knots, np.eye(grid + degree), degree, extrapolate=True)
        blocks.append(splines(x))
    return np.concatenate(blocks, axis=1)


def test_a_network_of_one_layer_is_the_least_squares_fit_of_its_splines(two):
    """Against numpy's lstsq over scipy's B-splines."""
    found = kanpinn.fit(two, "y", *QUICK, *ONE_LAYER, split=[1])
    points = np.stack([two["x"], two["z"]], axis=1)
    matrix = design([two["x"], two["z"]], points.min(0).tolist(), points.max(0).tolist(), 5, 3)
    expected = matrix @ np.linalg.lstsq(matrix, two["y"], rcond=None)[0]
    assert found(points)["y"] == pytest.approx(expected, abs=1e-6)
    train = found.metrics["data"]["train"]
    assert train["rmse"]["y"] == pytest.approx(np.sqrt(np.mean((expected - two["y"]) ** 2)), rel=1e-6)
    assert train["r2"]["y"] == pytest.approx(1 - np.var(expected - two["y"]) / np.var(two["y"]), rel=1e-6)


def test_standard_deviations_weigh_the_rows(two):
    sigma = np.where(two["x"] > 0, 0.1, 3.0)
    found = kanpinn.fit({**two, "sigma_y": sigma}, "y", *QUICK, *ONE_LAYER, split=[1])
    points = np.stack([two["x"], two["z"]], axis=1)
    matrix = design([two["x"], two["z"]], points.min(0).tolist(), points.max(0).tolist(), 5, 3)
    expected = matrix @ np.linalg.lstsq(matrix / sigma[:, None], two["y"] / sigma, rcond=None)[0]
    assert found(points)["y"] == pytest.approx(expected, abs=1e-5)


def test_the_command_writes_a_run_that_holds_its_table(two, folder, capsys):
    assert main(["fit", "t.csv", "--target", "y", *QUICK, "hydra.run.dir=run"]) == 0
    assert "validation" in capsys.readouterr().out
    before = kanpinn.load("run")
    points = np.array([[0.1, -0.2], [0.5, 0.3]])
    (folder / "other").mkdir()
    shutil.move("run", "other/run")
    (folder / "t.csv").unlink()
    after = kanpinn.load("other/run")
    assert np.array_equal(after(points)["y"], before(points)["y"])
    assert check(folder / "other/run") == []
    data = after.metrics["data"]
    assert [data[part]["rows"] for part in ("train", "validation", "test")] == [96, 12, 12]
    assert after.metrics["relative_l2"] == data["validation"]["relative_l2"]
    write(folder / "t.csv", **{**two, "y": two["y"] + 1})
    with pytest.warns(kanpinn.KanpinnWarning, match="has changed since"):
        kanpinn.load("other/run")


@pytest.mark.slow
def test_the_command_and_python_agree(two, folder):
    assert main(["fit", "t.csv", "--target=y", "--inputs=x,z", *QUICK, "hydra.run.dir=run", "seed=3"]) == 0
    points = np.array([[0.1, -0.2], [0.5, 0.3]])
    other = kanpinn.fit(np.stack([two["x"], two["z"]], axis=1), two["y"], *QUICK, "seed=3", folder="other")
    assert np.array_equal(kanpinn.load("run")(points)["y"], other(points)["y"])
    assert other.problem.domain.names == ("x1", "x2")


def test_the_split_is_by_seed_and_covers_all_rows(two):
    parts = [table_of(two, ["y"], split=[0.6, 0.2, 0.2], seed=seed).parts for seed in (0, 0, 1)]
    for found in parts:
        assert np.array_equal(np.sort(np.concatenate(list(found.values()))), np.arange(120))
        assert [len(rows) for rows in found.values()] == [72, 24, 24]
    assert np.array_equal(parts[0]["test"], parts[1]["test"]) and not np.array_equal(parts[0]["test"], parts[2]["test"])


def test_columns_get_names_that_can_be_told_apart():
    assert short_names(["petal length (cm)", "petal-length cm", "2nd", "ß"]) == [
        "petallengthcm",
        "cpetallengthcm2",
        "c2nd",
        "c4",
    ]
    assert len({*short_names(["x", "xx", "X", "row"])}) == 4


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["t.csv"], "no target; give --target, one of the columns x, z, y"),
        (["t.csv", "--target", "yy"], "--target=yy: unknown. Did you mean"),
        (["t.csv", "--target", "y", "--inputs", "x,q"], "--inputs=q: unknown"),
        (["t.csv", "--target", "y", "--inputs", "x,y"], "--inputs=y: is the target"),
        (["t.csv", "--target", "y", "problem.split=[0,1]"], "problem.split"),
        (["t.csv", "--target", "y", "problem.sample=1"], "problem.sample"),
        (["none.csv", "--target", "y"], "none.csv"),
        (["--target", "y"], "TABLE"),
        (["constant.csv", "--target", "y"], "has one value in all rows: there is nothing to fit"),
        (["constant.csv", "--target", "x"], "no column of numbers that differ is left as an input"),
        (["whole.csv", "--target", "y"], "'y' has one value in all rows: there is nothing to fit"),
        (["one.csv", "--target", "y"], "problem.file=one.csv: has 1 row; expected"),
        (["mixed.csv", "--target", "k"], "line 2: k='a': expected"),
        (["mixed.csv", "--target", "k"], "for classes, labels none of which is a number"),
        (["large.csv", "--target", "y"], "problem.file=large.csv: column 'y': 1e+302: expected numbers up to 1e+290"),
        (["words.csv", "--target", "y", "problem.task=regression"], "words.csv: no column of numbers among x, z"),
        (["nan.csv", "--target", "y"], "line 3: x='nan': expected a finite number"),
        (["twice.csv", "--target", "y"], "column 'x' is there twice"),
    ],
)
def test_a_table_that_cannot_be_fitted_is_refused_in_one_line(words, told, two, folder, capsys):
    (folder / "constant.csv").write_text("x,y\n1,3\n2,3\n4,3\n")
    (folder / "one.csv").write_text("x,y\n1,3\n")
    (folder / "words.csv").write_text("x,z\na,b\nc,d\n")
    (folder / "whole.csv").write_text("x,y\n" + "".join(f"{k},3\n" for k in range(40)))
    (folder / "nan.csv").write_text("x,y\n1,3\nnan,4\n3,5\n")
    (folder / "mixed.csv").write_text("x,k\n1,a\n2,1\n3,a\n")
    (folder / "large.csv").write_text("x,y\n1,1e302\n2,0\n3,1\n")
    (folder / "twice.csv").write_text("x,x,y\n1,1,3\n2,2,5\n")
    assert main(["fit", *words]) == 2
    err = capsys.readouterr().err
    assert told in err and err.count("\n") == 1, err


@pytest.mark.parametrize(
    ("table", "target", "told"),
    [
        (np.eye(9)[:, :2], np.ones(9), "has one value in all rows"),
        (np.eye(9)[:1], np.ones(1), "has 1 row"),
        (np.eye(9)[:, :2], np.full(9, np.nan), "of finite numbers"),
        (np.eye(9)[:, :2], np.arange(9) + 1j, "real numbers, not complex ones"),
        (np.zeros((0, 2)), np.zeros(0), "columns of one length, of finite numbers"),
    ],
)
def test_arrays_that_cannot_be_fitted_are_refused(table, target, told):
    with pytest.raises(kanpinn.UserError, match=told):
        kanpinn.fit(table, target)


def test_inputs_of_one_value_are_left_out_in_a_line(two, capsys):
    more = {**two, "k": np.full(120, 3.0), "m": np.zeros(120)}
    assert table_of(more, ["y"]).features == ("x", "z")
    assert capsys.readouterr().err == "kanpinn: warning: table: k, m: one value in all rows trained, left out\n"
    table_of(more, ["y"], ["x"])
    assert not capsys.readouterr().err


def test_the_largest_numbers_of_a_table_make_a_run_that_can_be_read(two, folder):
    largest = {**two, "y": two["y"] / two["y"].max() * 1e290}
    kanpinn.fit(largest, "y", *QUICK, "schedule.steps=3", folder="run")
    assert not check(Path("run"))
    assert 0 < kanpinn.load("run").metrics["relative_l2"]["y"] < 1


def test_an_array_of_texts_is_a_target_of_classes():
    x = np.linspace(-1, 1, 60)[:, None]
    found = kanpinn.fit(x, np.where(x[:, 0] > 0, "up", "down"), *QUICK, split=[1])
    assert found.problem.classes == ("down", "up")


@pytest.fixture
def three(folder: Path) -> dict[str, np.ndarray]:
    """Three classes, by the angle of a point."""
    x, z = np.random.default_rng(1).normal(size=(2, 150))
    names = np.array(["ash", "beech", "cedar"])[np.digitize(np.arctan2(z, x), [-1, 1])]
    columns = {"x": x, "z": z, "kind": names}
    write(folder / "k.csv", **columns)
    return columns


def test_the_generalised_gauss_newton_step_of_classes(three):
    """Loss, gradient and curvature against dense torch.func: Jᵀ(diag p − p pᵀ)J, Jᵀ(p − e_y), −log p_y."""
    found = kanpinn.fit(three, "kind", "schedule.levels=1", "schedule.steps=2", "backbone.width=[2]", split=[1])
    table, residuals = found.problem, found.residuals
    points, own = torch.from_numpy(table.points("train")), torch.from_numpy(table.rows("train")["class"]).long()
    objective = Objective(residuals, Fixed())
    objective.set_points(SAMPLERS["grid"]().draw(table, 0, np.random.default_rng(0)))
    theta = residuals.backbone.initial(np.random.default_rng(3))
    theta = 3 * (theta if isinstance(theta, torch.Tensor) else torch.from_numpy(theta))

    def logits(theta: torch.Tensor) -> torch.Tensor:
        return residuals.backbone.forward(theta, points, residuals.space).data[0]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits(theta), own)

    jacobian = torch.autograd.functional.jacobian(logits, theta)  # (N, K, P)
    p = torch.softmax(logits(theta), dim=1)
    curvature = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    expected = torch.einsum("nkp,nkl,nlq->pq", jacobian, curvature, jacobian) / len(points)
    normal = objective.linearize(theta).gram()
    gradient = torch.autograd.functional.jacobian(loss, theta)
    assert normal.loss == pytest.approx(float(loss(theta)), rel=1e-12)
    assert objective.loss(theta)[0] == pytest.approx(float(loss(theta)), rel=1e-12)
    assert torch.allclose(2 * normal.matrix, expected, rtol=1e-10, atol=1e-12 * float(expected.abs().max()))
    assert torch.allclose(2 * normal.gradient, gradient, rtol=1e-9, atol=1e-12)
    assert torch.allclose(objective.loss_and_gradient(theta)[1], gradient, rtol=1e-9, atol=1e-12)


def test_classes_given_as_text_and_explained(three, folder, capsys):
    assert main(["fit", "k.csv", "--target", "kind", *QUICK, "hydra.run.dir=run"]) == 0
    assert "accuracy kind" in capsys.readouterr().out
    found = kanpinn.load("run")
    assert found.problem.classes == ("ash", "beech", "cedar")
    assert found.problem.unknowns == ("kindash", "kindbeech", "kindcedar")
    parts = [found.metrics["data"][part]["accuracy"]["kind"] for part in ("train", "validation", "test")]
    assert parts[0] > 0.97 and min(parts) > 0.7
    assert check(folder / "run") == []
    points = np.stack([three["x"], three["z"]], axis=1)[found.problem.parts["train"]]
    decoded = found.problem.decoded(found(points))
    assert np.mean(decoded["kind"] == three["kind"][found.problem.parts["train"]]) == parts[0]
    total = sum(decoded[f"p_{name}"] for name in found.problem.classes)
    assert total == pytest.approx(np.ones(len(points)), abs=1e-12)
    capsys.readouterr()
    assert main(["explain", "run"]) == 0
    assert "structure: not asked for, its error is not known" in capsys.readouterr().out
    assert {name.partition("_")[0] for name in figures(found.data)} <= set(_CAPTIONS)  # of the report
    for words in ([], ["--edges"]):  # they have no law
        assert main(["symbolic", "run", *words]) == 2
        assert "its targets are classes" in (err := capsys.readouterr().err) and err.count("\n") == 1


def test_the_rows_of_validation_choose_the_parameters(two):
    """Of a stage the best of all steps, and never worse than where the stage began."""
    noisy = {**two, "y": two["y"] + np.random.default_rng(5).normal(size=120)}
    found = kanpinn.fit(noisy, "y", "schedule.levels=2", "schedule.steps=20", "output.progress=false")
    errors = found.data.history["relative_l2_y"]
    assert found.metrics["relative_l2"]["y"] == pytest.approx(errors.min(), rel=1e-6)
    assert errors[-1] > errors.min()
    assert found.metrics["limited_by"].startswith(
        f"rows: those of validation were fitted best at step {errors.argmin() + 1}"
    )


def test_tables_of_all_formats(folder):
    """Written by numpy, h5py, pillow and by hand, and read back."""
    a, b = np.arange(4.0), np.array([1.5, 2, -3, 4])
    np.save("a.npy", np.stack([a, b], axis=1))
    np.savez("a.npz", a=a, b=b, m=np.stack([a, b], axis=1), label=np.array(["u", "v", "u", "v"]))
    with h5py.File("a.h5", "w") as file:
        file["a"], file["b"] = a, b
    Image.fromarray(np.array([[0, 255], [51, 102]], np.uint8)).save("a.png")
    Image.fromarray(np.array([[0.25, -1.5]], np.float32)).save("a.tiff")
    images = np.arange(12, dtype=np.uint8)
    Path("t-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + np.array([3, 2, 2], ">u4").tobytes() + images.tobytes())
    Path("t-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + np.array([3], ">u4").tobytes() + b"\7\0\1")
    found = {name: read_data_file(Path(name), "file") for name in ("a.npy", "a.npz", "a.h5", "a.png", "a.tiff")}
    assert np.array_equal(found["a.npy"]["c2"], b) and np.array_equal(found["a.h5"]["b"], b)
    assert list(found["a.npz"]) == ["a", "b", "m1", "m2", "label"] and found["a.npz"]["label"][1] == "v"
    assert found["a.png"]["grey"] == pytest.approx([0, 1, 0.2, 0.4])
    assert found["a.tiff"]["grey"].tolist() == [0.25, -1.5]
    assert found["a.png"]["x"].tolist() == [0, 1, 0, 1] and found["a.png"]["y"].tolist() == [1, 1, 0, 0]
    digits = read_data_file(Path("t-images-idx3-ubyte"), "file")
    assert digits["p4"].tolist() == [3, 7, 11] and digits["label"].tolist() == [7, 0, 1]


def test_rows_of_the_test_may_have_their_own_file(two, folder, capsys):
    write(folder / "other.csv", y=two["y"][:30], z=two["z"][:30], x=two["x"][:30], more=two["x"][:30])
    words = ["fit", "t.csv", "--target", "y", *QUICK, "schedule.steps=5", "problem.test=other.csv"]
    assert main([*words, "hydra.run.dir=run"]) == 0
    found = kanpinn.load("run")
    assert [found.metrics["data"][part]["rows"] for part in ("train", "validation", "test")] == [107, 13, 30]
    assert found.problem.rows("test")["z"].tolist() == two["z"][:30].tolist()
    left = found(np.stack([two["x"], two["z"]], axis=1)[:30])["y"] - two["y"][:30]
    assert found.metrics["data"]["test"]["rmse"]["y"] == pytest.approx(np.sqrt(np.mean(left**2)), rel=1e-9)
    capsys.readouterr()
    write(folder / "other.csv", y=two["y"][:30], z=two["z"][:30])
    assert main([*words, "hydra.run.dir=second"]) == 2
    assert "problem.test=other.csv: column 'x' is missing there" in capsys.readouterr().err


def test_pictures_are_the_way_up_that_the_camera_noted(folder):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = Image.Exif()
    turned[0x0112] = 3  # turned by 180 degrees
    Image.fromarray(values[::-1, ::-1]).save("turned.png", exif=turned)
    found = read_data_file(Path("turned.png"), "file")
    assert (255 * found["grey"]).round().tolist() == [0, 1, 2, 3, 4, 5]
    Image.new("L", (2000, 1001)).save("large.png")
    with pytest.raises(kanpinn.UserError, match=r"^file=large\.png: 2000 × 1001 pixels; expected at most"):
        read_data_file(Path("large.png"), "file")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.h5", "a.png", "a-idx3-ubyte", "a-idx3-ubyte.gz"])
def test_files_of_no_such_format_are_refused(name, folder):
    Path(name).write_bytes(b"\0\0\x09 something else")
    with pytest.raises(kanpinn.UserError, match="cannot be read as"):
        read_data_file(Path(name), "file")


def test_few_whole_numbers_are_classes_unless_it_is_said_that_they_are_not(two):
    columns = {**two, "n": np.arange(120) % 4 + 3.0}
    assert table_of(columns, ["n"]).classes == ("3", "4", "5", "6")
    assert table_of(columns, ["n"], task="regression").classes == ()
    assert table_of(columns, ["n", "y"]).classes == ()
    with pytest.raises(kanpinn.UserError, match="y has 120 different values in 120 rows: no classes"):
        table_of(columns, ["y"], task="classification")
