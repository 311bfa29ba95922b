"""solution.h5 in the tools people own: VTK's reader, PyVista, xarray with both netCDF engines, netCDF4, h5glance."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import pyvista as pv
import vtk
import xarray as xr

from kanpinn.axes import field_axes
from kanpinn.io.arrays import CHUNK_BYTES, chunk_shape, deflated
from kanpinn.io.solution import SolutionFile, read_solution, write_solution

T, X, Y, Z = np.linspace(0, 2, 5), np.linspace(-1, 1, 4), np.linspace(3, 4, 3), np.linspace(0, 6, 7)


def solution(inside=None, **coordinates: np.ndarray) -> SolutionFile:
    """Fields that tell every grid point from every other; NaN outside the domain."""
    axes = field_axes(coordinates)
    mesh = dict(zip(axes, np.meshgrid(*(coordinates[name] for name in axes), indexing="ij"), strict=True))
    u = sum(np.sin(k + 1.0) * values for k, values in enumerate(mesh.values())) + np.zeros_like(mesh[axes[0]])
    fields = {"u": u, "u_ref": u + 1e-3 * u**2, "u_error": -1e-3 * u**2, "residual": u - 5}
    if inside is not None:
        fields = {name: np.where(inside(mesh), values, np.nan) for name, values in fields.items()}
    labels = {"x": ("position", "m"), "u": ("temperature", "K")}
    return SolutionFile("heat", "u_t = u_xx", "seed: 0\n", 0, "float64", "converged", coordinates, labels, fields)


def corner_missing(mesh):
    return (mesh["x"] < 0) | (mesh["y"] < 3.9)


CASES = {
    "x": solution(x=X),
    "t only": solution(t=T),
    "t, x": solution(t=T, x=X),
    "y, x": solution(y=Y, x=X),
    "z, x": solution(z=Z, x=X),
    "t, y, x": solution(t=T, x=X, y=Y),
    "z, y, x": solution(x=X, y=Y, z=Z),
    "t, z, y, x": solution(t=T, x=X, y=Y, z=Z),
    "t, s, r": solution(t=T, r=X, s=Y),
    "part of a box": solution(corner_missing, x=X, y=Y),
    "part of a box, time": solution(corner_missing, t=T, x=X, y=Y),
    "part of a 3-D box, time": solution(corner_missing, t=T, x=X, y=Y, z=Z),
    "growing domain": solution(lambda m: m["x"] < m["t"] - 0.5, t=T, x=X, y=Y),
    "graded axis": solution(t=T, x=X**3, y=Y),
    "one point in y": solution(t=T, x=X, y=Y[:1]),
    "one time": solution(t=T[:1], x=X, y=Y),
}
UNSTRUCTURED = list(CASES)[9:]


SOME = ["t only", "t, z, y, x", "part of a box, time"]


@pytest.fixture(params=CASES)
def case(request, tmp_path: Path) -> tuple[str, SolutionFile, Path]:
    write_solution(tmp_path / "solution.h5", CASES[request.param])
    return request.param, CASES[request.param], tmp_path / "solution.h5"


def meshes(file: Path):
    """Every time step as VTK reads it, with its time."""
    reader = vtk.vtkHDFReader()
    reader.SetFileName(str(file))
    reader.UpdateInformation()
    times = reader.GetOutputInformation(0).Get(vtk.vtkStreamingDemandDrivenPipeline.TIME_STEPS()) or [None]
    for time in times:
        if time is None:
            reader.Update()
        else:
            reader.UpdateTimeStep(time)
        yield time, pv.wrap(reader.GetOutputDataObject(0)).copy()


def test_vtk_reads_every_step_with_values_coordinates_and_names(case):
    name, data, file = case
    steps = list(meshes(file))
    stepped = "t" in data.coordinates and name not in ("t only", "one time")
    assert [time for time, _ in steps] == ([*data.coordinates["t"]] if stepped else [None])
    space = [axis for axis in data.axes if axis != "t"] or ["t"]
    letters = {axis: axis if axis in "xyz" else "xyz"[k] for k, axis in enumerate(reversed(space))}
    with xr.open_dataset(file, engine="h5netcdf") as ds:
        for time, mesh in steps:
            assert isinstance(mesh, pv.UnstructuredGrid if name in UNSTRUCTURED else pv.ImageData)
            assert set(mesh.point_data) - {"Time"} == set(data.fields)
            at = {axis: xr.DataArray(mesh.points[:, "xyz".index(letters[axis])], dims="point") for axis in space}
            if "t" in data.coordinates and "t" not in at:
                at["t"] = data.coordinates["t"][0] if time is None else time
            there = ds.sel(at, method="nearest")
            assert mesh.n_points == np.prod([len(data.coordinates[axis]) for axis in space])
            for axis, place in at.items():
                np.testing.assert_allclose(there[axis], place, rtol=0, atol=1e-12)
            for field in data.fields:
                np.testing.assert_array_equal(mesh.point_data[field], there[field])


def sizes(data: SolutionFile, folder: Path) -> list[float]:
    """Length, area or volume of the mesh at each step, by VTK's own measure."""
    write_solution(folder / "sizes.h5", data)
    found = []
    for _, mesh in meshes(folder / "sizes.h5"):
        measured = mesh.compute_cell_sizes()
        kind = ("Length", "Area", "Volume")[len([axis for axis in data.axes if axis != "t"]) - 1]
        found.append(float(measured.cell_data[kind].sum()))
    return found


def test_cells_fill_the_domain_and_nothing_else(tmp_path: Path):
    # A wrong order of corners would give other sizes. Of 3 × 2 cells, each 2/3 × 1/2, two have a corner outside.
    assert sizes(CASES["part of a box"], tmp_path) == pytest.approx([4 / 3])
    assert sizes(CASES["part of a box, time"], tmp_path) == pytest.approx([4 / 3] * 5)
    assert sizes(CASES["part of a 3-D box, time"], tmp_path) == pytest.approx([6 * 4 / 3] * 5)
    assert sizes(CASES["graded axis"], tmp_path) == pytest.approx([2.0] * 5)
    assert sizes(CASES["t, z, y, x"], tmp_path) == pytest.approx([12.0] * 5)
    # x < t − 1/2 on the points −1, −1/3, 1/3, 1 at the times 0, 1/2, 1, 3/2, 2
    assert sizes(CASES["growing domain"], tmp_path) == pytest.approx([0, 2 / 3, 4 / 3, 4 / 3, 2])


def test_the_values_are_stored_once(case):
    name, data, file = case
    with h5py.File(file) as f:
        for field in data.fields:
            linked = f[f"VTKHDF/PointData/{field}"]
            if name in UNSTRUCTURED:
                assert linked.is_virtual
                assert [(source.file_name, source.dset_name) for source in linked.virtual_sources()] == [
                    (".", f"/{field}")
                ]
                assert linked.id.get_storage_size() == 0
            else:
                assert linked == f[field]  # the same object: a hard link


def test_pyvista_steps_through_the_file(tmp_path: Path):
    data = CASES["t, y, x"]
    write_solution(tmp_path / "solution.h5", data)
    reader = pv.HDFReader(tmp_path / "solution.h5")
    assert reader.reader.GetNumberOfSteps() == 5
    for k in range(5):
        reader.reader.SetStep(k)
        np.testing.assert_array_equal(reader.read().point_data["u"], data.fields["u"][k].ravel())
    assert pv.read(tmp_path / "solution.h5", force_ext=".hdf").dimensions == (4, 3, 1)


def test_four_space_axes_have_no_group(tmp_path: Path):
    write_solution(tmp_path / "solution.h5", solution(x=X, y=Y, z=X, w=Y))
    with h5py.File(tmp_path / "solution.h5") as f:
        assert "VTKHDF" not in f


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", SOME, indirect=True)
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_finds_coordinates_units_and_long_names(case, engine):
    _, data, file = case
    with xr.open_dataset(file, engine=engine) as ds:
        assert set(ds.data_vars) == set(data.fields)
        assert set(ds.coords) == set(data.coordinates)
        for name, values in (data.fields | data.coordinates).items():
            assert ds[name].dims == (data.axes if name in data.fields else (name,))
            np.testing.assert_array_equal(ds[name], values)
            assert (ds[name].attrs["long_name"], ds[name].attrs["units"]) == data.label(name)
        assert ds.attrs["equation"] == "u_t = u_xx"


@pytest.mark.parametrize("case", SOME, indirect=True)
def test_netcdf4_reads_every_group(case):
    _, data, file = case

    def visit(group) -> int:
        return sum(variable[...].size for variable in group.variables.values()) + sum(map(visit, group.groups.values()))

    with netCDF4.Dataset(file) as root:
        assert root["VTKHDF/PointData/u"][...].size == data.fields["u"].size
        assert visit(root) > 2 * sum(values.size for values in data.fields.values())


def test_h5glance_shows_the_file(tmp_path: Path):
    write_solution(tmp_path / "solution.h5", CASES["part of a box, time"])
    shown = subprocess.run(
        [sys.executable, "-m", "h5glance", tmp_path / "solution.h5"], capture_output=True, text=True, check=False
    )
    if "No module named" in shown.stderr:
        pytest.skip("h5glance is not installed")
    assert "VTKHDF" in shown.stdout
    assert "5 × 3 × 4" in shown.stdout


# --- time slabs that were not begun


def test_slabs_not_begun_are_not_outside_the_domain(tmp_path: Path):
    for inside in (None, corner_missing):
        whole = solution(inside, t=np.linspace(0, 2, 9), x=X, y=Y)
        data = replace(whole, slabs=4, slabs_begun=2)
        for name in data.fields:
            data.fields[name][4:] = np.nan  # from the joint at t = 1 on
        assert data.begun.tolist() == [True] * 4 + [False] * 5
        write_solution(tmp_path / "solution.h5", data)
        found = read_solution(tmp_path / "solution.h5")
        assert (found.slabs, found.slabs_begun) == (4, 2)
        expected = np.isnan(whole.fields["u"][0])
        assert (found.outside == expected).all()
        area = 2 if inside is None else 4 / 3
        assert sizes(data, tmp_path) == pytest.approx([area] * 9)


# --- compression


def test_any_hdf5_inflates_what_we_deflate(tmp_path: Path):
    generator = np.random.default_rng(0)
    noise = generator.normal(size=(3, 300, 700))
    arrays = {
        "noise": noise,
        "smooth": np.sin(np.linspace(0, 9, noise.size)).reshape(noise.shape),
        "constant": np.full((5, 4000), 7.0),
        "holes": np.where(noise > 1, np.nan, noise),
        "single": noise.astype(np.float32),
        "integers": np.arange(10_007),
        "bytes": (noise > 0).astype(np.int8),
        "long": np.arange(300_000.0),
        "odd": noise[:, 1:, ::3],
    }
    fields = solution(x=X)
    write_solution(tmp_path / "a.h5", replace(fields, model=arrays))
    with h5py.File(tmp_path / "a.h5") as f, netCDF4.Dataset(tmp_path / "a.h5") as n:
        for name, values in arrays.items():
            stored = f["model"][name]
            assert (stored.compression, stored.shuffle) == ("gzip", True)
            assert np.prod(stored.chunks) * values.itemsize <= CHUNK_BYTES
            np.testing.assert_array_equal(stored[...], values)
            assert stored[...].tobytes() == values.tobytes()
            np.testing.assert_array_equal(np.asarray(n["model"][name][...].filled()), values)


@pytest.mark.slow
def test_a_large_field_takes_less_than_two_seconds_and_little_memory(tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import writing

    for values in writing.fields().values():
        _, worked, memory, _ = min(writing.measure(values, tmp_path) for _ in range(3))
        assert worked < 2  # of the processor: seconds alone would depend on what else runs
        assert memory < 1.5


def test_noise_is_stored_and_smooth_fields_shrink():
    noise = np.random.default_rng(0).integers(0, 2**63, 10_000).view(np.float64)
    assert len(deflated(noise)) < noise.nbytes * 1.01
    assert len(deflated(np.linspace(1, 1.5, 10_000))) < 0.85 * noise.nbytes
    assert len(deflated(np.zeros(10_000))) < 0.02 * noise.nbytes


def test_a_chunk_holds_whole_time_steps_or_an_equal_part_of_one():
    assert chunk_shape((41, 41, 41), 8) == (41, 41, 41)
    assert chunk_shape((51, 51, 51), 8) == (26, 51, 51)
    assert chunk_shape((64, 512, 512), 8) == (1, 256, 512)
    assert chunk_shape((1000, 128, 128), 8) == (8, 128, 128)
    assert chunk_shape((300_000,), 8) == (100_000,)
    assert chunk_shape((3, 300_000), 8) == (1, 100_000)
