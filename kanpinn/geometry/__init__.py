"""Regions: boxes and sets of points with named coordinates, their boundary pieces, normals and measures."""

from kanpinn.geometry.box import Box
from kanpinn.geometry.region import Coordinates, Piece, Points, Region, Restricted

__all__ = ["Box", "Coordinates", "Piece", "Points", "Region", "Restricted"]
