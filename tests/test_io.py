"""Files of a run: what other programs find in them, and what becomes of them when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr

from kanpinn.axes import field_axes
from kanpinn.errors import UserError
from kanpinn.io.atomic import atomic_path, write_json, write_text
from kanpinn.io.checkpoint import read_checkpoint, write_checkpoint
from kanpinn.io.config_text import read_config
from kanpinn.io.hdf5 import seal
from kanpinn.io.metrics import read_metrics
from kanpinn.io.solution import SolutionFile, read_solution, write_solution


@pytest.fixture
def data() -> SolutionFile:
    t, y, x = np.linspace(0, 1, 5), np.linspace(-1, 1, 7), np.linspace(0, 3, 64)
    grid = np.meshgrid(t, y, x, indexing="ij")
    reference = np.sin(grid[2]) * np.exp(-grid[0]) * grid[1]
    u = reference + 1e-16 * grid[2]
    levels = [
        {"level": 0, "grid": 4, "optimizer": "adam", "relative_l2": {"u": 1e-2}, "transfer_gap": None},
        {"level": 1, "grid": 8, "optimizer": "lbfgs", "relative_l2": {"u": 1e-4}, "transfer_gap": 1e-16},
    ]
    steps = np.arange(1, 2001)
    return SolutionFile(
        problem="heat",
        equation="u_t = α u_xx",
        config="seed: 3\n" + "# a long comment\n" * 8000,  # longer than the 64 KiB an HDF5 attribute can hold in place
        seed=3,
        dtype="float64",
        status="converged",
        coordinates={"x": x, "t": t, "y": y},
        labels={"x": ("position", "m"), "t": ("time", "seconds"), "u": ("temperature", "K")},
        fields={"u": u, "u_ref": reference, "u_error": u - reference, "residual": grid[0] * 1e-9},
        history={
            "step": steps,
            "level": steps // 1001,
            "wall_time": steps * 0.1,
            "loss": 1.0 / steps,
            "relative_l2_u": np.where(steps % 5 == 0, 1.0 / steps, np.nan),
            "stage": np.where(steps < 1001, "coarse", "fine"),
            "accepted": steps % 7 != 0,
        },
        levels=levels,
        points={"interior": {"t": t, "y": t, "x": t, "residual": t**2}, "initial": {"x": x, "residual": x}},
        metrics={"schema_version": 1, "status": "converged", "relative_l2": {"u": 1e-4}, "linf": {"u": None}},
        model={
            "layer_0/coefficients": np.random.default_rng(0).normal(size=(2, 3, 8)),
            "layer_0/knots": np.linspace(-2.2, 2.2, 12),
        },
        model_attributes={"degree": 4, "width": [5, 5], "base": False, "outside": "extrapolate"},
    )


@pytest.fixture
def file(tmp_path: Path, data: SolutionFile) -> Path:
    write_solution(tmp_path / "solution.h5", data)
    return tmp_path / "solution.h5"


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


# --- what other programs find


def test_axes_are_ordered_t_z_y_x():
    assert field_axes(["x", "y", "t", "z"]) == ("t", "z", "y", "x")
    assert field_axes(["x", "t"]) == ("t", "x")
    assert field_axes(["x", "y", "z", "w", "v", "t"]) == ("t", "w", "v", "z", "y", "x")


def test_layout_by_h5py(file: Path, data: SolutionFile):
    with h5py.File(file) as f:
        assert f.attrs["schema"] == "kanpinn-solution"
        assert f.attrs["schema_version"] == 1
        for name in ("problem", "equation", "config", "seed", "dtype", "status"):
            assert f.attrs[name] == getattr(data, name)
        for name in ("kanpinn_version", "torch_version", "numpy_version", "h5py_version", "python_version"):
            assert isinstance(f.attrs[name], str)
        assert f.attrs["created"].endswith("+00:00")
        for name in "txy":
            assert f[name].is_scale
        for name in ("u", "u_ref", "u_error", "residual"):
            assert f[name].dtype == np.float64
            assert [dim[0].name for dim in f[name].dims] == ["/t", "/y", "/x"]
            assert f[name].compression == "gzip"
            assert f[name].shuffle
        assert dict(f["x"].attrs.items())["units"] == "m"
        assert f["u_error"].attrs["units"] == "K"
        assert f["u_ref"].attrs["long_name"] == "reference temperature"
        assert f["y"].attrs["units"] == "1"
        assert f["history/step"].is_scale
        assert f["history/loss"].dims[0][0].name == "/history/step"
        assert set(f) >= {"history", "levels", "points", "metrics", "model"}
        assert f["metrics"].attrs["relative_l2_u"] == 1e-4
        assert f["model/layer_0/coefficients"].shape == (2, 3, 8)
        np.testing.assert_array_equal(f["levels/transfer_gap"], [np.nan, 1e-16])


def test_layout_by_h5netcdf(file: Path):
    with h5netcdf.File(file, "r") as f:
        assert f.variables["u"].dimensions == ("t", "y", "x")
        assert {name: len(dim) for name, dim in f.dimensions.items()} == {"t": 5, "y": 7, "x": 64}


@pytest.mark.filterwarnings("error")
def test_xarray_opens_fields_with_coordinates(file: Path, data: SolutionFile):
    with xr.open_dataset(file, engine="h5netcdf") as ds:
        assert ds["u"].dims == ("t", "y", "x")
        assert set(ds.coords) == {"t", "y", "x"}
        assert ds["u"].dtype == np.float64
        np.testing.assert_array_equal(ds["u"], data.fields["u"])
        np.testing.assert_array_equal(ds["x"], data.coordinates["x"])
        np.testing.assert_array_equal(ds["u_error"], ds["u"] - ds["u_ref"])
        assert ds["u"].attrs["units"] == "K"
        assert ds["u"].attrs["long_name"] == "temperature"
        assert ds["x"].attrs["units"] == "m"


@pytest.mark.filterwarnings("error")
def test_xarray_opens_the_tables(file: Path, data: SolutionFile):
    with xr.open_dataset(file, engine="h5netcdf", group="history") as history:
        assert set(history.dims) == {"step"}
        np.testing.assert_array_equal(history["loss"], data.history["loss"])
        assert history["accepted"].dtype == bool
        assert float(history["loss"].sel(step=10)) == 0.1
    with xr.open_dataset(file, engine="h5netcdf", group="levels") as levels:
        assert list(levels["grid"]) == [4, 8]
        assert list(levels["optimizer"]) == ["adam", "lbfgs"]
    with xr.open_dataset(file, engine="h5netcdf", group="points/interior") as points:
        np.testing.assert_array_equal(points["residual"], data.points["interior"]["residual"])


def test_reading_gives_back_what_was_written(file: Path, data: SolutionFile):
    found = read_solution(file)
    for name in ("problem", "equation", "config", "seed", "dtype", "status", "levels", "metrics", "model_attributes"):
        assert getattr(found, name) == getattr(data, name)
    for name in ("coordinates", "fields", "history", "model"):
        ours, theirs = getattr(data, name), getattr(found, name)
        assert set(ours) == set(theirs)
        for key, values in ours.items():
            assert theirs[key].dtype == values.dtype
            np.testing.assert_array_equal(theirs[key], values)
    assert {c: set(columns) for c, columns in found.points.items()} == {
        c: set(columns) for c, columns in data.points.items()
    }
    assert found.label("u") == ("temperature", "K")
    assert found.unknowns == ("u",)
    assert found.residuals == ("residual",)
    assert list(found.coordinates) == ["t", "y", "x"]


def test_a_file_without_history_points_or_model_reads_back(tmp_path: Path, data: SolutionFile):
    bare = replace(data, history={}, levels=[], points={}, metrics={}, model={}, model_attributes={})
    write_solution(tmp_path / "a.h5", bare)
    found = read_solution(tmp_path / "a.h5")
    assert (found.history, found.levels, found.points, found.metrics, found.model) == ({}, [], {}, {}, {})


def test_nan_and_infinity_survive_in_fields(tmp_path: Path, data: SolutionFile):
    data.fields["u"][0, 0, :2] = np.nan, np.inf
    write_solution(tmp_path / "a.h5", data)
    np.testing.assert_array_equal(read_solution(tmp_path / "a.h5").fields["u"], data.fields["u"])


# --- atomic writing


def test_strict_json_has_null_for_nan_and_takes_numpy(tmp_path: Path):
    write_json(
        tmp_path / "m.json", {"a": np.float64(1.5), "b": float("nan"), "c": [np.inf, np.int64(3)], "d": np.bool_(1)}
    )
    assert json.loads((tmp_path / "m.json").read_text()) == {"a": 1.5, "b": None, "c": [None, 3], "d": True}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "text.txt"
    write_text(path, "old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            assert temporary.parent == path.parent
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["text.txt"]


def test_files_get_the_permissions_that_any_new_file_gets(tmp_path: Path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "atomic", "")
    assert (tmp_path / "plain").stat().st_mode == (tmp_path / "atomic").stat().st_mode


def test_a_failed_solution_write_leaves_the_old_file(file: Path, data: SolutionFile):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="u_error"):
        write_solution(file, replace(data, fields={**data.fields, "u_error": np.zeros((5, 7, 3))}))
    assert file.read_bytes() == before
    assert temporaries(file.parent) == []


def run(code: str, *arguments: object, **how: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    root = Path(__file__).parents[1]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how)


def test_a_full_disk_is_an_ordinary_error_and_leaves_the_old_file(file: Path):
    # HDF5 itself would abort the process when its handle is closed after a failed write.
    before = file.read_bytes()
    code = """
    import resource, sys
    from kanpinn.io.solution import read_solution, write_solution
    data = read_solution(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    try:
        write_solution(sys.argv[1], data)
    except OSError as error:
        print("refused", flush=True)
    """
    process = run(code, file)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "refused\n"), err
    assert file.read_bytes() == before
    assert temporaries(file.parent) == []


def test_killed_while_writing_the_old_file_stays_readable(file: Path, data: SolutionFile):
    code = """
    import os, sys, time
    from kanpinn.io.solution import read_solution, write_solution
    data = read_solution(sys.argv[1])
    data.seed = 99
    def stall(descriptor):
        print("writing", flush=True)
        time.sleep(60)
    os.fsync = stall
    write_solution(sys.argv[1], data)
    """
    process = run(code, file)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    found = read_solution(file)
    assert found.seed == 3
    np.testing.assert_array_equal(found.fields["u"], data.fields["u"])


# --- checkpoints


def test_checkpoint_arrays_come_back_bit_for_bit(tmp_path: Path):
    special = np.array([0x7FF8000000000123, 1, 1 << 63], dtype=np.uint64).view(np.float64)  # NaN payload, subnormal, -0
    arrays = {
        "parameters": np.random.default_rng(0).normal(size=(7, 3)),
        "optimizer/m": np.linspace(0, 1, 5, dtype=np.float32),
        "optimizer/special": special,
        "rng": np.arange(5056, dtype=np.uint8),
        "flag": np.array(True),
        "step": np.array(7, dtype=np.int64),
        "empty": np.zeros((0, 4)),
        "big_endian": np.arange(3, dtype=">i4"),
    }
    meta = {"step": np.int64(7), "best": float("inf"), "rng": 2**127 + 1, "names": ("a", "ü"), "tiny": 0.1 + 0.2}
    write_checkpoint(tmp_path / "c.h5", arrays, meta)
    found, record = read_checkpoint(tmp_path / "c.h5")
    assert set(found) == set(arrays)
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
        assert found[name].tobytes() == values.tobytes()
    assert record == {"step": 7, "best": float("inf"), "rng": 2**127 + 1, "names": ["a", "ü"], "tiny": 0.1 + 0.2}


def test_checkpoints_refuse_what_would_need_a_pickle(tmp_path: Path):
    with pytest.raises(TypeError, match="numbers"):
        write_checkpoint(tmp_path / "c.h5", {"a": np.array([object()])}, {})
    with pytest.raises(TypeError, match="JSON"):
        write_checkpoint(tmp_path / "c.h5", {}, {"a": object()})
    assert os.listdir(tmp_path) == []


# --- files that are not ours


def damaged(path: Path, kind: str, good: Path) -> Path:
    if kind == "text":
        path.write_text("x,y\n1,2\n")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "truncated":
        path.write_bytes(good.read_bytes()[:-5000])
    elif kind == "head only":
        path.write_bytes(good.read_bytes()[:96])
    elif kind == "foreign":
        with h5py.File(path, "w") as f:
            f["u"] = 1.0
    elif kind == "newer":
        path.write_bytes(good.read_bytes())
        with h5py.File(path, "r+") as f:
            f.attrs["schema_version"] = 2
        seal(path)
    elif kind == "part missing":
        path.write_bytes(good.read_bytes())
        with h5py.File(path, "r+") as f:
            del f["history"]
        seal(path)
    return path


KINDS = {
    "missing": "no such file",
    "text": "not an HDF5 file",
    "empty": "not an HDF5 file",
    "folder": "is a folder",
    "truncated": "truncated",
    "head only": "truncated",
    "foreign": "no kanpinn schema",
    "newer": "schema_version 2",
    "part missing": "history",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_a_solution_is_refused_in_one_line(tmp_path: Path, file: Path, kind: str):
    path = damaged(tmp_path / "other.h5", kind, file)
    with pytest.raises(UserError, match=KINDS[kind]) as caught:
        read_solution(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("newer", "part missing")])
def test_a_file_that_is_not_a_checkpoint_is_refused_in_one_line(tmp_path: Path, file: Path, kind: str):
    path = damaged(tmp_path / "other.h5", kind, file)
    with pytest.raises(UserError, match=KINDS[kind]):
        read_checkpoint(path)


def test_a_solution_is_no_checkpoint_and_the_reverse(tmp_path: Path, file: Path):
    write_checkpoint(tmp_path / "c.h5", {}, {})
    with pytest.raises(UserError, match="expected kanpinn-checkpoint"):
        read_checkpoint(file)
    with pytest.raises(UserError, match="expected kanpinn-solution"):
        read_solution(tmp_path / "c.h5")


def test_overwritten_bytes_are_reported_not_returned(file: Path):
    # Zeros over the compressed fields: the file opens, but its content cannot be decoded.
    content = bytearray(file.read_bytes())
    with h5py.File(file) as f:
        chunk = f["u"].id.get_chunk_info(0)
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    file.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_solution(file)


def test_a_config_is_read_as_plain_values() -> None:
    found = read_config("problem:\n  name: heat\n  when: 2026-01-01\nsteps: [1, 2.5e-3, null]\n")
    assert found == {"problem": {"name": "heat", "when": "2026-01-01"}, "steps": [1, 2.5e-3, None]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "aliases"),
        ("[" * 5000, "recursion"),
        ("key: " + "x" * 2**20, "letters"),
        ("!!python/object/apply:os.getcwd []", "tag"),
        ("- 1\n", "not a mapping"),
        ("a: [\n", "expected"),
        ("a: !!binary aGk=\n", "JSON"),
    ],
)
def test_a_config_that_is_none_of_ours_is_refused_in_a_line(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read_config(text)
    assert len(str(refused.value).splitlines()) == 1


FORGED = {
    "knots reversed": ("model/layer_0/knots", lambda v: v[::-1], "rising"),
    "knots missing some": ("model/layer_0/knots", lambda v: v[:-5], "do not fit"),
    "knots not finite": ("model/layer_0/knots", lambda v: v * np.inf, "rising"),
    "coefficients empty": ("model/layer_0/coefficients", lambda v: v[:0], "coefficients of edges"),
    "coefficients flat": ("model/layer_0/coefficients", lambda v: v.ravel(), "coefficients of edges"),
    "coefficients a text": ("model/layer_0/coefficients", lambda _: "many", "expected number values"),
    "spectrum a number": ("spectrum/u_x", lambda v: v[0, 0], "does not fit its wave numbers"),
    "spectrum of other visits": ("spectrum/u_x", lambda v: v[:1], "does not fit its wave numbers"),
    "wave numbers falling": ("spectrum/wave_number_x", lambda v: v[::-1], "does not fit its wave numbers"),
    "coordinate without end": ("x", lambda v: np.append(v[:-1], np.inf), "rising"),
    "history of texts": ("history/loss", lambda v: v.astype(str).astype(object), "expected float values"),
    "history a number": ("history/loss", lambda v: v[0], "expected the axes"),
    "history of half levels": ("history/level", lambda v: v + 0.5, "expected integer values"),
    "history above all levels": ("history/level", lambda v: v + 65, "is not levels"),
    "errors of texts": ("history/loss", lambda v: v.astype("S8"), "expected float values"),
    "coefficients not finite": ("model/layer_0/coefficients", lambda v: v * np.nan, "not finite numbers"),
    "coefficients without end": ("model/layer_0/coefficients", lambda v: v * 0 + 1e308, "of a sane size"),
    "spectrum known in part": ("spectrum/u_x", lambda v: np.where(v.cumsum(1) > 1, v, np.nan), "does not fit its"),
    "spectrum below 0": ("spectrum/u_x", lambda v: -v, "does not fit its"),
    "a coordinate too far": ("x", lambda v: np.linspace(0, 1e300, len(v)), "rising"),
    "points without residual": ("points/interior/residual", None, "has no column 'residual'"),
    "points without coordinate": ("points/interior/x", None, "has no column 'x'"),
    "points of other length": ("points/interior/residual", lambda v: v[:-1], "expected the axes"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_files_with_a_right_checksum_are_refused_in_a_line(
    case: str, data: SolutionFile, tmp_path: Path
) -> None:
    place, change, reason = FORGED[case]
    k = np.arange(len(data.coordinates["x"]), dtype=float)
    spectra = {"wave_number_x": k, "u_x": np.ones((len(data.levels), len(k)))}
    path = tmp_path / "solution.h5"
    write_solution(path, replace(data, spectra=spectra))
    with h5py.File(path, "r+") as file:
        values, attributes, scale = file[place][()], dict(file[place].attrs), file[place].is_scale
        axes = [axis[0] for axis in file[place].dims if len(axis)]
        del file[place]
        if change is not None:
            forged = file.create_dataset(place, data=change(values))
            forged.attrs.update({name: attributes[name] for name in ("long_name", "units") if name in attributes})
            if scale:
                forged.make_scale(place.rpartition("/")[2])
            elif forged.shape == np.shape(values):
                for k, axis in enumerate(axes):
                    forged.dims[k].attach_scale(axis)
    seal(path)
    with pytest.raises(UserError, match=reason) as refused:
        read_solution(path)
    assert len(str(refused.value).splitlines()) == 1


def test_level_records_without_a_level_are_refused(data: SolutionFile, tmp_path: Path) -> None:
    write_solution(tmp_path / "solution.h5", replace(data, levels=[{"grid": 4}]))
    with pytest.raises(UserError, match="level of a level is not a whole number up to 64"):
        read_solution(tmp_path / "solution.h5")


FORGED_RECORDS = {
    "a level without end": ({"level": 10**12}, "level of a level is not a whole number"),
    "a level below the coarsest": ({"level": -1}, "level of a level is not a whole number"),
    "steps undone": ({"steps": -10}, "steps of a level is not a whole number"),
    "half a slab": ({"slab": 0.5}, "slab of a level: expected integer or null; found 0.5"),
    "grid a text": ({"grid": "4"}, "grid of a level: expected integer or null; found '4'"),
    "entered by a list": ({"entered": ["start"]}, "entered of a level: expected text"),
}


@pytest.mark.parametrize("case", FORGED_RECORDS)
def test_forged_records_of_levels_are_refused_wherever_they_stand(
    case: str, data: SolutionFile, tmp_path: Path
) -> None:
    changed, reason = FORGED_RECORDS[case]
    levels = [{**record, **changed} for record in data.levels]
    write_solution(tmp_path / "solution.h5", replace(data, levels=levels))
    with pytest.raises(UserError, match=reason):
        read_solution(tmp_path / "solution.h5")
    (tmp_path / "metrics.json").write_text(json.dumps({"levels": levels}))
    with pytest.raises(UserError, match=reason):
        read_metrics(tmp_path / "metrics.json")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"slabs": 0}, "time slabs of 0 are begun"),
        ({"slabs": 2, "slabs_begun": 3}, "3 time slabs of 2 are begun"),
    ],
)
def test_slabs_that_cannot_be_are_refused(
    changes: dict[str, int], reason: str, data: SolutionFile, tmp_path: Path
) -> None:
    write_solution(tmp_path / "solution.h5", replace(data, **changes))
    with pytest.raises(UserError, match=reason):
        read_solution(tmp_path / "solution.h5")


def test_texts_with_a_nul_are_written_without_it(data: SolutionFile, tmp_path: Path) -> None:
    levels = [{**record, "optimizer": "a\0b", "a\0c": 1} for record in data.levels]
    write_solution(tmp_path / "solution.h5", replace(data, levels=levels, metrics={"problem": "a\0b"}))
    with h5py.File(tmp_path / "solution.h5") as file:
        assert file["levels/a\ufffdc"][0] == 1
        assert file["levels/optimizer"].asstr()[0] == file["metrics"].attrs["problem"] == "a\ufffdb"
    assert read_solution(tmp_path / "solution.h5").metrics == {"problem": "a\0b"}
