"""Regions with named coordinates: boxes, disks, polygons, meshes and what is made of them; pieces of their boundary."""

from kanpinn.geometry.box import Box
from kanpinn.geometry.combined import Combined, Product
from kanpinn.geometry.interface import Interface
from kanpinn.geometry.mesh import Mesh
from kanpinn.geometry.polygon import Polygon
from kanpinn.geometry.region import Coordinates, Piece, Points, Region, Restricted
from kanpinn.geometry.round import Ball, Disk, Ellipse

__all__ = [
    "Ball",
    "Box",
    "Combined",
    "Coordinates",
    "Disk",
    "Ellipse",
    "Interface",
    "Mesh",
    "Piece",
    "Points",
    "Polygon",
    "Product",
    "Region",
    "Restricted",
]
