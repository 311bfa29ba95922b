"""Regions: boxes and sets of points with named coordinates, their boundary pieces, normals and measures."""

from kanpinn.geometry.box import Box
from kanpinn.geometry.coordinates import Coordinates
from kanpinn.geometry.points import Points
from kanpinn.geometry.region import Piece, Region
from kanpinn.geometry.restricted import Restricted

__all__ = ["Box", "Coordinates", "Piece", "Points", "Region", "Restricted"]
