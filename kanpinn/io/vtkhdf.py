"""The group /VTKHDF: what ParaView and VTK need to show the root fields, without a copy of them.

The format is VTK's (https://docs.vtk.org/en/latest/vtk_file_formats/vtkhdf_file_format/), version 2.0, read by VTK 9.3
and later. An image's point data are hard links to the root fields: the reader takes a dataset's first axis for the time
steps and ignores space axes of one point. Where the domain is no box, or an axis not uniform, the cells inside it are
listed (UnstructuredGrid). That wants point data of one axis, which no hard link can give: there they are virtual
datasets, views of the root fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import h5py
import numpy as np

from kanpinn.io.arrays import dataset_of, write_array

GROUP = "VTKHDF"
VERSION = (2, 0)
IMAGE, UNSTRUCTURED = "ImageData", "UnstructuredGrid"
# VTK's numbers of a vertex, line, quadrilateral and hexahedron, and the order of their corners along (z, y, x).
_CELL_TYPES = (1, 3, 9, 12)
_SQUARE = [(0, 0), (0, 1), (1, 1), (1, 0)]
_CORNERS = ([()], [(0,), (1,)], _SQUARE, [(z, *corner) for z in (0, 1) for corner in _SQUARE])


def space_axes(axes: Sequence[str]) -> tuple[str, ...]:
    """The axes of a field that are space to VTK: all but time, or time itself where it is the only one."""
    return tuple(axes) if tuple(axes) == ("t",) else tuple(name for name in axes if name != "t")


def fits(axes: Sequence[str]) -> bool:
    """Say whether VTK has room for fields with these axes: no more than three besides time."""
    return len(space_axes(axes)) <= 3


def columns(space: Sequence[str]) -> dict[str, int]:
    """Number of VTK's axis (0 for x) for each space axis: that of its letter, or in reverse order from x."""
    if set(space) <= set("xyz"):
        return {name: "xyz".index(name) for name in space}
    return {name: k for k, name in enumerate(reversed(space))}


def is_image(coordinates: Mapping[str, np.ndarray], axes: Sequence[str], inside: np.ndarray) -> bool:
    """Say whether the grid is an image to VTK: a full box with uniform axes, none of a single point."""
    space = [coordinates[name] for name in space_axes(axes)]
    # The reader would take a single time step for no time axis, and a single point for no axis.
    return bool(
        inside.all()
        and all(len(coordinates[name]) > 1 for name in axes)
        and all(np.allclose(np.diff(values), np.ptp(values) / (len(values) - 1), rtol=1e-9, atol=0) for values in space)
    )


def write(file: h5py.File, axes: Sequence[str], inside: np.ndarray) -> None:
    """Add the group for the fields at the root; nothing where VTK has no room for their axes."""
    if not fits(axes):
        return
    coordinates = {name: np.asarray(dataset_of(file, name)) for name in axes}
    fields = [name for name, item in file.items() if isinstance(item, h5py.Dataset) and not item.is_scale]
    space = space_axes(axes)
    times = len(coordinates["t"]) if "t" not in space and "t" in axes else 0
    group = file.create_group(GROUP)
    group.attrs["Version"] = np.array(VERSION, dtype=np.int64)
    image = is_image(coordinates, axes, inside)
    kind = (IMAGE if image else UNSTRUCTURED).encode()
    group.attrs.create("Type", kind, dtype=h5py.string_dtype("ascii", len(kind)))
    points = group.create_group("PointData")
    if times:
        steps = group.create_group("Steps")
        steps.attrs["NSteps"] = times
        # A copy, not a link: netCDF's readers would take a linked dimension scale for a dimension of this group.
        write_array(steps, "Values", coordinates["t"])
    if image:
        _write_extent(group, coordinates, space)
        for name in fields:
            points[name] = file[name]
    else:
        _write_cells(group, coordinates, space, inside.reshape(max(times, 1), -1))
        for name in fields:
            _view(points, name, dataset_of(file, name))
    if times:
        size = 1 if image else inside.size // times
        offsets = group.create_group("Steps/PointDataOffsets")
        for name in fields:
            write_array(offsets, name, np.arange(times) * size)


def _write_extent(group: h5py.Group, coordinates: Mapping[str, np.ndarray], space: Sequence[str]) -> None:
    """Write an image's extent, origin and spacing; axes that the domain does not have get one point at 0."""
    extent, origin, spacing = np.zeros((3, 2), dtype=np.int64), np.zeros(3), np.ones(3)
    for name, column in columns(space).items():
        values = coordinates[name]
        extent[column, 1] = len(values) - 1
        origin[column] = values[0]
        spacing[column] = np.ptp(values) / (len(values) - 1)
    group.attrs["WholeExtent"] = extent.ravel()
    group.attrs["Origin"], group.attrs["Spacing"] = origin, spacing
    group.attrs["Direction"] = np.eye(3).ravel()


def _write_cells(
    group: h5py.Group, coordinates: Mapping[str, np.ndarray], space: Sequence[str], inside: np.ndarray
) -> None:
    """Write all grid points and the cells with all corners inside; a list of cells for every different domain in time.

    `inside` is a mask `[times, N]`, of one row without time.
    """
    mesh = np.meshgrid(*(coordinates[name] for name in space), indexing="ij")
    points = np.zeros((mesh[0].size, 3))
    for values, name in zip(mesh, space, strict=True):
        points[:, columns(space)[name]] = values.ravel()
    domains, which = np.unique(inside, axis=0, return_inverse=True)
    which = which.reshape(-1)
    shape = tuple(n for n in mesh[0].shape if n > 1)
    cells = [_cells(domain.reshape(shape)) for domain in domains]
    corners, parts = len(_CORNERS[len(shape)]), len(cells)
    counts = np.array([len(part) for part in cells], dtype=np.int64)
    write_array(group, "Points", points)
    write_array(group, "Connectivity", np.concatenate(cells).ravel())
    write_array(group, "Offsets", np.concatenate([np.arange(count + 1) * corners for count in counts]))
    write_array(group, "Types", np.full(counts.sum(), _CELL_TYPES[len(shape)], dtype=np.uint8))
    write_array(group, "NumberOfPoints", np.full(parts, len(points)))
    write_array(group, "NumberOfCells", counts)
    write_array(group, "NumberOfConnectivityIds", counts * corners)
    if "Steps" in group:
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        write_array(group, "Steps/NumberOfParts", np.ones(len(which), dtype=np.int64))
        write_array(group, "Steps/PartOffsets", which.astype(np.int64))
        write_array(group, "Steps/PointOffsets", np.zeros(len(which), dtype=np.int64))
        write_array(group, "Steps/CellOffsets", starts[which][:, None])
        write_array(group, "Steps/ConnectivityIdOffsets", (starts * corners)[which][:, None])


def _cells(inside: np.ndarray) -> np.ndarray:
    """The cells of a grid with all corners inside, as numbers of points `[cells, corners]`, corners in VTK's order."""
    number = np.arange(inside.size, dtype=np.int64).reshape(inside.shape)
    parts = [
        tuple(slice(a, n - 1 + a) for a, n in zip(corner, inside.shape, strict=True))
        for corner in _CORNERS[inside.ndim]
    ]
    whole = np.logical_and.reduce([inside[part] for part in parts])
    return np.stack([number[part][whole] for part in parts], axis=-1).reshape(-1, len(parts))


def _view(group: h5py.Group, name: str, field: h5py.Dataset) -> None:
    """Add a field as an array of one axis that reads the field's own values: a virtual dataset, HDF5 1.10 and later."""
    flat, full = h5py.h5s.create_simple((field.size,)), h5py.h5s.create_simple(field.shape)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_virtual(flat, b".", str(field.name).encode(), full)
    h5py.h5d.create(group.id, name.encode(), field.id.get_type(), flat, layout)
