"""Bodies bounded by triangles, by trimesh."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from kanpinn.errors import UserError, needed
from kanpinn.geometry.chart import ROUNDING, Array, Chart
from kanpinn.geometry.region import Piece, Region, boundary_name

VTK = (".vtk", ".vtp", ".vtu")
"""Endings of VTK's files: of a surface, or of a grid, which has one."""


@final
class Mesh(Region):
    """A body from a file of triangles: `Mesh("part.stl")`, or OBJ, PLY, OFF and what else trimesh reads, or VTK.

    Its boundary is one piece, with the region's name.

    Attributes:
        name: Name of its boundary.

    Raises:
        UserError: If trimesh, or vtk for a VTK file, is missing, the file cannot be read, or its surface is not
            closed.
    """

    def __init__(self, file: str | Path, *, name: str = "mesh", names: Sequence[str] = ("x", "y", "z")) -> None:
        trimesh = needed("trimesh", "Mesh", "geometry")
        needed("rtree", "Mesh", "geometry")
        self.names, self.name, self._file = tuple(names), boundary_name(self, name), str(file)
        try:
            body: Any = _of_vtk(self._file) if Path(file).suffix in VTK else trimesh.load(self._file, force="mesh")
        except UserError:
            raise
        except Exception as error:  # trimesh raises whatever its readers meet
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(f"Mesh({self._file!r}): cannot be read: {reason}") from None
        if len(self.names) != 3:
            raise UserError(f"Mesh({self._file!r}): names={names}: expected 3 coordinates")
        if not len(body.faces):
            raise UserError(f"Mesh({self._file!r}): has no triangles")
        if not body.is_watertight:
            raise UserError(f"Mesh({self._file!r}): its surface is not closed, so it has no inside; mend the file")
        trimesh.repair.fix_normals(body)
        self._body, self._trimesh = body, trimesh
        self.lower, self.upper = (tuple(end.tolist()) for end in body.bounds)

    def __repr__(self) -> str:
        return f"Mesh({self._file!r}, faces={len(self._body.faces)}, name={self.name!r}, names={self.names})"

    def _nearest(self, points: Array) -> tuple[Array, NDArray[np.int64]]:
        """Return the distances to the surface `[N]`, and the numbers of the nearest triangles."""
        _, distance, face = self._trimesh.proximity.closest_point(self._body, points)
        return distance, face

    def contains(self, points: Array) -> NDArray[np.bool_]:
        """Tell which of some points `[N, 3]` lie within it or, to rounding, on its surface; `[N]`."""
        found = np.logical_and.reduce((points >= self.lower) & (points <= self.upper), axis=1)
        found[found] = self._body.contains(points[found])
        lower, upper = np.array(self.lower) - self._near, np.array(self.upper) + self._near
        rest = np.flatnonzero(~found & np.logical_and.reduce((points >= lower) & (points <= upper), axis=1))
        tree, reach = self._centroids
        rest = rest[np.isfinite(tree.query(points[rest], distance_upper_bound=reach + self._near)[0])]
        if len(rest):
            found[rest] = self._nearest(points[rest])[0] <= self._near
        return found

    @cached_property
    def _centroids(self) -> tuple[KDTree, float]:
        """The triangles' centroids, and how far from its own a point of a triangle can be."""
        middles = np.asarray(self._body.triangles_center)
        away = np.asarray(self._body.triangles) - middles[:, None]
        return KDTree(middles), float(np.sqrt(np.square(away).sum(axis=2).max()))

    @cached_property
    def chart(self) -> Chart:
        """The map that places points in it; its share of the box around is that of the triangles' volume."""
        frame = self.frame
        return replace(frame, known=abs(float(self._body.volume)) / math.prod(frame.lengths))

    @property
    def _near(self) -> float:
        return ROUNDING * float(np.max(np.subtract(self.upper, self.lower)))

    @cached_property
    def pieces(self) -> Mapping[str, Piece]:
        """The surface: triangle by triangle as the first parameter runs through the area.

        Within one, (1 − √u) A + √u (1 − v) B + √u v C is even (Turk, Generating random points in triangles, Graphics
        Gems, 1990).
        """
        corners, areas = np.asarray(self._body.triangles), np.asarray(self._body.area_faces)
        ends = np.cumsum(areas)

        def points(parameters: Array) -> Array:
            s, v = parameters.T
            k = np.minimum(np.searchsorted(ends, s, side="right"), len(ends) - 1)
            root = np.sqrt(np.clip(1 - (ends[k] - s) / areas[k], 0, 1))[:, None]
            a, b, c = corners[k].transpose(1, 0, 2)
            return (1 - root) * a + root * ((1 - v[:, None]) * b + v[:, None] * c)

        def normal(at: Array) -> Array:
            return np.asarray(self._body.face_normals)[self._nearest(at)[1]]

        chart = Chart((0.0, 0.0), (float(ends[-1]), 1.0), ("", ""), points)
        return {self.name: Piece(self.name, chart, normal)}


def _of_vtk(file: str) -> Any:
    """Return trimesh's mesh of the surface in a VTK file, without a word from VTK."""
    parts = ("vtkCommonCore", "vtkIOLegacy", "vtkIOXML", "vtkFiltersGeometry", "vtkFiltersCore", "util.numpy_support")
    core, legacy, xml, geometry, filters, arrays = (
        needed(f"vtkmodules.{part}", f"Mesh({file!r})", "vtk") for part in parts
    )
    trimesh, loud = needed("trimesh", "Mesh", "geometry"), core.vtkObject.GetGlobalWarningDisplay()
    core.vtkObject.SetGlobalWarningDisplay(0)
    try:
        kind = legacy.vtkGenericDataObjectReader if file.endswith(".vtk") else xml.vtkXMLGenericDataObjectReader
        surface, triangles, reader = geometry.vtkDataSetSurfaceFilter(), filters.vtkTriangleFilter(), kind()
        reader.SetFileName(file)
        surface.SetInputConnection(reader.GetOutputPort())
        triangles.SetInputConnection(surface.GetOutputPort())
        triangles.Update()
        found = triangles.GetOutput()
        if found is None or not found.GetNumberOfPolys():
            raise UserError(f"Mesh({file!r}): cannot be read, or has no triangles")
        points = arrays.vtk_to_numpy(found.GetPoints().GetData())
        return trimesh.Trimesh(points, arrays.vtk_to_numpy(found.GetPolys().GetConnectivityArray()).reshape(-1, 3))
    finally:
        core.vtkObject.SetGlobalWarningDisplay(loud)
